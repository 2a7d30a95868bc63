"""A mailing whose recipients meet every fate, and what its client knows of each message. Runs docker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.client import Client

# Arguments: host, port, sessions. Standard input: JSON, a list of messages. Standard output: a line of JSON for each
# message that got its 250. A session sends one message after the other. Standard library only.
_SCRIPT = r"""
import json, os, re, smtplib, sys, threading
host, port, sessions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
orders = json.load(sys.stdin)
lock = threading.Lock()
def work():
    with smtplib.SMTP(host, port, local_hostname="client.example.test", timeout=60) as connection:
        connection.ehlo()
        while True:
            with lock:
                if not orders:
                    return
                order = orders.pop()
            options = " SMTPUTF8 BODY=8BITMIME" if order["is_utf8"] else ""
            connection.command_encoding = "utf-8"
            code, words = connection.docmd("MAIL FROM:<%s>%s" % (order["sender"], options))
            assert code == 250, words
            for recipient in order["recipients"]:
                code, words = connection.docmd("RCPT TO:<%s>" % recipient)
                assert code == 250, words
            code, words = connection.data(order["text"].encode())
            assert code == 250, words
            order["queue_id"] = re.search(r"queued as (\w+)", words.decode())[1]
            os.write(1, (json.dumps(order) + "\n").encode())
threads = [threading.Thread(target=work) for _ in range(sessions)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One message to be sent."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    subject: str
    is_utf8: bool = False

    @property
    def text(self) -> str:
        """What is sent; the length differs from message to message."""
        headers = f"Subject: {self.subject}\r\nMessage-ID: <{self.message_id}>\r\n\r\n"
        return headers + f"{self.subject} {'x' * (len(self.sender) % 7)}\r\n" * len(self.recipients)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A message that got its 250."""

    order: Order
    queue_id: str


def send_mailing(client: Client, host: str, orders: Sequence[Order], *, sessions: int = 6) -> list[Submitted]:
    """Send every message; all of them must be accepted."""
    by_message_id = {order.message_id: order for order in orders}
    assert len(by_message_id) == len(orders)
    order_texts = [
        {
            "id": order.message_id,
            "sender": order.sender,
            "recipients": order.recipients,
            "text": order.text,
            "is_utf8": order.is_utf8,
        }
        for order in orders
    ]
    done = client.container.exec(
        ["python", "-c", _SCRIPT, host, "25", str(sessions)],
        stdin=json.dumps(order_texts).encode(),
        timeout_seconds=60 + len(orders),
    )
    answers = [json.loads(line) for line in done.text.splitlines()]
    assert len(answers) == len(orders), done.stderr.decode()
    return [Submitted(order=by_message_id[answer["id"]], queue_id=answer["queue_id"]) for answer in answers]
