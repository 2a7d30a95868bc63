"""The settings for a list server behind the relay, from text to value. Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.values import parse_host_name

LMTP_PORT: Final = 8024
"""Mailman's `[mta] lmtp_port`; LMTP has no port of its own (RFC 2033)."""
_EXAMPLE: Final = f"Write {SETTING}=mailman:{LMTP_PORT}"


def parse_list_domain(text: str) -> str:
    """Return a domain in lower case; a name without a dot is no domain that mail from the world has."""
    if text.startswith(".") or "@" in text or "*" in text:
        bare = text.rpartition("@")[2].lstrip("*.")
        raise InvalidValue(f"'{text}' is not one domain", f"Name each domain of lists by itself: {SETTING}={bare}")
    domain = parse_host_name(text)
    if "." not in domain:
        raise InvalidValue(f"'{text}' has no dot, and nobody outside could send there", f"Write {domain}.example.com")
    return domain


def parse_lmtp_server(text: str) -> Nexthop:
    """Return the server of `mailman`, `mailman:8024`, `lmtp:[mailman]:8024`; no port is Mailman's."""
    bare = re.sub(r"^(lmtp:)?(inet:)?", "", text)
    if bare.startswith(("unix:", "/")):
        raise InvalidValue("it is a socket in a file system", _EXAMPLE)
    if re.fullmatch(r"[^:\[\]]+|\[[^\]]*\]", bare):
        bare = f"{bare}:{LMTP_PORT}"
    return parse_nexthop(bare)


def parse_maps_directory(text: str) -> str:
    """Return the absolute path of a directory."""
    if not text.startswith("/") or "\0" in text:
        raise InvalidValue(f"'{text}' is no absolute path", f"Write {SETTING}=/var/lib/mailman3/data")
    return text.rstrip("/") or "/"
