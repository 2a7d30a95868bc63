"""From settings and what Postfix has to the way to each upstream, and its walk. Network, by `walk` and `finger`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.configuration import Configuration
from entrypoint.diagnosis.judgement import Trust
from entrypoint.diagnosis.login import Login
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.report import Result
from entrypoint.diagnosis.steps import Broken, Step, name_for_fallback
from entrypoint.diagnosis.walk import Walk, Way
from entrypoint.system.files import read_text
from entrypoint.system.finger import Opinion, ask_finger


def stay_silent(result: Result, step: Step) -> None:
    """Report nothing: what became of a way is in its result."""
    del result, step


def examine(
    settings: Settings,
    configuration: Configuration,
    *,
    timeout_seconds: float,
    report: Callable[[Result, Step], None] = stay_silent,
    sender: str | None = None,
    recipient: str | None = None,
) -> list[Result]:
    """Walk to RELAYHOST and then to FALLBACK_RELAYHOST, and return what became of each way.

    `report` is called with each step as soon as it is known, when it is in the result's steps already. `sender` is the
    account where it is `None`; without a `recipient` neither is asked for. `timeout_seconds` is for each reply.
    """
    results = []
    for nexthop in settings.nexthops:
        planner = _Planner(settings, configuration, nexthop, timeout_seconds)
        result = Result(setting=planner.setting, nexthop=str(nexthop), level=planner.find_level().value)
        results.append(result)
        tell = partial(_keep, result, report)
        tell(Step(name="settings", is_ok=True, detail="every one can be used"))
        try:
            way = planner.make_way(sender, recipient)
        except Broken as broken:
            tell(broken.step)
        else:
            Walk(way, tell).go()
    return results


def _keep(result: Result, report: Callable[[Result, Step], None], step: Step) -> None:
    is_first = result.setting == "RELAYHOST"
    kept = step if is_first else replace(step, remedy=name_for_fallback(step.remedy))
    result.steps.append(kept)
    report(result, kept)


class _Planner:
    """Finds everything that decides how mail goes to one nexthop."""

    def __init__(
        self, settings: Settings, configuration: Configuration, nexthop: Nexthop, timeout_seconds: float
    ) -> None:
        self._settings, self._configuration, self._nexthop = settings, configuration, nexthop
        self._values = configuration.values
        self._timeout_seconds = timeout_seconds

    @property
    def setting(self) -> str:
        """Which setting names this nexthop."""
        return "RELAYHOST" if self._nexthop == self._settings.relayhost_nexthop else "FALLBACK_RELAYHOST"

    def find_level(self) -> TlsLevel:
        """Return the TLS level in force."""
        rule = self._settings.find_tls_rule(self._nexthop)
        # POSTFIX_smtp_tls_security_level goes before RELAYHOST_TLS; empty, it leaves TLS to older parameters.
        word = self._values["smtp_tls_security_level"] or TlsLevel.NONE.value
        return rule.level if rule else TlsLevel(word)

    def make_way(self, sender: str | None, recipient: str | None) -> Way:
        """Return the way; raise Broken where Postfix finds no MX host."""
        values, nexthop = self._values, self._nexthop
        login = self._find_login()
        account = login.username if login and "@" in login.username else f"root@{values['myhostname']}"
        host = self._find_exchanger() if nexthop.uses_mx else nexthop.host
        return Way(
            nexthop=nexthop,
            host=host,
            protection=self._make_protection(self._make_trust(host)),
            login=login,
            uses_implicit_tls=values["smtp_tls_wrappermode"] == "yes",
            helo_name=values["smtp_helo_name"],
            protocols=self._settings.inet_protocols,
            resolver=describe_resolver(read_text("/etc/resolv.conf") or ""),
            sender=sender or account,
            recipient=recipient,
            timeout_seconds=self._timeout_seconds,
        )

    def _find_login(self) -> Login | None:
        values = self._values
        for one, username, password in self._settings.credentials:
            if one == self._nexthop:
                return Login(
                    username=username,
                    password=password.reveal(),
                    options=_split(values["smtp_sasl_security_options"]),
                    options_inside_tls=_split(values["smtp_sasl_tls_security_options"]),
                    mechanism_filter=values["smtp_sasl_mechanism_filter"],
                )
        return None

    def _find_exchanger(self) -> str:
        """Return the MX host that Postfix is led to."""
        opinion = ask_finger(
            str(self._nexthop),
            configuration=self._configuration.directory,
            level="may",
            timeout_seconds=self._timeout_seconds,
        )
        if not opinion.host:
            raise Broken(
                "resolve",
                f"Postfix finds no MX host of {self._nexthop.host} that answers: {opinion.words}",
                f"If {self._nexthop.host} is the server itself, remove RELAYHOST_MX",
            )
        return opinion.host

    def _make_trust(self, host: str) -> Trust:
        return Trust(
            level=self.find_level(),
            rule=self._settings.find_tls_rule(self._nexthop),
            nexthop=self._nexthop.host,
            host=host,
            port=self._nexthop.port,
            secure_match=self._values["smtp_tls_secure_cert_match"],
            verify_match=self._values["smtp_tls_verify_cert_match"],
            fingerprints=self._settings.relayhost_fingerprint or (),
        )

    def _make_protection(self, trust: Trust) -> Protection:
        chain, chain_in_words = self._configuration.find_client_chain(self._settings)
        return Protection(
            trust=trust,
            authorities=self._configuration.authorities_file,
            authorities_in_words=self._describe_authorities(),
            server_name=trust.host if self._values["smtp_tls_servername"] == "hostname" else None,
            client_chain=chain,
            client_in_words=chain_in_words,
            ask_postfix=self._make_finger(trust, chain),
        )

    def _describe_authorities(self) -> str:
        authorities = self._configuration.authorities
        if authorities is None:
            return "Debian's bundle of CAs"
        setting = "RELAYHOST_CA_URL" if self._settings.relayhost_ca_url else "RELAYHOST_CA"
        first = f"'{authorities.members[0].subject}'"
        more = f" and {len(authorities.members) - 1} others" if len(authorities.members) > 1 else ""
        return f"{first}{more} of {setting}"

    def _make_finger(self, trust: Trust, chain: str | None) -> Callable[[], Opinion]:
        values, level = self._values, trust.level
        options = ["-F", self._configuration.authorities_file, "-g", "high", "-d", "sha256"]
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
            str(self._nexthop),
            configuration=self._configuration.directory,
            level=level.value,
            matches=matches,
            options=options,
            timeout_seconds=self._timeout_seconds,
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
