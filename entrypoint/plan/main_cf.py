"""What main.cf says: the template's view of settings and facts. Pure."""

from __future__ import annotations

from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.capacity import choose_capacity
from entrypoint.plan.clients import view_clients
from entrypoint.plan.dkim import describe_milter
from entrypoint.plan.files import Facts
from entrypoint.plan.listeners import PROBE_SOURCE, find_probe_targets
from entrypoint.plan.lists import choose_message_limit, view_lists
from entrypoint.plan.networks import choose_excluded_gateways, choose_networks, format_host, render_networks
from entrypoint.plan.restrictions import view_restrictions
from entrypoint.plan.rewriting import view_rewriting
from entrypoint.plan.services import Service
from entrypoint.plan.tables import render_policy_table

SENDERS: Final = f"{paths.POSTFIX_CONFIG}/sender_routes"
RECIPIENTS: Final = f"{paths.POSTFIX_CONFIG}/recipient_routes"
POLICIES: Final = f"{paths.POSTFIX_CONFIG}/tls_policy"
GATEWAYS: Final = f"{paths.POSTFIX_CONFIG}/gateways"
STATUS_FILTER: Final = f"{paths.POSTFIX_CONFIG}/not_about_the_message"
"""Tables, by their paths."""


def choose_own_name(settings: Settings, facts: Facts) -> str:
    """Return the name in EHLO and Received."""
    name = settings.myhostname or facts.host_name
    # Postfix completes a name without a dot in the same way (postconf(5) mydomain).
    return name if "." in name else f"{name}.localdomain"


def view_main_cf(settings: Settings, facts: Facts, services: tuple[Service, ...]) -> dict[str, Any]:
    """Return what the template needs to know."""
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    main = services[0].parameters
    interfaces = settings.inet_interfaces
    clients = view_clients(settings, [source for _, _, source in find_probe_targets(settings)])
    permits = ["permit_mynetworks", *clients["permits"]]
    refusals = [*([f"check_client_access cidr:{GATEWAYS}"] if excluded else []), *clients["refusals"]]
    return {
        **clients,
        **view_restrictions(settings, facts, permits, refusals),
        **view_lists(settings, facts, permits),
        "meta_directory": paths.POSTFIX_META,
        "data_directory": paths.POSTFIX_DATA,
        "myhostname": choose_own_name(settings, facts),
        "inet_interfaces": interfaces if isinstance(interfaces, str) else ", ".join(map(format_host, interfaces)),
        "inet_protocols": settings.inet_protocols,
        "proxy_interfaces": ", ".join(map(format_host, facts.proxy_addresses)),
        "mynetworks": render_networks(networks, excluded),
        "sessions_of_one": choose_capacity(settings, facts.memory_bytes).sessions_of_one,
        "message_size_limit": choose_message_limit(settings),
        "milters": ", ".join([*(settings.smtpd_milters or ()), *([describe_milter()] if settings.signs else [])]),
        "milter_default_action": settings.milter_default_action,
        "has_milters": settings.has_milters,
        "probe_source": PROBE_SOURCE,
        "dkim_milter": describe_milter() if settings.signs else "",
        "relayhost": str(settings.relayhost_nexthop),
        "has_sender_routes": bool(settings.sender_routes),
        "sender_routes": SENDERS,
        "has_recipient_routes": bool(settings.recipient_routes),
        "recipient_routes": RECIPIENTS,
        "main": main,
        "limits": services[0].limits,
        "services": [
            {"setting": service.upstreams[0].setting, "name": service.name, "limits": limits}
            for service in services[1:]
            if (limits := [(name, value) for name, value in service.limits.items() if value])
        ],
        "status_filter": STATUS_FILTER,
        "has_tls_policies": bool(render_policy_table(settings)),
        "tls_policy": POLICIES,
        "tls_log_level": settings.tls_log_level,
        **view_rewriting(settings),
    }
