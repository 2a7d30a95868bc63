"""One TLS handshake that verifies nothing, and what the server showed in it, also where it failed. Network.

Uses `connection` for its deadline.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

from entrypoint.errors import quote_value
from entrypoint.system.connection import Deadline

_CERTIFICATE_REQUEST: Final = 13
"""The handshake message by which a server asks for a certificate (RFC 8446 section 4.3.2, RFC 5246 section 7.4.4)."""
_HANDSHAKE: Final = 22
"""Its content type (RFC 8446 section 5.1)."""
_UNASKED_SECONDS: Final = 1.0
"""More than a way round the world takes."""
_ANSWER_SECONDS: Final = 3.0
_CLOSED: Final = "it closed the connection"


@dataclass(kw_only=True)
class Handshake:
    """What came of a handshake; `chain` is DER, the server's own certificate first."""

    protocol: str = ""
    cipher: str = ""
    chain: tuple[bytes, ...] = ()
    asks_for_certificate: bool = False


def begin_tls(connection: socket.socket, host: str, found: Handshake) -> ssl.SSLSocket:
    """Return the connection inside TLS, with no client certificate shown; `found` is filled, also before an OSError."""
    # SNI is sent for a name, and for an address it is not (RFC 6066 section 3): ssl knows.
    secured = _make_context(found).wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        try:
            secured.do_handshake()
        finally:
            # Before it is closed, when nothing is known any more.
            _describe(secured, found)
    except OSError:
        secured.close()
        raise
    return secured


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


def _make_context(found: Handshake) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What is asked is what the server shows, whoever signed it; nothing secret is said in this session.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def watch(_socket: Any, direction: str, _version: Any, content_type: Any, kind: Any, _data: bytes) -> None:
        if direction == "read" and int(content_type) == _HANDSHAKE and int(kind) == _CERTIFICATE_REQUEST:
            found.asks_for_certificate = True

    # The only way by which Python tells whether a certificate was asked for; not public, so that its lack is survived.
    with contextlib.suppress(AttributeError):
        context._msg_callback = watch  # type: ignore[attr-defined]
    return context


def _describe(secured: ssl.SSLSocket, found: Handshake) -> None:
    cipher = secured.cipher()
    if cipher:
        found.cipher = cipher[0]
        # There is no version before the end of the handshake; ciphers of TLS 1.3 are for that version alone.
        found.protocol = secured.version() or ("TLSv1.3" if cipher[1] == "TLSv1.3" else "TLSv1.2")
    with contextlib.suppress(ValueError, AttributeError):
        # Python 3.13, which the image has; the checks run for 3.11.
        found.chain = tuple(secured.get_unverified_chain())  # type: ignore[attr-defined]
