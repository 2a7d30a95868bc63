"""The two mechanisms in which an access token stands for the password: XOAUTH2 (Google's) and RFC 7628. Pure.

Strict: what the documents do not allow is a ValueError, so that a client that is merely nearly right is seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

# RFC 6750 section 2.1.
_TOKEN = rb"[A-Za-z0-9._~+/-]+=*"
_XOAUTH2 = re.compile(rb"user=([^\x00-\x1f]+)\x01auth=Bearer (" + _TOKEN + rb")\x01\x01")
# RFC 5801 section 4: in a name "=" and "," are written =3D and =2C.
_OAUTHBEARER = re.compile(
    rb"n,a=((?:[^\x00-\x1f=,]|=2C|=3D)+),\x01(?:(?:host|port)=[!-~]+\x01)*auth=Bearer (" + _TOKEN + rb")\x01\x01"
)


def parse_xoauth2(message: bytes) -> tuple[bytes, bytes]:
    """Return user and token (https://developers.google.com/workspace/gmail/imap/xoauth2-protocol)."""
    match = _XOAUTH2.fullmatch(message)
    if not match:
        raise ValueError("no XOAUTH2")
    return match[1], match[2]


def parse_oauthbearer(message: bytes) -> tuple[bytes, bytes]:
    """Return user and token (RFC 7628 section 3.1)."""
    match = _OAUTHBEARER.fullmatch(message)
    if not match:
        raise ValueError("no OAUTHBEARER")
    return match[1].replace(b"=2C", b",").replace(b"=3D", b"="), match[2]


PARSERS: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    "XOAUTH2": parse_xoauth2,
    "OAUTHBEARER": parse_oauthbearer,
}
BEARER_MECHANISMS = tuple(PARSERS)


def render_refusal(mechanism: str) -> bytes:
    """Return what Google says of a token that has ended, and what RFC 7628 has for the same."""
    if mechanism == "XOAUTH2":
        return b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'
    return json.dumps({"status": "invalid_token", "scope": "smtp.send"}, separators=(",", ":")).encode()
