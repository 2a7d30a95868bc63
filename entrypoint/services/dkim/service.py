"""The process of the milter: answers Postfix's connections, one loop for all. Unix socket.

The socket that listens is the supervisor's: while this process is started again, Postfix waits and is not refused.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import Final

from entrypoint import paths
from entrypoint.services.dkim.keys import Keys
from entrypoint.services.dkim.milter import ProtocolError, Session
from entrypoint.system.log import write_line

_PIECE_BYTES: Final = 1 << 18
_ANSWER_SECONDS: Final = 5.0
"""Answers are small, and Postfix waits for them; one that stands still must not hold up the others."""


def serve() -> int:
    """Sign until TERM."""
    Service(socket.socket(fileno=0), Keys(paths.DKIM_SIGNERS)).run()
    return 0


class Service:
    """The connections, and the keys that they sign with."""

    def __init__(self, listener: socket.socket, keys: Keys) -> None:
        self._listener = listener
        self._keys = keys
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            self.turn()

    def turn(self, timeout_seconds: float | None = None) -> None:
        """Wait for the next thing to do, and do it."""
        ready = self._selector.select(timeout_seconds)
        if complaint := self._keys.refresh():
            write_line("WARNING", complaint)
        for key, _ in ready:
            if key.data is None:
                self._accept()
            else:
                self._serve(key.fileobj, key.data)  # type: ignore[arg-type] # only sockets are registered

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # it has left already
        peer.settimeout(_ANSWER_SECONDS)
        self._selector.register(peer, selectors.EVENT_READ, Session(self._keys.find, time.time, self._keys.lists))

    def _serve(self, peer: socket.socket, session: Session) -> None:
        try:
            data = peer.recv(_PIECE_BYTES)
            answer = session.receive(data) if data else None
            if answer:
                peer.sendall(answer)
        except ProtocolError as error:
            write_line("WARNING", f"dkim: a connection is closed, for it sent {error}")
            answer = None
        except OSError:
            answer = None
        if session.failure:
            failure, session.failure = session.failure, None
            text = f"{type(failure).__name__}: {failure}"
            write_line("WARNING", f"dkim: a message could not be signed, and its client is told to try again: {text}")
        if answer is None:
            self._selector.unregister(peer)
            peer.close()
