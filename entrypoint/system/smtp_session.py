"""One conversation with an SMTP server, line by line, in the clear and inside TLS. Network.

Judges nothing but the chain against a CA file: that is OpenSSL's, the library that Postfix asks.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
import warnings
from dataclasses import dataclass
from typing import Any, Final

_MOST_LINES: Final = 200
_MOST_LINE_BYTES: Final = 8192
_CERTIFICATE_REQUEST: Final = 13
"""The handshake message by which a server asks for a certificate (RFC 8446 section 4.3.2, RFC 5246 section 7.4.4)."""
_ANY_CIPHERS: Final = "ALL:@SECLEVEL=0"

TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""The versions that there are, oldest first, as Postfix and OpenSSL write them."""


class SessionError(Exception):
    """A conversation that ended.

    `kind`: unreachable, silent, closed, odd (not SMTP), alert (TLS was ended by the server), handshake or untrusted;
    `code` is OpenSSL's X509_V_ERR_* for the last, `handshake` what was known of the server by then.
    """

    def __init__(self, kind: str, text: str, code: int = 0, handshake: Handshake | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.code = code
        self.handshake = handshake


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply of the server."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}".strip()


@dataclass(frozen=True, kw_only=True)
class TlsOrder:
    """How TLS is to begin: against which CA file (`None`: unchecked), for which name, with which certificate.

    `versions` are some of TLS_VERSIONS, in their order; `ciphers` is OpenSSL's, and for TLS 1.2 and older only.
    """

    authorities: str | None
    server_name: str | None
    client_chain: str | None
    versions: tuple[str, ...] = TLS_VERSIONS[2:]
    ciphers: str = _ANY_CIPHERS


@dataclass(kw_only=True)
class Handshake:
    """What was agreed; `chain` is DER, the server's own certificate first."""

    protocol: str = ""
    cipher: str = ""
    chain: tuple[bytes, ...] = ()
    asks_for_certificate: bool = False


class SmtpSession:
    """A connection to one address."""

    def __init__(self, connection: socket.socket, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._buffer = b""
        self.is_inside_tls = False

    def ask(self, line: bytes) -> Reply:
        """Send a line and return the reply."""
        try:
            self._connection.settimeout(self._timeout_seconds)
            self._connection.sendall(line + b"\r\n")
        except OSError as error:
            raise _explain(error, self._timeout_seconds) from error
        return self.read_reply()

    def read_reply(self) -> Reply:
        """Return the next reply (RFC 5321 section 4.2)."""
        ends_at = time.monotonic() + self._timeout_seconds
        lines: list[str] = []
        while len(lines) < _MOST_LINES:
            line = self._read_line(ends_at)
            match = re.fullmatch(r"(\d{3})(?:([ -])(.*))?", line)
            if match is None:
                raise SessionError("odd", line)
            lines.append(match[3] or "")
            if match[2] != "-":
                return Reply(code=int(match[1]), lines=tuple(lines))
        raise SessionError("odd", "a reply without an end")

    def start_tls(self, order: TlsOrder) -> Handshake:
        """Begin TLS; the chain is verified if there is a CA file. A SessionError is the end of the session."""
        found = Handshake()
        if self._buffer:
            raise SessionError("odd", "more than the reply followed STARTTLS, in the clear")
        try:
            context = _make_context(order, found)
        except (OSError, ValueError) as error:
            raise SessionError("handshake", f"OpenSSL does not take our own files or policy ({error})") from error
        try:
            self._connection.settimeout(self._timeout_seconds)
            secured = context.wrap_socket(
                self._connection, server_hostname=order.server_name, do_handshake_on_connect=False
            )
            self._connection = secured
            try:
                secured.do_handshake()
            finally:
                _describe(secured, found)
        except ssl.SSLCertVerificationError as error:
            raise SessionError("untrusted", error.verify_message, error.verify_code, found) from error
        except ssl.SSLError as error:
            raise SessionError("handshake", error.reason or str(error), 0, found) from error
        except OSError as error:
            raise _explain(error, self._timeout_seconds) from error
        self.is_inside_tls = True
        return found

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _read_line(self, ends_at: float) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MOST_LINE_BYTES:
                raise SessionError("odd", "a line without an end")
            try:
                left = ends_at - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._connection.settimeout(left)
                received = self._connection.recv(4096)
            except OSError as error:
                if isinstance(error, TimeoutError) and self._buffer:
                    raise SessionError("odd", self._buffer.decode("utf-8", "replace")) from error
                raise _explain(error, self._timeout_seconds) from error
            if not received:
                raise SessionError("closed", "it closed the connection")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")


def connect(address: str, port: int, timeout_seconds: float) -> SmtpSession:
    """Return a session with an address, before its greeting; raise SessionError with the kernel's words."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect((address, port))
    except OSError as error:
        connection.close()
        text = "Connection timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise SessionError("unreachable", text) from error
    return SmtpSession(connection, timeout_seconds)


def greets_in_the_clear(address: str, port: int, timeout_seconds: float) -> bool:
    """Return whether a port on which TLS failed is one that begins in the clear."""
    try:
        session = connect(address, port, timeout_seconds)
        with contextlib.closing(session):
            return session.read_reply().code > 0
    except SessionError:
        return False


def speaks_tls_at_once(address: str, port: int, timeout_seconds: float) -> bool:
    """Return whether a silent port is one on which TLS begins before the greeting."""
    try:
        session = connect(address, port, timeout_seconds)
        with contextlib.closing(session):
            session.start_tls(TlsOrder(authorities=None, server_name=None, client_chain=None))
    except SessionError:
        return False
    return True


def _make_context(order: TlsOrder, found: Handshake) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The name is compared as Postfix compares it, by whoever asked; OpenSSL judges the chain.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if order.authorities is None else ssl.CERT_REQUIRED
    _set_versions(context, order.versions)
    context.set_ciphers(order.ciphers)
    if order.authorities is not None:
        context.load_verify_locations(cafile=order.authorities)
    if order.client_chain is not None:
        context.load_cert_chain(order.client_chain)

    def watch(_socket: Any, direction: str, _version: Any, content_type: Any, kind: Any, _data: bytes) -> None:
        if direction == "read" and int(content_type) == 22 and int(kind) == _CERTIFICATE_REQUEST:
            found.asks_for_certificate = True

    # The only way by which Python tells whether a certificate was asked for; not public, so that its lack is survived.
    with contextlib.suppress(AttributeError):
        context._msg_callback = watch  # type: ignore[attr-defined]
    return context


def _set_versions(context: ssl.SSLContext, versions: tuple[str, ...]) -> None:
    if not versions:
        raise ValueError("no TLS version is allowed")
    with warnings.catch_warnings():
        # Whoever allows an old version has been warned at the start.
        warnings.simplefilter("ignore", DeprecationWarning)
        allowed = [ssl.TLSVersion[name.replace(".", "_")] for name in versions]
        context.minimum_version, context.maximum_version = allowed[0], allowed[-1]
        for name in TLS_VERSIONS:
            if name not in versions:
                context.options |= ssl.Options[f"OP_NO_{name.replace('.', '_')}"]


def _describe(secured: ssl.SSLSocket, found: Handshake) -> None:
    cipher = secured.cipher()
    found.cipher = cipher[0] if cipher else ""
    # There is no version before the end of the handshake; ciphers of TLS 1.3 are for that version alone.
    found.protocol = secured.version() or (cipher[1] if cipher and cipher[1] == "TLSv1.3" else "")
    with contextlib.suppress(ValueError, AttributeError):
        # Python 3.13, which the image has; the checks run for 3.11.
        found.chain = tuple(secured.get_unverified_chain())  # type: ignore[attr-defined]


def _explain(error: OSError, seconds: float) -> SessionError:
    if isinstance(error, TimeoutError):
        return SessionError("silent", f"it said nothing within {seconds:g} s")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return SessionError("alert", (error.reason or "").lower().replace("_", " "))
    return SessionError("closed", "it closed the connection")
