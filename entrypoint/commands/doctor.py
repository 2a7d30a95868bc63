"""`authrelay doctor`: walks the way that mail will go, and stops at the first broken step. Network, processes."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

from entrypoint import paths
from entrypoint.commands.prepare import prepare
from entrypoint.config.nexthop import Nexthop
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.judgement import Trust
from entrypoint.diagnosis.login import Login
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.report import Result, find_status, make_json, render_end, render_step
from entrypoint.diagnosis.steps import Broken, Step, name_for_fallback
from entrypoint.diagnosis.walk import Walk, Way
from entrypoint.errors import StartupError, UsageError, quote_value
from entrypoint.plan.files import Plan
from entrypoint.system.files import read_text
from entrypoint.system.finger import Opinion, ask_finger
from entrypoint.system.install import write_configuration
from entrypoint.system.processes import finish_command, start_command

_TIMEOUT_SECONDS: Final = 20.0
_PARAMETERS: Final = (
    "relayhost", "myhostname", "smtp_helo_name", "smtp_tls_security_level", "smtp_tls_wrappermode", "smtp_tls_CAfile",
    "smtp_tls_servername", "smtp_tls_mandatory_protocols", "smtp_tls_secure_cert_match", "smtp_tls_verify_cert_match",
    "smtp_sasl_security_options", "smtp_sasl_tls_security_options", "smtp_sasl_mechanism_filter",
)  # fmt: skip
_ADDRESS: Final = re.compile(r"[^\s<>\x00-\x1f\x7f]{1,254}")
_EPILOG: Final = """\
Never sends a message. Exit status: 0 all is well; otherwise that of the broken step: docs/doctor.md has the table.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage().rstrip()}\n{message}")


def main(arguments: list[str]) -> int:
    """Walk to RELAYHOST and FALLBACK_RELAYHOST; return 0, or the status of the first broken step."""
    options = _parse_arguments(arguments)
    try:
        settings, plan, warnings = prepare(keeps_certificate=False)
    except StartupError as error:
        if not options.json:
            raise
        problems = Step(name="settings", is_ok=False, detail=str(error), remedy="Mend the settings that it names")
        result = Result(setting="RELAYHOST", nexthop="", steps=[problems])
        sys.stdout.write(json.dumps(make_json([result], error.exit_status), indent=2) + "\n")
        return error.exit_status
    for warning in warnings:
        sys.stderr.write(f"authrelay: WARNING: {warning}\n")
    with tempfile.TemporaryDirectory() as directory:
        configuration = _Configuration(settings, plan, directory)
        results = [_examine(configuration, nexthop, options) for nexthop in settings.nexthops]
    status = find_status(results)
    if options.json:
        sys.stdout.write(json.dumps(make_json(results, status), indent=2) + "\n")
    else:
        sys.stdout.write(render_end(results, has_recipient=options.to is not None))
    return status


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="authrelay doctor",
        description="Walk the way that mail will go, one step a line, and stop at the first broken one.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--to", metavar="ADDRESS", type=_parse_address, help="also ask for this recipient")
    parser.add_argument(
        "--from", metavar="ADDRESS", dest="sender", type=_parse_address, help="the sender to ask with; else the account"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=_parse_seconds, default=_TIMEOUT_SECONDS)
    parser.add_argument("--json", action="store_true", help="print JSON (docs/doctor.md)")
    return parser.parse_args(arguments)


def _parse_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or "@" not in text:
        raise argparse.ArgumentTypeError(f"'{quote_value(text)}' is no mail address; write user@example.com")
    return text


def _parse_seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or not 0 < float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"'{quote_value(text)}' is not a number of seconds up to 3600")
    return float(text)


class _Configuration:
    """What Postfix has: in a running container /etc/postfix, otherwise the plan, written into a directory."""

    def __init__(self, settings: Settings, plan: Plan, directory: str) -> None:
        self.settings, self.plan = settings, plan
        self.directory = paths.POSTFIX_CONFIG
        installed = read_text(f"{paths.POSTFIX_CONFIG}/main.cf")
        self.values = _read_parameters(self.directory) if installed else {}
        # Other settings than the running relay's, in `docker exec --env`, are walked by the plan.
        if self.values.get("relayhost") != str(settings.relayhost_nexthop):
            self.directory = directory
            write_configuration(plan.files, directory)
            self.values = _read_parameters(directory)

    @property
    def authorities(self) -> str:
        """The CA file."""
        return self.values["smtp_tls_CAfile"].replace(paths.POSTFIX_CONFIG, self.directory)

    def find_client_chain(self) -> tuple[str | None, str]:
        """Return the client certificate's file, if there is one yet, and what is shown, in words."""
        if not self.settings.shows_client_certificate:
            return None, "CLIENT_CERT=none shows none"
        for path in (f"{self.directory}/client-chain.pem", paths.CLIENT_CHAIN):
            if os.path.exists(path):
                return path, f"shown {path}" if path == paths.CLIENT_CHAIN else "shown as Postfix shows it"
        return None, "none is made yet: the first start makes one, and Postfix will show it"


def _read_parameters(directory: str) -> dict[str, str]:
    lines = finish_command(start_command(("postconf", "-c", directory, "-x", *_PARAMETERS)))
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _examine(configuration: _Configuration, nexthop: Nexthop, options: argparse.Namespace) -> Result:
    is_first = nexthop == configuration.settings.relayhost_nexthop
    result = Result(setting="RELAYHOST" if is_first else "FALLBACK_RELAYHOST", nexthop=str(nexthop))
    has_colour = sys.stdout.isatty()

    def report(step: Step) -> None:
        shown = step if is_first else replace(step, remedy=name_for_fallback(step.remedy))
        result.steps.append(shown)
        if not options.json:
            sys.stdout.write(render_step(shown, has_colour=has_colour))
            sys.stdout.flush()

    if not options.json:
        level = _find_level(configuration, nexthop).value
        sys.stdout.write(f"{'' if is_first else chr(10)}{result.setting} {nexthop}, level {level}\n")
    report(Step(name="settings", is_ok=True, detail="every one can be used"))
    try:
        way = _make_way(configuration, nexthop, options)
    except Broken as broken:
        report(broken.step)
        return result
    Walk(way, report).go()
    return result


