"""Sends every line of the log to a syslog server as well, from a bounded buffer and a thread of its own. Network.

Whoever hands a line over never waits: looking the name up, connecting, TLS and sending are the thread's alone. What
the buffer cannot hold while the server is away is counted and said. What the thread itself has to say goes the way of
every line, once for each trouble and each end of one, so that it cannot go round in circles.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from entrypoint.services.syslog_message import LogLine, render_message
from entrypoint.system.connection import Deadline
from entrypoint.system.log import TAG
from entrypoint.system.syslog_server import (
    SyslogServer,
    Trouble,
    explain,
    open_way,
    read_stamp,
    read_syslog_server,
)
from entrypoint.system.syslog_session import DatagramSession, Session, StreamSession

_MOST_CHARACTERS: Final = 4 * 2**20
"""Some 20000 lines, as the buffer before standard output has: what a server may be away for depends on the mail."""
_LINE_CHARACTERS: Final = 100
"""What a line costs beyond its text."""
_MOST_TEXT: Final = 16384
"""Longer than any message may be: what is cut off anyway is not kept."""
_BATCH_CHARACTERS: Final = 16384
"""One write(2), one record of TLS; more would only make more of what goes again when a connection breaks."""
_CONNECT_SECONDS: Final = 10.0
_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 30.0
_SETTLED_SECONDS: Final = 2.0
"""A connection that has stood so long, with nothing on the way, works; before, it may be accepted only to be cut."""
_SETTLED_AFTER_HANGING_SECONDS: Final = 30.0
"""The kernel of a server that reads nothing takes a lot before it takes no more."""
_LEAST_SECONDS_BETWEEN_REPORTS: Final = 60.0
END_SECONDS: Final = 2.0
"""How long the end of the forwarder may wait for what is in the buffer."""
_END_ATTEMPTS: Final = 2
_LAST_WORD_SECONDS: Final = 0.1
"""Of these for saying what did not get there."""


class SyslogSender:
    """The bounded buffer, and the thread that empties it."""

    def __init__(self, say: Callable[[str, str], None], most_characters: int = _MOST_CHARACTERS) -> None:
        """`say` takes a severity and a text for the log, and must not wait; it does not hand them over here."""
        self.dropped = 0
        """How many lines found no room since this began."""
        self._say_elsewhere = say
        self._most_characters = most_characters
        self._lines: deque[LogLine] = deque()
        self._characters = 0
        self._again: list[bytes] = []
        self._sending = 0
        self._changed = threading.Condition()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._work, name="syslog", daemon=True)

        self._server: SyslogServer | None = None
        self._stamp = read_stamp()
        self._session: Session | None = None
        self._opened_at = 0.0
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._is_settled = False
        self._early_ends = 0
        self._failures = 0
        self._told: set[str] = set()
        self._told_dropped = 0
        self._reported_at = -_LEAST_SECONDS_BETWEEN_REPORTS
        self._end_attempts = _END_ATTEMPTS
        self._ends_at = 0.0

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, severity: str, at: float, tag: str, text: str) -> None:
        """Take a line of the log, or count it as dropped. Never waits for the server.

        `at` is in seconds since the epoch, `tag` as `postfix/smtp[77]` or empty, `text` safe to be shown.
        """
        with self._changed:
            if self._characters >= self._most_characters:
                self.dropped += 1
            else:
                self._append(LogLine(severity, at, tag, text[:_MOST_TEXT]))

    def finish(self, seconds: float = END_SECONDS) -> None:
        """Send what is left for so long at most, and say what could not be."""
        with self._changed:
            self._ends_at = time.monotonic() + seconds - _LAST_WORD_SECONDS
            self._finished.set()
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._lines) + len(self._again) + self._sending
        if left:
            self._say_elsewhere("WARNING", f"{self._name()}: the last {left} lines of the log did not get there")

    def _append(self, line: LogLine) -> None:
        self._lines.append(line)
        self._characters += len(line.text) + _LINE_CHARACTERS
        self._changed.notify()

    def _say(self, severity: str, text: str) -> None:
        """Say something in the log, and to the server when it can be."""
        text = f"{self._name()}: {text}"
        self._say_elsewhere(severity, text)
        with self._changed:
            # There is always room for this: it is said seldom.
            self._append(LogLine(severity, time.time(), TAG, text))

    def _name(self) -> str:
        return f"SYSLOG_URL={self._server.url}" if self._server else "SYSLOG_URL"

    def _work(self) -> None:
        while self._wait():
            try:
                self._send(*self._open())
            except OSError as error:
                if not self._fail(error):
                    return
            self._report_dropped()
        if self._session:
            self._sending = len(self._session.end(self._ends_at - time.monotonic()))

    def _wait(self) -> bool:
        """Wait for something to send; return whether there is."""
        while True:
            self._settle()
            with self._changed:
                if self._lines or self._again:
                    return True
                if self._finished.is_set():
                    return False
                is_watched = self._session is not None and not self._is_settled
                self._changed.wait(_SETTLED_SECONDS if is_watched or self.dropped > self._told_dropped else None)
            self._report_dropped()

    def _open(self) -> tuple[SyslogServer, Session]:
        """Return the server that is meant now, and a session with it."""
        stamp = read_stamp()
        if self._server and self._session:
            if stamp == self._stamp and not self._session.is_stale:
                return self._server, self._session
            self._again = self._session.end(END_SECONDS)
            self._session = None
        self._stamp = stamp
        self._server = server = read_syslog_server()
        deadline = Deadline(END_SECONDS if self._finished.is_set() else _CONNECT_SECONDS)
        way = open_way(server, deadline, self._failures)
        self._session = session = DatagramSession(way) if server.transport == "udp" else StreamSession(way)
        self._opened_at = time.monotonic()
        self._is_settled = False
        return server, session

    def _send(self, server: SyslogServer, session: Session) -> None:
        """Send a batch of what is there."""
        messages, self._again = self._again, []
        with self._changed:
            characters = sum(map(len, messages))
            while self._lines and (not messages or characters < _BATCH_CHARACTERS):
                line = self._lines.popleft()
                self._characters -= len(line.text) + _LINE_CHARACTERS
                characters += len(line.text) + _LINE_CHARACTERS
                messages.append(render_message(line, server.own_name, session.most_bytes))
            self._sending = len(messages)
        session.send(messages)
        self._sending = 0

    def _settle(self) -> None:
        """Find out whether a young connection works, and say so if there was trouble before."""
        if self._session is None or self._is_settled:
            return
        needed = _SETTLED_AFTER_HANGING_SECONDS if "hanging" in self._told else _SETTLED_SECONDS
        if time.monotonic() - self._opened_at < needed or not self._session.is_confirmed():
            return
        self._is_settled = True
        self._early_ends = 0
        self._wait_seconds = _FIRST_WAIT_SECONDS
        if self._told:
            self._told.clear()
            self._say("INFO", "the server takes the log again")

    def _fail(self, error: OSError) -> bool:
        """Keep what may be lost, say once what the trouble is, and wait; return whether to try again."""
        is_at_once = False
        self._failures += 1
        self._sending = 0
        trouble = explain(error, self._server) if self._server else Trouble(kind="file", text=str(error))
        if self._session:
            self._again = self._session.end(0)
            # A server that was only started again is none to speak of.
            self._early_ends += not self._is_settled
            is_at_once = self._early_ends < 2 and not isinstance(error, TimeoutError)
            if isinstance(self._session, StreamSession):
                trouble = _explain_end(error)
            self._session = None
        if self._finished.is_set():
            self._end_attempts -= 1
            return self._end_attempts > 0
        if is_at_once:
            return True
        if trouble.kind not in self._told:
            self._told.add(trouble.kind)
            stop = "" if trouble.text.endswith("?") else "."
            self._say("WARNING", f"{trouble.text}{stop} Lines are kept for it as far as there is room")
        self._report_dropped()
        self._finished.wait(self._wait_seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        return True

    def _report_dropped(self) -> None:
        """Say how many lines were dropped since this was said, if it is time."""
        count = self.dropped - self._told_dropped
        if count and time.monotonic() - self._reported_at >= _LEAST_SECONDS_BETWEEN_REPORTS:
            self._told_dropped += count
            self._reported_at = time.monotonic()
            self._say("WARNING", f"{count} log lines were dropped, because the server did not take them in time")


def _explain_end(error: OSError) -> Trouble:
    """Return why a connection that had come about ended."""
    if isinstance(error, TimeoutError):
        return Trouble(kind="hanging", text="it accepts connections, and does not read what comes")
    text = f"it ends the connection ({error.strerror or error}). Does it let this relay in, and expect this transport?"
    return Trouble(kind="closed", text=text)
