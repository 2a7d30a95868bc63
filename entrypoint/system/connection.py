"""Connects to the first address of a name that answers, and reads lines, all of it before one deadline. Network.

Uses `resolver`, since the look-up of the name is a part of the way.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from entrypoint.system.resolver import look_up

_MOST_LINES: Final = 200
_MOST_LINE_BYTES: Final = 8192


class ConnectError(OSError):
    """A name of which no address answers; `reasons` has the error of each address, in their order."""

    def __init__(self, reasons: dict[str, OSError]) -> None:
        super().__init__(", ".join(f"{address}: {error}" for address, error in reasons.items()))
        self.reasons = reasons


class EndlessReplyError(ConnectionError):
    """What was said has no end, so that whoever said it speaks another protocol."""


class Deadline:
    """A moment by which something must have happened."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, or raise TimeoutError."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def shorten(self, seconds: float) -> Deadline:
        """Return a deadline that ends with this one, or in so many seconds where that is sooner."""
        return Deadline(min(self._ends_at - time.monotonic(), seconds))


class LineReader:
    """Reads what the other end says, line by line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.rest = b""
        """What came after the last line that was read."""

    def read_reply(self, deadline: Deadline, goes_on: Callable[[bytes], object]) -> list[bytes]:
        """Return lines up to the first that does not go on; raise OSError, EndlessReplyError for far too much."""
        lines = [self.read_line(deadline)]
        while goes_on(lines[-1]):
            if len(lines) == _MOST_LINES:
                raise EndlessReplyError("a reply without an end")
            lines.append(self.read_line(deadline))
        return lines

    def read_line(self, deadline: Deadline) -> bytes:
        """Return the next line, without its end; raise as `read_reply`."""
        while b"\n" not in self.rest:
            if len(self.rest) > _MOST_LINE_BYTES:
                raise EndlessReplyError("a line without an end")
            self.receive(deadline)
        line, _, self.rest = self.rest.partition(b"\n")
        return line.rstrip(b"\r")

    def receive(self, deadline: Deadline) -> None:
        """Wait until more has come; raise OSError."""
        self._connection.settimeout(deadline.left())
        received = self._connection.recv(4096)
        if not received:
            raise ConnectionError("in the middle of a line" if self.rest else "without a word")
        self.rest += received


def connect(
    host: str, port: int, deadline: Deadline, check_address: Callable[[str], None] | None = None
) -> socket.socket:
    """Return a connection; raise ConnectError, or what `look_up` raises, or `check_address` for an address."""
    reasons: dict[str, OSError] = {}
    found = look_up(host, port, socket.AF_UNSPEC, deadline.left())
    for position, (family, kind, protocol, _, place) in enumerate(found):
        address = str(place[0])
        if check_address:
            check_address(address)
        try:
            # What is left is shared by the addresses that are left: one that is dead leaves time for the next.
            return _open(family, kind, protocol, place, deadline.left() / (len(found) - position))
        except OSError as error:
            reasons[address] = error
    raise ConnectError(reasons)


def read_greeting(host: str, port: int, deadline: Deadline) -> bytes:
    """Return the first line that a server says unasked, in the clear; empty where none comes."""
    with contextlib.suppress(OSError), connect(host, port, deadline) as connection:
        return LineReader(connection).read_line(deadline)
    return b""


def _open(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, place: tuple[Any, ...], seconds: float
) -> socket.socket:
    # A kernel without IPv6 refuses the socket itself; that is one address that does not answer.
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(seconds)
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection
