"""A client of the relay: a container from which mail is submitted byte for byte. Runs docker."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence

from tests.support.engine import Container, Engine, Network, Result
from tests.support.upstream import MOCK_IMAGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmtpReply:
    """One reply of the server."""

    # What it answers: "connect", a verb, or "." for the content.
    command: str
    code: int
    text: str


class SmtpRefusedError(AssertionError):
    """The server did not accept the message, or closed the connection."""

    def __init__(self, replies: Sequence[SmtpReply], reason: str) -> None:
        super().__init__(f"{reason}: {[(reply.command, reply.code, reply.text) for reply in replies]}")
        self.replies = list(replies)
        self.reason = reason


# Runs inside the container; standard library only. Standard input: a line of JSON. Standard output: JSON.
_SCRIPT = r"""
import base64, json, socket, sys
order = json.loads(sys.stdin.buffer.read())
replies, reason = [], ""
def read(command):
    lines = []
    while True:
        line = stream.readline()
        if not line:
            raise OSError("connection closed by the server after " + command)
        lines.append(line[4:].rstrip(b"\r\n").decode("utf-8", "replace"))
        if line[3:4] != b"-":
            replies.append([command, int(line[:3]), "\n".join(lines)])
            return int(line[:3])
def say(line):
    connection.sendall(line.encode("utf-8", "surrogateescape") + b"\r\n")
    return read(line.split(" ")[0].split(":")[0])
try:
    connection = socket.create_connection((order["host"], order["port"]), order["timeout"])
    stream = connection.makefile("rb")
    if read("connect") == 220 and say("EHLO " + order["helo"]) == 250:
        parameters = "".join(" " + word for word in order["parameters"])
        accepted = 0
        if say("MAIL FROM:<%s>%s" % (order["mail_from"], parameters)) == 250:
            accepted = sum(say("RCPT TO:<%s>" % name) in (250, 251) for name in order["rcpt_tos"])
        if accepted and say("DATA") == 354:
            data = base64.b64decode(order["data"])
            if data and not data.endswith(b"\r\n"):
                data += b"\r\n"
            data = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
            connection.sendall(data + b".\r\n")
            read(".")
        say("QUIT")
except OSError as error:
    reason = "%s: %s" % (type(error).__name__, error)
json.dump({"replies": replies, "reason": reason}, sys.stdout)
"""


class Client:
    """A container on a network, submitting mail."""

    def __init__(self, engine: Engine, network: Network, *, arguments: Sequence[str] = ()) -> None:
        self.container: Container = engine.run(
            MOCK_IMAGE, ["sleep", "infinity"], kind="client", network=network, arguments=arguments
        )

    def converse(
        self,
        host: str,
        port: int,
        mail_from: str,
        rcpt_tos: Sequence[str],
        data: bytes,
        *,
        parameters: Sequence[str] = (),
        helo: str = "client.example.test",
        timeout_seconds: float = 60,
    ) -> tuple[list[SmtpReply], str]:
        """Submit one message; every reply, and why the connection ended early (empty: it did not).

        The content is sent as it is, dot-stuffed; a line end is added where the last is missing. An empty
        sender is the null sender. `parameters` are those of MAIL: `BODY=8BITMIME`, `SMTPUTF8`.
        """
        order = {
            "host": host,
            "port": port,
            "mail_from": mail_from,
            "rcpt_tos": list(rcpt_tos),
            "data": base64.b64encode(data).decode(),
            "parameters": list(parameters),
            "helo": helo,
            "timeout": timeout_seconds,
        }
        result = self.container.exec(
            ["python", "-c", _SCRIPT], stdin=json.dumps(order).encode(), timeout_seconds=timeout_seconds + 60
        )
        answer = json.loads(result.stdout)
        replies = [SmtpReply(command=verb, code=code, text=text) for verb, code, text in answer["replies"]]
        return replies, answer["reason"]

    def send(
        self,
        host: str,
        port: int,
        mail_from: str,
        rcpt_tos: Sequence[str],
        data: bytes,
        *,
        parameters: Sequence[str] = (),
        helo: str = "client.example.test",
        timeout_seconds: float = 60,
    ) -> list[SmtpReply]:
        """Submit one message that must be accepted for every recipient; the replies.

        Raises SmtpRefusedError, with the replies so far, otherwise.
        """
        replies, reason = self.converse(
            host,
            port,
            mail_from,
            rcpt_tos,
            data,
            parameters=parameters,
            helo=helo,
            timeout_seconds=timeout_seconds,
        )
        refused = [reply for reply in replies if reply.code >= 400]
        if refused or not any(reply.command == "." for reply in replies):
            raise SmtpRefusedError(replies, reason or "refused")
        return replies

    def swaks(self, arguments: Sequence[str], *, stdin: bytes = b"") -> Result:
        """Run swaks; its status is 0 when the server accepted."""
        return self.container.exec(["swaks", *arguments], stdin=stdin, check=False)

    def openssl(self, arguments: Sequence[str], *, stdin: bytes = b"") -> Result:
        """Run openssl."""
        return self.container.exec(["openssl", *arguments], stdin=stdin, check=False)
