"""Fetches the certificate of an issuer from where a certificate says that it is (caIssuers). Network.

Uses `web` to fetch. Not `download`'s rules, which are for an address that the user chose: this one comes from a server
that nobody has verified yet. So: http alone, small, quick, never this machine itself, and what comes is no more
trusted than the address was.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from entrypoint.errors import quote_value
from entrypoint.system.web import Bounds, FetchError, WebError, fetch

MAX_BYTES: Final = 256 * 1024
"""A PKCS #7 file with all cross-certificates of a large CA has some 20 KiB."""


class IssuerError(FetchError):
    """A certificate that could not be fetched; the text says why."""


def fetch_issuer(url: str, timeout_seconds: float) -> bytes:
    """Return what is at an http URL (RFC 5280 section 4.2.2.1), or raise IssuerError; the timeout is for all of it."""
    bounds = Bounds(
        seconds=timeout_seconds,
        max_bytes=MAX_BYTES,
        follow=lambda url, location: _check_url(location, url),
        check_address=_check_address,
    )
    try:
        return fetch(_check_url(url, url), bounds)
    except WebError as error:
        raise IssuerError(str(error)) from error


def _check_url(reference: str, base: str) -> str:
    """Return the URL of a reference that may be asked for, or raise IssuerError."""
    with contextlib.suppress(ValueError):
        url = urljoin(base, reference)
        parts = urlsplit(url)
        # What a shell, a terminal or another protocol could take for its own is in no address of a CA.
        if re.fullmatch(r"[!-~]+", reference) and parts.scheme == "http" and parts.hostname and parts.port != 0:
            return url
    where = "it is" if reference == base else f"it redirects to '{quote_value(reference)}', which is"
    raise IssuerError(f"{where} not a plain http:// address, and no other is asked: fetch it yourself, and compare it")


def _check_address(address: str) -> None:
    if not is_allowed(address):
        raise IssuerError(f"{address} is an address of this machine or of its own link")


def is_allowed(address: str) -> bool:
    """Return whether a stranger may have us ask there: not this machine, nor its link, where clouds keep secrets."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)
