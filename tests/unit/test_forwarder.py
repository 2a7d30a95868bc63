"""From datagrams to lines: nothing that a client sends forges or hides one, and reading never waits for writing."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
from typing import Final

import pytest

from entrypoint import paths
from entrypoint.journal.forms import Form
from entrypoint.services.forwarder import Forwarder, read_probe_sources, receive
from entrypoint.services.intake import Intake, keep_last_words
from entrypoint.system.log import format_time

AT: Final = 1700000000.5
PROBES: Final = frozenset({"127.0.0.25", "fd00:18::5"})


def _render(datagram: bytes, probes: frozenset[str] = PROBES) -> str | None:
    lines: list[str] = []
    passed_on: list[str] = []
    Intake(Form(), AT, probes).take(datagram, AT, lambda output: lines.append(output.line), passed_on.append)
    assert lines == passed_on
    return lines[0].removeprefix(f"{format_time(AT)} ") if lines else None


@pytest.mark.parametrize(
    ("priority", "severity"),
    list(enumerate(("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"))),
)
@pytest.mark.parametrize("facility", [0, 2, 23])
def test_priority_becomes_its_severity(priority: int, severity: str, facility: int) -> None:
    """Alerts are made from the severity, whatever the facility."""
    datagram = f"<{facility * 8 + priority}>Nov 23 00:01:02 postfix/qmgr[12]: text".encode()
    assert _render(datagram) == f"{severity} postfix/qmgr[12]: text\n"


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"<22>Nov  3 00:01:02 postfix/smtp[1]: a", "INFO postfix/smtp[1]: a\n"),
        (b"<22>postfix/smtp[1]: a", "INFO postfix/smtp[1]: a\n"),
        (b"<20>postfix/smtp[1]: a\n\0", "WARNING postfix/smtp[1]: a\n"),
        (b"no priority", "INFO no priority\n"),
        (b"<>x", "INFO <>x\n"),
        (b"<9999>x", "INFO <9999>x\n"),
        (b"", "INFO \n"),
        (b"<22>", "INFO \n"),
        ("<22>grüße".encode(), "INFO grüße\n"),
        (b"<22>\xff\xc3", "INFO \\xff\\xc3\n"),
        (b"<22>a\nMar  1 00:00:00 forged", "INFO a\\nMar  1 00:00:00 forged\n"),
        (b"<22>\r\x1b[2J\x00\x7f", "INFO \\r\\x1b[2J\\x00\\x7f\n"),
        ("<22>a\u2028b\x85c".encode(), "INFO a\\u2028b\\x85c\n"),
        (b"<22>" + b"x" * 65000, "INFO " + "x" * 65000 + "\n"),
    ],
)
def test_datagram_becomes_exactly_one_line(datagram: bytes, expected: str) -> None:
    """A mail's sender chooses part of what is logged; a line break there must not become a line of the log."""
    assert _render(datagram) == expected
    assert expected.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "postfix/smtpd[7]: connect from unknown[127.0.0.25]",
        "postfix/smtpd[7]: disconnect from unknown[127.0.0.25] quit=1 commands=1",
        "postfix/postscreen[7]: CONNECT from [127.0.0.25]:40000 to [127.0.0.1]:25",
        "postfix/postscreen[7]: ALLOWLISTED [127.0.0.25]:40000",
        "postfix/postscreen[7]: CONNECT from [fd00:18::5]:40000 to [fd00:18::5]:25",
        "postfix/smtpd[7]: connect from unknown[fd00:18::5]",
    ],
)
def test_health_check_leaves_no_line(text: str) -> None:
    """Two lines every thirty seconds would bury the mail."""
    assert _render(f"<22>Nov 23 00:01:02 {text}".encode()) is None
    assert _render(f"<22>{text}".encode(), frozenset()) is not None


@pytest.mark.parametrize(
    "text",
    [
        "postfix/smtpd[7]: connect from unknown[172.18.0.9]",
        "postfix/smtpd[7]: connect from unknown[127.0.0.2]",
        "postfix/smtpd[7]: disconnect from unknown[127.0.0.25] ehlo=1 mail=1 quit=1 commands=3",
        "postfix/smtpd[7]: warning: unknown[127.0.0.25]: hostname",
        "postfix/postscreen[7]: CONNECT from [192.0.2.7]:40000 to [127.0.0.25]:25",
        "postfix/postscreen[7]: PREGREET 9 after 0.1 from [127.0.0.25]:40000: EHLO x",
        "postfix/cleanup[9]: 4X: message-id=postfix/smtpd[7]: connect from unknown[127.0.0.25]",
    ],
)
def test_line_that_only_resembles_a_health_check_is_kept(text: str) -> None:
    """Whoever writes the words of a health check into a Message-ID must not become invisible."""
    assert _render(f"<22>Nov 23 00:01:02 {text}".encode()) == f"INFO {text}\n"


