"""Makes the sockets at which services of ours answer. Unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from entrypoint import paths
from entrypoint.system.files import share_file

_MAIL_GROUP: Final = "postfix"
LOGINS: Final = "logins"
DKIM: Final = "dkim"
MAIL_SOCKETS: Final = {LOGINS: (paths.LOGIN_SOCKET, 128), DKIM: (paths.DKIM_SOCKET, 1024)}
"""By the service's name in supervisord.conf, and how many may wait: more than there are smtpd(8) and cleanup(8), which
are refused by a full one."""


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


def open_mail_socket(service: str) -> socket.socket:
    """Return the socket at which Postfix, whose user is in no other group of ours, asks a service.

    It belongs to the supervisor, as the log's, and is there before the first client: who asks while the service is
    started again waits, and is answered.
    """
    path, backlog = MAIL_SOCKETS[service]
    listener = listen(path, backlog)
    share_file(path, 0o660, _MAIL_GROUP)
    return listener
