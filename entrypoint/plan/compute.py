"""From settings and facts to the plan. Pure, but for the template files that it reads."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.config.values import LOOPBACK_ONLY
from entrypoint.plan.capacity import choose_capacity, choose_first_deliveries, choose_process_limit
from entrypoint.plan.files import Facts, Plan, PlannedFile
from entrypoint.plan.networks import (
    choose_excluded_gateways,
    choose_networks,
    find_public_subnets,
    format_host,
    render_gateway_answers,
    render_networks,
)
from entrypoint.plan.tables import render_password_table, render_policy_table
from entrypoint.plan.templates import render_template

_PROBE_SOURCE: Final = "127.0.0.25"
_PASSWORDS: Final = f"{paths.POSTFIX_CONFIG}/sasl_passwd"
_POLICIES: Final = f"{paths.POSTFIX_CONFIG}/tls_policy"
_GATEWAYS: Final = f"{paths.POSTFIX_CONFIG}/gateways"
_STATUS_FILTER: Final = f"{paths.POSTFIX_CONFIG}/not_about_the_message"
_CLIENT_CHAIN: Final = f"{paths.POSTFIX_CONFIG}/client-chain.pem"


def compute_plan(settings: Settings, facts: Facts, templates: str = paths.TEMPLATES) -> Plan:
    """Return every file that must be on disk, in no order that matters."""
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    sessions = choose_capacity(settings, facts.memory_bytes).sessions
    main_cf = render_template(templates, "main.cf", _view_main_cf(settings, facts))
    files = [
        PlannedFile(
            path=f"{paths.POSTFIX_CONFIG}/main.cf", text=override_parameters(main_cf, settings.postfix_parameters)
        ),
        PlannedFile(
            path=f"{paths.POSTFIX_CONFIG}/master.cf",
            text=render_template(
                templates,
                "master.cf",
                {
                    "listeners": _name_listeners(settings),
                    "sessions": f"{sessions:<7}",
                    "deliveries": f"{choose_process_limit(settings):<7}",
                },
            ),
        ),
        PlannedFile(path=_STATUS_FILTER, text=render_template(templates, "not_about_the_message", {})),
        PlannedFile(
            path=paths.SUPERVISORD_CONF,
            text=render_template(
                templates,
                "supervisord.conf",
                {
                    "python": paths.PYTHON,
                    "master": f"{paths.POSTFIX_DAEMONS}/master",
                    "pidfile": f"{paths.RUN}/supervisord.pid",
                    "drain_seconds": settings.drain_timeout,
                    "occasional": ["upkeep", "probe"] if settings.probe != "no" else ["upkeep"],
                    "has_status": settings.status_listen is not None,
                    "status_listen": str(settings.status_listen),
                },
            ),
        ),
        PlannedFile(path=paths.LOG_RULES, text=f"{settings.log_format} {settings.log_addresses}\n"),
        PlannedFile(path=paths.LISTENERS, text=json.dumps(find_probe_targets(settings)) + "\n"),
    ]
    if excluded:
        files.append(PlannedFile(path=_GATEWAYS, text=render_gateway_answers(excluded)))
    if settings.credentials:
        files.append(PlannedFile(path=_PASSWORDS, text=render_password_table(settings), mode=0o600, is_table=True))
    if policies := render_policy_table(settings):
        files.append(PlannedFile(path=_POLICIES, text=policies, is_table=True))
    authorities = settings.relayhost_ca if settings.relayhost_ca_url is None else facts.fetched_authorities
    if authorities is not None:
        files.append(PlannedFile(path=paths.UPSTREAM_AUTHORITIES, text=authorities.pem))
    if facts.client_chain is not None:
        files.append(PlannedFile(path=_CLIENT_CHAIN, text=facts.client_chain.reveal(), mode=0o600))
    files += plan_syslog(settings, facts)
    return Plan(files=tuple(files), warnings=_warn(settings, facts), authorities=authorities)


def find_probe_targets(settings: Settings) -> list[tuple[str, int, str]]:
    """Return (address, port, source address) for each greeting that a health check must find.

    The source is an address that no client uses, so that the log can leave health checks out; IPv6 has only one
    loopback address, so that there it is the container's own.
    """
    if isinstance(settings.inet_interfaces, str):
        addresses = ["::1" if settings.inet_protocols == "ipv6" else "127.0.0.1"]
    else:
        addresses = [str(address) for address in settings.inet_interfaces]
    return [
        (address, port, address if ":" in address else _PROBE_SOURCE)
        for address in addresses
        for port in settings.listen_ports
    ]


def plan_syslog(settings: Settings, facts: Facts) -> list[PlannedFile]:
    """Return what tells the log forwarder of SYSLOG_URL, if it is set."""
    if settings.syslog_url is None:
        return []
    server = {
        "url": str(settings.syslog_url),
        "transport": settings.syslog_url.transport,
        "host": settings.syslog_url.host,
        "port": settings.syslog_url.port,
        "authorities": paths.SYSTEM_AUTHORITIES if settings.syslog_ca is None else paths.SYSLOG_AUTHORITIES,
        "own_name": _choose_own_name(settings, facts),
    }
    files = [PlannedFile(path=paths.SYSLOG, text=json.dumps(server) + "\n")]
    if settings.syslog_ca is not None:
        # The CA first: whoever finds the other file changed reads both.
        files.insert(0, PlannedFile(path=paths.SYSLOG_AUTHORITIES, text=settings.syslog_ca.pem))
    return files


def override_parameters(main_cf: str, parameters: tuple[tuple[str, str], ...]) -> str:
    """Return main.cf with the user's own parameters at its end, and ours of the same name turned into comments."""
    if not parameters:
        return main_cf
    for name, _ in parameters:
        main_cf = re.sub(rf"(?m)^({re.escape(name)} =.*)$", r"# POSTFIX_\g<1>", main_cf)
    lines = "".join(f"{name} = {value}".rstrip() + "\n" for name, value in parameters)
    return f"{main_cf}\n# --- From POSTFIX_<parameter> ---\n\n{lines}"


