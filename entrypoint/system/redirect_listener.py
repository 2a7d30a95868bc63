"""Waits for a browser that is sent back to this machine, or for a person who pastes its address. Network, terminal.

Uses `connection` for its deadline.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from entrypoint.system.connection import Deadline

_MOST_BYTES: Final = 16384
_READ_SECONDS: Final = 5.0
_PAGE: Final = (
    "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Connection: close\r\n\r\n{text}"
)


class RedirectListener:
    """A listener for one redirect (RFC 8252 section 7.3).

    It listens on every address: a port that a container publishes comes in by its outer one. Whoever else finds it has
    neither the state nor the verifier.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("", port), backlog=8)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def wait(self, seconds: float, accept: Callable[[str], bool]) -> str | None:
        """Return the first path with its query, or pasted address, that is accepted; `None` when the time is over."""
        deadline = Deadline(seconds)
        sources: list[Any] = [self._socket, *([sys.stdin] if sys.stdin and not sys.stdin.closed else [])]
        while True:
            try:
                ready, _, _ = select.select(sources, (), (), deadline.left())
            except TimeoutError:
                return None
            if self._socket in ready:
                found = self._serve(accept)
            elif ready:
                line = sys.stdin.readline()
                if not line:
                    sources.remove(sys.stdin)
                found = line.strip()
            else:
                return None
            if found and accept(found):
                return found

    def _serve(self, accept: Callable[[str], bool]) -> str:
        """Return the path that a browser asks for, also where it does not wait for the answer."""
        path = ""
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_READ_SECONDS)
            data = b""
            while b"\r\n\r\n" not in data and len(data) < _MOST_BYTES:
                received = connection.recv(4096)
                if not received:
                    break
                data += received
            words = data.split(b"\r\n")[0].decode("ascii", "replace").split(" ")
            path = words[1] if len(words) > 1 and words[0] == "GET" else ""
            is_good = accept(path)
            text = "This is what authrelay waited for; go on in its terminal.\n" if is_good else "Not found.\n"
            status = "200 OK" if is_good else "404 Not Found"
            connection.sendall(_PAGE.format(status=status, length=len(text), text=text).encode())
        return path
