"""Downloads one small document over HTTP or HTTPS, within bounds of time, size and redirects. Network.

Parses with `config.web_url`, which is pure. It is http.client, and not urllib.request, which would ask the environment
for proxies; nor a library: what a start needs is one GET, and importing httpx alone takes longer than the whole fetch.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from typing import Final
from urllib.parse import urljoin, urlsplit

from entrypoint import paths
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.web_url import hide_query, parse_web_url
from entrypoint.errors import quote_value

MAX_BYTES: Final = 4 * 2**20
"""As much as config.certificates takes: more than ten times Debian's whole bundle."""
_TOTAL_SECONDS = 10.0
"""From the look-up of the name to the last byte: a start waits no longer."""
_ATTEMPT_SECONDS: Final = 3.0
"""For each address of a name: one that does not answer must leave time for the next."""
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 section 15.4."""
_CHUNK_BYTES: Final = 64 * 1024
_REACHABLE: Final = "Check the address, and that this container reaches that server directly (proxies are not used)"


class DownloadError(Exception):
    """A document that did not come: `what` went wrong and the `remedy`; `is_content`: it came, and cannot be used."""

    def __init__(self, what: str, remedy: str, *, is_content: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.is_content = is_content


def download(url: str) -> bytes:
    """Return the document at a URL that `parse_web_url` has accepted, or raise DownloadError.

    https is verified with the system's bundle alone. Redirects are followed, at most 3, never from https to http.
    """
    work = _Work(url)
    thread = threading.Thread(target=work.run, daemon=True)
    thread.start()
    # Timeouts of a socket count from byte to byte, and a look-up of a name has none: only a watcher bounds the whole.
    thread.join(_TOTAL_SECONDS)
    if work.document is not None:
        return work.document
    if work.problem is not None:
        raise work.problem
    work.hang_up()
    raise DownloadError(f"it was not here whole after {_TOTAL_SECONDS:g} seconds", _REACHABLE)


class _Work:
    """One download, in a thread of its own that may be left behind."""

    def __init__(self, url: str) -> None:
        self.document: bytes | None = None
        self.problem: DownloadError | None = None
        self._url = url
        self._ends_at = time.monotonic() + _TOTAL_SECONDS
        self._socket: socket.socket | None = None

    def run(self) -> None:
        url = self._url
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                found = self._get(url)
                if isinstance(found, bytes):
                    self.document = found
                    return
                url = _follow(url, found)
            raise DownloadError(f"there are more than {_MOST_REDIRECTS} redirects", "Give the address at their end")
        except DownloadError as problem:
            self.problem = problem
        except Exception as error:  # whatever a hostile answer provokes is told as an answer that is no good
            self.problem = _explain(url, error)
        finally:
            self._close()
        if url != self._url and self.problem is not None:
            self.problem.what = f"after a redirect to {quote_value(hide_query(url))} {self.problem.what}"

    def hang_up(self) -> None:
        """End whatever the thread waits for; it notices, and nobody listens to it any more."""
        self._ends_at = 0.0
        if self._socket is not None:
            try:
                # Not SSLSocket's own, which changes what the thread is using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # it has ended by itself meanwhile

    def _get(self, url: str) -> bytes | str:
        """Return the document, or where the server says that it is."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = _make_context()
            connection = http.client.HTTPSConnection(host, parts.port, context=context)
            self._connect(host, connection.port)
            self._wrap(context, host)
        else:
            connection = http.client.HTTPConnection(host, parts.port)
            self._connect(host, connection.port)
        connection.sock = self._socket
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "authrelay", "Connection": "close"})
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                return response.headers.get("Location", "")
            if response.status != 200:
                answer = quote_value(f"{response.status} {response.reason}".strip())
                raise DownloadError(f"the server answered {answer}", "Give the address of the file itself")
            return self._read(response)

    def _connect(self, host: str, port: int) -> None:
        self._close()
        self._check_time()
        self._socket = socket.create_connection((host, port), _ATTEMPT_SECONDS)
        self._check_time()
        # Longer than the watcher waits, so that its sentence is the one that is told.
        self._socket.settimeout(_TOTAL_SECONDS + 1)

    def _wrap(self, context: ssl.SSLContext, host: str) -> None:
        # The handshake comes later, so that hang_up reaches the socket during it, too.
        if self._socket is not None:
            wrapped = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket = wrapped
            wrapped.do_handshake()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        content = bytearray()
        # The length is counted and not believed.
        while chunk := response.read(_CHUNK_BYTES):
            content += chunk
            self._check_time()
            if len(content) > MAX_BYTES:
                raise DownloadError(
                    f"it is larger than {MAX_BYTES // 2**20} MiB, so it is not a CA file",
                    "Give the address of the CA file itself",
                    is_content=True,
                )
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        return bytes(content)

    def _check_time(self) -> None:
        if time.monotonic() > self._ends_at:
            raise TimeoutError

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _make_context() -> ssl.SSLContext:
    """Return what verifies the server: the system's bundle, whatever SSL_CERT_FILE says."""
    context = ssl.create_default_context(cafile=paths.SYSTEM_AUTHORITIES)
    # Python 3.13 alone refuses CAs that lack an extension which older tools never wrote; curl and Postfix do not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _follow(url: str, location: str) -> str:
    """Return where a redirect leads, or refuse to go there."""
    try:
        target = parse_web_url(urljoin(url, location)) if location else ""
    except ValueError as error:
        reason = error.what if isinstance(error, InvalidValue) else "it cannot be read"
        raise DownloadError(
            f"it redirects to an address that cannot be used: {reason}", "Give the address of the file itself"
        ) from error
    if not target:
        raise DownloadError("it redirects to nowhere", "Give the address of the file itself")
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise DownloadError(
            f"it redirects from https to {quote_value(hide_query(target))}, where anybody on the way could change it",
            "Give an address that stays with https, or that one with RELAYHOST_CA_SHA256",
        )
    return target


def _explain(url: str, error: Exception) -> DownloadError:
    host = urlsplit(url).hostname
    if isinstance(error, ssl.SSLCertVerificationError):
        return DownloadError(
            f"the certificate of {host} is not accepted ({error.verify_message})",
            "Its CA must be in the system's bundle: mount one that has it over "
            f"{paths.SYSTEM_AUTHORITIES}, or write http:// with RELAYHOST_CA_SHA256",
        )
    if isinstance(error, TimeoutError):
        return DownloadError(f"{host} does not answer in time", _REACHABLE)
    if isinstance(error, socket.gaierror):
        return DownloadError(f"the name {host} does not resolve ({error.strerror})", _REACHABLE)
    if isinstance(error, ssl.SSLError):
        return DownloadError(f"{host} and this relay cannot agree on TLS ({error.reason})", _REACHABLE)
    if isinstance(error, OSError):
        return DownloadError(f"{host} cannot be reached ({error.strerror or type(error).__name__})", _REACHABLE)
    if isinstance(error, http.client.IncompleteRead):
        return DownloadError("the server closed the connection before the end", "Try again later")
    return DownloadError(f"{host} does not answer in HTTP ({type(error).__name__})", _REACHABLE)
