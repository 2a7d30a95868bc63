"""Writes authrelay's own lines in the form that the log forwarder gives to Postfix's. Standard output, log socket.

2026-11-22T23:31:03.123+00:00 WARNING authrelay: text

Nobody waits for a reader of that output that stands still: a supervisor that did would start nothing again, and could
not be stopped.

Uses `journal.addresses` and `journal.forms`: how, and with what of an address, LOG_FORMAT and LOG_ADDRESSES say. A line
goes to standard output at once, whatever the forwarder does. With SYSLOG_URL the forwarder also gets a copy, for the
syslog server alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import socket
import time
from typing import Final

from entrypoint import paths
from entrypoint.journal.addresses import load_rules
from entrypoint.journal.forms import Form

SEVERITIES: Final = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
"""RFC 5424 section 6.2.1, in the words of syslog(3); Postfix logs at CRITICAL, ERROR, WARNING and INFO."""
TAG: Final = "authrelay"
_COPY: Final = re.compile(rb"!([A-Z]+) (\d+\.\d+) (\S+) (.*)", re.DOTALL)
"""A copy: severity, time, tag and text. No datagram of syslog(3) begins like that."""
_COPY_SECONDS: Final = 0.05
"""What the forwarder needs to make room when Postfix fills its socket; one that hangs must not hold us up."""
_OUTPUT_SECONDS: Final = 0.5
_PIPE_BYTES: Final = 4096
"""What a pipe that is ready takes without waiting (PIPE_BUF, pipe(7))."""


def render_own_line(form: Form, severity: str, text: str, at: float) -> str:
    """Return one line of ours; `at` is in seconds since the epoch, shown in the local time zone (RFC 3339)."""
    return form.render_own(format_time(at), severity, TAG, clean_text(text))


def format_time(at: float) -> str:
    """Return a time with milliseconds and the offset from UTC, as RFC 3339 has it."""
    second, offset = _format_second(int(at), time.tzname)
    return f"{second}.{int(at * 1000) % 1000:03}{offset}"


@functools.lru_cache(maxsize=1)
def _format_second(at: int, time_zone: tuple[str, str]) -> tuple[str, str]:
    """Return a time and its offset; hundreds of lines are of the same one."""
    del time_zone  # which TZ may change
    moment = time.localtime(at)
    offset = time.strftime("%z", moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment), f"{offset[:3]}:{offset[3:]}"


def clean_text(text: str) -> str:
    """Return a text that stays on its line: no part of a message may look like a line of its own."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "replace").decode("ascii")


def write_line(severity: str, text: str) -> None:
    """Write one line of ours at once, whole."""
    at = time.time()
    form = Form(*load_rules())
    _output.write(render_own_line(form, severity, text, at), form)
    copy_line(severity, at, text)


class _Output:
    """This process's standard output, and how many lines it had no room for."""

    def __init__(self) -> None:
        self._lost = 0

    def write(self, line: str, form: Form) -> None:
        """Write a line, behind word of those that are missing before it, or count it as one."""
        if self._lost and _write_soon(render_own_line(form, "WARNING", describe_drops(self._lost), time.time())):
            self._lost = 0
        if self._lost or not _write_soon(line):
            self._lost += 1


_output: Final = _Output()


def describe_drops(count: int) -> str:
    """Return what is said where lines are missing."""
    words = "line was" if count == 1 else "lines were"
    return f"{count} log {words} dropped, because what reads this container's output did not keep up"


def _write_soon(line: str) -> bool:
    """Write a line if its reader takes it within a moment; return whether it is written."""
    data = line.encode(errors="backslashreplace")
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    for start in range(0, len(data), _PIPE_BYTES):
        if not poll.poll(_OUTPUT_SECONDS * 1000):
            return False
        os.write(1, data[start : start + _PIPE_BYTES])
    return True


def copy_line(severity: str, at: float, text: str) -> None:
    """Hand a line to the forwarder for the syslog server, if there is one; what it does not take is not there.

    Where there is no forwarder yet it finds the line when it begins.
    """
    if not os.path.exists(paths.SYSLOG):
        return
    form = Form(*load_rules())
    line = render_own_line(form, severity, text, at).rstrip("\n")
    shown = line if form.is_json else line.partition(f" {TAG}: ")[2]
    copy = f"!{severity} {at:.6f} {TAG}[{os.getpid()}] {shown}".encode(errors="backslashreplace")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.settimeout(_COPY_SECONDS)
        try:
            log.connect(paths.LOG_SOCKET)
        except FileNotFoundError:
            # For root alone, as the log itself.
            descriptor = os.open(paths.EARLY_LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(copy + b"\n")
        else:
            log.send(copy)


def take_early_copies() -> list[tuple[str, float, str, str]]:
    """Return the copies that were made before there was a forwarder, once."""
    with contextlib.suppress(FileNotFoundError):
        with open(paths.EARLY_LINES, "rb") as file:
            copies = file.read().splitlines()
        os.unlink(paths.EARLY_LINES)
        return [parsed for copy in copies if (parsed := parse_copy(copy))]
    return []


def parse_copy(datagram: bytes) -> tuple[str, float, str, str] | None:
    """Return severity, time, tag and text of a copy, or `None` for what is none."""
    match = _COPY.fullmatch(datagram)
    if match is None:
        return None
    severity, at, tag, text = (part.decode("utf-8", "backslashreplace") for part in match.groups())
    return severity, float(at), tag, clean_text(text)
