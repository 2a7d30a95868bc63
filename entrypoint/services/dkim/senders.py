"""From the From fields of a message to the domains in them (RFC 5322 section 3.4). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_COMMENT: Final = re.compile(rb"\((?:[^()\\]|\\.)*\)", re.DOTALL)
_IN_BRACKETS: Final = re.compile(rb"<([^<>]*)>")
_DOMAIN: Final = re.compile(rb"@\s*([^\s@<>,;:]+)\s*$")


def find_domains(values: Iterable[bytes]) -> tuple[str, ...]:
    """Return the domains of the addresses in From fields, in lower case and as A-labels, each once, in order."""
    found: dict[str, None] = {}
    for value in values:
        text = _QUOTED.sub(b"", value)
        while (shorter := _COMMENT.sub(b"", text)) != text:  # comments nest
            text = shorter
        for mailbox in re.split(rb"[,;]", text):
            # A name without quotes may have an @ of its own; the address is what stands in brackets.
            addresses = _IN_BRACKETS.findall(mailbox) or [mailbox]
            if (match := _DOMAIN.search(addresses[-1])) and (domain := _read_domain(match[1])):
                found[domain] = None
    return tuple(found)


def _read_domain(domain: bytes) -> str | None:
    """Return a domain in the form in which it is configured; `None` for what cannot be one."""
    try:
        text = domain.decode("utf-8").lower().removesuffix(".")
        return text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        return None
