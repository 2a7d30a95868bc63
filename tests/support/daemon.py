"""The container engine's daemon, asked by its API. Opens its socket.

Every `docker` command is a program of 30 MB that takes 25 ms of a processor to ask what the daemon answers in one, and
a test run looks at containers thousands of times.
"""

from __future__ import annotations

import http.client
import os
import pathlib
import socket
import struct

_SOCKET = "/var/run/docker.sock"
_SCHEME = "unix://"


class DaemonError(Exception):
    """The daemon refused."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket (docker's Engine API)."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find_socket() -> str:
    """Return the socket of the daemon that the `docker` command would ask now; nothing where that is another way."""
    if any(name in os.environ for name in ("DOCKER", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST")):
        return ""
    named = os.environ.get("DOCKER_HOST", _SCHEME + _SOCKET)
    path = named.removeprefix(_SCHEME)
    return path if path != named and pathlib.Path(path).is_socket() and os.access(path, os.W_OK) else ""


def ask(method: str, path: str, timeout_seconds: float = 120) -> bytes:
    """Return the answer's body. Raises DaemonError with what the daemon said when it is none of success."""
    connection = _Connection(find_socket(), timeout_seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DaemonError(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise DaemonError(f"{method} {path}: {response.status} {body.decode('utf-8', 'replace').strip()}")
    return body


def join_streams(body: bytes) -> bytes:
    """Return both streams of a log in their order: each piece has a head of eight bytes (its stream, its length)."""
    pieces, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at + 4)
        pieces.append(body[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)
