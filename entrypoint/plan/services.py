"""What each smtp(8) service has of its own: its account's password, TLS, CA and limits (master(5) -o). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.config.upstreams import MAIN_SERVICE, TOKEN_AUTHS, Upstream
from entrypoint.plan.capacity import choose_first_deliveries, choose_process_limit

TLS_PROXY: Final = "tlsproxy"
_PASSWORDS: Final = f"{paths.POSTFIX_CONFIG}/sasl_passwd"
_NO_CLEARTEXT: Final = "noplaintext, noanonymous"
_CLIENT_CHAIN: Final = f"{paths.POSTFIX_CONFIG}/client-chain.pem"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One smtp(8) service, and whom it delivers to; RELAYHOST and FALLBACK_RELAYHOST share one."""

    upstreams: tuple[Upstream, ...]
    parameters: Mapping[str, str]
    """What it has of postconf(5), where another may have something else."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """The same for qmgr(8), which knows them by the service's name."""

    @property
    def name(self) -> str:
        """The name in master.cf."""
        return self.upstreams[0].service

    @property
    def is_main(self) -> bool:
        """Whether it is RELAYHOST's: what it has is in main.cf."""
        return self.name == MAIN_SERVICE

    @property
    def tls_settings(self) -> dict[str, str]:
        """What the tlsproxy(8) that holds its sessions must have as well, and read as root."""
        return {name: self.parameters[name] for name in ("smtp_tls_CAfile", "smtp_tls_chain_files")}

    @property
    def processes(self) -> str:
        """How many processes it may have (master(5) maxproc)."""
        return choose_process_limit(self.upstreams[0])

    def find_own(self, main: Service) -> dict[str, str]:
        """Return what is not as in main.cf."""
        return {name: value for name, value in self.parameters.items() if value != main.parameters[name]}


def list_services(settings: Settings, *, has_client_chain: bool) -> tuple[Service, ...]:
    """Return every service, RELAYHOST's first."""
    grouped: dict[str, list[Upstream]] = {}
    for upstream in settings.every_upstream:
        grouped.setdefault(upstream.service, []).append(upstream)
    proxies: dict[tuple[str, ...], str] = {}
    services = []
    for upstreams in grouped.values():
        service = _make_service(settings, tuple(upstreams), has_client_chain=has_client_chain)
        name = TLS_PROXY if service.is_main else f"{TLS_PROXY}-{service.name.removeprefix(f'{MAIN_SERVICE}-')}"
        proxy = proxies.setdefault(tuple(service.tls_settings.values()), name)
        services.append(replace(service, parameters={**service.parameters, "tlsproxy_service_name": proxy}))
    return tuple(services)


def find_password_table(upstream: Upstream) -> str:
    """Return the path of a service's passwords."""
    return _name_for(upstream, _PASSWORDS)


def find_token_tables(settings: Settings) -> frozenset[str]:
    """Return the paths of the tables whose password is an access token, which changes all the time."""
    return frozenset(find_password_table(upstream) for upstream, _ in settings.token_upstreams)


def find_authorities(upstream: Upstream) -> str:
    """Return the path of who may sign its certificate."""
    if upstream.ca is None and not upstream.follows_url:
        return paths.SYSTEM_AUTHORITIES
    is_own = upstream.is_named
    return _name_for(upstream, paths.UPSTREAM_AUTHORITIES) if is_own else paths.UPSTREAM_AUTHORITIES


def find_client_chain(upstream: Upstream) -> str:
    """Return the path of the client certificate that it is shown."""
    return _CLIENT_CHAIN if upstream.client_cert is None else _name_for(upstream, _CLIENT_CHAIN)


def _name_for(upstream: Upstream, path: str) -> str:
    """Return a path for one service alone: `/etc/postfix/smtp-bulk.sasl_passwd`."""
    if upstream.service == MAIN_SERVICE:
        return path
    directory, _, name = path.rpartition("/")
    return f"{directory}/{upstream.service}.{name}"


def _make_service(settings: Settings, upstreams: tuple[Upstream, ...], *, has_client_chain: bool) -> Service:
    first = upstreams[0]
    uses_dane = any(settings.find_tls_level(one) in (TlsLevel.DANE, TlsLevel.DANE_ONLY) for one in upstreams)
    has_login = any(one.credentials for one in upstreams)
    shows_certificate = has_client_chain or bool(first.client_cert and first.client_cert.members)
    fallback = [str(one.nexthop) for one in upstreams[1:]]
    parameters = {
        "smtp_fallback_relay": ", ".join(fallback),
        "smtp_dns_support_level": "dnssec" if uses_dane else "",
        "smtp_host_lookup": "dns" if uses_dane else "native",
        "smtp_skip_quit_response": "yes" if first.concurrency is None else "no",
        "smtp_tls_security_level": first.tls.value,
        "smtp_tls_wrappermode": "yes" if first.nexthop.uses_implicit_tls else "no",
        "smtp_tls_fingerprint_cert_match": ", ".join(first.fingerprint or ()),
        "smtp_tls_CAfile": find_authorities(first),
        "smtp_tls_servername": "" if any(one.nexthop.is_address for one in upstreams) else "hostname",
        "smtp_tls_chain_files": find_client_chain(first) if shows_certificate else "",
        "smtp_sasl_auth_enable": "yes" if has_login else "no",
        "smtp_sasl_password_maps": f"lmdb:{find_password_table(first)}" if has_login else "",
        # Both are in main.cf only where RELAYHOST has a login.
        "smtp_sasl_security_options": "noanonymous" if has_login and first.cleartext_auth else _NO_CLEARTEXT,
        "smtp_sasl_mechanism_filter": ", ".join(_make_filter(first)),
    }
    return Service(upstreams=upstreams, parameters=parameters, limits=_find_limits(first))


def _find_limits(upstream: Upstream) -> dict[str, str]:
    """Return the limits by qmgr(8)'s names for them, empty where there is none (postconf(5) transport_...)."""
    limits = {
        "destination_concurrency_limit": upstream.concurrency,
        "initial_destination_concurrency": upstream.concurrency and choose_first_deliveries(upstream),
        "transport_rate_delay": None if upstream.rate_delay is None else f"{upstream.rate_delay}s",
        "destination_recipient_limit": upstream.recipient_limit,
    }
    return {name: "" if value is None else str(value) for name, value in limits.items()}


def _make_filter(upstream: Upstream) -> tuple[str, ...]:
    """Return the filter that keeps a password from being sent as an access token, and a token as a password.

    Without it libsasl2 takes whatever the server offers. What the user wants (SMTP_SASL_MECHANISM_FILTER) cannot
    contradict it by now. Postfix lets nothing through that no pattern names, so that a list of refusals alone needs the
    rest named at its end (postconf(5) smtp_sasl_mechanism_filter).
    """
    if upstream.has_token:
        return (upstream.auth,)
    mechanisms = upstream.mechanisms or ()
    if any(not name.startswith("!") for name in mechanisms):
        return mechanisms
    return tuple(dict.fromkeys((*(f"!{name}" for name in TOKEN_AUTHS), *mechanisms, "static:all")))
