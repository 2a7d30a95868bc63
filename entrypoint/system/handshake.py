"""One TLS handshake as it is ordered, and what the server showed in it, also where it failed. Network.

Uses `connection` for its deadline, and to ask whether a port begins with TLS.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import warnings
from dataclasses import dataclass
from typing import Any, Final

from entrypoint.errors import quote_value
from entrypoint.system.connection import Deadline, connect

_CERTIFICATE_REQUEST: Final = 13
"""The handshake message by which a server asks for a certificate (RFC 8446 section 4.3.2, RFC 5246 section 7.4.4)."""
_HANDSHAKE: Final = 22
"""Its content type (RFC 8446 section 5.1)."""
_UNASKED_SECONDS: Final = 1.0
"""More than a way round the world takes."""
_ANSWER_SECONDS: Final = 3.0
_CLOSED: Final = "it closed the connection"
_ANY_CIPHERS: Final = "ALL:@SECLEVEL=0"

TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""The versions that there are, oldest first, as Postfix and OpenSSL write them."""


@dataclass(frozen=True, kw_only=True)
class TlsOrder:
    """How TLS is to begin: for which name, against which CA file (`None`: unchecked), with which certificate.

    `versions` are some of TLS_VERSIONS, in their order; `ciphers` is OpenSSL's, for TLS 1.2 and older only, and `None`
    what Python has.
    """

    server_name: str | None
    authorities: str | None = None
    client_chain: str | None = None
    versions: tuple[str, ...] = TLS_VERSIONS[2:]
    ciphers: str | None = None


class OrderError(Exception):
    """An order that OpenSSL does not take: our own files, or what is allowed."""


@dataclass(kw_only=True)
class Handshake:
    """What came of a handshake; `chain` is DER, the server's own certificate first."""

    protocol: str = ""
    cipher: str = ""
    chain: tuple[bytes, ...] = ()
    asks_for_certificate: bool = False


def begin_tls(connection: socket.socket, order: TlsOrder, found: Handshake) -> ssl.SSLSocket:
    """Return the connection inside TLS; `found` is filled, also before an OSError. OrderError: nothing was sent."""
    try:
        context = _make_context(order, found)
    except (OSError, ValueError) as error:
        raise OrderError(str(error)) from error
    # SNI is sent for a name, and for an address it is not (RFC 6066 section 3): ssl knows.
    secured = context.wrap_socket(connection, server_hostname=order.server_name, do_handshake_on_connect=False)
    try:
        try:
            secured.do_handshake()
        finally:
            # Before it is closed, when nothing is known any more.
            _describe(secured, found, order.versions)
    except OSError:
        secured.close()
        raise
    return secured


def speaks_tls_at_once(host: str, port: int, deadline: Deadline) -> bool:
    """Return whether TLS begins on a port before the greeting, also where it ends for the lack of a certificate."""
    found = Handshake()
    try:
        with connect(host, port, deadline) as connection:
            connection.settimeout(deadline.left())
            begin_tls(connection, TlsOrder(server_name=host, ciphers=_ANY_CIPHERS), found).close()
    except OSError as error:
        return is_refusal(error, found)
    return True


def is_refusal(error: OSError, found: Handshake) -> bool:
    """Return whether a server ended a handshake after it showed its chain and asked for ours."""
    # Everything else is our end's verdict on the server: a bad signature, too small a key.
    is_theirs = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError)
    is_theirs |= "ALERT" in (getattr(error, "reason", None) or "")
    return is_theirs and found.asks_for_certificate and bool(found.chain)


def find_refusal(secured: ssl.SSLSocket, farewell: bytes, deadline: Deadline) -> str:
    """Return how a server that asked for a certificate ends the session without one; empty when it goes on.

    In TLS 1.3 its verdict comes after our end of the handshake (RFC 8446 section 4.4.2.4); Postfix's is an SMTP reply.
    """
    try:
        # One that refuses says so unasked; only then is one asked, so that its words are not lost.
        for question, seconds in ((b"", _UNASKED_SECONDS), (farewell, _ANSWER_SECONDS)):
            secured.settimeout(min(deadline.left(), seconds))
            secured.sendall(question)
            with contextlib.suppress(TimeoutError):
                line = secured.recv(4096).partition(b"\r\n")[0]
                refuses = not line or re.match(rb"[45]\d\d[ -]", line)
                return quote_value(line.decode("utf-8", "replace")) or _CLOSED if refuses else ""
    except TimeoutError:
        return ""
    except OSError as error:
        return say(error)
    return ""


def say(error: OSError) -> str:
    """Return an error of a TLS connection in lower case and in short: `alert certificate required`."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return _CLOSED
    words = str(getattr(error, "reason", None) or error.strerror or error).lower().replace("_", " ")
    # OpenSSL names an alert after the version that first had it: "sslv3" in TLS 1.2 would send people the wrong way.
    return re.sub(r"^(sslv3|tlsv1|tlsv13) alert", "alert", words)


def _make_context(order: TlsOrder, found: Handshake) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The name is compared as Postfix compares it, by whoever asked; OpenSSL judges the chain, where there is a CA file.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if order.authorities is None else ssl.CERT_REQUIRED
    _set_versions(context, order.versions)
    if order.ciphers is not None:
        context.set_ciphers(order.ciphers)
    if order.authorities is not None:
        context.load_verify_locations(cafile=order.authorities)
    if order.client_chain is not None:
        context.load_cert_chain(order.client_chain)

    def watch(_socket: Any, direction: str, _version: Any, content_type: Any, kind: Any, _data: bytes) -> None:
        if direction == "read" and int(content_type) == _HANDSHAKE and int(kind) == _CERTIFICATE_REQUEST:
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


def _describe(secured: ssl.SSLSocket, found: Handshake, versions: tuple[str, ...]) -> None:
    name, version, _ = secured.cipher() or ("", "", 0)
    found.cipher = name
    # There is no version before the end of the handshake; a cipher has the one that brought it, and TLS 1.3 its own.
    possible = [one for one in versions if one != "TLSv1.3"] if version != "TLSv1.3" else [version]
    found.protocol = secured.version() or (possible[0] if name and len(possible) == 1 else "")
    with contextlib.suppress(ValueError, AttributeError):
        # Python 3.13, which the image has; the checks run for 3.11.
        found.chain = tuple(secured.get_unverified_chain())  # type: ignore[attr-defined]
