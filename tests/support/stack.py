"""The list server of compose/mailman.yaml with a mock of the provider: started, asked, and removed. Runs docker."""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import json
import os
import pathlib
import re
import smtplib
import ssl
import subprocess
import uuid
from dataclasses import dataclass
from typing import Any, Final

from tests.support.engine import Container, Engine, Network, Result, run_docker
from tests.support.relay import IMAGE
from tests.support.upstream import MOCK_IMAGE

ROOT: Final = pathlib.Path(__file__).parents[2]
WEB_HOST: Final = "lists.example.test"
DOMAIN: Final = "lists.example.test"
MAIL_HOST: Final = "mx.example.test"
OWNER: Final = "postmaster@example.test"
_TAG: Final = os.environ.get("AUTHRELAY_LISTS", "dev")
_BUILT: Final = ("core", "web", "database", "lighttpd")
_SERVICES: Final = ("relay", "core", "lighttpd")
# In the upstream's container, which is on the network of those who may send.
_HAND_OVER: Final = """
import smtplib, sys
sender, recipient = sys.argv[1:]
with smtplib.LMTP("core", 8024, local_hostname="client.example.test", timeout=30) as server:
    print(server.sendmail(sender, [recipient], sys.stdin.buffer.read()))
"""
# The mock's control API. Nothing is read from standard input: an exec whose program began late was seen without an end.
_ASK: Final = """
import sys, urllib.request
order = sys.argv[2].encode() or None
print(urllib.request.urlopen("http://127.0.0.1:8025" + sys.argv[1], order).read().decode())
"""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message that has left through the provider."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    message: email.message.EmailMessage
    session_id: int
    received_at: float
    final_reply_at: float | None
    """When the provider said 250, if it did."""

    @property
    def queue_id(self) -> str:
        """By which the relay had it: the first of its Received."""
        found = re.search(r"by mx\.example\.test .*?with \w+ id (\w+)", str(self.message["Received"]), re.DOTALL)
        assert found, self.message["Received"]
        return found[1]

    @property
    def text(self) -> str:
        """What a person reads first."""
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part is not None else ""


class Stack:
    """One Compose project."""

    def __init__(self, engine: Engine) -> None:
        self.directory = engine.directory()
        self.project = f"authrelay-lists-{uuid.uuid4().hex[:8]}"
        environment = {
            "RELAY_IMAGE": IMAGE,
            "UPSTREAM_IMAGE": MOCK_IMAGE,
            **{f"{name.upper()}_IMAGE": f"authrelay-lists-{name}:{_TAG}" for name in _BUILT},
        }
        # Any free port: other things run on this machine.
        ports = dict.fromkeys(("SMTP_PORT", "HTTP_PORT", "HTTPS_PORT"), "127.0.0.1:")
        make = (ROOT / "scripts" / "lists-trial", str(self.directory))
        made = _run(make, {**ports, "WEB_HOST": WEB_HOST, "LIST_DOMAIN": DOMAIN})
        with (self.directory / "env").open("a", encoding="utf-8") as file:
            file.writelines(f"{key}={value}\n" for key, value in environment.items())
        change = {"services": {"lighttpd": {"networks": {"outside": {"aliases": [WEB_HOST]}}}}}
        (self.directory / "change.yaml").write_text(json.dumps(change), encoding="utf-8")
        first, *words = made.split()
        assert first == "docker"
        self.command = [*words, "--file", str(self.directory / "change.yaml"), "--project-name", self.project]

    def compose(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> Result:
        """Run one docker compose command."""
        return run_docker([*self.command, *arguments], stdin=stdin, check=check, timeout_seconds=300)

    def up(self) -> None:
        """Start it, and wait until everything is healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "240", *_SERVICES)

    def down(self, *arguments: str) -> None:
        """Stop it."""
        self.compose("down", "--timeout", "20", *arguments)

    def container(self, service: str) -> Container:
        """The container of a service."""
        return Container(f"{self.project}-{service}-1")

    @property
    def outside(self) -> Network:
        """Where the world is."""
        return Network(f"{self.project}_outside", "")

    @property
    def authority_pem(self) -> str:
        """The CA that its certificate is of."""
        return self.compose("exec", "--no-TTY", "lighttpd", "cat", "/tls/ca.pem").text

    def read_secret(self, name: str) -> str:
        """One secret."""
        return (self.directory / "secrets" / name).read_text(encoding="utf-8").strip()

    def deliver(self, sender: str, recipient: str, message: bytes) -> None:
        """Hand a message to Mailman by LMTP, as the relay does."""
        command = ("python3", "-c", _HAND_OVER, sender, recipient)
        self.compose("exec", "--no-TTY", "upstream", *command, stdin=message)

    def make_context(self) -> ssl.SSLContext:
        """What trusts its CA, and nobody else."""
        return ssl.create_default_context(cadata=self.authority_pem)

    def converse_from_outside(
        self, sender: str, recipient: str, message: bytes, *, context: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        """Bring a message to the published port 25, over TLS that is verified; the reply to RCPT, or to its end."""
        context = context or self.make_context()
        port = self.container("relay").published_port(25)
        with smtplib.SMTP("127.0.0.1", port, local_hostname="mx.example.com", timeout=30) as server:
            # The name that is looked for in the certificate, and that it has; the address is the published one.
            server._host = MAIL_HOST  # type: ignore[attr-defined]
            server.starttls(context=context)
            server.ehlo()
            server.mail(sender)
            code, text = server.rcpt(recipient)
            if code == 250:
                code, text = server.data(message)
        return code, text.decode()

    def sent(self) -> list[Sent]:
        """What has left through the provider."""
        return [
            Sent(
                mail_from=one["mail_from"],
                rcpt_tos=tuple(one["rcpt_tos"]),
                message=email.message_from_bytes(base64.b64decode(one["data"]), policy=email.policy.default),
                session_id=one["session_id"],
                received_at=one["received_at"],
                final_reply_at=one["final_reply_at"],
            )
            for one in self._ask_upstream("/messages")
        ]

    def count_sent(self) -> int:
        """How much has left; cheap."""
        return int(self._ask_upstream("/counts")["messages"])

    def sessions(self) -> dict[int, dict[str, Any]]:
        """The provider's sessions by number."""
        return {one["id"]: one for one in self._ask_upstream("/sessions")}

    def behave(self, **behaviour: Any) -> None:
        """Give the provider another behaviour, as `mock/behaviour.py` has it; none is the good one."""
        self._ask_upstream("/behaviour", json.dumps(behaviour))

    def _ask_upstream(self, path: str, order: str = "") -> Any:
        command = ("exec", "--no-TTY", "upstream", "python3", "-c", _ASK, path, order)
        return json.loads(self.compose(*command).stdout)


def _run(command: tuple[pathlib.Path | str, ...], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
