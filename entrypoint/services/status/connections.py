"""The clients' connections: one loop for all, so that none can hold another up. Network.

There are never more than a fixed number. Who comes when there is no place takes that of the client who has been there
longest without having asked anything, or else of who has been there longest: a client that asks at once is served
however many others dawdle.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from entrypoint.services.status.request import BadRequest, Request, find_end, parse_request
from entrypoint.services.status.response import Response, refuse, render_response

MOST_CONNECTIONS: Final = 64
"""Prometheus, probes and some browsers are ten; each place costs a few kilobytes."""
REQUEST_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 20.0
"""From the request to the last byte of the answer: more than the slowest answer takes, so that it is waited for."""
_FAREWELL_SECONDS: Final = 1.0
"""A connection that is closed with bytes unread is reset, and the answer with it (RFC 9112 section 9.6)."""
_BACKLOG: Final = 128


class Connection:
    """One client, from its first byte to its last."""

    def __init__(self, peer: socket.socket, answer: Callable[[Connection, Request], None]) -> None:
        self.peer = peer
        self.ends_at = time.monotonic() + REQUEST_SECONDS
        self.has_asked = False
        self.has_left = False
        self._answer = answer
        self._is_head = False
        self._received = bytearray()
        self._unsent = memoryview(b"")

    def receive(self) -> bool:
        """Take what has come; return whether the connection goes on."""
        data = self.peer.recv(4096)
        if self.has_asked:
            # Nothing more is expected. Before the answer is sent a client that leaves gives its place back.
            return bool(data)
        self._received += data
        try:
            end = find_end(self._received)
            if end < 0:
                return bool(data)
            request = parse_request(bytes(self._received[:end]))
        except BadRequest as bad:
            self.send(refuse(bad.code))
            return True
        self.has_asked = True
        self._received.clear()
        self._is_head = request.is_head
        self.ends_at = time.monotonic() + _ANSWER_SECONDS
        self._answer(self, request)
        return True

    def send(self, response: Response) -> None:
        """Begin to send the answer."""
        self.has_asked = True
        self._received.clear()
        self._unsent = memoryview(render_response(response, is_head=self._is_head))

    @property
    def is_sending(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self._unsent)

    def transmit(self) -> None:
        """Send as much as the client takes, and say farewell at the end."""
        self._unsent = self._unsent[self.peer.send(self._unsent) :]
        if not self._unsent:
            self.peer.shutdown(socket.SHUT_WR)
            self.ends_at = time.monotonic() + _FAREWELL_SECONDS


class Connections:
    """All clients; `answer` is called with each request, and must not wait."""

    def __init__(self, listener: socket.socket, answer: Callable[[Connection, Request], None]) -> None:
        self._listener = listener
        self._answer = answer
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def watch(self, descriptor: int, notice: Callable[[], None]) -> None:
        """Call `notice` whenever there is something to be read, until `forget`."""
        self._selector.register(descriptor, selectors.EVENT_READ, lambda _: notice())

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no longer."""
        self._selector.unregister(descriptor)

    def turn(self) -> None:
        """Wait for the next thing to do, and do it."""
        for key, events in self._selector.select(self._find_patience()):
            key.data(events)
        now = time.monotonic()
        for connection in [one for one in self._connections if one.ends_at <= now]:
            self._close(connection)

    def answer(self, connection: Connection, response: Response) -> None:
        """Send an answer, unless the client has left."""
        if connection in self._connections:
            connection.send(response)
            self._selector.modify(connection.peer, selectors.EVENT_WRITE, lambda _: self._serve(connection))

    def _find_patience(self) -> float | None:
        soonest = min((connection.ends_at for connection in self._connections), default=None)
        return None if soonest is None else max(0.0, soonest - time.monotonic())

    def _accept(self, _: int) -> None:
        try:
            peer, _address = self._listener.accept()
        except OSError:
            return  # it has left already, or there are no descriptors: the next turn sees
        peer.setblocking(False)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._make_place()
        connection = Connection(peer, self._answer)
        self._connections[connection] = None
        self._selector.register(peer, selectors.EVENT_READ, lambda _: self._serve(connection))

    def _make_place(self) -> None:
        idle = [connection for connection in self._connections if not connection.has_asked]
        self._close(idle[0] if idle else next(iter(self._connections)))

    def _serve(self, connection: Connection) -> None:
        goes_on = True
        try:
            if connection.is_sending:
                connection.transmit()
            else:
                goes_on = connection.receive()
        except BlockingIOError:
            return
        except OSError:
            goes_on = False
        if not goes_on:
            self._close(connection)
        elif connection in self._connections:
            wanted = selectors.EVENT_WRITE if connection.is_sending else selectors.EVENT_READ
            self._selector.modify(connection.peer, wanted, lambda _: self._serve(connection))

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection, self) is self:
            return
        connection.has_left = True
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.peer)
        connection.peer.close()


def open_listener(address: str, port: int) -> socket.socket:
    """Return a listening socket; `::` takes IPv4 as well. An OSError says why that cannot be."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
