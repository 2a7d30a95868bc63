"""Receives syslog datagrams from Postfix on standard input and writes one line each to standard output.

Reading never waits for writing: a thread reads into a bounded buffer, the other writes, and what finds the buffer full
is counted and said. `intake` is what is done with a line, `tap` and `observations` are for those who ask, and
`syslog_sender` has a buffer and a thread of its own. The socket itself belongs to the supervisor and survives this
process, so that a restart loses nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from entrypoint import paths
from entrypoint.journal.addresses import load_rules
from entrypoint.journal.forms import Form
from entrypoint.services.intake import Intake, Output
from entrypoint.services.observations import Observations
from entrypoint.services.tap import Tap
from entrypoint.system.files import read_text
from entrypoint.system.log import describe_drops, parse_copy, render_own_line, take_early_copies

if TYPE_CHECKING:
    from entrypoint.services.syslog_sender import SyslogSender

_MOST_LINES: Final = 20000
"""About 3 MB: ten seconds of the fastest relay, while whatever reads our output does not."""
_MOST_AT_ONCE: Final = 500
"""So that a full buffer is not copied as a whole, which would cost its size twice more."""
_GATHERING_SECONDS: Final = 0.02
"""Lines that come close after one another are written with one call: waking up for each costs as much as reading it."""
_REST_SECONDS: Final = 0.03
_LONG_QUEUE: Final = 500
"""Where the kernel holds so many lines for us (net.unix.max_dgram_qlen), those that come close after one another are
read together, too: nobody waits for us meanwhile. With the kernel's own ten every daemon that logs would."""
_MAX_DATAGRAM_BYTES: Final = 65536
_QUEUE_LENGTH: Final = "/proc/sys/net/unix/max_dgram_qlen"


def read_probe_sources() -> frozenset[str]:
    """Return the addresses that `authrelay health` connects from."""
    with open(paths.LISTENERS, encoding="utf-8") as file:
        return frozenset(source for _, _, source in json.load(file))


def receive(log: socket.socket, rest_seconds: float) -> Iterator[bytes]:
    """Yield datagrams as they come; when the socket does not block any more, what is left, and end."""
    while True:
        try:
            yield log.recv(_MAX_DATAGRAM_BYTES)
            if rest_seconds:
                time.sleep(rest_seconds)
            while rest_seconds:
                yield log.recv(_MAX_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if not log.getblocking():
                return


class Forwarder:
    """The bounded buffer between the reading and the writing thread."""

    def __init__(self, form: Form, most_lines: int = _MOST_LINES) -> None:
        self.dropped = 0
        """How many lines found no place, ever."""
        self._form = form
        self._most_lines = most_lines
        self._lines: deque[str] = deque()
        self._unsaid = 0
        self._finishing = threading.Event()
        self._changed = threading.Condition()

    def put(self, line: str) -> None:
        """Take a line for the writer, or count it as dropped. Never waits for the writer."""
        with self._changed:
            if len(self._lines) >= self._most_lines:
                self.dropped += 1
                self._unsaid += 1
            else:
                self._say_what_was_dropped()
                self._lines.append(line)
            self._changed.notify()

    def say(self, severity: str, text: str) -> None:
        """Take a line of ours."""
        self.put(render_own_line(self._form, severity, text, time.time()))

    def finish(self) -> None:
        """Let the writer end once everything is written."""
        with self._changed:
            self._finishing.set()
            self._changed.notify()

    def take(self) -> str:
        """Wait for lines and return some of them as one text, the next ones; an empty text is the end."""
        with self._changed:
            while not self._lines and not self._finishing.is_set():
                self._changed.wait()
            taken = [self._lines.popleft() for _ in range(min(len(self._lines), _MOST_AT_ONCE))]
            if not self._lines:
                self._say_what_was_dropped()
                taken += self._lines
                self._lines.clear()
        return "".join(taken)

    def _say_what_was_dropped(self) -> None:
        """Put the number where the lines would have been."""
        if self._unsaid:
            text = describe_drops(self._unsaid)
            self._lines.append(render_own_line(self._form, "WARNING", text, time.time()))
            self._unsaid = 0

    def write(self) -> None:
        """Write to standard output until the end, waiting for it as long as it takes."""
        while text := self.take():
            data = text.encode(errors="backslashreplace")
            while data:
                data = data[os.write(1, data) :]
            if not self._lines:
                self._finishing.wait(_GATHERING_SECONDS)


def open_place(place: Tap | Observations, path: str, forwarder: Forwarder, who: str) -> None:
    """Open what others ask at, or say in the log why it is not open: the log must flow all the same."""
    try:
        place.open(path)
    except OSError as error:
        forwarder.say("WARNING", f"{path} cannot be made ({error.strerror}): {who} need it")


def make_report(intake: Intake, forwarder: Forwarder, sender: SyslogSender | None) -> Callable[[float], dict[str, Any]]:
    """Return what tells the counts of this process."""

    def report(at: float) -> dict[str, Any]:
        dropped = {"stdout": forwarder.dropped, "syslog": sender.dropped if sender else 0}
        return {**intake.report(at), "dropped": dropped}

    return report


def start_sender(forwarder: Forwarder) -> SyslogSender | None:
    """Begin to send to a syslog server, if there is one."""
    if not os.path.exists(paths.SYSLOG):
        return None
    from entrypoint.services.syslog_sender import SyslogSender  # only who has a server pays for it

    sender = SyslogSender(forwarder.say)
    for copy in take_early_copies():
        sender.put(*copy)
    sender.start()
    return sender


def main() -> int:
    """Forward until TERM, then everything that is still in the socket; return 0 when the last line is written."""
    log = socket.socket(fileno=0)
    form = Form(*load_rules())
    forwarder = Forwarder(form)
    intake = Intake(form, time.time(), read_probe_sources())
    tap = Tap(intake.messages.report_attempts)
    open_place(tap, paths.LOG_TAP, forwarder, "send-test and queue's ATTEMPTS")
    sender = start_sender(forwarder)
    observations = Observations(make_report(intake, forwarder, sender))
    open_place(observations, paths.OBSERVATIONS, forwarder, "metrics and the status page")

    def put(output: Output) -> None:
        forwarder.put(output.line)
        if sender:
            sender.put(output.severity, output.at, output.tag, output.text)

    writer = threading.Thread(target=forwarder.write)
    writer.start()

    def stop(*_: object) -> None:
        # recv(2), interrupted by this, is tried again and finds nothing only when everything has been read.
        log.setblocking(False)

    signal.signal(signal.SIGTERM, stop)
    log.setblocking(True)
    has_room = int(read_text(_QUEUE_LENGTH) or 0) >= _LONG_QUEUE
    for datagram in receive(log, _REST_SECONDS if has_room else 0.0):
        at = time.time()
        if copy := parse_copy(datagram):  # it is on standard output already
            if sender:
                sender.put(*copy)
        else:
            intake.take(datagram, at, put, tap.pass_on)
    if sender:
        sender.finish()
    forwarder.finish()
    writer.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
