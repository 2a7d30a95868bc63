"""A clock that can be set, for one container. Runs docker."""

from __future__ import annotations

from tests.support.client import Client
from tests.support.engine import Engine


class Clock:
    """The wall clock of one container, by a library that is loaded before all others (tests/peers/clock/clock.c)."""

    def __init__(self, engine: Engine, client: Client) -> None:
        self._directory = engine.directory()
        (self._directory / "clock.so").write_bytes(client.container.read("/opt/mock/clock.so"))
        (self._directory / "ld.so.preload").write_text("/clock/clock.so\n")
        self.set(0)
        self.volumes = {
            str(self._directory): "/clock:ro",
            str(self._directory / "ld.so.preload"): "/etc/ld.so.preload:ro",
        }

    def set(self, seconds: int) -> None:
        """Let it be so far ahead of the machine's."""
        new = self._directory / "new"
        new.write_text(str(seconds))
        new.rename(self._directory / "shift")
