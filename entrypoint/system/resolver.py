"""Looks up a name's addresses within a time, which getaddrinfo(3) has none of. Network; reads resolv.conf.

A look-up cannot be ended, only left behind: it has a thread of its own, which ends with the process at the latest.
"""

from __future__ import annotations

import contextlib
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


def find_addresses(host: str, timeout_seconds: float, protocols: str = "all") -> tuple[str, ...]:
    """Return a name's addresses of the families in `protocols` (inet_protocols), each once; raise as `look_up`."""
    family = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}.get(protocols, socket.AF_UNSPEC)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in look_up(host, None, family, timeout_seconds)))


def list_name_servers() -> list[str]:
    """Return the addresses of those who are asked for names."""
    return _read_servers() or [_DEFAULT_SERVER]


def describe_name_servers() -> str:
    """Return who is asked for names, for a sentence: `name server 192.0.2.53 (/etc/resolv.conf)`."""
    return f"name server {' or '.join(list_name_servers())} ({paths.RESOLV_CONF})"


def describe_resolver() -> str:
    """Return which name servers and search domains there are: `resolv.conf has nameserver 192.0.2.53, search x`."""
    servers, searched = _read_servers(), [word for words in _read_words("search") for word in words]
    what = f"resolv.conf has nameserver {', '.join(servers)}" if servers else "resolv.conf has no nameserver"
    return what + (f", search {' '.join(searched)}" if searched else "")


def _read_servers() -> list[str]:
    return [words[0] for words in _read_words("nameserver")]


def _read_words(keyword: str) -> list[list[str]]:
    """Return what follows a keyword of resolv.conf(5) on each of its lines; without the file it is nothing."""
    with contextlib.suppress(OSError), open(paths.RESOLV_CONF, encoding="utf-8", errors="replace") as file:
        return [words[1:] for line in file if (words := line.split())[:1] == [keyword] and len(words) > 1]
    return []
