"""Fetches the certificate of an issuer from where a certificate says that it is (caIssuers). Network.

Not `download`, which is for an address that the user chose: this one comes from a server that nobody has verified yet.
So: http alone, small, quick, never this machine itself, and what comes is no more trusted than the address was.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import re
import socket
import time
from typing import Final
from urllib.parse import urljoin, urlsplit

MAX_BYTES: Final = 256 * 1024
"""A PKCS #7 file with all cross-certificates of a large CA has some 20 KiB."""
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class IssuerError(Exception):
    """A certificate that could not be fetched; the text says why."""


def fetch_issuer(url: str, timeout_seconds: float) -> bytes:
    """Return what is at an http URL (RFC 5280 section 4.2.2.1), or raise IssuerError; the timeout is for all of it."""
    ends_at = time.monotonic() + timeout_seconds
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            response = _get(url, ends_at)
            if response.status in _REDIRECTS:
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise IssuerError(f"the web server answered {response.status}")
            return response.read()
    except TimeoutError as error:
        raise IssuerError("the web server did not answer in time") from error
    except socket.gaierror as error:
        raise IssuerError("its host does not resolve") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise IssuerError(f"the web server cannot be asked ({error})") from error
    raise IssuerError(f"there are more than {_MOST_REDIRECTS} redirects")


def _get(url: str, ends_at: float) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    # What a shell, a terminal or another protocol could take for its own is in no address of a CA.
    if parts.scheme != "http" or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
        raise IssuerError("it is not a plain http:// address")
    port = parts.port or 80
    with _connect(parts.hostname, port, ends_at) as connection:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: authrelay\r\n\r\n".encode())
        received = bytearray()
        # A socket's timeout begins anew with each byte: the end is looked at in between.
        while chunk := _receive(connection, ends_at):
            received += chunk
            if len(received) > MAX_BYTES:
                raise IssuerError(f"it is larger than {MAX_BYTES // 1024} KiB")
    response = http.client.HTTPResponse(_Received(bytes(received)))  # type: ignore[arg-type]
    response.begin()
    return response


class _Received:
    """An answer that is here whole, in the form from which http.client reads."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _receive(connection: socket.socket, ends_at: float) -> bytes:
    connection.settimeout(_find_left(ends_at))
    return connection.recv(64 * 1024)


def _find_left(ends_at: float) -> float:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(host: str, port: int, ends_at: float) -> socket.socket:
    last: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not is_allowed(str(address[0])):
            raise IssuerError(f"{address[0]} is an address of this machine or of its own link")
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_find_left(ends_at))
            connection.connect(address)
        except OSError as error:
            connection.close()
            last = error
            continue
        return connection
    raise last or OSError("no address")


def is_allowed(address: str) -> bool:
    """Return whether a stranger may have us ask there: not this machine, nor its link, where clouds keep secrets."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)
