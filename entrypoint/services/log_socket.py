"""The datagram socket that Postfix's syslog(3) writes to, and whether anybody reads it. Unix socket.

It belongs to the supervisor and lives as long as the container, so that a restart of the forwarder loses nothing. But
it queues few lines (10, where net.unix.max_dgram_qlen is as the kernel has it), and then every daemon that logs waits,
and no mail moves any more: a forwarder that hangs has to be noticed.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from entrypoint import paths

_LOOK_SECONDS: Final = 1.0
_MOST_LOOKS: Final = 3
"""Looks, and not seconds: when a whole container was frozen and is thawed, the forwarder has its turn before that."""
_PEEK_BYTES: Final = 1024
"""syslog(3) writes the second and the process's number at the beginning: no line is like one of seconds ago."""


class LogSocket:
    """The bound socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if os.path.exists(paths.LOG_SOCKET):
            os.unlink(paths.LOG_SOCKET)
        self._socket.bind(paths.LOG_SOCKET)
        os.chmod(paths.LOG_SOCKET, 0o666)  # noqa: S103 - every Postfix daemon logs, whatever its user
        self._head = b""
        self._looks = 0
        self._looked_at = 0.0

    def fileno(self) -> int:
        """Return the descriptor, for the forwarder's standard input."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def is_neglected(self, now: float) -> bool:
        """Return whether the same line was the next to be read at several looks in a row; `now` on any steady clock."""
        if now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        head = self._peek()
        self._looks = self._looks + 1 if head and head == self._head else 0
        self._head = head
        if self._looks < _MOST_LOOKS:
            return False
        self._looks = 0
        return True

    def _peek(self) -> bytes:
        try:
            return self._socket.recv(_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
