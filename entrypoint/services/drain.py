"""Stops Postfix so that nothing is lost and nothing is sent twice. Processes, disk.

TERM to master(8) ends every delivery in its middle: what the upstream took and had not yet confirmed is sent again. So:

1. New sessions are told 421 and closed; those under way go on. (postconf(5) master_service_disable would close the
   listeners themselves, but master ends the sessions of a service that it closes in their middle.)
2. What is queued goes on to be delivered until the queue is empty or the window of DRAIN_TIMEOUT has passed. In its
   last second qmgr(8) is held, so that the deliveries handed out last come past what they need of master: a new one
   asks tlsmgr(8) and scache(8) before its handshake, and would ask for many seconds when they have gone.
3. master alone is ended, by KILL, and the listeners with it. Without it qmgr(8) ends and hands out nothing more, and
   every other process finishes what it does: a delivery its transaction, whose result it writes into the queue file.
4. Those that are still there are waited for, however long an upstream takes to confirm; the engine's KILL is the only
   end to that, so one line tells of it before. Only smtpd(8) is ended when no message is under way in it, for an idle
   client would hold it for minutes; and after a while smtpd and its cleanup(8) with a message that nobody was promised.
   tlsproxy(8), whose sessions the deliveries use, does not notice the end of the last one: it is ended after smtp(8).
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from typing import Final

from entrypoint import paths
from entrypoint.errors import CannotWriteError
from entrypoint.system.daemons import find_name, list_children
from entrypoint.system.files import read_text, write_file
from entrypoint.system.log import write_line
from entrypoint.system.processes import send_signal
from entrypoint.system.queue import count_messages, describe_place, has_pending

_CLOSED: Final = (
    ("smtpd_delay_reject", "no"),
    ("smtpd_client_restrictions", "check_client_access static:{421 4.3.2 this relay is being stopped, try again soon}"),
)
_LEAST_SECONDS: Final = 0.3
"""What a client was just told 250 about must have come into the queue before the queue is called empty."""
_SETTLING_SECONDS: Final = 1.0
_CLIENT_SECONDS: Final = 3.0
"""A client that stalls in the middle of a message is waited for so long; it was promised nothing yet."""
_LATE_SECONDS: Final = 2.0
"""Deliveries that need longer than that after master are told of, while the engine still has patience: its own KILL
would leave nothing in the log."""
_QUIET_SECONDS: Final = 0.3
"""From the end of the last cleanup(8), which has the message on disk, to smtpd's 250."""


class Drain:
    """One stop, from its first signal to the end of the last process of Postfix."""

    def __init__(self, window_seconds: float) -> None:
        self._began_at = time.monotonic()
        self._window_ends_at = self._began_at + window_seconds
        self._settled_at: float | None = None
        self._master_pid = 0
        self._ended_at = 0.0
        self._busy_at = 0.0
        self._is_told = False

    def begin(self, master_pid: int) -> None:
        """Let no new session begin."""
        self._master_pid = master_pid
        main_cf = f"{paths.POSTFIX_CONFIG}/main.cf"
        # On a full disk sessions go on to begin until master is ended, which breaks no promise.
        master_cf = f"{paths.POSTFIX_CONFIG}/master.cf"
        with contextlib.suppress(CannotWriteError):
            write_file(main_cf, close_to_clients(read_text(main_cf) or ""), 0o644)
            if (text := read_text(master_cf) or "") != (closed := close_services(text)):
                write_file(master_cf, closed, 0o644)
        _send(master_pid, signal.SIGHUP)

    def hurry(self) -> None:
        """Hand out nothing more from now on."""
        self._window_ends_at = 0.0

    def hand_out(self) -> bool:
        """Return whether master may be ended: the queue is empty, or its time is over. Holds qmgr before that."""
        now = time.monotonic()
        if now >= self._began_at + _LEAST_SECONDS and not has_pending():
            return True
        if self._settled_at is None and now >= self._window_ends_at - _SETTLING_SECONDS:
            self._settled_at = now + _SETTLING_SECONDS
            for pid in list_children(self._master_pid):
                if find_name(pid) == "qmgr":
                    _send(pid, signal.SIGSTOP)
        return self._settled_at is not None and now >= self._settled_at

    def wait_for(self, pids: set[int]) -> bool:
        """Return whether a process of Postfix is still at work, among the orphans of master; ends idle sessions."""
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        names = {pid: find_name(pid) for pid in pids}
        if "cleanup" in names.values():
            self._busy_at = now
        is_late = now - self._ended_at >= _CLIENT_SECONDS
        is_idle = now - max(self._busy_at, self._ended_at) >= _QUIET_SECONDS
        for pid, name in names.items():
            # It asks for trivial-rewrite(8), which has gone, every ten seconds; and nobody waits for it any more.
            is_forsaken = name == "cleanup" and is_late and "smtpd" not in names.values()
            if is_forsaken or (name == "smtpd" and (is_idle or is_late)):
                _send(pid, signal.SIGTERM)
            elif name == "qmgr":  # it may be held; whoever waits for its answer goes on when it is gone
                _send(pid, signal.SIGKILL)
            # postscreen(8) would serve those whom it is looking at to their end.
            elif name == "postscreen" or (name == "tlsproxy" and "smtp" not in names.values()):
                _send(pid, signal.SIGTERM)
        if not self._is_told and now - self._ended_at >= _LATE_SECONDS:
            self._is_told = self._tell_waiting(list(names.values()).count("smtp"))
        return any(names.values())

    def _tell_waiting(self, deliveries: int) -> bool:
        """Say what holds the stop; return whether there was something to say."""
        if deliveries:
            count = "1 delivery that is" if deliveries == 1 else f"{deliveries} deliveries that are"
            write_line("INFO", f"stopping; waiting for {count} under way; {look_at_rest()[1]}")
        return deliveries > 0


def look_at_rest() -> tuple[str, str]:
    """Return severity and text of what is left in the queue now, and where that lies."""
    return describe_rest(count_messages(), describe_place(read_text("/proc/self/mountinfo") or ""))


def describe_rest(messages: int, fault: str) -> tuple[str, str]:
    """Return severity and text for so many messages; `fault` as of `describe_place`."""
    if not messages:
        return "INFO", "the queue is empty"
    count = "1 message is" if messages == 1 else f"{messages} messages are"
    if not fault:
        return "INFO", f"{count} left in the queue on the volume at {paths.QUEUE}, for the next start"
    return (
        "WARNING",
        f"{count} left in the queue, which lies {fault}: gone when this container is. Start it again, and "
        f"give the next one a volume: --volume queue:{paths.QUEUE}",
    )


def close_to_clients(main_cf: str) -> str:
    """Return a main.cf by which smtpd(8) tells every new client to come back later (RFC 5321 section 3.8, 421)."""
    names = "|".join(name for name, _ in _CLOSED)
    kept = re.sub(rf"(?m)^({names}) *=", r"# \1 =", main_cf)
    return kept + "".join(f"{name} = {value}\n" for name, value in _CLOSED)


def close_services(master_cf: str) -> str:
    """Return a master.cf in which no service has an option that would go before that (master(5) -o)."""
    names = "|".join(name for name, _ in _CLOSED)
    return re.sub(rf"(?m)^ +-o {{ ({names}) =.*\n", "", master_cf)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        send_signal(pid, number)
