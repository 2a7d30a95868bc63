"""The address of a syslog server, as SYSLOG_URL names it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.values import parse_address_or_name

_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
"""RFC 5426 section 3.3; the port of syslog over TCP, 601, in the register of RFC 6335; RFC 5425 section 4.1."""
_EXAMPLE: Final = f"{SETTING}=tls://logs.example.com:6514"


@dataclass(frozen=True, kw_only=True)
class SyslogUrl:
    """Where a copy of the log goes, and how: `transport` is udp, tcp or tls."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return the URL with its port, an IPv6 address in brackets."""
        return f"{self.transport}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_syslog_url(text: str) -> SyslogUrl:
    """Parse `udp://host`, `tcp://host` or `tls://host`, each with an optional `:port`; IPv6 in brackets."""
    if "@" in text:
        raise InvalidValue(
            "it has an @ sign, as before a host stands a user name or a password, and syslog knows neither",
            f"Write {_EXAMPLE}",
            may_hold_secret=True,
        )
    scheme, separator, rest = text.partition("://")
    transport = scheme.lower()
    if not separator or transport not in _PORTS:
        raise InvalidValue("it does not begin with udp://, tcp:// or tls://", f"Write {_EXAMPLE}")
    place = re.fullmatch(r"(\[[^]]*\]|[^:/?#[\]]*)(?::([^:/?#]*))?/?", rest)
    if place is None:
        raise InvalidValue(*_find_fault(rest, transport))
    if place[1] in ("", "[]"):
        raise InvalidValue("it names no host", f"Write {_EXAMPLE}")
    host = parse_address_or_name(place[1])
    return SyslogUrl(transport=transport, host=str(host), port=_parse_port(place[2], transport))


def _find_fault(rest: str, transport: str) -> tuple[str, str]:
    """Return what is wrong with a place that is not `host` or `host:port`, and the remedy."""
    if "[" in rest and "]" not in rest:
        return "the bracket is not closed", f"Write {SETTING}={transport}://[2001:db8::5]:{_PORTS[transport]}"
    if re.search(r"[/?#]", rest):
        return "something follows the port", f"Write the host and the port alone: {_EXAMPLE}"
    if rest.count(":") > 1 and not rest.startswith("["):
        return "an IPv6 address needs brackets", f"Write {SETTING}={transport}://[2001:db8::5]:{_PORTS[transport]}"
    return "its host or port cannot be read", f"Write {_EXAMPLE}"


def _parse_port(text: str | None, transport: str) -> int:
    if not text:
        return _PORTS[transport]
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise InvalidValue(
            f"'{text}' is not a port", f"Write a number from 1 to 65535, or none for {_PORTS[transport]}"
        )
    return int(text)
