"""The steps that `run`, `check` and `render` have in common: settings, facts, plan."""

from __future__ import annotations

from entrypoint.config.certificates import Certificates
from entrypoint.config.environment import read_settings
from entrypoint.config.secret import Secret
from entrypoint.config.settings import Settings
from entrypoint.config.values import IPAddress
from entrypoint.plan.compute import compute_plan
from entrypoint.plan.files import Facts, Plan
from entrypoint.system.client_certificate import ClientCertificate, check_times, load_or_make_client_certificate
from entrypoint.system.interfaces import read_host_name, read_routes, resolve_name


def prepare(*, keeps_certificate: bool) -> tuple[Settings, Plan, tuple[str, ...]]:
    """Return the settings, the plan, and every warning.

    `keeps_certificate`: whether the state volume may be written: a client certificate made, a fetched CA kept. Without
    it the CA is fetched all the same, and the kept copy serves all the same: what is shown is what a start would do.
    """
    settings, warnings = read_settings()
    for name, given in (("RELAYHOST_CA", settings.relayhost_ca), ("CLIENT_CERT", settings.client_cert)):
        if given is not None:
            check_times(name, tuple((one.subject, one.not_before, one.not_after) for one in given.members))
    fetched, remarks = _fetch_authorities(settings, keeps_copy=keeps_certificate)
    host_name = read_host_name()
    client = _find_client_certificate(settings, host_name) if keeps_certificate else None
    subnets, gateways = read_routes()
    proxy_addresses: list[IPAddress] = []
    for proxy in settings.proxy_interfaces or ():
        addresses = resolve_name(proxy) if isinstance(proxy, str) else (proxy,)
        if not addresses:
            warnings += (f"PROXY_INTERFACES: '{proxy}' does not resolve now and is left out",)
        proxy_addresses += addresses
    facts = Facts(
        host_name=host_name,
        subnets=subnets,
        gateways=gateways,
        proxy_addresses=tuple(dict.fromkeys(proxy_addresses)),
        client_chain=_choose_chain(settings, client),
        fetched_authorities=fetched,
    )
    plan = compute_plan(settings, facts)
    return settings, plan, (*warnings, *remarks, *plan.warnings, *(client.warnings if client else ()))


def _fetch_authorities(settings: Settings, *, keeps_copy: bool) -> tuple[Certificates | None, tuple[str, ...]]:
    """Return what RELAYHOST_CA_URL gives, if it is set, and the warnings about it."""
    if settings.relayhost_ca_url is None:
        return None, ()
    # Imported here: a start without a URL must not pay for HTTP and TLS.
    from entrypoint.system.authority_store import fetch_authorities

    fetched = fetch_authorities(settings.relayhost_ca_url, sha256s=settings.relayhost_ca_sha256, keeps_copy=keeps_copy)
    return fetched.certificates, fetched.warnings


def _find_client_certificate(settings: Settings, host_name: str) -> ClientCertificate | None:
    if settings.client_cert is not None:
        return None
    return load_or_make_client_certificate(
        subject=settings.client_cert_subject or f"CN={settings.myhostname or host_name}",
        wanted_subject=settings.client_cert_subject,
        days=settings.client_cert_days,
        key_type=settings.client_key_type,
    )


def _choose_chain(settings: Settings, client: ClientCertificate | None) -> Secret | None:
    if settings.client_cert is not None and settings.client_key is not None:
        return Secret(settings.client_key.reveal() + settings.client_cert.pem)
    return Secret(client.chain) if client else None
