"""The milter of a test: a real one, on libmilter. Runs docker."""

from __future__ import annotations

from tests.support.engine import Container, Engine, Network
from tests.support.wait import wait_until

MILTER_IMAGE = "authrelay-peer-milter:dev"
MILTER_HOST = "milter.example.test"
_PORT = 11332


class Milter:
    """A container whose milter adds `X-Seen-By: the milter`; a message's own header fields say what else it does."""

    def __init__(self, engine: Engine, network: Network, *, alias: str = MILTER_HOST) -> None:
        self.address = f"inet:{alias}:{_PORT}"
        self.container: Container = engine.run(MILTER_IMAGE, kind="milter", network=network, aliases=(alias,))
        self.wait_listening()

    def wait_listening(self) -> None:
        """Wait until it takes sessions."""

        def is_listening() -> bool:
            if not self.container.is_running:
                raise AssertionError(f"the milter ended: {self.container.logs()}")
            # State 0A is LISTEN.
            listening = self.container.exec(["cat", "/proc/net/tcp"]).text
            return any(f":{_PORT:04X} " in line and " 0A " in line for line in listening.splitlines())

        wait_until(is_listening, 20, "the milter should listen")

    def release(self) -> None:
        """Let the messages go that wait, and those to come."""
        self.container.exec(["touch", "/tmp/released"])

    def start(self) -> None:
        """Start it again, perhaps at another address."""
        self.container.start()
        self.wait_listening()
