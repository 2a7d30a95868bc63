"""Looks up a name's addresses within a time, which getaddrinfo(3) has none of. Network; reads resolv.conf.

A look-up cannot be ended, only left behind: it has a thread of its own, which ends with the process at the latest.
"""

from __future__ import annotations

import socket
import threading
from typing import Any, Final

from entrypoint import paths

Answer = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""What socket.socket and connect take: family, kind, protocol, canonical name, address."""

_DEFAULT_SERVER: Final = "127.0.0.1"
"""Where resolv.conf(5) names none."""


class LookUpTimeoutError(TimeoutError):
    """A name that was not answered in time; the text says who was asked."""


def look_up(host: str, port: int | None, family: socket.AddressFamily, timeout_seconds: float) -> tuple[Answer, ...]:
    """Return the addresses of a name for TCP, each once; raise LookUpTimeoutError (a TimeoutError) or socket.gaierror.

    `family`: AF_UNSPEC for both.
    """
    answers: list[list[Any] | Exception] = []

    def ask() -> None:
        try:
            answers.append(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except Exception as error:  # it is raised where somebody waits for it
            answers.append(error)

    thread = threading.Thread(target=ask, name="look-up", daemon=True)
    thread.start()
    thread.join(max(0.0, timeout_seconds))
    if not answers:
        text = f"no answer within {round(timeout_seconds, 2):g} s from {describe_name_servers()}"
        raise LookUpTimeoutError(text)
    found = answers[0]
    if isinstance(found, UnicodeError):
        # The codec's: a label without a letter, or with more than 63.
        raise socket.gaierror(socket.EAI_NONAME, "it cannot be a host name") from found
    if isinstance(found, Exception):
        raise found
    return tuple(dict.fromkeys(found))


def describe_name_servers() -> str:
    """Return who is asked for names, for a sentence: `name server 192.0.2.53 (/etc/resolv.conf)`."""
    servers: list[str] = []
    try:
        with open(paths.RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
        servers = [one[1] for one in words if one[:1] == ["nameserver"] and len(one) > 1]
    except OSError:  # without the file, too, it is the default
        pass
    return f"name server {' or '.join(servers or [_DEFAULT_SERVER])} ({paths.RESOLV_CONF})"
