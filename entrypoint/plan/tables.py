"""The sources of the lookup tables: credentials and TLS rules, keyed by every nexthop form in use. Pure."""

from __future__ import annotations

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.settings import Settings


def render_password_table(settings: Settings) -> str:
    """Return the source of smtp_sasl_password_maps: `nexthop user:password` (SASL_README).

    The key is the nexthop exactly as relayhost has it, and nothing else: a password belongs to one upstream.
    """
    return "".join(
        f"{nexthop} {username}:{password.reveal()}\n" for nexthop, username, password in settings.credentials
    )


def render_policy_table(settings: Settings) -> str:
    """Return the source of smtp_tls_policy_maps: `nexthop level attribute=value ...` for each nexthop with a rule.

    The table is looked up by nexthop exactly as relayhost has it (postconf(5) smtp_tls_policy_maps), while users write
    a bare host name, as smtp_tls_per_site had it.
    """
    return "".join(_render_rule(settings, nexthop) for nexthop in settings.nexthops)


def _render_rule(settings: Settings, nexthop: Nexthop) -> str:
    rule = settings.find_tls_rule(nexthop)
    if rule is None:
        return ""
    words = [str(nexthop), rule.level.value, *(f"{name}={value}" for name, value in rule.attributes)]
    return " ".join(words) + "\n"
