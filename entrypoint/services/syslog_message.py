"""From a line of the log to a syslog message (RFC 5424), in as many bytes as the receiver is sure to take. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from entrypoint.system.log import SEVERITIES, format_time

_MAIL: Final = 2
"""The facility of everything here (RFC 5424 section 6.2.1)."""
_PRIORITIES: Final = {word: _MAIL * 8 + number for number, word in enumerate(SEVERITIES)}
_TAG: Final = re.compile(r"(.+?)(?:\[(\d+)\])?")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MOST_NAME: Final = {"host": 255, "application": 48, "process": 128}
"""RFC 5424 section 6: HOSTNAME, APP-NAME, PROCID."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log in its parts; `at` in seconds since the epoch, `tag` as `postfix/smtp[77]` or empty."""

    severity: str
    at: float
    tag: str
    text: str


def render_message(line: LogLine, own_name: str, most_bytes: int) -> bytes:
    """Return the message without a frame, cut at the end of a character where it would be longer."""
    application, process = "", None
    if match := _TAG.fullmatch(line.tag):
        application, process = match[1], match[2]
    head = (
        f"<{_PRIORITIES.get(line.severity, _PRIORITIES['INFO'])}>1 {format_time(line.at)} {_name(own_name, 'host')} "
        f"{_name(application, 'application')} {_name(process or '', 'process')} - - "
    )
    message = head.encode("ascii") + _encode(line.text)
    # The cut may go through a character, whose first bytes then go as well.
    return message if len(message) <= most_bytes else message[:most_bytes].decode("utf-8", "ignore").encode()


def _encode(text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    # RFC 5424 section 6.4 wants the mark before UTF-8, RFC 8259 section 8.1 forbids it before JSON; ASCII needs none.
    return data if text.isascii() or text.startswith("{") else _BYTE_ORDER_MARK + data


def _name(text: str, part: str) -> str:
    """Return a part of the header: printable ASCII without blanks, or the NILVALUE."""
    return re.sub(r"[^!-~]", "?", text)[: _MOST_NAME[part]] or "-"
