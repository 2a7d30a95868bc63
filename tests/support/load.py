"""Applications under load: many sessions, message after message, that know what was accepted. Runs docker."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable
from functools import partial

from tests.support.engine import Container, Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import MOCK_IMAGE, Message
from tests.support.wait import wait_until

# Arguments: host, port, prefix, sessions, pause. Standard library only. The sender of each message is its name; a name
# is written, unbuffered, when its 250 has come, and never used twice. It ends on TERM, after what is under way.
_SCRIPT = r"""
import os, signal, smtplib, socket, sys, threading, time
host, port, prefix, sessions, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
body = b"Subject: load\r\n\r\n" + b"x" * 60 + b"\r\n"
def work(session):
    number = 0
    while not over.is_set():
        try:
            with smtplib.SMTP(host, port, local_hostname="client.example.test", timeout=10) as connection:
                for _ in range(5):
                    if over.is_set():
                        break
                    number += 1
                    name = "%s-%d-%d@example.test" % (prefix, session, number)
                    connection.sendmail(name, ["b@example.com"], body)
                    os.write(1, (name + "\n").encode())
                    over.wait(pause)
        except (OSError, smtplib.SMTPException):
            time.sleep(0.05)
threads = [threading.Thread(target=work, args=(session,)) for session in range(sessions)]
for thread in threads:
    thread.start()
while not over.is_set():
    over.wait(0.1)
for thread in threads:
    thread.join()
"""


_QUEUES = "maildrop incoming active deferred"


class Load:
    """Sessions at one relay; a context manager that ends them."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        host: str,
        *,
        prefix: str,
        sessions: int = 10,
        pause_seconds: float = 0,
    ) -> None:
        """`pause_seconds`: between two messages of a session; without one a slow upstream is soon far behind."""
        self._container: Container = engine.run(
            MOCK_IMAGE,
            ["python", "-c", _SCRIPT, host, "25", prefix, str(sessions), str(pause_seconds)],
            kind="load",
            network=network,
            arguments=["--init"],
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def accepted(self) -> list[str]:
        """The names of the messages that got their 250."""
        return self._container.logs().split()

    def wait_accepted(self, count: int, timeout_seconds: float = 30) -> None:
        """Wait until so many were accepted."""
        wait_until(lambda: len(self.accepted()) >= count, timeout_seconds, f"{count} messages should be accepted")

    def end(self) -> list[str]:
        """Let every session end after its message; the names of all that were accepted."""
        if self._container.is_running:
            self._container.stop(15)
        return self.accepted()


def wait_until_delivered(relay: Relay, least_seconds: float = 60) -> None:
    """Wait until the queue is empty: as long as it needs for what is in it, at ten messages a second."""
    waiting = count_queue(relay)
    ends_at = time.monotonic() + least_seconds + waiting / 10
    while waiting:
        assert time.monotonic() < ends_at, f"everything should be delivered, and {waiting} messages wait"
        relay.flush()
        # Each flush has all of the queue read again.
        wait_until(partial(is_empty_or_late, relay, time.monotonic() + 20), 30, "time should pass")
        waiting = count_queue(relay)


def is_empty_or_late(relay: Relay, at: float) -> bool:
    """Whether the queue is empty, or that time of the monotonic clock has come."""
    return time.monotonic() >= at or not count_queue(relay)


def count_queue(relay: Relay) -> int:
    """How many whole messages the queue has; cheap, also with thousands. What a kill left half written is none."""
    return int(relay.exec(["sh", "-c", f"cd /var/spool/postfix && find {_QUEUES} -type f -perm -u+x | wc -l"]).text)


def account(accepted: Iterable[str], arrived: Iterable[Message]) -> tuple[list[str], list[str]]:
    """Return the accepted messages that are lost, and those whose content the upstream has more than once.

    Also without the final 250 having been sent: who has the whole content may well deliver it.
    """
    counts = collections.Counter(message.mail_from for message in arrived)
    return sorted(name for name in accepted if not counts[name]), sorted(n for n, count in counts.items() if count > 1)
