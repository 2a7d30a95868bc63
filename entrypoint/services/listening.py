"""Makes the sockets at which services of ours answer. Unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from entrypoint import paths
from entrypoint.system.files import share_file

_LOGIN_BACKLOG: Final = 128
_MAIL_GROUP: Final = "postfix"


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


def open_login_socket() -> socket.socket:
    """Return the socket at which smtpd(8), whose user is in no other group of ours, asks whether a login is good.

    It belongs to the supervisor, as the log's: who asks while the service is started again waits, and is answered.
    """
    listener = listen(paths.LOGIN_SOCKET, _LOGIN_BACKLOG)
    share_file(paths.LOGIN_SOCKET, 0o660, _MAIL_GROUP)
    return listener