@pytest.mark.parametrize("rest_seconds", [0.0, 0.001])
def test_everything_that_is_in_the_socket_is_read_before_the_end(rest_seconds: float) -> None:
    """The last lines before a stop are those that say why; with a rest or without, in order, each once."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, ours:
        theirs.send(b"1")
        received = receive(ours, rest_seconds)
        assert next(received) == b"1"
        for number in (b"2", b"3"):
            theirs.send(number)
        assert next(received) == b"2"
        theirs.send(b"4")
        ours.setblocking(False)
        assert list(received) == [b"3", b"4"]


def test_lines_that_come_close_after_one_another_are_read_after_one_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """One waking up for many lines is a tenth of what a message costs; the first one must not wait, though."""
    rests: list[float] = []
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr("entrypoint.services.forwarder.time.sleep", rests.append)
    with theirs, ours:
        for number in range(5):
            theirs.send(str(number).encode())
        received = receive(ours, 0.01)
        assert (next(received), rests) == (b"0", [])
        assert [next(received) for _ in range(4)] == [b"1", b"2", b"3", b"4"]
        assert rests == [0.01]


def test_full_buffer_drops_counts_and_says_so() -> None:
    """A log that is not complete must say it, with the true number."""
    forwarder = Forwarder(Form(), most_lines=2)
    for number in range(5):
        forwarder.put(f"{number}\n")
    first, second, report = forwarder.take().splitlines()
    assert (first, second) == ("0", "1")
    assert report.endswith(
        "WARNING authrelay: 3 log lines were dropped, because what reads this container's output did not keep up"
    )
    forwarder.put("5\n")
    assert forwarder.take() == "5\n"
    assert forwarder.dropped == 3


def test_number_of_dropped_lines_stands_where_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap that is told of somewhere else is looked for in vain."""
    monkeypatch.setattr("entrypoint.services.forwarder._MOST_AT_ONCE", 1)
    forwarder = Forwarder(Form(), most_lines=2)
    for number in range(5):
        forwarder.put(f"{number}\n")
    texts = [forwarder.take()]
    forwarder.put("5\n")
    forwarder.finish()
    texts += list(iter(forwarder.take, ""))
    assert ["dropped" if "3 log lines were dropped" in text else text for text in texts] == [
        "0\n",
        "1\n",
        "dropped",
        "5\n",
    ]


def test_writer_does_not_rest_while_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rest after each handful would bound the lines a second, and a buffer that is full is one that drops."""
    monkeypatch.setattr("entrypoint.services.forwarder._MOST_AT_ONCE", 1)
    monkeypatch.setattr("entrypoint.services.forwarder._GATHERING_SECONDS", 10)
    all_written = threading.Event()
    written: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        written.append(bytes(data))
        if len(written) == 3:
            all_written.set()
        return len(data)

    monkeypatch.setattr(os, "write", write)
    forwarder = Forwarder(Form())
    for number in range(3):
        forwarder.put(f"{number}\n")
    writer = threading.Thread(target=forwarder.write, daemon=True)
    writer.start()
    assert all_written.wait(5)
    forwarder.finish()
    writer.join(5)
    assert (written, writer.is_alive()) == ([b"0\n", b"1\n", b"2\n"], False)


def test_reader_never_waits_for_a_writer_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """syslog(3) blocks its caller when nobody reads: a stalled `docker logs` would stop the mail."""
    writing, released = threading.Event(), threading.Event()
    written: list[bytes] = []

    def stall(_: int, data: bytes) -> int:
        writing.set()
        assert released.wait(10)
        written.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", stall)
    forwarder = Forwarder(Form(), most_lines=3)
    writer = threading.Thread(target=forwarder.write)
    forwarder.put("first\n")
    writer.start()
    assert writing.wait(10)
    for number in range(1000):
        forwarder.put(f"{number}\n")
    assert not released.is_set()
    forwarder.finish()
    released.set()
    writer.join(10)
    assert not writer.is_alive()
    text = b"".join(written).decode()
    assert text.startswith("first\n0\n1\n2\n")
    assert " 997 log lines were dropped" in text
    assert text.count("\n") == 5


def test_everything_that_was_taken_is_written_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines before the end of a container are the ones that people look for; write(2) may take a part."""
    written: list[bytes] = []

    def take_a_part(_: int, data: bytes) -> int:
        written.append(bytes(data[:7]))
        return len(data[:7])

    monkeypatch.setattr(os, "write", take_a_part)
    forwarder = Forwarder(Form())
    lines = [f"line {number} ü\n" for number in range(50)]
    for line in lines:
        forwarder.put(line)
    forwarder.finish()
    forwarder.write()
    assert b"".join(written).decode() == "".join(lines)


def test_finish_wakes_a_writer_that_waits_for_lines() -> None:
    """Otherwise the container would end only when it is killed."""
    forwarder = Forwarder(Form())
    writer = threading.Thread(target=forwarder.write)
    writer.start()
    forwarder.finish()
    writer.join(10)
    assert not writer.is_alive()


def test_last_words_are_the_reason_without_time_and_severity(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They become the container's last line: why Postfix gave up."""
    monkeypatch.setattr(paths, "LAST_FATAL_LINE", str(tmp_path / "words"))
    for text in ("postfix/smtp[3]: fatal: x", "postfix/cleanup[3]: 4X: message-id=postfix/master[1]: fatal: forged"):
        keep_last_words(f"{format_time(AT)} INFO {text}\n")
    assert not (tmp_path / "words").exists()
    keep_last_words(f"{format_time(AT)} CRITICAL postfix/master[1]: fatal: bind 0.0.0.0 port 25: Address in use\n")
    assert (tmp_path / "words").read_text() == "postfix/master[1]: fatal: bind 0.0.0.0 port 25: Address in use\n"


def test_probe_sources_are_read_from_the_listeners(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan decides where health checks come from; the forwarder is told by the same file as they are."""
    monkeypatch.setattr(paths, "LISTENERS", str(tmp_path / "listeners.json"))
    (tmp_path / "listeners.json").write_text('[["127.0.0.1", 25, "127.0.0.25"], ["fd00::5", 25, "fd00::5"]]')
    assert read_probe_sources() == {"127.0.0.25", "fd00::5"}


def test_full_disk_does_not_stop_the_forwarder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Postfix says at such a moment is wanted most of all."""
    monkeypatch.setattr(paths, "LAST_FATAL_LINE", "/nowhere/words")
    keep_last_words("2026-11-23T23:26:25.192+00:00 CRITICAL postfix/master[9]: fatal: no room\n")
