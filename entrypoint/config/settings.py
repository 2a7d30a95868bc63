"""The settings, and what follows from several of them: the upstreams, and which mail goes where. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from entrypoint.config.declarations import DECLARATIONS as DECLARATIONS
from entrypoint.config.declarations import Declared
from entrypoint.config.dkim import DEFAULT_SELECTOR, SignedDomain
from entrypoint.config.master import INET, MasterEntry
from entrypoint.config.nexthop import Nexthop
from entrypoint.config.oauth2 import PARSERS, OAuth2, make_oauth2
from entrypoint.config.routes import Route
from entrypoint.config.secret import Secret
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.config.upstreams import MAIN_SERVICE, PASSWORD, XOAUTH2, Upstream, find_upstream, name_service


class Settings(Declared):
    """The settings in force."""

    @property
    def relayhost_nexthop(self) -> Nexthop:
        """The upstream's nexthop in its final form."""
        return self._finish_nexthop(self.relayhost)

    @property
    def fallback_nexthop(self) -> Nexthop | None:
        """The fallback's nexthop in its final form, if there is one."""
        return self._finish_nexthop(self.fallback_relayhost) if self.fallback_relayhost else None

    def _finish_nexthop(self, nexthop: Nexthop) -> Nexthop:
        uses_mx = self.relayhost_mx and not nexthop.is_bracketed and not nexthop.is_address
        return Nexthop(host=nexthop.host, port=nexthop.port, is_bracketed=nexthop.is_bracketed, uses_mx=uses_mx)

    @cached_property
    def main_upstreams(self) -> tuple[Upstream, ...]:
        """RELAYHOST and FALLBACK_RELAYHOST, which differ in their account alone."""
        main = Upstream(
            setting="RELAYHOST",
            service=MAIN_SERVICE,
            nexthop=self.relayhost_nexthop,
            username=None if self.relayhost_auth == "none" else self.relayhost_username,
            password=None if self.relayhost_auth == "none" else self._main_password,
            oauth2=self.relayhost_oauth2,
            auth=self.relayhost_auth or (XOAUTH2 if self.given_oauth2 else PASSWORD),
            tls=self.relayhost_tls,
            cleartext_auth=self.relayhost_cleartext_auth,
            ca=self.relayhost_ca,
            follows_url=self.relayhost_ca_url is not None,
            fingerprint=self.relayhost_fingerprint,
            mechanisms=self.smtp_sasl_mechanism_filter,
            concurrency=self.relayhost_concurrency,
            rate_delay=self.relayhost_rate_delay,
            recipient_limit=self.relayhost_recipient_limit,
        )
        if self.fallback_nexthop is None:
            return (main,)
        fallback = replace(
            main,
            setting="FALLBACK_RELAYHOST",
            nexthop=self.fallback_nexthop,
            username=None if self.relayhost_auth == "none" else self.fallback_relayhost_username,
            password=None if self.relayhost_auth == "none" else self.fallback_relayhost_password,
            oauth2=None,
        )
        return main, fallback

    @cached_property
    def given_oauth2(self) -> dict[str, Any]:
        """The values of the OAUTH2_ settings that are set, by their names without that."""
        values = ((name, getattr(self, f"oauth2_{name}")) for name in PARSERS)
        return {name: value for name, value in values if value is not None}

    @cached_property
    def relayhost_oauth2(self) -> OAuth2 | None:
        """Where RELAYHOST's access tokens come from, if it has any."""
        return make_oauth2(self.given_oauth2)

    @property
    def _main_password(self) -> Secret | None:
        return self.relayhost_password if self.relayhost_oauth2 is None else self.relayhost_token or Secret("")

    @cached_property
    def token_upstreams(self) -> tuple[tuple[Upstream, OAuth2], ...]:
        """The upstreams that are logged in to with an access token that is fetched; each has a service of its own."""
        return tuple((upstream, upstream.oauth2) for upstream in self.every_upstream if upstream.oauth2)

    @cached_property
    def every_upstream(self) -> tuple[Upstream, ...]:
        """Every account at every server that mail can be handed to, RELAYHOST first."""
        known = [*self.main_upstreams, *(self.upstreams or ())]
        for route in (*(self.sender_relay_table or ()), *(self.transport_table or ())):
            if route.nexthop is not None and find_upstream(route, known) is None:
                table = "SENDER_RELAY_TABLE" if "@" in route.pattern else "TRANSPORT_TABLE"
                known.append(self._make_upstream(f"{table} line {route.line}", route.nexthop, route))
        return tuple(known)

    def _make_upstream(self, setting: str, nexthop: Nexthop, route: Route) -> Upstream:
        """Return the upstream that a line names: its account, and otherwise what RELAYHOST has.

        What stands in a line is a password, also where RELAYHOST has a token.
        """
        main = self.main_upstreams[0]
        return replace(
            main,
            setting=setting,
            service=name_service(nexthop, route.username),
            nexthop=nexthop,
            username=route.username,
            password=route.password,
            oauth2=None,
            auth=PASSWORD,
            mechanisms=None if main.has_token else main.mechanisms,
            concurrency=None,
            rate_delay=None,
            recipient_limit=None,
        )

    @cached_property
    def sender_routes(self) -> tuple[tuple[str, Upstream], ...]:
        """Each sender, or `@domain`, and the upstream that its mail goes to."""
        named = ((sender, upstream) for upstream in self.upstreams or () for sender in upstream.senders)
        return (*named, *self._follow(self.sender_relay_table or ()))

    @cached_property
    def recipient_routes(self) -> tuple[tuple[str, Upstream | str], ...]:
        """Each domain, or `.domain`, and the upstream that mail to it goes to, or a value for transport(5)."""
        named = ((domain, upstream) for upstream in self.upstreams or () for domain in upstream.domains)
        ends = ((route.pattern, route.service) for route in self.transport_table or () if route.service)
        return (*named, *ends, *self._follow(self.transport_table or ()))

    def _follow(self, routes: tuple[Route, ...]) -> Iterator[tuple[str, Upstream]]:
        for route in routes:
            if (upstream := find_upstream(route, self.every_upstream)) is not None:
                yield route.pattern, upstream

    def find_tls_rule(self, nexthop: Nexthop) -> TlsRule | None:
        """Return the line of TLS_POLICY_TABLE that is about a nexthop: the closest one, `host:port` before `host`."""
        rules = [rule for rule in self.tls_policy_table or () if rule.applies_to(nexthop)]
        return max(
            rules, key=lambda rule: (isinstance(rule.destination, Nexthop), len(str(rule.destination))), default=None
        )

    def find_tls_level(self, upstream: Upstream) -> TlsLevel:
        """Return the TLS level that holds for an upstream."""
        rule = self.find_tls_rule(upstream.nexthop)
        return rule.level if rule else upstream.tls

    @property
    def listeners(self) -> tuple[MasterEntry, ...]:
        """The services of the user's to which clients connect."""
        return tuple(entry for entry in self.master_entries if entry.type == INET)

    @property
    def has_milters(self) -> bool:
        """Whether a client's session is shown to a milter, whichever way that was set."""
        options = (name for entry in self.listeners for name, _ in entry.options)
        is_set = "smtpd_milters" in {*dict(self.postfix_parameters), *options}
        return bool(self.smtpd_milters) or self.signs or is_set

    @property
    def has_list_settings(self) -> bool:
        """Whether anything is said of a list server."""
        return any((self.list_domains, self.list_lmtp, self.list_maps_dir, self.dnsbl_sites))

    @property
    def own_ports(self) -> tuple[int, ...]:
        """LISTEN_PORTS without those that a service of the user's takes over."""
        taken = {entry.port for entry in self.listeners}
        return tuple(port for port in self.listen_ports if port not in taken)

    @property
    def signs(self) -> bool:
        """Whether mail is signed with DKIM."""
        return self.dkim_domains is not None

    def find_selector(self, signed: SignedDomain) -> str:
        """Return the selector of one of DKIM_DOMAINS."""
        return signed.selector or self.dkim_selector or DEFAULT_SELECTOR

    @property
    def shows_client_certificate(self) -> bool:
        """Whether the upstream is shown a certificate when it asks for one."""
        return self.client_cert is None or bool(self.client_cert.members)
