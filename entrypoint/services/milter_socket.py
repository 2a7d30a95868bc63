"""The socket at which Postfix reaches the milter that signs, and what becomes of a child that is to be it. Unix socket.

It belongs to the supervisor and lives as long as the container: there from before the first client, and while the
milter is started again, who connects waits for that moment instead of being refused.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from entrypoint import paths
from entrypoint.system.files import share_file

DKIM: Final = "dkim"
"""The service's name in supervisord.conf, and in the status."""
_BACKLOG: Final = 1024
"""More than there are smtpd(8) and cleanup(8): a full one refuses."""
_MAIL_GROUP: Final = "postfix"


class MilterSocket:
    """The listening socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(paths.DKIM_SOCKET):
            os.unlink(paths.DKIM_SOCKET)
        self._socket.bind(paths.DKIM_SOCKET)
        share_file(paths.DKIM_SOCKET, 0o660, _MAIL_GROUP)
        self._socket.listen(_BACKLOG)

    def fileno(self) -> int:
        """Return the descriptor, for the milter's standard input."""
        return self._socket.fileno()


def sign() -> int:
    """Become the milter, which alone needs what it imports."""
    from entrypoint.services.dkim.service import serve

    return serve()
