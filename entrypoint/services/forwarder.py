"""Receives syslog datagrams from Postfix on standard input and writes one line each to standard output.

Reading never waits for writing: a thread reads into a bounded buffer, the other writes, and what finds the buffer full
is counted and said. `tap` lets others read along, `attempts` counts. The socket itself belongs to the supervisor and
survives this process, so that a restart loses nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from typing import Final

from entrypoint import paths
from entrypoint.services.attempts import AttemptCounter
from entrypoint.services.hints import Hints
from entrypoint.services.tap import Tap
from entrypoint.system.log import TAG, clean_text, format_line, format_time

_SEVERITIES: Final = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
"""RFC 5424 section 6.2.1, in the words of syslog(3); Postfix logs at CRITICAL, ERROR, WARNING and INFO."""
_MOST_LINES: Final = 20000
"""About 3 MB: ten seconds of the fastest relay, while whatever reads our output does not."""
_MAX_DATAGRAM_BYTES: Final = 65536

# <PRIORITY>Mmm dd hh:mm:ss TAG[PID]: TEXT, as syslog(3) writes it to /dev/log (RFC 3164 section 4.1 without a host).
_DATAGRAM: Final = re.compile(rb"<(\d{1,3})>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?(.*)", re.DOTALL)
_PROBE: Final = re.compile(
    r"postfix/smtpd\[\d+\]: (?:connect|disconnect) from unknown\[([0-9a-f.:]+)\](?: quit=1 commands=1)?"
)
_FATAL: Final = re.compile(r"\S+ \S+ postfix/(?:master|postlog|postfix-script)\[\d+\]: (?:fatal|panic): ")
"""Both match a line from its start: a client may put the same words into its Message-ID."""


def read_probe_sources() -> frozenset[str]:
    """Return the addresses that `authrelay health` connects from."""
    with open(paths.LISTENERS, encoding="utf-8") as file:
        return frozenset(source for _, _, source in json.load(file))


def render_line(datagram: bytes, at: float, probe_sources: frozenset[str] = frozenset()) -> str | None:
    """Return the line for one datagram, or `None` for a health check's; control characters are escaped."""
    match = _DATAGRAM.match(datagram)
    if match is None:
        priority, message = 30, datagram
    else:
        priority, message = int(match[1]), match[2]
    text = clean_text(message.rstrip(b"\n\0").decode("utf-8", errors="backslashreplace"))
    probe = _PROBE.fullmatch(text)
    if probe and probe[1] in probe_sources:
        return None
    return f"{format_time(at)} {_SEVERITIES[priority & 7]} {text}\n"


class Forwarder:
    """The bounded buffer between the reading and the writing thread."""

    def __init__(self, most_lines: int = _MOST_LINES) -> None:
        self._most_lines = most_lines
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._is_finished = False
        self._changed = threading.Condition()

    def put(self, line: str) -> None:
        """Take a line for the writer, or count it as dropped. Never waits for the writer."""
        with self._changed:
            if len(self._lines) >= self._most_lines:
                self._dropped += 1
            else:
                self._lines.append(line)
            self._changed.notify()

    def finish(self) -> None:
        """Let the writer end once everything is written."""
        with self._changed:
            self._is_finished = True
            self._changed.notify()

    def take(self) -> str:
        """Wait for lines and return them all as one text; an empty text is the end."""
        with self._changed:
            while not self._lines and not self._is_finished:
                self._changed.wait()
            text = "".join(self._lines)
            self._lines.clear()
            if self._dropped:
                text += (
                    f"{format_time(time.time())} WARNING {TAG}: {self._dropped} log lines were dropped, because what "
                    "reads this container's output did not keep up\n"
                )
                self._dropped = 0
        return text

    def write(self) -> None:
        """Write to standard output until the end, waiting for it as long as it takes."""
        while text := self.take():
            data = text.encode(errors="backslashreplace")
            while data:
                data = data[os.write(1, data) :]


def keep_last_words(line: str) -> None:
    """Keep why Postfix gives up, for the supervisor's last line."""
    if _FATAL.match(line):
        with open(paths.LAST_FATAL_LINE, "w", encoding="utf-8") as file:
            file.write(line.partition(" ")[2].partition(" ")[2])


def open_tap(attempts: AttemptCounter, forwarder: Forwarder) -> Tap:
    """Return a tap that is open, or say in the log why it is not: the log must flow all the same."""
    tap = Tap(attempts.report)
    try:
        tap.open(paths.LOG_TAP)
    except OSError as error:
        text = f"{TAG}: {paths.LOG_TAP} cannot be made ({error.strerror}): send-test and queue's ATTEMPTS need it"
        forwarder.put(format_line("WARNING", text, time.time()))
    return tap


def main() -> None:
    """Forward until TERM, then everything that is still in the socket."""
    log = socket.socket(fileno=0)
    forwarder = Forwarder()
    own_addresses = read_probe_sources()
    hints = Hints()
    attempts = AttemptCounter(since=time.time())
    tap = open_tap(attempts, forwarder)
    # Not a daemon: the process ends when the last line is written.
    threading.Thread(target=forwarder.write).start()

    def stop(*_: object) -> None:
        # recv(2), interrupted by this, is tried again and finds nothing only when everything has been read.
        log.setblocking(False)

    signal.signal(signal.SIGTERM, stop)
    log.setblocking(True)
    while True:
        try:
            datagram = log.recv(_MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            break
        at = time.time()
        line = render_line(datagram, at, own_addresses)
        if line is not None:
            keep_last_words(line)
            hints.note(line, at)
            attempts.note(line, at)
            forwarder.put(line)
            tap.pass_on(line)
    forwarder.finish()


if __name__ == "__main__":
    main()
