"""Answers what the forwarder has counted, one request at a time, to root and the status service. Unix socket.

Nobody who asks can hold the log up: a thread of its own answers, and gives each second of patience to one at a time.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from entrypoint.services.listening import listen
from entrypoint.system.files import STATUS_GROUP, share_file
from entrypoint.system.observations import OBSERVATIONS
from entrypoint.system.queue_sizes import measure_queues

_BACKLOG: Final = 8
_PATIENCE_SECONDS: Final = 1.0
_KEPT_SECONDS: Final = 5.0
"""How old the queue's numbers may be: with a hundred thousand messages its directories take a while to read."""


class Observations:
    """The place where observations are answered."""

    def __init__(self, report: Callable[[float], dict[str, Any]]) -> None:
        self._report = report
        self._queues: dict[str, Any] = {}
        self._measured_at = -_KEPT_SECONDS

    def open(self, path: str, group: str = STATUS_GROUP) -> None:
        """Listen at a path, and answer in the background; an OSError says why that cannot be."""
        listener = listen(path, _BACKLOG)
        # An image of somebody else's may lack the group; then root alone may ask.
        with contextlib.suppress(KeyError):
            share_file(path, 0o660, group)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_PATIENCE_SECONDS)
                if connection.recv(64) == OBSERVATIONS:
                    connection.sendall(json.dumps(self._observe()).encode() + b"\n")

    def _observe(self) -> dict[str, Any]:
        if time.monotonic() - self._measured_at >= _KEPT_SECONDS:
            self._queues = measure_queues()
            self._measured_at = time.monotonic()
        return {**self._report(time.time()), "queues": self._queues}
