"""The upstream's address as Postfix writes it: a *nexthop*. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.values import parse_host_name

_SERVICES: Final = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465}
_EXAMPLE: Final = "[smtp.example.com]:587"
IMPLICIT_TLS_PORT: Final = 465
"""RFC 8314 section 7.3: TLS begins before the greeting."""
SMTP_PORT: Final = 25


@dataclass(frozen=True, kw_only=True)
class Nexthop:
    """Where mail is handed to: a host (or, with `uses_mx`, a domain whose MX hosts are asked for) and a port."""

    host: str
    port: int
    is_bracketed: bool
    """Whether the user wrote brackets, which forbid an MX lookup."""
    uses_mx: bool = False

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which no certificate check of Postfix can match."""
        return ":" in self.host or self.host.replace(".", "").isdigit()

    @property
    def uses_implicit_tls(self) -> bool:
        """Whether TLS begins before the greeting (RFC 8314)."""
        return self.port == IMPLICIT_TLS_PORT

    def __str__(self) -> str:
        """Return the one form that every Postfix parameter and table key of ours uses, `[host]:port`.

        Port 25 is left out, as Postfix does.
        """
        host = self.host if self.uses_mx else f"[{self.host}]"
        return host if self.port == SMTP_PORT else f"{host}:{self.port}"


def parse_nexthop(text: str) -> Nexthop:
    """Parse `host`, `[host]`, each with an optional `:port` or `:service` (postconf(5) relayhost). No port is 25."""
    if "://" in text:
        raise InvalidValue(
            "it is a URL", f"Write the host and the port alone: {SETTING}={_EXAMPLE}", may_hold_secret="@" in text
        )
    if re.search(r"\s", text):
        raise InvalidValue(
            "it contains a blank", f"Write one host and one port: {SETTING}={_EXAMPLE}", may_hold_secret=True
        )
    if "@" in text:
        raise InvalidValue(
            "it contains an @ sign",
            f"The user name goes into RELAYHOST_USERNAME; here write only {SETTING}={_EXAMPLE}",
            may_hold_secret=True,
        )
    if text.startswith("["):
        inside, closed, rest = text[1:].partition("]")
        if not closed:
            host, _, port = inside.partition(":")
            raise InvalidValue("the bracket is not closed", f"Write {SETTING}=[{host}]{':' + port if port else ''}")
        if rest and not rest.startswith(":"):
            raise InvalidValue(f"'{rest}' follows the bracket", f"Write {SETTING}=[{inside}]:587")
        return Nexthop(host=_parse_host(inside), port=_parse_port(rest), is_bracketed=True)
    if "]" in text:
        raise InvalidValue("the bracket is not opened", f"Write {SETTING}={_EXAMPLE}")
    if text.count(":") > 1:
        raise InvalidValue("an IPv6 address needs brackets", f"Write {SETTING}=[2001:db8::25]:587")
    host, colon, port = text.partition(":")
    return Nexthop(host=_parse_host(host), port=_parse_port(colon + port), is_bracketed=False)


def _parse_host(text: str) -> str:
    if not text:
        raise InvalidValue("the host is missing", f"Write {SETTING}={_EXAMPLE}")
    bare = text[5:] if text.lower().startswith("ipv6:") else text
    if "%" in bare:
        # A zone may hold any character, `$` and control characters among them.
        raise InvalidValue(f"'{text}' has a zone", "Write the address without what follows the % sign")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return parse_host_name(text)


def _parse_port(text: str) -> int:
    """Parse what follows the host: nothing, or a colon with a number or a service name."""
    if not text:
        return SMTP_PORT
    word = text[1:]
    if word.lower() in _SERVICES:
        return _SERVICES[word.lower()]
    if not re.fullmatch(r"[0-9]{1,5}", word) or not 1 <= int(word) <= 65535:
        raise InvalidValue(
            f"'{word}' is not a port", "Write a number from 1 to 65535, or smtp, submission or submissions"
        )
    return int(word)
