"""Asks Postfix's own TLS client about an upstream, with the options that smtp(8) would have. Network, by `finger`."""

from __future__ import annotations

from functools import partial
from typing import Final

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.configuration import Configuration
from entrypoint.diagnosis.judgement import Trust
from entrypoint.diagnosis.policy import choose_server_name
from entrypoint.system.finger import Opinion, ask_finger, find_exchanger

_MOST_TRIES: Final = 4
"""How often it is asked again when it judged another address than the one that is walked."""


class SecondOpinion:
    """What Postfix makes of one nexthop, with what a service has of its own."""

    def __init__(self, configuration: Configuration, nexthop: Nexthop, timeout_seconds: float, service: str) -> None:
        self._configuration, self._nexthop, self._timeout_seconds = configuration, nexthop, timeout_seconds
        self._values = configuration.find_values(service)
        self._authorities = configuration.find_authorities(service)

    def find_exchanger(self) -> tuple[str, str]:
        """Return the MX host that Postfix is led to, or an empty text, and why not."""
        return find_exchanger(
            str(self._nexthop),
            configuration=self._configuration.directory,
            options=self._list_ways(),
            timeout_seconds=self._timeout_seconds,
        )

    def judge(self, trust: Trust, chain: str | None, address: str) -> Opinion:
        """Return the opinion of an address; DANE is about names, so that there it may be led to another one."""
        is_dane = trust.level in (TlsLevel.DANE, TlsLevel.DANE_ONLY)
        matches: tuple[str, ...] = ()
        if trust.level is TlsLevel.FINGERPRINT:
            matches = trust.accepted_fingerprints
        elif trust.level.checks_the_authority:
            matches = trust.accepted_names
        ask = partial(
            ask_finger,
            str(self._nexthop) if is_dane else f"[{address}]:{self._nexthop.port}",
            configuration=self._configuration.directory,
            # At dane it is as silent about the lack of TLSA records as smtp(8) is; dane-only tells.
            level=TlsLevel.DANE_ONLY.value if is_dane else trust.level.value,
            matches=matches,
            options=[*self._list_ways(), *self._list_checks(trust, chain)],
            timeout_seconds=self._timeout_seconds,
        )
        opinion = ask()
        for _ in range(_MOST_TRIES if is_dane else 0):
            if opinion.address in ("", address):
                break
            opinion = ask()
        return opinion

    def _list_ways(self) -> list[str]:
        """Return the options that lead to the server: how names are looked up, and how TLS begins."""
        options = ["-h", self._values["smtp_host_lookup"]]
        return [*options, "-w"] if self._values["smtp_tls_wrappermode"] == "yes" else options

    def _list_checks(self, trust: Trust, chain: str | None) -> list[str]:
        """Return the options that say what is demanded."""
        values, attributes = self._values, trust.attributes
        options = ["-F", self._authorities, "-d", values["smtp_tls_fingerprint_digest"]]
        options += ["-g", attributes.get("ciphers", values["smtp_tls_mandatory_ciphers"])]
        options += ["-p", attributes.get("protocols", values["smtp_tls_mandatory_protocols"])]
        name = attributes.get("servername", values["smtp_tls_servername"])
        if server_name := choose_server_name(name, trust.host, trust.nexthop):
            options += ["-s", server_name]
        for option, value in (("-A", trust.anchors), ("-P", values["smtp_tls_CApath"]), ("-k", chain)):
            if value:
                options += [option, value]
        return options
