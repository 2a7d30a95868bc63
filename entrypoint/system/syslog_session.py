"""What goes to a syslog server on one connection, and what of it must go again when that breaks. Network.

Neither RFC 6587 nor RFC 5425 has acknowledgements; TCP has. What the other kernel has not confirmed is kept, and so
nothing is lost but what that kernel had and its server did not read; some lines may come twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

_SEND_SECONDS: Final = 10.0
"""Without any progress: a server that only stands there."""
_REFUSAL_MILLISECONDS: Final = 200
"""How long after the first datagram a refusal of it is waited for."""
_DATAGRAM_SECONDS: Final = 60.0
"""How long datagrams go to one address: nothing else tells that the server's name has another one now."""
_LOOK_SECONDS: Final = 0.01
_FAREWELL_SECONDS: Final = 0.25
"""How long the other end of TLS may take to answer the farewell; nobody needs to wait for it (RFC 5425 section 4.4)."""


class StreamSession:
    """A TCP connection, also inside TLS: each message behind its length (RFC 6587 section 3.4.1, RFC 5425)."""

    most_bytes: Final = 8192
    """What every receiver should take (RFC 5425 section 4.3.1), and rsyslog does unless it is told otherwise."""
    is_stale: Final = False

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sent: deque[bytes] = deque()
        self._sent_bytes = 0
        self._unwritten_bytes = 0

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, or raise OSError; then `end` has them, or those of them that may be lost."""
        self._forget_confirmed()
        data = b"".join(map(_frame, messages))
        self._sent.extend(messages)
        self._sent_bytes += len(data)
        self._unwritten_bytes = len(data)
        if self._has_ended():
            raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
        self._connection.settimeout(_SEND_SECONDS)
        self._connection.sendall(data)
        self._unwritten_bytes = 0

    def is_confirmed(self) -> bool:
        """Return whether the other kernel has everything."""
        return self._count_on_the_way() == 0

    def end(self, seconds: float) -> list[bytes]:
        """Close when the other kernel has everything, or after so long, and return what it has not confirmed.

        With a container its sockets end as well.
        """
        ends_at = time.monotonic() + seconds
        with contextlib.suppress(OSError, ValueError):
            if unwrap := getattr(self._connection, "unwrap", None):
                self._connection.settimeout(min(seconds, _FAREWELL_SECONDS))
                unwrap()
        with contextlib.suppress(OSError):
            while self._count_on_the_way() and time.monotonic() < ends_at:
                time.sleep(_LOOK_SECONDS)
            self._forget_confirmed()
            self._connection.shutdown(socket.SHUT_WR)
        self._connection.close()
        return list(self._sent)

    def _forget_confirmed(self) -> None:
        # Inside TLS there is more on the way than we have sent; then some more is kept.
        kept = self._count_on_the_way() + self._unwritten_bytes
        while self._sent and self._sent_bytes - len(_frame(self._sent[0])) >= kept:
            self._sent_bytes -= len(_frame(self._sent.popleft()))

    def _count_on_the_way(self) -> int:
        """Return how many bytes the other kernel has not confirmed (tcp(7) SIOCOUTQ); also after a reset."""
        answer = fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])

    def _has_ended(self) -> bool:
        """Return whether the server closed; the first write after that would seem to succeed."""
        if not select.select([self._connection], [], [], 0)[0]:
            return False
        # Inside TLS it may be a message of TLS itself, of which nothing is left to be read.
        self._connection.settimeout(0.001)
        try:
            return self._connection.recv(4096) == b""
        except TimeoutError:
            return False


class DatagramSession:
    """A connected UDP socket: each message is a datagram (RFC 5426)."""

    most_bytes: Final = 2048
    """What every receiver should take (RFC 5424 section 6.1); more may be lost whole with one fragment."""

    def __init__(self, way: socket.socket) -> None:
        self._way = way
        self._stale_at = time.monotonic() + _DATAGRAM_SECONDS
        self._unsent: deque[bytes] = deque()
        self._is_tried = False

    @property
    def is_stale(self) -> bool:
        """Whether the name should be looked up again."""
        return time.monotonic() >= self._stale_at

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, or raise OSError, also when the first one of all was refused."""
        self._unsent.extend(messages)
        self._way.settimeout(_SEND_SECONDS)
        while self._unsent:
            self._way.send(self._unsent[0])
            if not self._is_tried:
                self._wait_for_refusal()
                self._is_tried = True
            self._unsent.popleft()

    def is_confirmed(self) -> bool:
        """Return whether everything is away; UDP knows nothing else."""
        return not self._unsent

    def end(self, seconds: float) -> list[bytes]:
        """Close, and return what was not sent."""
        del seconds
        self._way.close()
        return list(self._unsent)

    def _wait_for_refusal(self) -> None:
        poll = select.poll()
        poll.register(self._way, 0)
        if poll.poll(_REFUSAL_MILLISECONDS) and (number := self._way.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise OSError(number, os.strerror(number))


Session = StreamSession | DatagramSession


def _frame(message: bytes) -> bytes:
    return b"%d %s" % (len(message), message)
