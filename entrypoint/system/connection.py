"""Connects to the first address of a name that answers, all of it before one deadline. Network.

Uses `resolver`, since the look-up of the name is a part of the way.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from entrypoint.system.resolver import look_up


class ConnectError(OSError):
    """A name of which no address answers; `reasons` has the error of each address, in their order."""

    def __init__(self, reasons: dict[str, OSError]) -> None:
        super().__init__(", ".join(f"{address}: {error}" for address, error in reasons.items()))
        self.reasons = reasons


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
