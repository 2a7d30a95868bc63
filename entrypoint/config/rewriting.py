"""The settings that change addresses and headers on the way, from text to value. Pure.

What reads a table is imported when there is one: no other start needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.values import parse_host_name, parse_list

if TYPE_CHECKING:
    from entrypoint.config.aliases import Alias
    from entrypoint.config.sender_rewriting import SenderRewrite


def parse_masquerade_domain(text: str) -> str:
    """Return `example.com`, or `!host.example.com`, which is left as it is (postconf(5) masquerade_domains)."""
    return f"!{parse_host_name(text[1:])}" if text.startswith("!") else parse_host_name(text)


def parse_masquerade_domains(text: str) -> tuple[str, ...]:
    """Return the domains in their order: the first that an address lies below counts."""
    domains = parse_list(parse_masquerade_domain)(text)
    for place, domain in enumerate(domains):
        for earlier in domains[:place]:
            if domain.lstrip("!").endswith(f".{earlier.lstrip('!')}"):
                raise InvalidValue(
                    f"'{domain}' has no effect behind '{earlier}', which it lies below",
                    f"Write it before: {domain} {earlier}",
                )
    return domains


def parse_sender_rewrite_table(text: str) -> tuple[SenderRewrite, ...]:
    """Return the lines of SENDER_REWRITE_TABLE."""
    from entrypoint.config.sender_rewriting import parse_table

    return parse_table(text)


def parse_alias_table(text: str) -> tuple[Alias, ...]:
    """Return the lines of ALIAS_TABLE."""
    from entrypoint.config.aliases import parse_table

    return parse_table(text)


def parse_header_checks_table(text: str) -> str:
    """Return HEADER_CHECKS_TABLE as Postfix reads it."""
    from entrypoint.config.header_checks import parse_table

    return parse_table(text)
