"""Applications that try again: the same message, until somebody says 250 or their patience is over. Runs docker."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.support.engine import Container, Engine, Network
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

# Arguments: host, prefix, how many, sessions, pause, seconds until a message is given up. A line for each message: its
# name, whether it was accepted, how often it was tried, how long, and when that was known. smtplib tries every address
# of the host's name; a session hands in five messages. Standard library only.
_SCRIPT: Final = r"""
import os, queue, smtplib, sys, threading, time
host, prefix, count, sessions, pause, patience = *sys.argv[1:3], *map(float, sys.argv[3:])
names = queue.Queue()
for number in range(int(count)):
    names.put("%s-%d@example.test" % (prefix, number))
body = b"From: a@example.test\r\nSubject: load\r\n\r\n" + (b"x" * 76 + b"\r\n") * 50
def work():
    connection, sent = None, 0
    while True:
        try:
            name = names.get_nowait()
        except queue.Empty:
            return
        began, tries, is_accepted = time.monotonic(), 0, False
        while not is_accepted and time.monotonic() - began < patience:
            tries += 1
            try:
                connection = connection or smtplib.SMTP(host, 25, "client.example.test", timeout=30)
                connection.sendmail(name, ["b@example.com"], body)
                is_accepted, sent = True, sent + 1
            except (OSError, smtplib.SMTPException):
                connection = None
                time.sleep(0.3)
            if sent % 5 == 4 and connection:
                connection.close()
                connection = None
        waited = time.monotonic() - began
        os.write(1, ("%s %d %d %.2f %.3f\n" % (name, is_accepted, tries, waited, time.time())).encode())
        time.sleep(pause)
threads = [threading.Thread(target=work) for _ in range(int(sessions))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


class Told(NamedTuple):
    """What the client says of a message."""

    name: str
    is_accepted: bool
    tries: int
    seconds: float
    at: float


class RetryingClient:
    """So many sessions that hand in so many messages; it ends by itself."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        host: str,
        *,
        prefix: str,
        count: int,
        sessions: int,
        pause_seconds: float = 0,
        patience_seconds: float = 180,
    ) -> None:
        words = [str(one) for one in (host, prefix, count, sessions, pause_seconds, patience_seconds)]
        self._container: Container = engine.run(
            MOCK_IMAGE, ["python", "-c", _SCRIPT, *words], kind="client", network=network, arguments=["--init"]
        )

    def read(self) -> list[Told]:
        """What it has said up to now."""
        lines = (line.split() for line in self._container.logs().splitlines())
        return [
            Told(name, accepted == "1", int(tries), float(seconds), float(at))
            for name, accepted, tries, seconds, at in lines
        ]

    def wait(self, count: int, timeout_seconds: float) -> list[Told]:
        """Wait until so many messages were accepted or given up; all that it has said."""
        wait_until(lambda: len(self.read()) >= count, timeout_seconds, f"{count} messages should be decided")
        return self.read()


def find_rate(times: list[float]) -> float:
    """Return how many a second, without the first and the last fifth."""
    middle = sorted(times)[len(times) // 5 : len(times) * 4 // 5]
    return (len(middle) - 1) / (middle[-1] - middle[0])
