"""Asks posttls-finger(1), Postfix's own TLS client, what it makes of an upstream. Network, processes.

Uses `processes` to run it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from entrypoint.errors import CommandFailedError
from entrypoint.system.processes import finish_command, start_command

_PREFIX = "posttls-finger: "
_ESTABLISHED = re.compile(
    r"(Verified|Trusted|Untrusted|Anonymous) TLS connection established to ([^\s\[]+)\[([^\]\s]+)\]"
)
_FINGERPRINT = re.compile(r"cert fingerprint=((?:[0-9A-F]{2}:){31}[0-9A-F]{2}),")
_CONNECTED = re.compile(r"^Connected to ([^\s\[]+)\[")
_NO_TROUBLE = ("warning: DNSSEC", "warning: reason: dnssec")
"""It looks for DNSSEC, which is no matter at any level but dane; there `about_dane` has it."""
_NOT_VALIDATED: Final = ("DNSSEC validation may be unavailable", "DANE TLS support is not available")
_RESORTS: Final = 'resorting to "secure"'
"""It goes on by CAs where there are no TLSA records, which smtp(8) does not."""
_STAGES: Final = 5
"""What it waits for, each up to the timeout: addresses, connection, greeting, EHLO, handshake."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What it said: `trust` is Postfix's word (Verified, Trusted, Untrusted, Anonymous), empty without TLS."""

    trust: str
    host: str
    """The host that it was led to, which only Postfix knows with MX look-ups."""
    words: str
    address: str = ""
    fingerprint: str = ""
    """SHA-256 of the certificate that it saw, where that is the digest it was asked for."""
    about_dane: str = ""
    """What keeps DANE from deciding, as asked for by level dane-only: no-address, lookup-error, not-validated,
    no-records or unusable; empty where TLSA records decide."""


def ask_finger(
    destination: str,
    *,
    configuration: str,
    level: str,
    matches: Sequence[str] = (),
    options: Sequence[str] = (),
    timeout_seconds: float,
) -> Opinion:
    """Return its opinion of a nexthop; `options` are more of its own, such as -F and -w."""
    words = ("-c", "-l", level, "-L", "summary,certmatch", *options, destination, *matches)
    return parse_opinion(_run(words, configuration, timeout_seconds))


def find_exchanger(
    nexthop: str, *, configuration: str, options: Sequence[str] = (), timeout_seconds: float
) -> tuple[str, str]:
    """Return the MX host that Postfix is led to, or an empty text, and why not."""
    lines = _run(("-l", "may", "-L", "none", *options, nexthop), configuration, timeout_seconds)
    spoken = [line.removeprefix(_PREFIX) for line in lines]
    for line in spoken:
        if match := _CONNECTED.search(line):
            return match[1], ""
    return "", "; ".join(line for line in spoken if not line.startswith(_NO_TROUBLE))


def _run(words: Sequence[str], configuration: str, timeout_seconds: float) -> list[str]:
    seconds = str(max(1, int(timeout_seconds)))
    most = _STAGES * int(seconds)
    command = (
        # Its look-ups of names wait as long as the resolver likes.
        *("timeout", "--kill-after=1", str(most)),
        *("env", f"MAIL_CONFIG={configuration}", "posttls-finger", "-t", seconds, "-T", seconds, *words),
    )
    try:
        return finish_command(start_command(command))
    except CommandFailedError as error:
        return [f"no answer within {most} s, try again" if "ended with status 124" in str(error) else str(error)]


def parse_opinion(lines: Sequence[str]) -> Opinion:
    """Return the opinion that its lines hold."""
    text = "\n".join(lines)
    established = _ESTABLISHED.search(text)
    seen = _FINGERPRINT.search(text)
    words = [line.removeprefix(_PREFIX) for line in lines]
    words = [line for line in words if not line.startswith(_NO_TROUBLE) and "subject_CN=" not in line]
    return Opinion(
        trust=established[1] if established else "",
        host=established[2] if established else "",
        words="; ".join(words[:2]),
        address=established[3] if established else "",
        fingerprint=seen[1] if seen else "",
        about_dane=_find_about_dane(text),
    )


def _find_about_dane(text: str) -> str:
    if "address lookup failed" in text:
        return "no-address"
    if "TLSA lookup error" in text or "DNSSEC status lookup error" in text:
        return "lookup-error"
    if _RESORTS in text:
        return "not-validated" if any(words in text for words in _NOT_VALIDATED) else "no-records"
    return "unusable" if "TLSA records unusable" in text else ""
