"""Our own lines of the log: whole, on one line, with a time that sorts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from entrypoint.system.log import clean_text, format_line, format_time, write_line


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
    assert format_line("WARNING", "a: b", 0.0) == "1970-01-01T05:45:00.000+05:45 WARNING a: b\n"


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
