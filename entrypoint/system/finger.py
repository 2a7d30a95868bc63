"""Asks posttls-finger(1), Postfix's own TLS client, what it makes of an upstream. Network, processes.

Uses `processes` to run it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from entrypoint.errors import CommandFailedError
from entrypoint.system.processes import finish_command, start_command

_PREFIX = "posttls-finger: "
_ESTABLISHED = re.compile(r"(Verified|Trusted|Untrusted|Anonymous) TLS connection established to ([^\s\[]+)\[")
_NO_TROUBLE = ("warning: DNSSEC", "warning: reason: dnssec")
"""It looks for DNSSEC, which is no matter at any level but dane."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What it said: `trust` is Postfix's word (Verified, Trusted, Untrusted, Anonymous), empty without TLS."""

    trust: str
    host: str
    """The host that it was led to, which only Postfix knows with MX look-ups."""
    words: str


def ask_finger(
    nexthop: str,
    *,
    configuration: str,
    level: str,
    matches: Sequence[str] = (),
    options: Sequence[str] = (),
    timeout_seconds: float,
) -> Opinion:
    """Return its opinion of a nexthop; `options` are more of its own, such as -F and -w."""
    seconds = str(max(1, int(timeout_seconds)))
    command = (
        *("env", f"MAIL_CONFIG={configuration}", "posttls-finger", "-c", "-l", level, "-L", "summary,certmatch"),
        *("-t", seconds, "-T", seconds, *options, nexthop, *matches),
    )
    try:
        lines = finish_command(start_command(command))
    except CommandFailedError as error:
        lines = [str(error)]
    return parse_opinion(lines)


def parse_opinion(lines: Sequence[str]) -> Opinion:
    """Return the opinion that its lines hold."""
    established = _ESTABLISHED.search("\n".join(lines))
    words = [line.removeprefix(_PREFIX) for line in lines]
    words = [line for line in words if not line.startswith(_NO_TROUBLE) and "subject_CN=" not in line]
    return Opinion(
        trust=established[1] if established else "",
        host=established[2] if established else "",
        words="; ".join(words[:2]),
    )