def _choose_own_name(settings: Settings, facts: Facts) -> str:
    name = settings.myhostname or facts.host_name
    # Postfix completes a name without a dot in the same way (postconf(5) mydomain).
    return name if "." in name else f"{name}.localdomain"


def _name_listeners(settings: Settings) -> list[str]:
    return [f"{port:<15}" for port in settings.listen_ports]


def _view_main_cf(settings: Settings, facts: Facts) -> dict[str, Any]:
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    levels = {settings.find_tls_level(nexthop) for nexthop in settings.nexthops}
    interfaces = settings.inet_interfaces
    # With a URL never the system's bundle, whatever came of the fetch.
    uses_system_bundle = settings.relayhost_ca is None and settings.relayhost_ca_url is None
    refuse_gateways = f"check_client_access cidr:{_GATEWAYS}, " if excluded else ""
    return {
        "meta_directory": paths.POSTFIX_META,
        "data_directory": paths.POSTFIX_DATA,
        "myhostname": _choose_own_name(settings, facts),
        "inet_interfaces": interfaces if isinstance(interfaces, str) else ", ".join(map(format_host, interfaces)),
        "inet_protocols": settings.inet_protocols,
        "proxy_interfaces": ", ".join(map(format_host, facts.proxy_addresses)),
        "mynetworks": render_networks(networks, excluded),
        "relay_restrictions": f"permit_mynetworks, {refuse_gateways}reject",
        "sessions_of_one": choose_capacity(settings, facts.memory_bytes).sessions_of_one,
        "message_size_limit": settings.message_size_limit,
        "relayhost": str(settings.relayhost_nexthop),
        "has_fallback": settings.fallback_nexthop is not None,
        "fallback_relayhost": str(settings.fallback_nexthop),
        "uses_dane": bool(levels & {TlsLevel.DANE, TlsLevel.DANE_ONLY}),
        "has_concurrency": settings.relayhost_concurrency is not None,
        "concurrency": settings.relayhost_concurrency,
        "first_deliveries": choose_first_deliveries(settings),
        "has_rate_delay": settings.relayhost_rate_delay is not None,
        "rate_delay_seconds": settings.relayhost_rate_delay,
        "status_filter": _STATUS_FILTER,
        "tls_level": settings.relayhost_tls.value,
        "uses_implicit_tls": settings.relayhost.uses_implicit_tls,
        "has_tls_policies": bool(render_policy_table(settings)),
        "tls_policy": _POLICIES,
        "has_fingerprints": bool(settings.relayhost_fingerprint),
        "fingerprints": ", ".join(settings.relayhost_fingerprint or ()),
        "authorities": paths.SYSTEM_AUTHORITIES if uses_system_bundle else paths.UPSTREAM_AUTHORITIES,
        "sends_server_name": not any(nexthop.is_address for nexthop in settings.nexthops),
        "has_client_certificate": facts.client_chain is not None,
        "client_chain": _CLIENT_CHAIN,
        "tls_log_level": settings.tls_log_level,
        "has_credentials": bool(settings.credentials),
        "password_table": _PASSWORDS,
        "sasl_options": "noanonymous" if settings.relayhost_cleartext_auth else "noplaintext, noanonymous",
        "has_mechanism_filter": bool(settings.smtp_sasl_mechanism_filter),
        "mechanism_filter": ", ".join(_complete_filter(settings.smtp_sasl_mechanism_filter or ())),
    }


def _complete_filter(mechanisms: tuple[str, ...]) -> tuple[str, ...]:
    """Return a filter that means what it says: Postfix lets nothing through that no pattern names, so that a list of
    refusals alone needs the rest named at its end (postconf(5) smtp_sasl_mechanism_filter)."""
    refuses_only = bool(mechanisms) and all(name.startswith("!") for name in mechanisms)
    return (*mechanisms, "static:all") if refuses_only else mechanisms


def _warn(settings: Settings, facts: Facts) -> tuple[str, ...]:
    return (*_warn_of_public_subnets(settings, facts), *_warn_of_little_memory(settings, facts))


def _warn_of_little_memory(settings: Settings, facts: Facts) -> tuple[str, ...]:
    capacity = choose_capacity(settings, facts.memory_bytes)
    if not capacity.missing_bytes or facts.memory_bytes is None:
        return ()
    needed = math.ceil((facts.memory_bytes + capacity.missing_bytes) / 2**20)
    return (
        f"the container's memory is limited to {facts.memory_bytes // 2**20} MiB, which is used up when "
        f"{capacity.sessions} clients send at once. Give it {needed} MiB (--memory {needed}m), or set a smaller "
        "RELAYHOST_CONCURRENCY",
    )


def _warn_of_public_subnets(settings: Settings, facts: Facts) -> tuple[str, ...]:
    public = find_public_subnets(settings, facts)
    if not public or settings.inet_interfaces == LOOPBACK_ONLY:
        return ()
    names = ", ".join(map(str, public))
    return (
        f"MYNETWORKS is not set, and the attached subnet {names} is public: nobody there may send. "
        f"If its hosts are yours, set MYNETWORKS={names}",
    )
