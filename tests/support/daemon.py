"""The container engine's daemon, asked by its API. Opens its socket.

Every `docker` command is a program of 30 MB that takes 25 ms of a processor to ask what the daemon answers in one, and
a test run looks at containers thousands of times.
"""

from __future__ import annotations

import functools
import http.client
import os
import pathlib
import socket
import struct

_SOCKET = pathlib.Path("/var/run/docker.sock")


class DaemonError(Exception):
    """The daemon refused."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket (docker's Engine API)."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(_SOCKET))


@functools.cache
def is_here() -> bool:
    """Whether the `docker` command would ask the same daemon: nothing names another engine or another socket."""
    others = ("DOCKER", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST")
    return not any(name in os.environ for name in others) and os.access(_SOCKET, os.W_OK) and _SOCKET.is_socket()


def ask(method: str, path: str, timeout_seconds: float = 120) -> bytes:
    """Return the answer's body. Raises DaemonError with what the daemon said when it is none of success."""
    connection = _Connection("localhost", timeout=timeout_seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DaemonError(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()
    # 304: it is as it should be already.
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
