"""From settings and facts to the plan. Pure, but for the template files that it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.capacity import choose_capacity
from entrypoint.plan.clients import LOGIN_GROUP, plan_clients
from entrypoint.plan.dkim import plan_dkim
from entrypoint.plan.files import Facts, Plan, PlannedFile
from entrypoint.plan.listeners import find_probe_targets, is_screened, view_listeners
from entrypoint.plan.lists import list_list_routes, plan_lists, view_list_service
from entrypoint.plan.main_cf import (
    GATEWAYS,
    POLICIES,
    RECIPIENTS,
    SENDERS,
    STATUS_FILTER,
    choose_own_name,
    view_main_cf,
)
from entrypoint.plan.networks import choose_excluded_gateways, choose_networks, render_gateway_answers
from entrypoint.plan.overrides import override_parameters, override_services, plan_table
from entrypoint.plan.restrictions import plan_restrictions
from entrypoint.plan.rewriting import plan_rewriting
from entrypoint.plan.services import (
    TLS_PROXY,
    Service,
    find_authorities,
    find_client_chain,
    find_password_table,
    list_services,
)
from entrypoint.plan.syslog import plan_syslog
from entrypoint.plan.tables import (
    render_password_table,
    render_policy_table,
    render_recipient_routes,
    render_sender_routes,
)
from entrypoint.plan.templates import render_template
from entrypoint.plan.warnings import list_warnings


def compute_plan(settings: Settings, facts: Facts, templates: str = paths.TEMPLATES) -> Plan:
    """Return every file that must be on disk, in no order that matters."""
    networks = choose_networks(settings, facts)
    excluded = choose_excluded_gateways(networks, facts.gateways)
    sessions = choose_capacity(settings, facts.memory_bytes).sessions
    own_name = choose_own_name(settings, facts)
    services = list_services(settings, has_client_chain=facts.client_chain is not None)
    main_cf = render_template(templates, "main.cf", view_main_cf(settings, facts, services))
    master_cf = render_template(
        templates,
        "master.cf",
        {
            "listeners": view_listeners(settings),
            "has_screen": any(is_screened(settings, port) for port in settings.listen_ports),
            "sessions": f"{sessions:<7}",
            "deliveries": f"{services[0].processes:<7}",
            "services": [_view_service(service, services[0]) for service in services[1:]],
            "proxies": _view_proxies(services),
            "list_service": view_list_service(settings),
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
        PlannedFile(path=STATUS_FILTER, text=render_template(templates, "not_about_the_message", {})),
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
                path=GATEWAYS, text=render_gateway_answers(excluded, can_log_in=settings.smtpd_users_table is not None)
            )
        )
    for path, table in (
        (POLICIES, render_policy_table(settings)),
        (SENDERS, render_sender_routes(settings)),
        (RECIPIENTS, settings.recipient_routes and list_list_routes(settings) + render_recipient_routes(settings)),
    ):
        if table:
            files.append(PlannedFile(path=path, text=table, is_table=True))
    files += plan_restrictions(settings, own_name)
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
    files += plan_syslog(settings, own_name)
    files += plan_rewriting(settings, own_name)
    files += plan_dkim(settings, facts)
    files += plan_lists(settings, facts, own_name, [source for _, _, source in find_probe_targets(settings)])
    return Plan(files=tuple(files), warnings=list_warnings(settings, facts), authorities=authorities)


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
