"""Applications under load: many sessions, message after message, that know what was accepted. Runs docker."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tests.support.engine import Container, Engine, Network
from tests.support.upstream import MOCK_IMAGE, Message
from tests.support.wait import wait_until

# Arguments: host, port, prefix, sessions. Standard library only. The sender of each message is its name; a name is
# written, unbuffered, when its 250 has come, and never used twice. It ends on TERM, after what is under way.
_SCRIPT = r"""
import os, signal, smtplib, socket, sys, threading, time
host, port, prefix, sessions = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
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


class Load:
    """Sessions at one relay; a context manager that ends them."""

    def __init__(self, engine: Engine, network: Network, host: str, *, prefix: str, sessions: int = 10) -> None:
        self._container: Container = engine.run(
            MOCK_IMAGE,
            ["python", "-c", _SCRIPT, host, "25", prefix, str(sessions)],
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


def account(accepted: Iterable[str], arrived: Iterable[Message]) -> tuple[list[str], list[str]]:
    """Return the accepted messages that are lost, and those whose content the upstream has more than once.

    Also without the final 250 having been sent: who has the whole content may well deliver it.
    """
    counts = collections.Counter(message.mail_from for message in arrived)
    return sorted(name for name in accepted if not counts[name]), sorted(n for n, count in counts.items() if count > 1)
