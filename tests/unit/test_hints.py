"""What deliveries meet: word of it calls the probe and the upkeep; a wrong word would call them for nothing."""

from __future__ import annotations

import pathlib
import stat

import pytest

from entrypoint import paths
from entrypoint.services.hints import Hints

START = "2026-11-23T23:26:25.192+00:00 INFO postfix/smtp[60]: 2615D1882D9: to=<b@example.com>, "
REST = "delay=0.04, delays=0.01/0.02/0/0, "
RELAY = "relay=mail.example.test[172.21.0.2]:587, "


@pytest.fixture(autouse=True)
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A directory of the test's own."""
    for name in ("TROUBLE", "UNTRUSTED", "REFUSED", "LAST_SENT", "LIST_TROUBLE"):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    return tmp_path


def _list(run: pathlib.Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("Server certificate not trusted", ["TROUBLE", "UNTRUSTED"]),
        ("Server certificate not verified", ["TROUBLE", "UNTRUSTED"]),
        ("connect to x[192.0.2.1]:587: Connection refused", ["TROUBLE"]),
        ("delivery temporarily suspended: connect to x[192.0.2.1]:25: Connection timed out", ["TROUBLE"]),
        ("SASL authentication failed; server x[192.0.2.1] said: 535 no", ["TROUBLE"]),
        ("host x[192.0.2.1] said: 530 5.7.0 log in", ["TROUBLE"]),
        ("host x[192.0.2.1] refused to talk to me: 421 4.3.2 later", ["TROUBLE"]),
        # About the message: the way to the upstream is well.
        ("host x[192.0.2.1] said: 450 4.2.1 greylisted (in reply to RCPT TO command)", []),
    ],
)
def test_deferral_leaves_word_of_trouble_on_the_way(words: str, names: list[str], run: pathlib.Path) -> None:
    """And of a CA that is not trusted; not of what the upstream thinks of a message."""
    Hints().note(f"{START}{RELAY}{REST}dsn=4.0.0, status=deferred ({words})\n", 100.0)
    assert _list(run) == names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (f"{START}{RELAY}{REST}dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 1)", ["LAST_SENT"]),
        (f"{START}{RELAY}{REST}dsn=5.1.1, status=bounced (host x[192.0.2.1] said: 550 5.1.1 unknown)", []),
        # No delivery at all: what a client may write into a header, and our own words.
        ("2026-11-23T23:26:25Z INFO postfix/cleanup[9]: A: message-id=<postfix/smtp[60]: status=sent (x)>", []),
        ("2026-11-23T23:26:25Z INFO authrelay: postfix/smtp[60]", []),
    ],
)
def test_other_lines_leave_word_only_of_what_was_sent(line: str, names: list[str], run: pathlib.Path) -> None:
    """A word too many calls for a probe, and a login, that nobody needs."""
    Hints().note(f"{line}\n", 100.0)
    assert _list(run) == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("list server: connect to m[192.0.2.1]:8024: Connection refused", ["LIST_TROUBLE"]),
        ("list server: unable to look up host m: Name or service not known", ["LIST_TROUBLE"]),
        ("list server: lost connection with m[192.0.2.1] while sending RCPT TO", ["LIST_TROUBLE"]),
        # It is there, and has its reasons.
        ("list server: host m[192.0.2.1] said: 451 later (in reply to RCPT TO command)", []),
        # Of TRANSPORT_TABLE.
        ("connect to m[192.0.2.1]:24: Connection refused", []),
    ],
)
def test_list_server_that_is_away_is_no_trouble_of_the_upstream(
    words: str, names: list[str], run: pathlib.Path
) -> None:
    """The probe would look for what is broken on the way to the upstream, and find nothing."""
    line = START.replace("smtp[", "lmtp[")
    Hints().note(f"{line}relay=none, {REST}dsn=4.4.1, status=deferred ({words})\n", 100.0)
    assert _list(run) == names


def test_word_is_for_root_alone_and_says_the_reason(run: pathlib.Path) -> None:
    """An upstream may echo what it was sent."""
    Hints().note(f"{START}relay=none, {REST}dsn=4.4.1, status=deferred (connect to x[192.0.2.1]:587: refused)\n", 100.0)
    assert (run / "TROUBLE").read_text() == "connect to x[192.0.2.1]:587: refused\n"
    assert stat.S_IMODE((run / "TROUBLE").stat().st_mode) == 0o600


def test_thousand_deliveries_in_a_second_are_one_write(run: pathlib.Path) -> None:
    """It sits in the way of every line of the log."""
    hints = Hints()
    line = f"{START}{RELAY}{REST}dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 1)\n"
    hints.note(line, 100.0)
    (run / "LAST_SENT").unlink()
    for tenth in range(9):
        hints.note(line, 100.0 + tenth / 10)
    assert _list(run) == []
    hints.note(line, 101.0)
    assert _list(run) == ["LAST_SENT"]
    (run / "LAST_SENT").unlink()
    # A clock that was put back must not silence it.
    hints.note(line, 50.0)
    assert _list(run) == ["LAST_SENT"]


_REFUSED = f"{START}{RELAY}{REST}dsn=4.7.8, status=deferred (SASL authentication failed; server x said: 535)\n"
_SENT = f"{START}{RELAY}{REST}dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 1)\n"


@pytest.mark.parametrize(
    ("lines", "is_told"),
    [
        ([(_REFUSED, 0.0), (_SENT, 0.1), (_REFUSED, 0.2)], True),
        ([(_REFUSED, 0.0), (_REFUSED, 0.1), (_SENT, 0.2), (_SENT, 0.3), (_REFUSED, 29.0)], True),
        # Every login is refused: the queue manager stops by itself.
        ([(_SENT, 0.0), (_REFUSED, 0.1), (_REFUSED, 0.2), (_REFUSED, 0.3)], False),
        # Refused once, and well again; a while later once more.
        ([(_REFUSED, 0.0), (_SENT, 0.1), (_REFUSED, 31.0)], False),
        ([(_REFUSED, 0.0), (_SENT, 0.1)], False),
    ],
)
def test_login_that_is_refused_while_older_sessions_deliver(
    lines: list[tuple[str, float]], is_told: bool, run: pathlib.Path
) -> None:
    """Only then are those to be ended: otherwise Postfix stops by itself, and a reload would have it try again."""
    hints = Hints()
    for line, at in lines:
        hints.note(line, 100.0 + at)
    assert ("REFUSED" in _list(run)) == is_told


def test_word_of_refused_logins_comes_to_rest(run: pathlib.Path) -> None:
    """The supervisor leaves a file alone that is written again and again."""
    hints = Hints()
    for tenth in range(29):
        hints.note(_REFUSED, 100.0 + tenth / 10)
        hints.note(_SENT, 100.05 + tenth / 10)
        if tenth == 1:
            (run / "REFUSED").unlink()
    assert "REFUSED" not in _list(run)


def test_full_disk_does_not_stop_the_log(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forwarder would end over what is only a hint, again and again, and the container with it."""
    monkeypatch.setattr(paths, "LAST_SENT", "/dev/full")
    Hints().note(f"{START}{RELAY}{REST}dsn=2.0.0, status=sent (250 2.0.0 Ok)\n", 100.0)
    monkeypatch.setattr(paths, "LAST_SENT", str(run / "missing" / "sent"))
    Hints().note(f"{START}{RELAY}{REST}dsn=2.0.0, status=sent (250 2.0.0 Ok)\n", 100.0)
