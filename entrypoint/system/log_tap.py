"""The reading end of the forwarder's tap: follow the log, or ask for the attempts by queue id. Unix socket.

Also the words of both ends: a reader sends one request; control lines begin with `!`, as no line of the log does.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Final

from entrypoint import paths

FOLLOW: Final = b"follow\n"
FOLLOW_FROM_START: Final = b"follow-from-start\n"
"""Also what this forwarder has logged already, if it has just begun; for a reader whom the end of another cut off."""
ATTEMPTS: Final = b"attempts\n"
FOLLOWING: Final = b"!following\n"
"""From here on every line comes."""
BEHIND: Final = b"!behind\n"
"""The last line for a reader who did not keep up."""


class TapClosedError(Exception):
    """The forwarder cannot be asked, or ended the connection, or gave us up for being behind: the text says which."""

    def __init__(self, text: str, *, is_behind: bool = False) -> None:
        super().__init__(text)
        self.is_behind = is_behind


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """How often each queued message was taken up for delivery, whole for those that arrived after `since`."""

    since: float
    by_queue_id: dict[str, int]

    def count(self, queue_id: str, arrived_at: float) -> tuple[int, bool]:
        """Return the number for a message, and whether there cannot have been more."""
        return self.by_queue_id.get(queue_id, 0), arrived_at >= self.since


def ask_attempts(timeout_seconds: float = 2.0) -> Attempts | None:
    """Return what the forwarder has counted, or `None` when it does not answer in time."""
    try:
        with _connect(timeout_seconds) as connection:
            connection.sendall(ATTEMPTS)
            with connection.makefile("rb") as reader:
                answer = json.loads(reader.readline())
        return Attempts(since=answer["since"], by_queue_id=answer["attempts"])
    except (OSError, ValueError):
        return None


class LogFollower:
    """The lines of the log from the moment on at which this is made."""

    def __init__(self, timeout_seconds: float, *, is_from_start: bool = False) -> None:
        self._rest = b""
        self._ready: list[str] = []
        try:
            self._connection = _connect(timeout_seconds)
        except OSError as error:
            raise TapClosedError(f"the log cannot be followed ({error.strerror or error})") from error
        try:
            self._connection.sendall(FOLLOW_FROM_START if is_from_start else FOLLOW)
            self._receive(time.monotonic() + timeout_seconds)
        except OSError as error:
            self.close()
            raise TapClosedError("the log forwarder does not answer") from error
        if not self._ready or self._ready.pop(0) != FOLLOWING.decode().strip():
            self.close()
            raise TapClosedError("the log forwarder does not answer")

    def read_lines(self, timeout_seconds: float) -> list[str]:
        """Return what has come, or wait for it as long; nothing after the timeout. Raise TapClosedError at the end."""
        if not self._ready:
            try:
                self._receive(time.monotonic() + timeout_seconds)
            except TimeoutError:
                return []
            except OSError as error:
                raise TapClosedError("the log forwarder ended") from error
        lines, self._ready = self._ready, []
        if lines and lines[0] == BEHIND.decode().strip():
            raise TapClosedError("the log came faster than it could be read here", is_behind=True)
        if lines and lines[-1] == BEHIND.decode().strip():
            self._ready = [lines.pop()]
        return lines

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def _receive(self, ends_at: float) -> None:
        """Wait for whole lines; what is cut off at an end is none."""
        while not self._ready:
            self._connection.settimeout(max(0.001, ends_at - time.monotonic()))
            received = self._connection.recv(2**18)
            if not received:
                raise ConnectionResetError
            *whole, self._rest = (self._rest + received).split(b"\n")
            self._ready += [line.decode("utf-8", "replace") for line in whole]


def _connect(timeout_seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_seconds)
    try:
        connection.connect(paths.LOG_TAP)
    except OSError:
        connection.close()
        raise
    return connection
