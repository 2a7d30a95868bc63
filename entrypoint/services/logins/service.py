"""The login service: smtpd(8) asks it whether a login is good. Unix socket, processes.

One loop for all who ask. A login that is not heard is ended by closing the connection: smtpd(8) then tells its client
454, a failure for now, and connects again for the next one (xsasl_dovecot_server.c has no other word for it).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from entrypoint import paths
from entrypoint.services.logins.protocol import (
    MOST_LINE_BYTES,
    Credentials,
    Exchange,
    ProtocolError,
    make_failure,
    make_handshake,
    make_ok,
)
from entrypoint.services.logins.throttle import BLOCK_SECONDS, MOST_FAILURES, Throttle, find_network
from entrypoint.services.logins.verifier import Verification, Verifier
from entrypoint.system.log import write_line

_PATIENCE_SECONDS: Final = 8.0
"""smtpd(8) has ten."""
_MOST_WAITING: Final = 256


class _Connection:
    """One smtpd(8), which asks for one client after the other."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.exchange = Exchange()
        self._received = bytearray()

    def read_lines(self) -> list[str] | None:
        """Return the lines that have come; `None` at the end."""
        data = self.peer.recv(MOST_LINE_BYTES)
        self._received += data
        if not data or len(self._received) > 2 * MOST_LINE_BYTES:
            return None
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        return [line.decode("utf-8", "replace") for line in lines]


@dataclass(eq=False, kw_only=True)
class _Request:
    """A login that waits for its turn."""

    connection: _Connection
    number: str
    credentials: Credentials
    address: str
    name: bytes
    ends_at: float
    not_before: float = 0.0
    kind: tuple[str, bytes] = ("", b"")
    """The address, and the user where he is known there."""


class Service:
    """Everybody who asks, and everybody who waits."""

    def __init__(self, listener: socket.socket, verifier: Verifier, throttle: Throttle) -> None:
        self._listener = listener
        self._verifier = verifier
        self._throttle = throttle
        self._numbers = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._waiting: list[_Request] = []
        self._working: tuple[_Request, Verification] | None = None
        listener.setblocking(False)
        self._watch(listener, self._accept)

    def turn(self) -> None:
        """Wait for the next thing to do, and do it."""
        for key, _ in self._selector.select(self._find_patience()):
            key.data()
        self._take_up()

    def _watch(self, place: socket.socket | int, act: Callable[[], None]) -> None:
        self._selector.register(place, selectors.EVENT_READ, act)

    def _find_patience(self) -> float | None:
        """Return how long nothing has to be done, but for what comes."""
        # While a child is at work, nobody else's turn comes before its end.
        moments = [one.ends_at if self._working else min(one.ends_at, one.not_before) for one in self._waiting]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            peer, _address = self._listener.accept()
            peer.setblocking(False)
            connection = _Connection(peer)
            peer.sendall(make_handshake(os.getpid(), next(self._numbers)))
            self._watch(peer, lambda: self._hear(connection))

    def _hear(self, connection: _Connection) -> None:
        try:
            lines = connection.read_lines()
            if lines is None:
                self._close(connection)
                return
            for line in lines:
                answer = connection.exchange.take(line)
                if isinstance(answer, bytes):
                    connection.peer.sendall(answer)
                elif answer is not None:
                    self._queue(connection, answer)
        except (OSError, ProtocolError):
            self._close(connection)

    def _queue(self, connection: _Connection, credentials: Credentials) -> None:
        request = _Request(
            connection=connection,
            number=connection.exchange.number,
            credentials=credentials,
            address=find_network(credentials.address),
            name=self._verifier.encode_name(credentials.name),
            ends_at=time.monotonic() + _PATIENCE_SECONDS,
        )
        if len(self._waiting) >= _MOST_WAITING:
            self._close(connection)
        else:
            self._waiting.append(request)

    def _take_up(self) -> None:
        """Answer what can be answered at once, and begin to verify the next one if none is being verified."""
        now = time.monotonic()
        chosen: _Request | None = None
        # One of a kind at a time: many at once are no more tries than one after the other.
        taken = {self._working[0].kind} if self._working else set()
        held: set[tuple[str, bytes]] = set()
        for request in tuple(self._waiting):
            is_known = self._throttle.is_known(request.address, request.name, now)
            request.kind = (request.address, request.name if is_known else b"")
            pause = self._throttle.find_pause(request.address, request.name, now)
            if pause is None or now + pause >= request.ends_at or (pause and request.kind in held):
                self._close(request.connection)
                continue
            request.not_before = now + pause
            if pause:
                # Each that waits takes a session from others: one is enough.
                held.add(request.kind)
            if pause or request.kind in taken:
                continue
            if self._verifier.recall(request.credentials):
                self._waiting.remove(request)
                self._accept_login(request)
                continue
            taken.add(request.kind)
            # Who is known goes before strangers.
            if chosen is None or (is_known and not chosen.kind[1]):
                chosen = request
        if chosen is not None and self._working is None:
            self._waiting.remove(chosen)
            self._begin(chosen)

    def _begin(self, request: _Request) -> None:
        verification = self._verifier.start(request.credentials)
        self._working = request, verification
        self._watch(verification.descriptor, self._end)

    def _end(self) -> None:
        """Answer with what a child has found."""
        if self._working is None:
            return
        request, verification = self._working
        self._working = None
        self._selector.unregister(verification.descriptor)
        is_right = self._verifier.finish(verification)
        if is_right is None:
            self._waiting.insert(0, request)  # until its time is over
        elif is_right:
            self._accept_login(request)
        else:
            self._refuse_login(request)

    def _accept_login(self, request: _Request) -> None:
        self._throttle.note_success(request.address, request.name, time.monotonic())
        self._answer(request, make_ok(request.number, request.credentials.name))

    def _refuse_login(self, request: _Request) -> None:
        if self._throttle.note_failure(request.address, request.name, time.monotonic()):
            minutes = f"{BLOCK_SECONDS / 60:g} minutes after the last of {MOST_FAILURES} wrong ones"
            text = f"logins from {request.address or 'an unknown address'} are not heard until {minutes}"
            write_line("WARNING", f"{text}; a user who logged in from there of late still is")
        self._answer(request, make_failure(request.number, request.credentials.name))

    def _answer(self, request: _Request, answer: bytes) -> None:
        try:
            request.connection.peer.sendall(answer)
        except OSError:
            self._close(request.connection)

    def _close(self, connection: _Connection) -> None:
        self._waiting = [request for request in self._waiting if request.connection is not connection]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.peer)
        connection.peer.close()


def main() -> int:
    """Answer at the socket that is standard input until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    service = Service(socket.socket(fileno=0), Verifier(paths.LOGINS), Throttle())
    while True:
        service.turn()
