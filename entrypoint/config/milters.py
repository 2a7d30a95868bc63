"""The milters that a message is shown to (postconf(5) smtpd_milters, MILTER_README). Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.values import parse_address_or_name

_EXAMPLE: Final = f"Write {SETTING}=inet:rspamd:11332, or {SETTING}=unix:/run/milter/socket"
_MOST: Final = 65535


def parse_milter(text: str) -> str:
    """Return `inet:host:port` or `unix:/path` in Postfix's form; the host is looked up anew for each session."""
    kind, _, place = text.partition(":")
    if kind == "unix":
        if not place.startswith("/"):
            raise InvalidValue(f"the path in '{text}' is not absolute", _EXAMPLE)
        # Postfix expands $, and gives braces and blanks a meaning of its own.
        if not re.fullmatch(r"[\w./@:+-]+", place, re.ASCII):
            raise InvalidValue("the path has a character that Postfix would not take as it is", _EXAMPLE)
        return text
    if kind == "inet" and (sendmails := re.fullmatch(r"(\d+)@(.+)", place)):
        raise InvalidValue(f"'{text}' is as sendmail writes it", f"Write inet:{sendmails[2]}:{sendmails[1]}")
    if kind != "inet":
        raise InvalidValue(f"'{text}' does not say how the milter is reached", _EXAMPLE)
    host, _, port = place.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= _MOST:
        raise InvalidValue(f"'{text}' has no port from 1 to {_MOST}", _EXAMPLE)
    address = parse_address_or_name(host)
    # Without brackets Postfix could not tell an IPv6 address from its port.
    return f"inet:[{address}]:{int(port)}" if ":" in str(address) else f"inet:{address}:{int(port)}"
