"""Downloads the document that a setting names, and says what the user can do where that fails. Network.

Uses `web` to fetch. Parses with `config.web_url`, which is pure.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from entrypoint import paths
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.web_url import hide_query, parse_web_url
from entrypoint.errors import quote_value
from entrypoint.system.web import Bounds, FetchError, WebError, fetch

MAX_BYTES: Final = 4 * 2**20
"""As much as config.certificates takes: more than ten times Debian's whole bundle."""
_TOTAL_SECONDS = 10.0
"""From the look-up of the name to the last byte: a start waits no longer."""
_REACHABLE: Final = "Check the address, and that this container reaches that server directly (proxies are not used)"
_ITSELF: Final = "Give the address of the file itself"
_REMEDIES: Final = {
    "status": _ITSELF,
    "large": _ITSELF,
    "redirects": "Give the address at their end",
    "resolver": "Check the container's network and its name server",
    "untrusted": "Its CA must be in the system's bundle: mount one that has it over "
    f"{paths.SYSTEM_AUTHORITIES}, or write http:// with RELAYHOST_CA_SHA256",
    "cut": "Try again later",
}


class DownloadError(FetchError):
    """A document that did not come: `what` went wrong and the `remedy`; `is_content`: it came, and cannot be used."""

    def __init__(self, what: str, remedy: str, *, is_content: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.is_content = is_content


def download(url: str) -> bytes:
    """Return the document at a URL that `parse_web_url` has accepted, or raise DownloadError.

    Redirects are followed, at most 3, never from https to http.
    """
    try:
        return fetch(url, Bounds(seconds=_TOTAL_SECONDS, max_bytes=MAX_BYTES, follow=_follow))
    except WebError as error:
        after = f"after a redirect to {quote_value(hide_query(error.url))} " if error.url != url else ""
        remedy = _REMEDIES.get(error.kind, _REACHABLE)
        raise DownloadError(f"{after}{error}", remedy, is_content=error.kind == "large") from error


def _follow(url: str, location: str) -> str:
    """Return where a redirect leads, or refuse to go there."""
    try:
        target = parse_web_url(urljoin(url, location)) if location else ""
    except ValueError as error:
        reason = error.what if isinstance(error, InvalidValue) else "it cannot be read"
        raise DownloadError(f"it redirects to an address that cannot be used: {reason}", _ITSELF) from error
    if not target:
        raise DownloadError("it redirects to nowhere", _ITSELF)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise DownloadError(
            f"it redirects from https to {quote_value(hide_query(target))}, where anybody on the way could change it",
            "Give an address that stays with https, or that one with RELAYHOST_CA_SHA256",
        )
    return target
