"""A DKIM signature: what of a message is signed, in which form, and the header field that says so (RFC 6376). Pure.

Both halves are relaxed (section 3.4.2, 3.4.4): what mail servers on the way may do to blanks and folding does no harm.
There is no l= (section 8.2): nothing can be added to a signed body.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

Field = tuple[bytes, bytes]
"""A header field's name, and its value as it is in the message, folds and all."""

_ALWAYS: Final = (
    *(b"from", b"reply-to", b"subject", b"cc"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
)
"""Signed once more often than they are there: nobody can add one (RFC 6376 section 8.15)."""
_WHERE_PRESENT: Final = (b"date", b"to", b"message-id")
"""The same, but only where there is one: a server that has to add what is missing (RFC 6409 section 8) may."""
_AS_THEY_ARE: Final = (
    *(b"sender", b"in-reply-to", b"references"),
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id"),
    *(b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post"),
    *(b"list-owner", b"list-archive", b"feedback-id", b"auto-submitted"),
)
"""RFC 6376 section 5.4.1; RFC 8058 section 4 wants both fields of one-click unsubscription signed."""

_BLANKS: Final = re.compile(rb"[ \t]+")
_LINE: Final = 72


@dataclass(frozen=True)
class Signer:
    """One key: who signs (d=), where the public half is (s=), and the private half."""

    domain: str
    selector: str
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @property
    def algorithm(self) -> str:
        """RFC 6376 section 3.5 a=."""
        return "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519-sha256"


class BodyHash:
    """The SHA-256 of a body in its relaxed form (RFC 6376 section 3.4.4), taken piece by piece.

    Blanks and line ends at the end of a piece are kept back: what follows decides whether they count.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._kept: list[bytes] = []
        self._is_empty = True

    def update(self, data: bytes) -> None:
        """Take the next bytes of the body, its line ends CRLF."""
        text = data.rstrip(b" \t\r\n")
        if text:
            self._add(_relax(b"".join(self._kept) + text))
            self._kept = []
        self._kept.append(data[len(text) :])

    def finish(self) -> bytes:
        """Return the hash: empty lines at the end do not count, and the last line has an end."""
        rest = _relax(b"".join(self._kept) + b"\r\n")
        while rest.endswith(b"\r\n"):
            rest = rest[:-2]
        self._add(rest)
        if not self._is_empty:
            self._hash.update(b"\r\n")
        return self._hash.digest()

    def _add(self, text: bytes) -> None:
        self._is_empty = self._is_empty and not text
        self._hash.update(text)


def make_signer(domain: str, selector: str, pem: str) -> Signer:
    """Return the signer with a key in PEM; raise ValueError for one that DKIM does not have."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("a key that is neither RSA nor Ed25519")
    return Signer(domain, selector, key)


def sign(signer: Signer, fields: Sequence[Field], body_hash: bytes, now: float) -> bytes:
    """Return the value of the DKIM-Signature field for a message, its folds with LF as milters have them."""
    chosen = list(_choose_fields(fields))
    names = _fold(b":".join(name for name, _ in chosen), b":")
    value = b"v=1; a=%s; c=relaxed/relaxed; d=%s;\n\ts=%s; t=%d;\n\tbh=%s;\n\th=%s;\n\tb=" % (
        signer.algorithm.encode(),
        signer.domain.encode(),
        signer.selector.encode(),
        int(now),
        base64.b64encode(body_hash),
        names,
    )
    signed = b"".join(field + b"\r\n" for _, field in chosen if field) + relax_field(b"DKIM-Signature", value)
    return value + _fold(base64.b64encode(_sign(signer, signed)))


def relax_field(name: bytes, value: bytes) -> bytes:
    """Return a header field in its relaxed form (RFC 6376 section 3.4.2), without its line end."""
    unfolded = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return name.rstrip(b" \t").lower() + b":" + _BLANKS.sub(b" ", unfolded).strip(b" ")


def _relax(body: bytes) -> bytes:
    return _BLANKS.sub(b" ", body).replace(b" \r\n", b"\r\n")


def _choose_fields(fields: Sequence[Field]) -> Iterator[tuple[bytes, bytes]]:
    """Yield each name of h= and the field that it stands for, from the last one upwards (RFC 6376 section 5.4.2).

    A name beyond the last field stands for nothing.
    """
    relaxed: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        relaxed.setdefault(name.rstrip(b" \t").lower(), []).append(relax_field(name, value))
    for name in (*_ALWAYS, *_WHERE_PRESENT, *_AS_THEY_ARE):
        found = relaxed.get(name, [])
        for field in reversed(found):
            yield name, field
        if name in _ALWAYS or (found and name in _WHERE_PRESENT):
            yield name, b""


def _sign(signer: Signer, data: bytes) -> bytes:
    if isinstance(signer.key, rsa.RSAPrivateKey):
        return signer.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return signer.key.sign(hashlib.sha256(data).digest())  # RFC 8463 section 3


def _fold(text: bytes, after: bytes = b"") -> bytes:
    """Return a text in lines: broken behind a separator, or anywhere."""
    if not after:
        return b"\n\t ".join(text[start : start + _LINE] for start in range(0, len(text), _LINE))
    lines = [b""]
    for part in text.split(after):
        if lines[-1] and len(lines[-1]) + len(part) > _LINE:
            lines.append(b"")
        lines[-1] += part + after
    return b"\n\t ".join(lines)[: -len(after)]
