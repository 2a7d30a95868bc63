"""The tap: every line for who keeps up, an end for who does not, and never a wait for the forwarder."""

from __future__ import annotations

import pathlib
import socket
import stat
import time

import pytest

from entrypoint import paths
from entrypoint.services.tap import Buffer, Tap
from entrypoint.system.log_tap import FOLLOW, LogFollower, TapClosedError, ask_attempts
from tests.support.wait import wait_until

LINE = "2026-11-23T23:42:03.382+00:00 INFO postfix/smtpd[47]: connect from unknown[127.0.0.1]"


@pytest.fixture
def tap(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tap:
    """An open tap where the readers look for it."""
    monkeypatch.setattr(paths, "LOG_TAP", str(tmp_path / "tap"))
    made = Tap(lambda: {"since": 5.5, "attempts": {"4FABC": 2}})
    made.open(paths.LOG_TAP)
    return made


def read(follower: LogFollower, count: int) -> list[str]:
    """So many lines, or those that came until nothing came for a second."""
    found: list[str] = []
    while len(found) < count and (lines := follower.read_lines(1)):
        found += lines
    return found


def test_follower_gets_every_line_from_now_on(tap: Tap) -> None:
    """What was logged before is in the container's log; from here on nothing may be missing."""
    tap.pass_on("before\n")
    follower = LogFollower(5)
    for number in range(3000):
        tap.pass_on(f"{LINE} {number}\n")
    assert read(follower, 3000) == [f"{LINE} {number}" for number in range(3000)]
    assert follower.read_lines(0.01) == []
    follower.close()


def test_follower_may_ask_for_what_a_new_forwarder_has_logged_already(tap: Tap) -> None:
    """Between the end of one forwarder and the next connection are lines that were logged only once."""
    tap.pass_on("first\n")
    follower = LogFollower(5, is_from_start=True)
    tap.pass_on("second\n")
    assert read(follower, 2) == ["first", "second"]
    follower.close()


def test_attempts_are_answered_and_no_answer_is_none(tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """`authrelay queue` must be able to show the queue also without a forwarder."""
    del tap
    answer = ask_attempts()
    assert answer is not None
    assert (answer.since, answer.by_queue_id) == (5.5, {"4FABC": 2})
    monkeypatch.setattr(paths, "LOG_TAP", paths.LOG_TAP + "-not-there")
    assert ask_attempts() is None


def test_socket_is_roots_alone_from_its_first_moment_and_replaces_a_stale_one(tap: Tap) -> None:
    """The log names senders and recipients; and a killed forwarder leaves its socket behind."""
    del tap
    assert stat.S_IMODE(pathlib.Path(paths.LOG_TAP).stat().st_mode) == 0o600
    Tap(lambda: {"since": 0.0, "attempts": {}}).open(paths.LOG_TAP)
    answer = ask_attempts()
    assert answer is not None
    assert answer.since == 0


def test_reader_that_stands_still_is_cut_off_and_told_and_nobody_waits_for_it(
    tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped `send-test` must not cost memory without end, nor a line of anybody else's."""
    monkeypatch.setattr("entrypoint.services.tap._MOST_CHARACTERS", 100_000)
    stalled = socket.socket(socket.AF_UNIX)
    stalled.connect(paths.LOG_TAP)
    stalled.sendall(FOLLOW)
    assert stalled.recv(64) == b"!following\n"
    began = time.monotonic()
    for _ in range(50_000):
        tap.pass_on(f"{LINE}\n")
    assert time.monotonic() - began < 5
    stalled.settimeout(5)
    data = b"".join(iter(lambda: stalled.recv(65536), b""))
    assert data.endswith(b"!behind\n")
    assert data.count(b"\n") < 50_000
    stalled.close()


def test_follower_learns_that_it_was_too_slow_after_the_lines_that_it_got(tap: Tap) -> None:
    """Otherwise a lost line would look like mail that is not delivered."""
    follower = LogFollower(5)
    tap.pass_on("one\n")
    (reader,) = tap._readers[1:]
    wait_until(lambda: not reader._lines, 5, "the line should be sent")
    reader.put("x" * 3_000_000)
    assert follower.read_lines(5) == ["one"]
    with pytest.raises(TapClosedError) as caught:
        follower.read_lines(5)
    assert caught.value.is_behind
    follower.close()


def test_reader_that_left_is_forgotten_also_when_nothing_is_logged(tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are only some places; and with no reader a line must cost nothing again."""
    monkeypatch.setattr("entrypoint.services.tap._LOOK_SECONDS", 0.01)
    for _ in range(20):
        LogFollower(5).close()
        wait_until(lambda: len(tap._readers) == 1, 5, "it should be forgotten")
    tap._forget_start()
    assert tap._readers == ()


def test_one_reader_too_many_is_turned_away(tap: Tap) -> None:
    """The forwarder's memory is bounded by the number of places."""
    del tap
    followers = [LogFollower(5) for _ in range(8)]
    with pytest.raises(TapClosedError):
        LogFollower(2)
    for follower in followers:
        follower.close()


def test_buffer_takes_nothing_after_it_overflowed() -> None:
    """A gap in the middle would be worse than an end."""
    buffer = Buffer(most_characters=10)
    buffer.put("12345\n")
    buffer.put("12345\n")
    buffer.put("1\n")
    assert buffer.is_behind
    assert buffer.take(0) == "12345\n"
