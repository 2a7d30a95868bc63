"""`authrelay check`: validates settings and secrets, starts nothing, and says what would run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from typing import Final

from entrypoint import paths
from entrypoint.commands.prepare import Occasion, prepare
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import Upstream
from entrypoint.errors import CommandFailedError
from entrypoint.plan.files import Plan
from entrypoint.system.install import find_complaints, find_table_complaints, write_configuration

_MOST_NAMES: Final = 10


def main(arguments: list[str]) -> int:
    """Print what would run, secrets hidden; raise what would stop a start."""
    del arguments
    prepared = prepare(Occasion.LOOK)
    plan = prepared.plan
    with tempfile.TemporaryDirectory() as directory:
        write_configuration(plan.files, directory)
        complaints = [*find_complaints(directory), *find_table_complaints(plan.files, directory)]
    if complaints:
        raise CommandFailedError("Postfix does not like the configuration: " + "; ".join(complaints))
    sys.stdout.write(describe_relay(prepared.settings, plan))
    for warning in prepared.all_warnings:
        sys.stderr.write(f"authrelay: WARNING: {warning}\n")
    return 0


def describe_relay(settings: Settings, plan: Plan) -> str:
    """Return what would run, a line for each thing that a person would ask about."""
    parameters = _read_main_cf(plan)
    rows: list[tuple[str, str]] = []
    labels = {"RELAYHOST": "upstream", "FALLBACK_RELAYHOST": "fallback"}
    for upstream in settings.every_upstream:
        nexthop, rule, login = upstream.nexthop, settings.find_tls_rule(upstream.nexthop), upstream.credentials
        words = [
            "implicit TLS" if nexthop.uses_implicit_tls else "STARTTLS",
            f"level {settings.find_tls_level(upstream).value}",
            *(f"{name}={value}" for name, value in (rule.attributes if rule else ())),
            f"login as {login[0]} with {_name_secret(upstream)} (hidden)" if login else "no login",
        ]
        rows.append((labels.get(upstream.setting, "upstream"), f"{nexthop}, {', '.join(words)}"))
    # In the order in which Postfix looks.
    for label, routes in (("mail to", settings.recipient_routes), ("mail from", settings.sender_routes)):
        rows += [(label, f"{pattern}: {_describe_target(target)}") for pattern, target in routes]
    rows += [("sender", f"{line.pattern} becomes {line.target}") for line in settings.sender_rewrite_table or ()]
    rows += [("alias", f"{line.pattern}: {', '.join(line.targets)}") for line in settings.alias_table or ()]
    if plan.authorities is None:
        rows.append(("trusted CAs", "the system's bundle"))
    else:
        rows += [("trusted CA", f"{one.subject}, SHA-256 {one.sha256}") for one in plan.authorities.members]
    if settings.client_cert is None:
        rows.append(("client certificate", f"made here and kept ({settings.client_key_type})"))
    else:
        subjects = [f"{one.subject}, SHA-256 {one.sha256}" for one in settings.client_cert.members[:1]]
        rows.append(("client certificate", subjects[0] if subjects else "none"))
    rows += [("signs", f"{one.pattern}, selector {settings.find_selector(one)}") for one in settings.dkim_domains or ()]
    rows += [
        ("host name", parameters["myhostname"]),
        ("listens on", f"{parameters['inet_interfaces']}, ports {' '.join(map(str, settings.own_ports))}"),
        ("may send", parameters["mynetworks"]),
        *_describe_logins(settings),
        ("one client", f"{parameters['smtpd_client_connection_count_limit']} sessions at a time on each port"),
        ("largest message", "no limit" if (limit := parameters["message_size_limit"]) == "0" else f"{limit} bytes"),
        *_describe_lists(settings, plan),
    ]
    rows += [("milter", f"{milter}, else {settings.milter_default_action}") for milter in settings.smtpd_milters or ()]
    rows += [("main.cf", f"{name} = {value}") for name, value in settings.postfix_parameters]
    rows += [("master.cf", str(entry)) for entry in settings.master_entries]
    rows += [("table", f"{table.type or 'file'}:{table.path}") for table in settings.own_tables]
    return "".join(f"{label + ':':<20}{text}\n" for label, text in rows)


def _name_secret(upstream: Upstream) -> str:
    return f"an access token by {upstream.auth.upper()}" if upstream.has_token else "a password"


def _describe_logins(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield who else may send, and what clients are shown."""
    if settings.smtpd_users_table is not None:
        names = ", ".join(user.name for user in settings.smtpd_users_table[:_MOST_NAMES])
        more = len(settings.smtpd_users_table) - _MOST_NAMES
        yield "may log in", f"{names or 'nobody'}{f' and {more} more' if more > 0 else ''}"
    if settings.smtpd_client_certs_table is not None:
        yield "may send, by key", ", ".join(one.name for one in settings.smtpd_client_certs_table)
    if settings.smtpd_tls_cert is not None:
        one = settings.smtpd_tls_cert.members[0]
        yield "clients see", f"{one.subject}, SHA-256 {one.sha256}"


def _describe_lists(settings: Settings, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what is taken from everyone, and where it goes."""
    if not settings.list_domains or settings.list_lmtp is None:
        return
    server = f"{settings.list_lmtp.host}:{settings.list_lmtp.port}"
    known = next((file.text.splitlines() for file in plan.files if file.path == paths.LIST_RECIPIENTS), None)
    count = "not known yet which" if known is None else f"{len(known)} addresses"
    yield "lists at", f"{', '.join(settings.list_domains)}, {count}, by LMTP to {server}"


def _describe_target(target: Upstream | str) -> str:
    """Return where mail of a kind goes."""
    if isinstance(target, str):
        return target.removesuffix(":")
    return f"{target.nexthop} as {target.username}" if target.credentials else f"{target.nexthop} without a login"


def _read_main_cf(plan: Plan) -> dict[str, str]:
    text = next(file.text for file in plan.files if file.path.endswith("/main.cf"))
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
