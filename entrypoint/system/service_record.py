"""The supervisor's record of what it runs: written on every change, read by health checks and the status page. Disk.

Uses `files` to read and write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text, write_file

STATUS: Final = "status"
"""The one service that no mail depends on."""
_UP: Final = ("STARTING", "RUNNING")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service; `state` is supervisor's word, `since` in seconds since the epoch."""

    state: str
    pid: int
    restarts: int = 0
    """How often it was started again since the container began."""
    since: float = 0.0

    @property
    def is_up(self) -> bool:
        """Whether its process is there."""
        return self.state in _UP and (self.pid == 0 or os.path.exists(f"/proc/{self.pid}"))


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """All services by name, and whether the container is being stopped."""

    services: Mapping[str, Service] = field(default_factory=dict)
    is_stopping: bool = False


def load_services() -> ServiceRecord | None:
    """Return the record, or `None` where nothing was started."""
    text = read_text(paths.SERVICES)
    if text is None:
        return None
    values = json.loads(text)
    services = {name: Service(**one) for name, one in values["services"].items()}
    return ServiceRecord(services=services, is_stopping=values["is_stopping"])


def save_services(record: ServiceRecord) -> None:
    """Let the others know."""
    write_file(paths.SERVICES, json.dumps(asdict(record)) + "\n", 0o644)
