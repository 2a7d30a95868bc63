"""The log server of a test: a real rsyslog, and what it received. Runs docker."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from tests.support.authorities import Authority
from tests.support.engine import Container, Engine, File, Network
from tests.support.wait import wait_until

RSYSLOG_IMAGE = "authrelay-peer-rsyslog:dev"
LOG_HOST = "logs.example.test"
_SEVERITIES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
_MESSAGES = "/var/log/messages.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Received:
    """One message as rsyslog understood it."""

    # The name of its input: udp, tcp or tls.
    input: str
    facility: int
    severity: str
    time: str
    host: str
    application: str
    process: str
    text: str
    # The whole message, without a frame.
    raw: str


class LogServer:
    """A container with rsyslog at UDP 514, TCP 601 and TLS 6514."""

    def __init__(self, engine: Engine, network: Network, *, alias: str = LOG_HOST, name: str = LOG_HOST) -> None:
        """`name` is what its certificate is for."""
        self.authority = Authority()
        self._network = network
        self.container: Container = engine.run(
            RSYSLOG_IMAGE,
            kind="logs",
            network=network,
            aliases=(alias,),
            files={"/etc/rsyslog.d/tls.pem": File(data=self.authority.make_chain(name).combined_pem.encode())},
        )
        self.wait_listening()

    def wait_listening(self) -> None:
        """Wait until it takes messages."""

        def is_listening() -> bool:
            if not self.container.is_running:
                raise AssertionError(f"rsyslog ended: {self.container.logs()}")
            listening = self.container.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).text
            return all(f":{port:04X} " in listening for port in (601, 6514))

        wait_until(is_listening, 20, "rsyslog should listen")

    @property
    def address6(self) -> str:
        """Its IPv6 address."""
        return self.container.address6(self._network)

    def received(self) -> list[Received]:
        """Everything that it has received, in its order."""
        text = self.container.exec(["cat", _MESSAGES], check=False).text
        return [_parse(json.loads(line)) for line in text.splitlines()]

    def wait_received(
        self, is_enough: Callable[[list[Received]], object], timeout_seconds: float = 15
    ) -> list[Received]:
        """Wait until the messages are enough; they."""
        wait_until(lambda: is_enough(self.received()), timeout_seconds, "rsyslog should have received them")
        return self.received()

    def forget(self) -> None:
        """Begin anew."""
        self.container.exec(["sh", "-c", f": >{_MESSAGES}"])


def _parse(found: dict[str, str]) -> Received:
    priority = int(found.pop("priority"))
    return Received(facility=priority >> 3, severity=_SEVERITIES[priority & 7], **found)
