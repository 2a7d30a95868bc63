"""Gets one document over HTTP or HTTPS, or sends a form, within the caller's bounds on time, size and ways. Network.

Uses `connection` for the way there and its deadline, `resolver` for its error. It is http.client, and not
urllib.request, which would ask the environment for proxies; nor a library: what is needed is one GET or POST, and
importing httpx alone takes longer than that.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from entrypoint import paths
from entrypoint.errors import quote_value
from entrypoint.system.connection import ConnectError, Deadline, connect
from entrypoint.system.resolver import LookUpTimeoutError

_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 section 15.4."""


class FetchError(Exception):
    """A fetch that ended; the callers' own errors, which their bounds raise, are such as well."""


class WebError(FetchError):
    """A document that did not come: the text is a clause, `url` where its way ended.

    `kind`: status, large, redirects, late, resolver, untrusted, cut, or unreachable for everything else.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.url = ""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one caller allows; the two functions raise a FetchError for what is not."""

    seconds: float
    """From the look-up of the name to the last byte, redirects included."""
    max_bytes: int
    follow: Callable[[str, str], str] = lambda url, _: url
    """Takes where it is and where a redirect leads, and returns the URL that may be asked for."""
    check_address: Callable[[str], None] | None = None
    """Takes each address before it is connected to."""
    what: str = "a CA file"
    """What is expected."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered, whatever it is."""

    status: int
    reason: str
    content: bytes
    location: str = ""
    retry_after: str = ""
    """RFC 9110 section 10.2.3: seconds, or a date."""


def fetch(url: str, bounds: Bounds) -> bytes:
    """Return the document at a URL that the caller has checked, or raise WebError.

    https is verified with the system's bundle alone.
    """
    deadline = Deadline(bounds.seconds)
    with _explained(bounds, url) as place:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = _ask(place.url, bounds, deadline)
            if answer.status == 200:
                return answer.content
            if answer.status not in _REDIRECTS:
                said = quote_value(f"{answer.status} {answer.reason}".strip())
                raise WebError("status", f"the server answered {said}")
            place.url = bounds.follow(place.url, answer.location)
        raise WebError("redirects", f"there are more than {_MOST_REDIRECTS} redirects")


def send_form(url: str, form: str, bounds: Bounds, *, authorities: str | None = None) -> Answer:
    """Send an encoded form to a URL that the caller has checked, and return the answer, or raise WebError.

    https is verified with `authorities`, PEM, or else with the system's bundle. A redirect is not followed: the form
    has secrets.
    """
    with _explained(bounds, url):
        return _ask(url, bounds, Deadline(bounds.seconds), form=form, authorities=authorities)


@dataclass
class _Place:
    """Where a fetch has come to."""

    url: str


@contextlib.contextmanager
def _explained(bounds: Bounds, url: str) -> Iterator[_Place]:
    """Turn whatever happens on the way into a WebError that knows where."""
    place = _Place(url)
    try:
        yield place
    except WebError as error:
        error.url = place.url
        raise
    except FetchError:
        raise
    except Exception as error:  # whatever a hostile answer provokes is told as an answer that is no good
        problem = _explain(error, urlsplit(place.url).hostname or "", bounds)
        problem.url = place.url
        raise problem from error


def _ask(
    url: str, bounds: Bounds, deadline: Deadline, *, form: str | None = None, authorities: str | None = None
) -> Answer:
    parts = urlsplit(url)
    if not re.fullmatch(r"[!-~]+", url) or not parts.hostname:
        # No host is this machine; a blank or a line break begins another request.
        raise WebError("unreachable", "the address cannot be used")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    method, body = ("GET", b"") if form is None else ("POST", form.encode())
    lines = f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: authrelay\r\nAccept-Encoding: identity"
    if form is not None:
        kind = "application/x-www-form-urlencoded"
        lines += f"\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    with _connect(parts.scheme, parts.hostname, parts.port, bounds, deadline, authorities) as connection:
        connection.settimeout(deadline.left())
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n".encode() + body)
        with http.client.HTTPResponse(_Received(connection, deadline), method=method) as response:  # type: ignore[arg-type]
            response.begin()
            # What a form's answer says of a failure is read as well. The length is counted and not believed.
            is_read = response.status == 200 or (form is not None and response.status not in _REDIRECTS)
            content = response.read(bounds.max_bytes + 1) if is_read else b""
            if len(content) > bounds.max_bytes:
                kib = bounds.max_bytes // 1024
                size = f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"
                raise WebError("large", f"it is larger than {size}, so it is not {bounds.what}")
            if is_read and response.length:
                raise http.client.IncompleteRead(content, response.length)
            return Answer(
                status=response.status,
                reason=response.reason,
                content=content,
                location=response.headers.get("Location", ""),
                retry_after=response.headers.get("Retry-After", ""),
            )


def _connect(
    scheme: str, host: str, port: int | None, bounds: Bounds, deadline: Deadline, authorities: str | None
) -> socket.socket:
    connection = connect(host, port or (443 if scheme == "https" else 80), deadline, bounds.check_address)
    if scheme != "https":
        return connection
    context = ssl.create_default_context(
        cafile=None if authorities else paths.SYSTEM_AUTHORITIES, cadata=authorities or None
    )
    # Python 3.13 alone refuses CAs that lack an extension which older tools never wrote; curl and Postfix do not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with connection:
        connection.settimeout(deadline.left())
        # It takes the socket over from the one that is closed here.
        return context.wrap_socket(connection, server_hostname=host)


class _Received(io.RawIOBase):
    """What arrives on a connection, in the form from which http.client reads; each piece ends by the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # A socket's timeout begins anew with each byte.
        self._connection.settimeout(self._deadline.left())
        return self._connection.recv_into(buffer)


def _explain(error: Exception, host: str, bounds: Bounds) -> WebError:
    if isinstance(error, ConnectError):
        error = list(error.reasons.values())[-1]
        if isinstance(error, TimeoutError):
            return WebError("unreachable", f"{host} does not answer in time")
    if isinstance(error, LookUpTimeoutError):
        return WebError("resolver", f"the name {host}: {error}")
    if isinstance(error, TimeoutError):
        return WebError("late", f"it was not here whole after {bounds.seconds:g} seconds")
    if isinstance(error, ssl.SSLCertVerificationError):
        return WebError("untrusted", f"the certificate of {host} is not accepted ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return WebError("unreachable", f"{host} and this relay cannot agree on TLS ({error.reason})")
    if isinstance(error, socket.gaierror):
        return WebError("unreachable", f"the name {host} does not resolve ({error.strerror})")
    if isinstance(error, OSError):
        return WebError("unreachable", f"{host} cannot be reached ({error.strerror or type(error).__name__})")
    if isinstance(error, http.client.IncompleteRead):
        return WebError("cut", "the server closed the connection before the end")
    return WebError("unreachable", f"{host} does not answer in HTTP ({type(error).__name__})")
