"""Asks the log forwarder what it has counted; also the word of both ends. Unix socket."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

from entrypoint import paths

OBSERVATIONS: Final = b"observations\n"


def ask_observations(timeout_seconds: float = 2.0) -> dict[str, Any] | None:
    """Return the report (docs/logs.md), or `None` when the forwarder does not answer in time."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(paths.OBSERVATIONS)
            connection.sendall(OBSERVATIONS)
            with connection.makefile("rb") as reader:
                answer = json.loads(reader.readline())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
