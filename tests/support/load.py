"""Applications under load: many sessions, message after message, that know what was accepted. Runs docker."""

from __future__ import annotations

import collections
import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tests.support.engine import Container, Engine, Network
from tests.support.relay import Relay
from tests.support.upstream import MOCK_IMAGE, Message
from tests.support.wait import wait_until

# Arguments: host, port, prefix, sessions, pause, mixed or plain. Standard library only. The sender of each message is
# its name; a name is written, unbuffered, when its 250 has come, and never used twice. It ends on TERM, after what is
# under way. A mixed load has all sizes, one to five recipients (the name tells), text beyond ASCII, sessions of one
# message and of many, and clients that go away in the middle; each content has its own digest in its first line.
_SCRIPT = r"""
import hashlib, os, random, signal, smtplib, socket, sys, threading, time
host, port, prefix, sessions, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
is_mixed = sys.argv[6] == "mixed"
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
body = b"From: a@example.test\r\nSubject: load\r\n\r\n" + b"x" * 60 + b"\r\n"
def write_mixed(number):
    size = 5_000_000 if number % 500 == 499 else 200_000 if number % 50 == 49 else random.choice((0, 60, 800, 8000))
    words = ("x", "y.", ".", "", "ü€", "a longer line " * 8)
    text = "Subject: x\r\n\r\n"
    while len(text) < size:
        text += "\r\n".join(random.choices(words, k=50)) * (1 + size // 20000) + "\r\n"
    data = text.encode()
    return b"X-Digest: " + hashlib.sha256(data).hexdigest().encode() + b"\r\n" + data
def go_away(connection, name):
    connection.ehlo()
    connection.docmd("MAIL FROM:<%s>" % name)
    connection.docmd("RCPT TO:<gone@example.com>")
    connection.docmd("DATA")
    connection.send(b"Subject: gone\r\n\r\nhalf of")
    connection.sock.close()
    connection.close()
def work(session):
    number = 0
    while not over.is_set():
        try:
            with smtplib.SMTP(host, port, local_hostname="client.example.test", timeout=10) as connection:
                for _ in range(random.choice((1, 5, 30)) if is_mixed else 5):
                    if over.is_set():
                        break
                    number += 1
                    name = "%s-%d-%d@example.test" % (prefix, session, number)
                    if is_mixed and number % 23 == 0:
                        go_away(connection, name)
                        break
                    elif is_mixed:
                        count = random.choice((1, 1, 1, 2, 5))
                        name = "%s-%d-%d-%d@example.test" % (prefix, session, number, count)
                        options = ["BODY=8BITMIME", "SMTPUTF8"][:1 + (number % 7 == 0)]
                        recipients = ["r%d@example.com" % one for one in range(count)]
                        connection.sendmail(name, recipients, write_mixed(number), options)
                    else:
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


_NOTICED_SECONDS = 1.0
"""From a kill to the upstream's notice of it, on a busy machine."""
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
        is_mixed: bool = False,
    ) -> None:
        """`pause_seconds`: between two messages of a session; without one a slow upstream is soon far behind."""
        self._container: Container = engine.run(
            MOCK_IMAGE,
            [
                *("python", "-c", _SCRIPT, host, "25", prefix, str(sessions), str(pause_seconds)),
                "mixed" if is_mixed else "plain",
            ],
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
    return int(
        relay.container.exec(["sh", "-c", f"cd /var/spool/postfix && find {_QUEUES} -type f -perm -u+x | wc -l"]).text
    )


def list_recipients(name: str) -> list[tuple[str, str]]:
    """What a mixed load's message is to become: a sender and a recipient each."""
    count = int(name.split("@")[0].rsplit("-", 1)[1])
    return [(name, f"r{number}@example.com") for number in range(count)]


def is_whole(message: Message) -> bool:
    """Whether a mixed load's message has come as it was sent."""
    digest, _, content = message.data.partition(b"X-Digest: ")[2].partition(b"\r\n")
    return hashlib.sha256(content).hexdigest().encode() == digest


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What was killed, and when, in seconds since the epoch."""

    victim: str
    began_at: float
    ended_at: float


def was_in_flight(message: Message, kills: Iterable[Kill]) -> bool:
    """Whether a kill fell between the message's content and its confirmation, as the upstream saw them."""
    until = message.final_reply_at or message.received_at
    return any(
        message.received_at <= kill.ended_at + _NOTICED_SECONDS and until >= kill.began_at - _NOTICED_SECONDS
        for kill in kills
    )


def account(accepted: Iterable[str], arrived: Iterable[Message]) -> tuple[list[str], list[str]]:
    """Return the accepted messages that are lost, and those whose content the upstream has more than once.

    Also without the final 250 having been sent: who has the whole content may well deliver it.
    """
    counts = collections.Counter(message.mail_from for message in arrived)
    return sorted(name for name in accepted if not counts[name]), sorted(n for n, count in counts.items() if count > 1)
