"""Lets a process of root's read along with the log: the lines from now on, or the attempts by queue id. Unix socket.

The log itself goes to the container's output, which no `docker exec` can see. Nothing here can hold the forwarder up:
it hands a line to a bounded buffer, and each reader has a thread that sends. The words are in `system.log_tap`.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from entrypoint.services.listening import listen
from entrypoint.system.log_tap import ATTEMPTS, BEHIND, FOLLOW, FOLLOW_FROM_START, FOLLOWING

_MOST_CHARACTERS: Final = 2 * 2**20
"""What a reader may be behind: some seconds of the fastest relay."""
_MOST_READERS: Final = 8
"""Far more than people at terminals; their buffers bound what the forwarder may grow by."""
_SEND_SECONDS: Final = 10.0
_REQUEST_SECONDS: Final = 5.0
_START_SECONDS: Final = 10.0
"""How long the first lines are kept: for a reader whom the end of the last forwarder cut off."""
_LOOK_SECONDS: Final = 1.0
"""How often a reader is looked after while nothing is logged; one that has left must not keep its place."""


class Buffer:
    """The lines that one reader has still to be sent. One that overflows takes no more, ever."""

    def __init__(self, most_characters: int = _MOST_CHARACTERS) -> None:
        self._most_characters = most_characters
        self._lines: deque[str] = deque()
        self._size = 0
        self.is_behind = False
        self._changed = threading.Condition()

    def put(self, line: str) -> None:
        """Take a line, or give the reader up. Never waits for the reader."""
        with self._changed:
            if self.is_behind:
                return
            self._size += len(line)
            if self._size > self._most_characters:
                self.is_behind = True
            else:
                self._lines.append(line)
            self._changed.notify()

    def take(self, timeout_seconds: float) -> str:
        """Wait for lines and return them all as one text, empty after the timeout."""
        with self._changed:
            if not self._lines and not self.is_behind:
                self._changed.wait(timeout_seconds)
            text = "".join(self._lines)
            self._lines.clear()
            self._size = 0
        return text

    def copy_to(self, other: Buffer) -> None:
        """Give another what is in here, unless that is not whole."""
        with self._changed:
            lines = [] if self.is_behind else list(self._lines)
        for line in lines:
            other.put(line)


class Tap:
    """Who reads along."""

    def __init__(self, report_attempts: Callable[[], dict[str, Any]]) -> None:
        self._report_attempts = report_attempts
        self._places = threading.Semaphore(_MOST_READERS)
        self._registering = threading.Lock()
        # The first lines are kept by a reader without a socket, so that one test is all that a line costs later.
        self._start: Buffer | None = Buffer()
        self._readers: tuple[Buffer, ...] = (self._start,)

    def pass_on(self, line: str) -> None:
        """Hand a line to all who follow."""
        if self._readers:
            with self._registering:
                for reader in self._readers:
                    reader.put(line)

    def open(self, path: str) -> None:
        """Listen at a path, for root alone, and serve in the background; an OSError says why that cannot be."""
        listener = listen(path, _MOST_READERS)
        # Daemons: the process does not wait for readers when it ends.
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        started_at = time.monotonic()
        listener.settimeout(_START_SECONDS)
        while True:
            connection = None
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
            if self._start and time.monotonic() - started_at >= _START_SECONDS:
                self._forget_start()
                listener.settimeout(None)
            if connection is None:
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        """Answer one request; whatever goes wrong with a connection is the end of it and of nothing else."""
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_REQUEST_SECONDS)
                request = connection.recv(64)
                connection.settimeout(_SEND_SECONDS)
                if request == ATTEMPTS:
                    connection.sendall(json.dumps(self._report_attempts()).encode() + b"\n")
                elif request in (FOLLOW, FOLLOW_FROM_START):
                    self._lead(connection, is_from_start=request == FOLLOW_FROM_START)
        finally:
            self._places.release()

    def _lead(self, connection: socket.socket, *, is_from_start: bool) -> None:
        """Send lines until the reader leaves, or does not keep up."""
        reader = Buffer()
        with self._registering:
            if is_from_start and self._start:
                self._start.copy_to(reader)
            self._readers = (*self._readers, reader)
        try:
            connection.sendall(FOLLOWING)
            while not reader.is_behind and not _has_left(connection):
                if text := reader.take(_LOOK_SECONDS):
                    connection.sendall(text.encode(errors="backslashreplace"))
            if reader.is_behind:
                connection.sendall(reader.take(0).encode(errors="backslashreplace") + BEHIND)
        finally:
            self._remove(reader)

    def _forget_start(self) -> None:
        start, self._start = self._start, None
        self._remove(start)

    def _remove(self, reader: Buffer | None) -> None:
        with self._registering:
            self._readers = tuple(other for other in self._readers if other is not reader)


def _has_left(connection: socket.socket) -> bool:
    """Return whether a reader is gone. A socket with a timeout would wait for it even with MSG_DONTWAIT."""
    is_readable = bool(select.select([connection], [], [], 0)[0])
    return is_readable and connection.recv(64) == b""
