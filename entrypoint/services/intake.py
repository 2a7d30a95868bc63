"""What is done with each line of the log: it is read, joined to its message, counted, and handed on. Disk.

The disk is only for the supervisor's sake: see `hints`, and the last words of a Postfix that gives up.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from entrypoint import paths
from entrypoint.journal.forms import Form
from entrypoint.journal.lines import parse_line
from entrypoint.journal.messages import Messages
from entrypoint.journal.tally import Tally
from entrypoint.journal.words import leave_out_login
from entrypoint.services.hints import Hints
from entrypoint.system.log import SEVERITIES, TAG, clean_text, format_time

# <PRIORITY>Mmm dd hh:mm:ss TAG[PID]: TEXT, as syslog(3) writes it to /dev/log (RFC 3164 section 4.1 without a host).
_DATAGRAM: Final = re.compile(rb"<(\d{1,3})>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?(.*)", re.DOTALL)
_PROBE: Final = re.compile(
    r"postfix/(?:smtpd\[\d+\]: (?:connect|disconnect) from unknown\[([0-9a-f.:]+)\](?: quit=1 commands=1)?"
    r"|postscreen\[\d+\]: (?:CONNECT from|ALLOWLISTED) \[([0-9a-f.:]+)\]:\d+(?: to \[[0-9a-f.:]+\]:\d+)?)"
)
_FATAL: Final = re.compile(r"\S+ \S+ postfix/(?:master|postlog|postfix-script)\[\d+\]: (?:fatal|panic): ")
"""Both match a line from its start: a client may put the same words into its Message-ID."""


class Output(NamedTuple):
    """What is to be written: a whole line, and what a syslog server is told beside its text."""

    line: str
    severity: str
    at: float
    """Seconds since the epoch."""
    tag: str
    """`postfix/smtp[77]`; empty where the line has none."""

    @property
    def text(self) -> str:
        """The line without what the others say; under LOG_FORMAT=json all of it."""
        if self.line.startswith("{"):
            return self.line.rstrip("\n")
        text = self.line.rstrip("\n").split(" ", 2)[2]
        return text.removeprefix(f"{self.tag}: ") if self.tag else text


def read_datagram(datagram: bytes) -> tuple[str, str]:
    """Return the severity and the text, on one line, of what syslog(3) wrote."""
    match = _DATAGRAM.match(datagram)
    if match is None:
        priority, message = 30, datagram
    else:
        priority, message = int(match[1]), match[2]
    return SEVERITIES[priority & 7], clean_text(message.rstrip(b"\n\0").decode("utf-8", errors="backslashreplace"))


def find_tag(text: str) -> str:
    """Return what syslog(3) calls the tag of a line, with the number of the process; nothing where there is none."""
    tag, colon, _ = text.partition(": ")
    return tag if colon and " " not in tag else ""


def is_health_check(text: str, probe_sources: frozenset[str]) -> bool:
    """Return whether a line is one of those that a health check leaves."""
    probe = _PROBE.fullmatch(text)
    return probe is not None and (probe[1] or probe[2]) in probe_sources


def keep_last_words(line: str) -> None:
    """Keep why Postfix gives up, for the supervisor's last line."""
    if _FATAL.match(line):
        with contextlib.suppress(OSError), open(paths.LAST_FATAL_LINE, "w", encoding="utf-8") as file:
            file.write(line.partition(" ")[2].partition(" ")[2])


class Intake:
    """Where each line goes in, and what it has told so far."""

    def __init__(self, form: Form, since: float, probe_sources: frozenset[str] = frozenset()) -> None:
        self._form = form
        self._probe_sources = probe_sources
        self._hints = Hints()
        self.messages = Messages(since)
        self.tally = Tally(since)

    def take(self, datagram: bytes, at: float, put: Callable[[Output], None], pass_on: Callable[[str], None]) -> None:
        """Read a line that came at that time: what is to be written goes to `put`, the plain line to `pass_on`."""
        severity, text = read_datagram(datagram)
        text = leave_out_login(text)
        if ("smtpd" in text or "postscreen" in text) and is_health_check(text, self._probe_sources):
            return
        entry = parse_line(text)
        time = format_time(at)
        line = f"{time} {severity} {text}\n"
        if entry.kind == "trouble":
            keep_last_words(line)
        elif entry.kind == "attempt":
            self._hints.note(line, at)
        form, messages, tally = self._form, self.messages, self.tally
        events = messages.note(entry, at)
        tag = find_tag(text)
        put(Output(line if form.is_unchanged else form.render(time, severity, text, entry), severity, at, tag))
        tally.note_line(severity)
        tally.note(entry, at)
        if messages.is_accepted(entry):
            tally.note_accepted(entry.fields["size"], entry.fields["recipients"], at)
        for event in events:
            step = tally.find_step(event["status"], event["reply"])
            shown = form.hide_event({"time": time, **event, "step": step})
            tally.note_event(shown, at)
            if form.is_json:
                put(Output(form.render_event(shown), "INFO", at, TAG))
        pass_on(line)

    def report(self, at: float) -> dict[str, Any]:
        """Return what was counted until that time; called by another thread than `take`."""
        return {**self.tally.report(at), "forgotten_messages": self.messages.forgotten}
