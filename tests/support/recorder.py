"""A client that writes down all that it said and was told, for comparing with a log. Runs docker."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.support.engine import Engine, Network
from tests.support.upstream import MOCK_IMAGE
from tests.support.wait import wait_until

# Arguments: host, port, prefix, sessions at once, messages in all. Standard output: a line of JSON for each session.
# Standard library only. Messages of many sizes, with one to five recipients, text beyond ASCII; sessions of one message
# and of many; some leave in the middle of the content, some try a recipient that is none. Each is one conversation of
# commands and replies, nothing between them.
_SCRIPT = r"""
import hashlib, json, os, random, re, socket, sys, threading, time
host, port, prefix, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[5])
lock = threading.Lock()
left = list(range(count))
class Conversation:
    def __init__(self):
        self.socket = socket.create_connection((host, port), 60)
        self.file = self.socket.makefile("rb")
        self.record = {"peer": self.socket.getsockname()[0], "commands": [], "messages": [], "has_left": 0}
        code, text = self.read()
        assert code == 220, text
    def read(self):
        while True:
            line = self.file.readline()
            assert line, "closed by the server"
            if line[3:4] != b"-":
                return int(line[:3]), line[4:].decode().strip()
    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        code, text = self.read()
        self.record["commands"].append([line.split(" ")[0].lower(), code])
        return code, text
    def demand(self, line, wanted):
        answer = self.say(line)
        assert answer[0] == wanted, (line, answer, self.record)
def write_content(number, message_id):
    size = 2_000_000 if number % 500 == 499 else 200_000 if number % 50 == 49 else random.choice((0, 60, 800, 8000))
    text = "Subject: x\r\nMessage-ID: <%s>\r\n\r\n" % message_id
    while len(text) < size:
        text += "\r\n".join(random.choices(("x", "y.", "", "\u00fc\u20ac", "a longer line " * 8), k=50)) + "\r\n"
    return text.encode()
def send(conversation, number):
    sender = "%s-%d@example.test" % (prefix, number)
    recipients = ["r%d-%d@example.com" % (number, one) for one in range(random.choice((1, 1, 1, 2, 5)))]
    options = " BODY=8BITMIME" + " SMTPUTF8" * (number % 7 == 0)
    began_at = time.time()
    conversation.demand("MAIL FROM:<%s>%s" % (sender, options), 250)
    for recipient in recipients:
        conversation.demand("RCPT TO:<%s>" % recipient, 250)
    if number % 11 == 0:
        conversation.demand("RCPT TO:<not an address@>", 501)
    if number % 23 == 22:
        conversation.demand("DATA", 354)
        part = b"Subject: gone\r\n\r\nhalf of it\r\n"
        conversation.socket.sendall(part)
        conversation.record["has_left"] = len(part)
        conversation.record["commands"][-1][1] = 0
        return
    message_id = "%s.%d@client.example.test" % (prefix, number)
    content = write_content(number, message_id)
    conversation.demand("DATA", 354)
    conversation.socket.sendall(content + b".\r\n")
    code, text = conversation.read()
    assert code == 250, text
    conversation.record["messages"].append(
        {"queue_id": re.search(r"queued as (\w+)", text)[1], "sender": sender, "recipients": recipients,
         "message_id": message_id, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
         "began_at": began_at, "accepted_at": time.time()})
def work():
    while True:
        conversation = None
        for _ in range(random.choice((1, 5, 30))):
            with lock:
                number = left.pop() if left else None
            if number is None:
                break
            if conversation is None:
                conversation = Conversation()
                conversation.say("EHLO client.example.test")
            send(conversation, number)
            if conversation.record["has_left"]:
                break
        if conversation is None:
            return
        if not conversation.record["has_left"]:
            conversation.say("QUIT")
        conversation.socket.shutdown(socket.SHUT_RDWR)
        conversation.socket.close()
        with lock:
            os.write(1, json.dumps(conversation.record).encode() + b"\n")
def fail(error):
    sys.excepthook(error.exc_type, error.exc_value, error.exc_traceback)
    os._exit(1)
threading.excepthook = fail
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[4]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that got its 250; times in seconds since the epoch."""

    queue_id: str
    sender: str
    recipients: tuple[str, ...]
    message_id: str
    size: int
    sha256: str
    began_at: float
    accepted_at: float


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One session: every command in lower case with the code of its reply, 0 for a content that was never ended."""

    peer: str
    commands: tuple[tuple[str, int], ...]
    messages: tuple[Sent, ...]
    has_left: int
    """How many bytes of a content it had sent when it left in its middle."""


def record_mailing(
    engine: Engine, network: Network, host: str, *, prefix: str, messages: int, sessions: int = 5
) -> list[Conversation]:
    """Send so many messages, and return what was said."""
    arguments = ["python", "-c", _SCRIPT, host, "25", prefix, str(sessions), str(messages)]
    container = engine.run(MOCK_IMAGE, arguments, kind="recorder", network=network)
    wait_until(lambda: not container.is_running, 120 + messages, "the mailing should end")
    conversations = []
    assert container.exit_status() == 0, container.logs()
    for line in container.logs().splitlines():
        record = json.loads(line)
        sent = tuple(Sent(**{**one, "recipients": tuple(one["recipients"])}) for one in record["messages"])
        commands = tuple((verb, code) for verb, code in record["commands"])
        conversations.append(Conversation(**{**record, "commands": commands, "messages": sent}))
    assert sum(len(one.messages) + bool(one.has_left) for one in conversations) == messages
    return conversations
