"""The sources of the lookup tables: credentials, TLS rules and routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import Upstream


def render_password_table(upstreams: Iterable[Upstream]) -> str:
    """Return the source of smtp_sasl_password_maps: `nexthop user:password` (SASL_README).

    The key is the nexthop exactly as relayhost has it, and nothing else: a password belongs to one upstream.
    """
    logins = ((upstream.nexthop, upstream.credentials) for upstream in upstreams)
    return "".join(f"{nexthop} {login[0]}:{login[1].reveal()}\n" for nexthop, login in logins if login)


def render_policy_table(settings: Settings) -> str:
    """Return the source of smtp_tls_policy_maps: `nexthop level attribute=value ...` for each nexthop with a rule.

    The table is looked up by nexthop exactly as relayhost has it (postconf(5) smtp_tls_policy_maps), while users write
    a bare host name, as smtp_tls_per_site had it.
    """
    nexthops = {str(upstream.nexthop): upstream.nexthop for upstream in settings.every_upstream}
    return "".join(_render_rule(settings, nexthop) for nexthop in nexthops.values())


def _render_rule(settings: Settings, nexthop: Nexthop) -> str:
    rule = settings.find_tls_rule(nexthop)
    if rule is None:
        return ""
    words = [str(nexthop), rule.level.value, *(f"{name}={value}" for name, value in rule.attributes)]
    return " ".join(words) + "\n"


def render_allowed(domains: tuple[str, ...] | None, *others: str) -> str:
    """Return the source of an access(5) table of domains, and of other keys, that may; empty without a domain."""
    return "".join(f"{key} OK\n" for key in dict.fromkeys((*domains, *others))) if domains else ""


def render_sender_routes(settings: Settings) -> str:
    """Return the source of sender_dependent_default_transport_maps: `sender service:nexthop` (postconf(5))."""
    return "".join(f"{sender} {upstream.service}:{upstream.nexthop}\n" for sender, upstream in settings.sender_routes)


def render_recipient_routes(settings: Settings) -> str:
    """Return the source of transport_maps: `domain service:nexthop` (transport(5))."""
    return "".join(
        f"{domain} {target if isinstance(target, str) else f'{target.service}:{target.nexthop}'}\n"
        for domain, target in settings.recipient_routes
    )
