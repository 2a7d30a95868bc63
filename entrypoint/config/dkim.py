"""Which domains are signed with DKIM, under which selectors. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.routes import parse_recipient_pattern
from entrypoint.config.values import parse_list

if TYPE_CHECKING:
    from entrypoint.config.dkim_key import DkimKey

RSA: Final = "rsa"
ED25519: Final = "ed25519"
BOTH: Final = "both"
DEFAULT_SELECTOR: Final = "authrelay"
_SELECTOR: Final = r"(?!-)[a-z0-9-]{1,55}(?<!-)(\.(?!-)[a-z0-9-]{1,55}(?<!-))*"
"""RFC 6376 section 3.1; a second key needs eight more characters in a label of 63."""
_MOST_SELECTOR: Final = 120


@dataclass(frozen=True, kw_only=True)
class SignedDomain:
    """A domain of From fields that is signed."""

    pattern: str
    """`example.com`, or `.example.com` for all below it."""
    selector: str | None = None
    """Where it is not DKIM_SELECTOR."""

    @property
    def domain(self) -> str:
        """Who signs (RFC 6376 section 3.5 d=): for what is below a domain, that domain (RFC 7489 section 3.1.1)."""
        return self.pattern.removeprefix(".")

    def __str__(self) -> str:
        return f"{self.pattern}:{self.selector}" if self.selector else self.pattern


def parse_selector(text: str) -> str:
    """Return a selector in lower case (RFC 6376 section 3.1)."""
    selector = text.lower()
    if len(selector) > _MOST_SELECTOR or not re.fullmatch(_SELECTOR, selector):
        raise InvalidValue(
            f"'{text}' is not a selector: letters, digits, hyphens, and dots between them",
            "Write a name such as authrelay or 2027-01",
        )
    return selector


def parse_signed_domains(text: str) -> tuple[SignedDomain, ...]:
    """Return the domains to sign: `example.com`, `.example.com`, each with its `:selector` where it has its own."""
    found = parse_list(_parse_signed_domain)(text)
    for number, one in enumerate(found):
        if one.pattern in {other.pattern for other in found[:number]}:
            raise InvalidValue(f"'{one.pattern}' is there twice", "Keep one of them")
    return found


def _parse_signed_domain(text: str) -> SignedDomain:
    pattern, colon, selector = text.partition(":")
    return SignedDomain(pattern=parse_recipient_pattern(pattern), selector=parse_selector(selector) if colon else None)


def parse_dkim_keys(text: str) -> tuple[DkimKey, ...]:
    """Return a private key in PEM, or one of each algorithm, RSA first."""
    from entrypoint.config import dkim_key  # it needs cryptography

    return dkim_key.parse_dkim_keys(text)
