"""Makes the sockets at which the forwarder answers. Unix socket."""

from __future__ import annotations

import contextlib
import os
import socket


def listen(path: str, backlog: int) -> socket.socket:
    """Return a socket that listens at a path, for root alone; an OSError says why that cannot be."""
    listener = socket.socket(socket.AF_UNIX)
    # The file of a forwarder that was killed is still there.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    # Before bind(2), which makes the file with the socket's mode: there is no moment at which others can enter.
    os.fchmod(listener.fileno(), 0o600)
    listener.bind(path)
    listener.listen(backlog)
    return listener
