"""Writes authrelay's own lines in the form that the log forwarder gives to Postfix's. Standard output.

2026-11-22T23:31:03.123+00:00 WARNING authrelay: text
"""

from __future__ import annotations

import os
import time
from typing import Final

TAG: Final = "authrelay"


def format_line(severity: str, text: str, at: float) -> str:
    """Return one line; `at` is in seconds since the epoch, shown in the local time zone (RFC 3339)."""
    return f"{format_time(at)} {severity} {clean_text(text)}\n"


def format_time(at: float) -> str:
    """Return a time with milliseconds and the offset from UTC, as RFC 3339 has it."""
    moment = time.localtime(at)
    offset = time.strftime("%z", moment)
    milliseconds = int(at * 1000) % 1000
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{milliseconds:03}{offset[:3]}:{offset[3:]}"


def clean_text(text: str) -> str:
    """Return a text that stays on its line: no part of a message may look like a line of its own."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "replace").decode("ascii")


def write_line(severity: str, text: str) -> None:
    """Write one line of ours at once, whole."""
    line = format_line(severity, f"{TAG}: {text}", time.time())
    os.write(1, line.encode(errors="backslashreplace"))
