"""From settings and facts to the plan. Pure, but for the template files that it reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.nexthop import IMPLICIT_TLS_PORT
from entrypoint.config.settings import Settings
from entrypoint.config.values import LOOPBACK_ONLY
from entrypoint.plan.capacity import choose_capacity
from entrypoint.plan.clients import LOGIN_GROUP, plan_clients, view_clients, view_listeners
from entrypoint.plan.dkim import describe_milter, plan_dkim
from entrypoint.plan.files import Facts, Plan, PlannedFile
from entrypoint.plan.networks import (
    choose_excluded_gateways,
    choose_networks,
    find_public_subnets,
    format_host,
    render_gateway_answers,
    render_networks,
)
from entrypoint.plan.overrides import override_parameters, override_services, plan_table
from entrypoint.plan.rewriting import list_alias_recipients, plan_rewriting, view_rewriting
from entrypoint.plan.services import (
    TLS_PROXY,
    Service,
    find_authorities,
    find_client_chain,
    find_password_table,
    list_services,
)
from entrypoint.plan.tables import (
    render_allowed,
    render_password_table,
    render_policy_table,
    render_recipient_routes,
    render_sender_routes,
)
from entrypoint.plan.templates import render_template

_PROBE_SOURCE: Final = "127.0.0.25"
_SENDERS: Final = f"{paths.POSTFIX_CONFIG}/sender_routes"
_RECIPIENTS: Final = f"{paths.POSTFIX_CONFIG}/recipient_routes"
_ALLOWED_SENDERS: Final = f"{paths.POSTFIX_CONFIG}/allowed_senders"
_ALLOWED_RECIPIENTS: Final = f"{paths.POSTFIX_CONFIG}/allowed_recipients"
_POLICIES: Final = f"{paths.POSTFIX_CONFIG}/tls_policy"
_GATEWAYS: Final = f"{paths.POSTFIX_CONFIG}/gateways"
_STATUS_FILTER: Final = f"{paths.POSTFIX_CONFIG}/not_about_the_message"


def compute_plan(settings: Settings, facts: Facts, templates: str = paths.TEMPLATES) -> Plan:
    """Return every file that must be on disk, in no order that matters."""
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    sessions = choose_capacity(settings, facts.memory_bytes).sessions
    own_name = _choose_own_name(settings, facts)
    services = list_services(settings, has_client_chain=facts.client_chain is not None)
    main_cf = render_template(templates, "main.cf", _view_main_cf(settings, facts, services))
    master_cf = render_template(
        templates,
        "master.cf",
        {
            "listeners": view_listeners(settings),
            "sessions": f"{sessions:<7}",
            "deliveries": f"{services[0].processes:<7}",
            "services": [_view_service(service, services[0]) for service in services[1:]],
            "proxies": _view_proxies(services),
            "has_lmtp": any(str(target).startswith("lmtp:") for _, target in settings.recipient_routes),
        },
    )
    files = [
        PlannedFile(
            path=f"{paths.POSTFIX_CONFIG}/main.cf", text=override_parameters(main_cf, settings.postfix_parameters)
        ),
        PlannedFile(
            path=f"{paths.POSTFIX_CONFIG}/master.cf",
            text=override_services(master_cf, settings.master_entries, sessions),
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
                    "occasional": [*(["upkeep", "probe"] if settings.probe != "no" else ["upkeep"]), "tokens"],
                    "has_logins": settings.smtpd_users_table is not None,
                    "login_user": LOGIN_GROUP,
                    "has_status": settings.status_listen is not None,
                    "status_listen": str(settings.status_listen),
                    "has_dkim": settings.signs,
                },
            ),
        ),
        PlannedFile(path=paths.LOG_RULES, text=f"{settings.log_format} {settings.log_addresses}\n"),
        PlannedFile(path=paths.LISTENERS, text=json.dumps(find_probe_targets(settings)) + "\n"),
    ]
    if excluded:
        files.append(
            PlannedFile(
                path=_GATEWAYS, text=render_gateway_answers(excluded, can_log_in=settings.smtpd_users_table is not None)
            )
        )
    for path, table in (
        (_POLICIES, render_policy_table(settings)),
        (_SENDERS, render_sender_routes(settings)),
        (_RECIPIENTS, render_recipient_routes(settings)),
        # A bounce has no sender.
        (_ALLOWED_SENDERS, render_allowed(settings.allowed_sender_domains, "<>")),
        (
            _ALLOWED_RECIPIENTS,
            render_allowed(settings.allowed_recipient_domains, *list_alias_recipients(settings, own_name)),
        ),
    ):
        if table:
            files.append(PlannedFile(path=path, text=table, is_table=True))
    authorities = settings.relayhost_ca if settings.relayhost_ca_url is None else facts.fetched_authorities
    if authorities is not None:
        files.append(PlannedFile(path=paths.UPSTREAM_AUTHORITIES, text=authorities.pem))
    if facts.client_chain is not None:
        path = find_client_chain(settings.every_upstream[0])
        files.append(PlannedFile(path=path, text=facts.client_chain.reveal(), mode=0o600))
    for service in services:
        files += _plan_service(service)
    files += map(plan_table, settings.own_tables)
    files += plan_clients(settings, facts)
    files += plan_syslog(settings, facts)
    files += plan_rewriting(settings, own_name)
    files += plan_dkim(settings, facts)
    return Plan(files=tuple(files), warnings=_warn(settings, facts), authorities=authorities)


def _plan_service(service: Service) -> Iterator[PlannedFile]:
    """Yield what a service alone reads: its passwords, and where it has its own, who may sign, and its certificate."""
    first = service.upstreams[0]
    if passwords := render_password_table(service.upstreams):
        yield PlannedFile(path=find_password_table(first), text=passwords, mode=0o600, is_table=True)
    if not service.is_main and first.ca is not None and find_authorities(first) != paths.UPSTREAM_AUTHORITIES:
        yield PlannedFile(path=find_authorities(first), text=first.ca.pem)
    if first.client_cert is not None and first.client_key is not None:
        chain = first.client_key.reveal() + first.client_cert.pem
        yield PlannedFile(path=find_client_chain(first), text=chain, mode=0o600)


def _view_service(service: Service, main: Service) -> dict[str, Any]:
    return {
        "setting": service.upstreams[0].setting,
        "name": service.name,
        "columns": f"{service.name:<16} unix  -       -      n      -      {service.processes:<7}",
        "own": [f"{name} = {value}".rstrip() for name, value in service.find_own(main).items()],
    }


def _view_proxies(services: tuple[Service, ...]) -> list[dict[str, Any]]:
    """Return the tlsproxy(8) services beside the first: it serves only smtp(8) with its own CA and certificate."""
    main = services[0]
    proxies = {service.parameters["tlsproxy_service_name"]: service for service in reversed(services)}
    return [
        {
            "columns": f"{name:<16} unix  -       -      n      -      0      ",
            "own": [
                f"{key} = {value}".rstrip()
                for key, value in service.tls_settings.items()
                if value != main.parameters[key]
            ],
        }
        for name, service in sorted(proxies.items())
        if name != TLS_PROXY
    ]


def find_probe_targets(settings: Settings) -> list[tuple[str, int, str]]:
    """Return (address, port, source address) for each greeting that a health check must find.

    The source is an address that no client uses, so that the log can leave health checks out; IPv6 has only one
    loopback address, so that there it is the container's own.
    """
    if isinstance(settings.inet_interfaces, str):
        addresses = ["::1" if settings.inet_protocols == "ipv6" else "127.0.0.1"]
    else:
        addresses = [str(address) for address in settings.inet_interfaces]
    # On 465 TLS comes first; there is always another port, which is the same smtpd(8).
    own = (port for port in settings.own_ports if port != IMPLICIT_TLS_PORT)
    everywhere = [*own, *(one.port for one in settings.listeners if one.address is None)]
    targets = [(address, port) for address in addresses for port in everywhere]
    for one in settings.listeners:
        if one.address is not None:
            loopback = "127.0.0.1" if one.address.version == 4 else "::1"
            targets.append((loopback if one.address.is_unspecified else str(one.address), one.port))
    return [(address, port, address if ":" in address else _PROBE_SOURCE) for address, port in targets]


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


def _choose_own_name(settings: Settings, facts: Facts) -> str:
    name = settings.myhostname or facts.host_name
    # Postfix completes a name without a dot in the same way (postconf(5) mydomain).
    return name if "." in name else f"{name}.localdomain"


def _view_main_cf(settings: Settings, facts: Facts, services: tuple[Service, ...]) -> dict[str, Any]:
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    main = services[0].parameters
    interfaces = settings.inet_interfaces
    refuse_gateways = [f"check_client_access cidr:{_GATEWAYS}"] if excluded else []
    clients = view_clients(settings, [source for _, _, source in find_probe_targets(settings)])
    return {
        **clients,
        "meta_directory": paths.POSTFIX_META,
        "data_directory": paths.POSTFIX_DATA,
        "myhostname": _choose_own_name(settings, facts),
        "inet_interfaces": interfaces if isinstance(interfaces, str) else ", ".join(map(format_host, interfaces)),
        "inet_protocols": settings.inet_protocols,
        "proxy_interfaces": ", ".join(map(format_host, facts.proxy_addresses)),
        "mynetworks": render_networks(networks, excluded),
        "relay_restrictions": ", ".join(
            ["permit_mynetworks", *clients["permits"], *refuse_gateways, *clients["refusals"]]
        ),
        "sessions_of_one": choose_capacity(settings, facts.memory_bytes).sessions_of_one,
        "sender_restrictions": ", ".join(_list_sender_restrictions(settings)),
        "allowed_senders": _ALLOWED_SENDERS if settings.allowed_sender_domains else "",
        "allowed_recipients": _ALLOWED_RECIPIENTS if settings.allowed_recipient_domains else "",
        "message_size_limit": settings.message_size_limit,
        "milters": ", ".join([*(settings.smtpd_milters or ()), *([describe_milter()] if settings.signs else [])]),
        "milter_default_action": settings.milter_default_action,
        "has_milters": settings.has_milters,
        "probe_source": _PROBE_SOURCE,
        "dkim_milter": describe_milter() if settings.signs else "",
        "relayhost": str(settings.relayhost_nexthop),
        "has_sender_routes": bool(settings.sender_routes),
        "sender_routes": _SENDERS,
        "has_recipient_routes": bool(settings.recipient_routes),
        "recipient_routes": _RECIPIENTS,
        "main": main,
        "limits": services[0].limits,
        "services": [
            {"setting": service.upstreams[0].setting, "name": service.name, "limits": limits}
            for service in services[1:]
            if (limits := [(name, value) for name, value in service.limits.items() if value])
        ],
        "status_filter": _STATUS_FILTER,
        "has_tls_policies": bool(render_policy_table(settings)),
        "tls_policy": _POLICIES,
        "tls_log_level": settings.tls_log_level,
        **view_rewriting(settings),
    }


def _list_sender_restrictions(settings: Settings) -> Iterator[str]:
    if settings.sender_login_table:
        yield "reject_sender_login_mismatch"
    if settings.allowed_sender_domains:
        yield f"check_sender_access lmdb:{_ALLOWED_SENDERS}"
        yield "check_sender_access static:{550 5.7.1 this domain is none of ALLOWED_SENDER_DOMAINS}"


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