def _find_level(configuration: _Configuration, nexthop: Nexthop) -> TlsLevel:
    rule = configuration.settings.find_tls_rule(nexthop)
    # POSTFIX_smtp_tls_security_level goes before RELAYHOST_TLS; empty, it leaves TLS to older parameters.
    word = configuration.values["smtp_tls_security_level"] or TlsLevel.NONE.value
    return rule.level if rule else TlsLevel(word)


def _make_way(configuration: _Configuration, nexthop: Nexthop, options: argparse.Namespace) -> Way:
    values, settings = configuration.values, configuration.settings
    login = _find_login(configuration, nexthop)
    account = login.username if login and "@" in login.username else f"root@{values['myhostname']}"
    chain, chain_in_words = configuration.find_client_chain()
    host = nexthop.host
    if nexthop.uses_mx:
        host = _find_exchanger(configuration, nexthop, options.timeout)
    trust = Trust(
        level=_find_level(configuration, nexthop),
        rule=settings.find_tls_rule(nexthop),
        nexthop=nexthop.host,
        host=host,
        port=nexthop.port,
        secure_match=values["smtp_tls_secure_cert_match"],
        verify_match=values["smtp_tls_verify_cert_match"],
        fingerprints=settings.relayhost_fingerprint or (),
    )
    protection = Protection(
        trust=trust,
        authorities=configuration.authorities,
        authorities_in_words=_describe_authorities(configuration),
        server_name=host if values["smtp_tls_servername"] == "hostname" else None,
        client_chain=chain,
        client_in_words=chain_in_words,
        ask_postfix=_make_finger(configuration, nexthop, trust, chain, options.timeout),
    )
    return Way(
        nexthop=nexthop,
        host=host,
        protection=protection,
        login=login,
        uses_implicit_tls=values["smtp_tls_wrappermode"] == "yes",
        helo_name=values["smtp_helo_name"],
        protocols=settings.inet_protocols,
        resolver=describe_resolver(read_text("/etc/resolv.conf") or ""),
        sender=options.sender or account,
        recipient=options.to,
        timeout_seconds=options.timeout,
    )


def _find_login(configuration: _Configuration, nexthop: Nexthop) -> Login | None:
    values = configuration.values
    for one, username, password in configuration.settings.credentials:
        if one == nexthop:
            return Login(
                username=username,
                password=password.reveal(),
                options=_split(values["smtp_sasl_security_options"]),
                options_inside_tls=_split(values["smtp_sasl_tls_security_options"]),
                mechanism_filter=values["smtp_sasl_mechanism_filter"],
            )
    return None


def _find_exchanger(configuration: _Configuration, nexthop: Nexthop, timeout: float) -> str:
    """Return the MX host that Postfix is led to."""
    opinion = ask_finger(str(nexthop), configuration=configuration.directory, level="may", timeout_seconds=timeout)
    if not opinion.host:
        raise Broken(
            "resolve",
            f"Postfix finds no MX host of {nexthop.host} that answers: {opinion.words}",
            f"If {nexthop.host} is the server itself, remove RELAYHOST_MX",
        )
    return opinion.host


def _describe_authorities(configuration: _Configuration) -> str:
    authorities = configuration.plan.authorities
    if authorities is None:
        return "Debian's bundle of CAs"
    setting = "RELAYHOST_CA_URL" if configuration.settings.relayhost_ca_url else "RELAYHOST_CA"
    first = f"'{authorities.members[0].subject}'"
    more = f" and {len(authorities.members) - 1} others" if len(authorities.members) > 1 else ""
    return f"{first}{more} of {setting}"


def _make_finger(
    configuration: _Configuration, nexthop: Nexthop, trust: Trust, chain: str | None, timeout: float
) -> Callable[[], Opinion]:
    values, level = configuration.values, trust.level
    options = ["-F", configuration.authorities, "-g", "high", "-d", "sha256"]
    options += ["-p", trust.attributes.get("protocols", values["smtp_tls_mandatory_protocols"])]
    if level not in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
        options += ["-h", "native"]
    if values["smtp_tls_wrappermode"] == "yes":
        options.append("-w")
    server_name = trust.attributes.get("servername", trust.host if values["smtp_tls_servername"] else "")
    if server_name:
        options += ["-s", server_name]
    if chain:
        options += ["-k", chain]
    matches: tuple[str, ...] = ()
    if level is TlsLevel.FINGERPRINT:
        matches = trust.accepted_fingerprints
    elif level.checks_the_authority:
        matches = trust.accepted_names
    return partial(
        ask_finger,
        str(nexthop),
        configuration=configuration.directory,
        level=level.value,
        matches=matches,
        options=options,
        timeout_seconds=timeout,
    )


def describe_resolver(text: str) -> str:
    """Return which name servers and search domains resolv.conf(5) has."""
    lines = [line.split() for line in text.splitlines()]
    servers = [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
    searched = [word for words in lines if words[:1] == ["search"] for word in words[1:]]
    what = f"resolv.conf has nameserver {', '.join(servers)}" if servers else "resolv.conf has no nameserver"
    return what + (f", search {' '.join(searched)}" if searched else "")


def _split(words: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,]+", words) if word)
