"""What the lines of a delivery say: the recipient, the upstream, its words, the TLS session. Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.journal.entry import Fields, Found

_ATTEMPT: Final = re.compile(
    r", relay=([^,]*)(?:, conn_use=(\d+))?, delay=([\d.]+), delays=([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+), "
    r"dsn=(\d\.\d+\.\d+), status=([A-Za-z-]+) \((.*)"
)
_TLS: Final = re.compile(
    r"(Verified|Trusted|Untrusted|Anonymous) TLS connection (established|reused) (to|from) (\S+?)(?: to \S+)?: "
    r"(\S+) with cipher (\S+) \((\d+)/(\d+) bits\)"
)


def take_address(text: str, start: int) -> tuple[str, int]:
    """Return the address that begins there, behind its `<`, and where the text goes on behind its `>`.

    A quoted local part may hold a `>` (RFC 5321 section 4.1.2). What was cut off ends with the text.
    """
    end = start
    if text.startswith('"', start):
        end += 1
        while end < len(text) and text[end] != '"':
            end += 2 if text[end] == "\\" else 1
    end = text.find(">", end)
    return (text[start:], len(text)) if end < 0 else (text[start:end], end + 1)


def parse_attempt(rest: str) -> Found:
    """Read `to=<...>, relay=..., ... status=sent (...)` (log_adhoc(3))."""
    fields: Fields = {}
    fields["to"], at = take_address(rest, 4)
    if rest.startswith(", orig_to=<", at):
        fields["orig_to"], at = take_address(rest, at + 11)
    match = _ATTEMPT.match(rest, at)
    if match:
        relay, uses, delay, before, manager, connection, transmission, dsn, status, reply = match.groups()
        fields["relay"] = relay
        if uses:
            fields["connection_use"] = int(uses)
        fields["delay"] = _read_seconds(delay)
        fields["delays"] = {
            "before_queue": _read_seconds(before),
            "queue": _read_seconds(manager),
            "connection": _read_seconds(connection),
            "transmission": _read_seconds(transmission),
        }
        fields["dsn"] = dsn
        fields["status"] = status
        fields["reply"] = reply.removesuffix(")")
    return "attempt", fields


def _read_seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def parse_tls(rest: str) -> Found:
    """Read how far the other side of a TLS session was verified, and what was agreed on (tls_log_summary(3))."""
    match = _TLS.match(rest)
    if match is None:
        return None
    verdict, usage, direction, peer, protocol, cipher, used, _ = match.groups()
    fields = {"verdict": verdict.lower(), "usage": usage, "direction": direction, "peer": peer}
    return "tls", {**fields, "protocol": protocol, "cipher": cipher, "bits": int(used)}


def is_about_certificate(rest: str) -> bool:
    """Return whether a line is one of those with `subject_CN=` or `fingerprint=`, or of a handshake being traced."""
    return ": subject_CN=" in rest or "fingerprint=" in rest or rest.startswith(("SSL", "save session ", "looking "))
