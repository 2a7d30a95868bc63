"""From settings and what Postfix has to the way to each upstream, and its walk. Network."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from entrypoint.config.oauth2 import OAuth2
from entrypoint.config.secret import Secret
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.config.upstreams import Upstream
from entrypoint.diagnosis.configuration import Configuration, list_unread_parameters
from entrypoint.diagnosis.judgement import Trust
from entrypoint.diagnosis.login import Login
from entrypoint.diagnosis.policy import (
    choose_ciphers,
    choose_server_name,
    choose_versions,
    list_policy_keys,
    parse_policy,
    split_tables,
)
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.report import Result
from entrypoint.diagnosis.second_opinion import SecondOpinion
from entrypoint.diagnosis.steps import Broken, Step, break_as_postfix, name_for
from entrypoint.diagnosis.visit import Way
from entrypoint.diagnosis.walk import MOST_ADDRESSES, Walk
from entrypoint.errors import CommandFailedError, quote_value
from entrypoint.system.files import read_text
from entrypoint.system.permissions import may_postfix_read
from entrypoint.system.resolver import describe_resolver
from entrypoint.system.tables import query_table


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
    most_addresses: int = MOST_ADDRESSES,
    has_login: bool = True,
    find_token: Callable[[Upstream, OAuth2], tuple[Step, Secret]] | None = None,
    wanted: Callable[[Upstream], bool] = bool,
) -> list[Result]:
    """Walk to each upstream that is wanted, RELAYHOST first, and return what became of each way.

    `report` is called with each step as soon as it is known, when it is in the result's steps already. `sender` is the
    account where it is `None`; without a `recipient` neither is asked for. `timeout_seconds` is for each reply. One
    login is made at each of `most_addresses` addresses, or none. `find_token` returns what is to be told of an access
    token, and the token, or raises Broken. Raises CommandFailedError where Postfix's tools do not run.
    """
    results = []
    for upstream in filter(wanted, settings.every_upstream):
        walked = upstream if has_login else replace(upstream, username=None, password=None)
        planner = _Planner(settings, configuration, walked, timeout_seconds)
        result = Result(setting=upstream.setting, nexthop=str(upstream.nexthop), level="unknown")
        results.append(result)
        tell = partial(_keep, result, report)
        try:
            planner.find_policy()
            result.level = planner.level.value
            tell(_describe_settings(settings))
            if walked.oauth2 and has_login and find_token:
                step, token = find_token(walked, walked.oauth2)
                tell(step)
                planner.upstream = replace(walked, password=token)
            way = planner.make_way(sender, recipient)
        except Broken as broken:
            tell(broken.step)
        else:
            Walk(way, tell, most_addresses).go()
    return results


def _describe_settings(settings: Settings) -> Step:
    unread = list_unread_parameters(settings)
    remark = f"; NOT LOOKED AT here, though Postfix does: {', '.join(unread)}" if unread else ""
    return Step(name="settings", is_ok=True, detail=f"every one can be used{remark}", is_notable=bool(unread))


def _keep(result: Result, report: Callable[[Result, Step], None], step: Step) -> None:
    kept = replace(step, remedy=name_for(result.setting, step.remedy))
    result.steps.append(kept)
    report(result, kept)


class _Planner:
    """Finds everything that decides how mail goes to one nexthop; `find_policy` comes first."""

    def __init__(
        self, settings: Settings, configuration: Configuration, upstream: Upstream, timeout_seconds: float
    ) -> None:
        self._settings, self._configuration, self.upstream = settings, configuration, upstream
        self._nexthop = upstream.nexthop
        self._values = configuration.find_values(upstream.service)
        self._postfix = SecondOpinion(configuration, upstream.nexthop, timeout_seconds, upstream.service)
        self._timeout_seconds = timeout_seconds
        self._resolver = describe_resolver()
        self._rule: TlsRule | None = None
        self._table = "TLS_POLICY_TABLE"
        self.level = TlsLevel.NONE

    def find_policy(self) -> None:
        """Find the TLS level in force and the rule that it is from; raise Broken where Postfix finds none."""
        if any(name == "smtp_tls_policy_maps" for name, _ in self._settings.postfix_parameters):
            self._table = "POSTFIX_smtp_tls_policy_maps"
            self._rule = self._ask_policy_maps()
        else:
            self._rule = self._settings.find_tls_rule(self._nexthop)
        # POSTFIX_smtp_tls_security_level goes before RELAYHOST_TLS; empty, it leaves TLS to older parameters.
        word = self._values["smtp_tls_security_level"] or TlsLevel.NONE.value
        try:
            self.level = self._rule.level if self._rule else TlsLevel(word.lower())
        except ValueError as error:
            raise Broken(
                "settings",
                f"POSTFIX_smtp_tls_security_level={quote_value(word)} is no level that Postfix has, so that it sends "
                "nothing at all",
                "Remove it, and set RELAYHOST_TLS=secure",
            ) from error

    def _ask_policy_maps(self) -> TlsRule | None:
        """Return what Postfix finds for this nexthop: the first key in the first table that has it."""
        for key in list_policy_keys(self._nexthop):
            for table in split_tables(self._values["smtp_tls_policy_maps"]):
                answer = None
                try:
                    answer = query_table(
                        table,
                        key,
                        configuration=self._configuration.directory,
                        timeout_seconds=self._timeout_seconds,
                    )
                    if answer is not None:
                        return parse_policy(answer, key)
                except (CommandFailedError, ValueError) as error:
                    said = str(error) if answer is None else f"it says '{answer}', which begins with no level"
                    raise Broken(
                        "settings",
                        f"{self._table} cannot be used, so that mail waits: {quote_value(table)}: {quote_value(said)}",
                        f"Mend the table, or remove {self._table} and use RELAYHOST_TLS and TLS_POLICY_TABLE",
                    ) from error
        return None

    def make_way(self, sender: str | None, recipient: str | None) -> Way:
        """Return the way; raise Broken where Postfix finds no MX host, or no file that it needs."""
        values, nexthop = self._values, self._nexthop
        login = self._find_login()
        account = login.username if login and "@" in login.username else f"root@{values['myhostname']}"
        host = self._find_exchanger() if nexthop.uses_mx else nexthop.host
        trust = self._make_trust(host)
        if trust.anchors and not may_postfix_read(trust.anchors):
            raise Broken(
                "settings",
                f"Postfix's smtp(8) runs as the user postfix, and may not read the trust anchors in {trust.anchors}, "
                "so that mail waits",
                f"A CA is no secret: chmod 644 {trust.anchors}, and 755 the directory that it lies in",
            )
        return Way(
            nexthop=nexthop,
            host=host,
            protection=self._make_protection(trust),
            login=login,
            uses_implicit_tls=values["smtp_tls_wrappermode"] == "yes",
            helo_name=values["smtp_helo_name"],
            protocols=self._settings.inet_protocols,
            sender=sender or account,
            recipient=recipient,
            timeout_seconds=self._timeout_seconds,
            remark_on_name=find_blind_spot(host, values["smtp_host_lookup"], read_text("/etc/hosts") or ""),
        )

    def _find_login(self) -> Login | None:
        values, credentials = self._values, self.upstream.credentials
        if credentials is None:
            return None
        return Login(
            username=credentials[0],
            password=credentials[1].reveal(),
            auth=self.upstream.auth,
            is_fetched=self.upstream.oauth2 is not None,
            options=_split(values["smtp_sasl_security_options"]),
            options_inside_tls=_split(values["smtp_sasl_tls_security_options"]),
            mechanism_filter=values["smtp_sasl_mechanism_filter"],
        )

    def _find_exchanger(self) -> str:
        """Return the MX host that Postfix is led to."""
        host, words = self._postfix.find_exchanger()
        if host:
            return host
        if connection := re.search(r"connect to \S+: .*", words):
            raise break_as_postfix("connect", connection[0], quote_value(words))
        if "try again" in words or not words:
            raise break_as_postfix("resolve", "Name service error", f"{quote_value(words)}; {self._resolver}")
        raise Broken(
            "resolve",
            f"Postfix finds no MX host of {self._nexthop.host} that answers: {quote_value(words)}; {self._resolver}",
            f"If {self._nexthop.host} is the server itself, remove RELAYHOST_MX",
        )

    def _make_trust(self, host: str) -> Trust:
        values = self._values
        return Trust(
            level=self.level,
            rule=self._rule,
            table=self._table,
            nexthop=self._nexthop.host,
            host=host,
            port=self._nexthop.port,
            secure_match=values["smtp_tls_secure_cert_match"],
            verify_match=values["smtp_tls_verify_cert_match"],
            fingerprints=tuple(re.findall(r"[^\s,|]+", values["smtp_tls_fingerprint_cert_match"].upper())),
            main_anchors=values["smtp_tls_trust_anchor_file"],
        )

    def _make_protection(self, trust: Trust) -> Protection:
        values = self._values
        chain, chain_in_words = self._configuration.find_client_chain(self._settings, self.upstream)
        name = trust.attributes.get("servername", values["smtp_tls_servername"])
        protocols = values["smtp_tls_protocols" if self.level is TlsLevel.MAY else "smtp_tls_mandatory_protocols"]
        return Protection(
            trust=trust,
            authorities=self._configuration.find_authorities(self.upstream.service),
            authorities_in_words=self._describe_authorities(),
            server_name=choose_server_name(name, trust.host, trust.nexthop),
            versions=choose_versions(trust.attributes.get("protocols", protocols)),
            ciphers=choose_ciphers(self.level, trust.attributes, values),
            client_chain=chain,
            client_in_words=chain_in_words,
            resolver=self._resolver,
            ask_postfix=partial(self._postfix.judge, trust, chain),
        )

    def _describe_authorities(self) -> str:
        is_named = self.upstream.is_named
        authorities = self.upstream.ca if is_named else self._configuration.authorities
        if authorities is None:
            return "Debian's bundle of CAs"
        setting = "RELAYHOST_CA_URL" if self._settings.relayhost_ca_url else "RELAYHOST_CA"
        if is_named:
            setting = f"{self.upstream.setting} ca"
        first = f"'{authorities.members[0].subject}'"
        more = f" and {len(authorities.members) - 1} others" if len(authorities.members) > 1 else ""
        return f"{first}{more} of {setting}"


def find_blind_spot(host: str, lookup: str, hosts: str) -> str:
    """Return a remark where hosts(5) has a name that Postfix asks only DNS for (postconf(5) smtp_host_lookup)."""
    names = {word.lower() for line in hosts.splitlines() for word in line.partition("#")[0].split()[1:]}
    if "native" in lookup or host.lower() not in names:
        return ""
    return "; that is in /etc/hosts, where Postfix does NOT LOOK: with DANE, or smtp_host_lookup=dns, it asks DNS only"


def _split(words: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,]+", words) if word)
