"""Our own lines of the log: whole, on one line, with a time that sorts."""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import time
from collections.abc import Iterator

import pytest

from entrypoint import paths
from entrypoint.journal.addresses import Addresses
from entrypoint.journal.forms import Form
from entrypoint.system.log import (
    clean_text,
    format_time,
    parse_copy,
    render_own_line,
    take_early_copies,
    write_line,
)


@pytest.fixture(autouse=True)
def time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone is a setting; these tests have one of their own."""
    monkeypatch.setenv("TZ", "XYZ-5:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_time_has_milliseconds_and_the_local_offset() -> None:
    """RFC 3339: lines of two containers in two zones can be put side by side."""
    assert format_time(0.0) == "1970-01-01T05:45:00.000+05:45"
    assert format_time(1700000000.0625) == "2023-11-15T03:58:20.062+05:45"


def test_line_has_time_severity_and_text() -> None:
    """One form for our lines and Postfix's, so that one pattern reads the log."""
    line = render_own_line(Form(), "WARNING", "a: b", 0.0)
    assert line == "1970-01-01T05:45:00.000+05:45 WARNING authrelay: a: b\n"


def test_line_of_ours_follows_the_rules_of_the_log() -> None:
    """A log that is JSON in all lines but some, or that hides addresses in all but ours, keeps no promise."""
    form = Form("json", Addresses("domain"))
    record = json.loads(render_own_line(form, "WARNING", 'the login "ann@example.com" is refused\n', 0.0))
    assert record == {
        "version": 1,
        "time": "1970-01-01T05:45:00.000+05:45",
        "severity": "WARNING",
        "event": "authrelay",
        "program": "authrelay",
        "text": 'the login "*@example.com" is refused\\n',
    }


def test_line_is_written_by_the_rules_that_the_start_has_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The supervisor and the upkeep have no settings; before there are rules, a line is plain."""
    written: list[bytes] = []

    def keep(_: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", keep)
    rules, key = tmp_path / "log-rules", tmp_path / "key"
    monkeypatch.setattr(paths, "LOG_RULES", str(rules))
    monkeypatch.setattr(paths, "ADDRESSES_KEY", str(key))
    for text in (None, "", "plain full\n", "plain domain\n", "plain hash\n"):
        if text is not None:
            rules.write_text(text)
        write_line("INFO", "to ann@example.com")
    key.write_text("k" * 32)
    write_line("INFO", "to ann@example.com")
    texts = [line.decode().partition(" authrelay: to ")[2].strip() for line in written]
    assert texts == [*["ann@example.com"] * 3, *["*@example.com"] * 2, "52ecd7806231652c@example.com"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü text", "plain ü text"),
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m"),
        ("a\u2028b\x85", "a\\u2028b\\x85"),
        ("\udcff", "\\udcff"),
    ],
)
def test_text_stays_on_its_line(text: str, expected: str) -> None:
    """What a client sends ends up in the log; it must not be able to write a line of its own."""
    assert clean_text(text) == expected


def test_written_line_is_one_write_with_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes write to one pipe: only a single write(2) keeps their lines apart."""
    written: list[tuple[int, bytes]] = []

    def keep(descriptor: int, data: bytes) -> int:
        written.append((descriptor, data))
        return len(data)

    monkeypatch.setattr(os, "write", keep)
    write_line("INFO", "started\nforged")
    ((descriptor, data),) = written
    assert descriptor == 1
    assert re.fullmatch(rb"\S+\+05:45 INFO authrelay: started\\nforged\n", data)


@pytest.fixture
def places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A relay with a syslog server, and no log socket yet."""
    for name in ("SYSLOG", "LOG_SOCKET", "EARLY_LINES"):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    (tmp_path / "SYSLOG").write_text("{}")
    return tmp_path


def test_line_before_there_is_a_forwarder_waits_for_it(places: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    """How a relay was started, and with which warnings, is what people look for in the log server."""
    write_line("INFO", "one")
    write_line("WARNING", "two: a\nb ü")
    assert (places / "EARLY_LINES").stat().st_mode & 0o777 == 0o600
    copies = take_early_copies()
    tag = f"authrelay[{os.getpid()}]"
    assert [(severity, name, text) for severity, _, name, text in copies] == [
        ("INFO", tag, "one"),
        ("WARNING", tag, "two: a\\nb ü"),
    ]
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == [format_time(at) for _, at, _, _ in copies]
    assert take_early_copies() == []


def test_line_is_copied_to_the_forwarder_and_never_waits_for_it(
    places: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The supervisor writes lines; a forwarder that hangs, with a full socket, must not hang it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(places / "LOG_SOCKET"))
        began = time.monotonic()
        for number in range(300):
            write_line("INFO", str(number))
            if time.monotonic() - began > 2:
                break
        copies = [parse_copy(log.recv(4096)) for _ in range(5)]
        waits = time.monotonic() - began
    assert [copy[3] for copy in copies if copy] == ["0", "1", "2", "3", "4"]
    written = len(capfd.readouterr().out.splitlines())
    assert waits < 0.1 * written
    (places / "SYSLOG").unlink()
    write_line("INFO", "no server, no copy")
    assert not (places / "EARLY_LINES").exists()


@pytest.mark.parametrize(
    "datagram",
    [b"", b"!", b"!INFO", b"!INFO x authrelay[1] text", b"!info 1.0 a b", b"<22>!INFO 1.0 a b", b"!INFO 1.0 a"],
)
def test_datagram_that_is_no_copy_is_none(datagram: bytes) -> None:
    """Whoever can write to the log socket must not be able to end the forwarder."""
    assert parse_copy(datagram) is None


def test_copy_stays_on_its_line() -> None:
    """What it says goes to a log server, where a line break would be a line as well."""
    assert parse_copy(b"!INFO 1.500 authrelay[1] a\nb\xff") == ("INFO", 1.5, "authrelay[1]", "a\\nb\\xff")
