"""Asks our own listeners for their greeting, from the address by which the forwarder knows a health check. Network.

Uses `files` to read where they are.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text

_TIMEOUT_SECONDS: Final = 3.0
"""Two listeners one after the other must fit into the HEALTHCHECK's timeout."""


def ask_listeners() -> Iterator[tuple[str, bool, str]]:
    """Give (address:port, does it greet, its greeting or what is wrong) for every listener."""
    for address, port, source in json.loads(read_text(paths.LISTENERS) or "[]"):
        yield _ask_greeting(address, port, source)


def _ask_greeting(address: str, port: int, source: str) -> tuple[str, bool, str]:
    is_ipv6 = ":" in address
    name = f"[{address}]:{port}" if is_ipv6 else f"{address}:{port}"
    try:
        with socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.bind((source, 0))
            connection.connect((address, port))
            with connection.makefile("rb") as reader:
                greeting = reader.readline(512)
                if greeting.startswith(b"220 "):
                    connection.sendall(b"QUIT\r\n")
                    reader.readline(512)
    except OSError as error:
        return name, False, error.strerror or str(error)
    return name, greeting.startswith(b"220 "), greeting.decode("ascii", "replace").strip() or "no greeting"
