"""What the commands that work with settings have in common: settings, facts, plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from entrypoint import paths
from entrypoint.commands.endings import list_endings
from entrypoint.config.certificates import Certificates
from entrypoint.config.dkim import RSA
from entrypoint.config.environment import read_settings
from entrypoint.config.secret import Secret
from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import MAIN_SERVICE, Upstream
from entrypoint.config.values import IPAddress
from entrypoint.errors import BadCertificateError, ConfigurationError, Problem, StartupError
from entrypoint.plan.compute import compute_plan
from entrypoint.plan.files import Facts, Plan
from entrypoint.system.client_certificate import ClientCertificate, load_or_make_client_certificate
from entrypoint.system.files import read_text
from entrypoint.system.interfaces import read_host_name, read_routes, resolve_name
from entrypoint.system.memory import read_memory_limit
from entrypoint.system.validity import check_authorities, check_certificates
from entrypoint.upkeep.expiry import Ending, find_endings
from entrypoint.upkeep.record import key_by_text

if TYPE_CHECKING:
    from entrypoint.system.dkim_keys import Kept


class Occasion(Enum):
    """Why settings are read: what may be written, and whether RELAYHOST_CA_URL is asked."""

    LOOK = "look"
    """To show or to try what a start would do: the CA is fetched, and nothing is written."""
    START = "start"
    """The kept CA serves at once if there is one: the upkeep fetches right after the start."""
    FETCH = "fetch"
    """While the relay runs, and it is time to fetch the CA."""
    REVIEW = "review"
    """While the relay runs, and the CA in force stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that is known before the disk is touched."""

    settings: Settings
    plan: Plan
    warnings: tuple[str, ...]
    client: ClientCertificate | None = None
    """The certificate that is ours or lies in the state volume."""
    is_copy: bool = False
    """Whether the CA is one that was fetched earlier."""
    fetch_warnings: tuple[str, ...] = ()
    """What is to be said of RELAYHOST_CA_URL; not among the warnings."""
    dkim: tuple[Kept, ...] = ()
    """The DKIM keys of each of DKIM_DOMAINS, made or not."""
    lacks_lists: bool = False
    """Whether what the list server says of its lists cannot be read now."""

    @property
    def has_names(self) -> bool:
        """Whether it follows from what names resolve to, which changes."""
        return any(isinstance(proxy, str) for proxy in self.settings.proxy_interfaces or ())

    @property
    def endings(self) -> tuple[Ending, ...]:
        """The certificates in use that will end."""
        return list_endings(self.settings, self.plan.authorities, self.client)

    @property
    def troubles(self) -> dict[str, str]:
        """What should be known of all this just now, without the fetch, each by its key."""
        return {**key_by_text(self.warnings), **find_endings(self.endings, time.time())}

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """Every warning."""
        return self.warnings + self.fetch_warnings


def prepare(occasion: Occasion, environ: Mapping[str, str] | None = None, *, key: bytes = b"") -> Prepared:
    """Return the settings, of the process's own environment unless one is given, and what follows from them.

    `key` is the container's own, of which the hashes of passwords are made.
    """
    settings, warnings = read_settings(environ)
    if settings.relayhost_ca is not None:
        valid, remarks = check_authorities("RELAYHOST_CA", settings.relayhost_ca)
        settings, warnings = replace(settings, relayhost_ca=valid), (*warnings, *remarks)
    if settings.oauth2_ca is not None:
        valid, remarks = check_authorities("OAUTH2_CA", settings.oauth2_ca)
        settings, warnings = replace(settings, oauth2_ca=valid), (*warnings, *remarks)
    if settings.syslog_ca is not None:
        valid, remarks = check_authorities("SYSLOG_CA", settings.syslog_ca)
        settings, warnings = replace(settings, syslog_ca=valid), (*warnings, *remarks)
    if settings.client_cert is not None:
        check_certificates("CLIENT_CERT", settings.client_cert)
    if settings.smtpd_tls_cert is not None:
        check_certificates("SMTPD_TLS_CERT", settings.smtpd_tls_cert)
    if settings.upstreams is not None:
        checked, remarks = _check_upstreams(settings.upstreams)
        settings, warnings = replace(settings, upstreams=checked), (*warnings, *remarks)
    if settings.header_checks_table is not None:
        _check_patterns(settings.header_checks_table)
    if settings.token_upstreams:
        settings = _add_tokens(settings)
    fetched, fetch_warnings, is_copy = _find_authorities(settings, occasion)
    host_name = read_host_name()
    client = None if occasion is Occasion.LOOK else _find_client_certificate(settings, host_name)
    dkim = find_dkim_keys(settings, may_make=occasion is Occasion.START)
    missing = [path for kept in dkim for path in kept.missing]
    if missing and occasion is not Occasion.LOOK:
        raise BadCertificateError(f"{missing[0]} is gone. To have a new key made, restart, and publish its record.")
    subnets, gateways = read_routes()
    proxy_addresses: list[IPAddress] = []
    for proxy in settings.proxy_interfaces or ():
        addresses = resolve_name(proxy) if isinstance(proxy, str) else (proxy,)
        if not addresses:
            warnings += (f"PROXY_INTERFACES: '{proxy}' does not resolve now and is left out",)
        proxy_addresses += addresses
    lists, remarks, lacks_lists = _find_lists(settings)
    warnings += remarks
    facts = Facts(
        host_name=host_name,
        subnets=subnets,
        gateways=gateways,
        proxy_addresses=tuple(dict.fromkeys(proxy_addresses)),
        memory_bytes=read_memory_limit(),
        client_chain=_choose_chain(settings, client),
        logins=_hash_passwords(settings, occasion, key),
        fetched_authorities=fetched,
        dkim_keys={one.pattern: kept.keys for one, kept in zip(settings.dkim_domains or (), dkim, strict=True)},
        lists=lists,
    )
    plan = compute_plan(settings, facts)
    return Prepared(
        settings=settings,
        plan=plan,
        warnings=(
            *(*warnings, *plan.warnings, *(client.warnings if client else ())),
            *dict.fromkeys(warning for kept in dkim for warning in kept.warnings),
        ),
        client=client,
        is_copy=is_copy,
        fetch_warnings=fetch_warnings,
        dkim=dkim,
        lacks_lists=lacks_lists,
    )


def _find_lists(settings: Settings) -> tuple[tuple[str, ...] | None, tuple[str, ...], bool]:
    """Return every address of the list server's, what is to be said of them, and whether they could not be read now.

    In that case they are the ones before.
    """
    if settings.list_domains is None or settings.list_maps_dir is None:
        return None, (), False
    from entrypoint.upkeep.lists import find_lists  # no other start needs it

    return find_lists(settings.list_domains, settings.list_maps_dir)


def _check_patterns(header_checks: str) -> None:
    """Raise for what Postfix would leave out with a warning as often as it reads the table."""
    from entrypoint.system.tables import find_wrong_patterns  # no other start needs it

    if wrong := find_wrong_patterns(header_checks):
        raise ConfigurationError(
            Problem(
                setting="HEADER_CHECKS_TABLE",
                what=f"line {number}: Postfix cannot read it: {reason}",
                remedy="Write an extended regular expression (regex(7)), for example '/^Subject: test/ REJECT'",
            )
            for number, reason in wrong.items()
        )


def _hash_passwords(settings: Settings, occasion: Occasion, key: bytes) -> Secret | None:
    """Return SMTPD_USERS_TABLE with every password hashed; where nothing is run, only with the hashes that were given.

    A twentieth of a second for each password that is new.
    """
    if settings.smtpd_users_table is None:
        return None
    if occasion is Occasion.LOOK:
        lines = (f"{user.name}:{user.hash or '(hashed at the start)'}\n" for user in settings.smtpd_users_table)
        return Secret("".join(lines))
    from entrypoint.system.password_hashes import render_table  # who has no users has no need of it

    return Secret(render_table(settings.smtpd_users_table, key, read_text(paths.LOGINS) or ""))


def find_dkim_keys(settings: Settings, *, may_make: bool, selector: str | None = None) -> tuple[Kept, ...]:
    """Return the keys of each of DKIM_DOMAINS; `selector` in the place of those that are set."""
    if not settings.signs:
        return ()
    from entrypoint.config.dkim_key import name_keys
    from entrypoint.system.dkim_keys import Kept, load_or_make_keys

    found = []
    for one in settings.dkim_domains or ():
        name = selector or settings.find_selector(one)
        if settings.dkim_key is not None and selector is None:
            found.append(Kept(keys=name_keys(one.domain, name, settings.dkim_key)))
        else:
            found.append(load_or_make_keys(one.domain, name, settings.dkim_key_type or RSA, may_make=may_make))
    return tuple(found)


def _add_tokens(settings: Settings) -> Settings:
    """Return the settings with the access tokens that are kept; an upstream whose token is missing has an empty one."""
    # Imported here: whoever has passwords must not pay for it.
    from entrypoint.oauth2.keeping import find_token

    tokens = {
        upstream.service: Secret(kept.access_token if (kept := find_token(upstream, oauth2)) else "")
        for upstream, oauth2 in settings.token_upstreams
    }
    return replace(
        settings,
        relayhost_token=tokens.get(MAIN_SERVICE),
        upstreams=settings.upstreams
        and tuple(replace(one, password=tokens.get(one.service, one.password)) for one in settings.upstreams),
    )


def _check_upstreams(upstreams: tuple[Upstream, ...]) -> tuple[tuple[Upstream, ...], tuple[str, ...]]:
    """Return the upstreams without those of their CAs that have ended, and what is to be said of them."""
    checked: list[Upstream] = []
    warnings: list[str] = []
    for upstream in upstreams:
        if upstream.client_cert is not None:
            check_certificates(f"{upstream.setting} client_cert", upstream.client_cert)
        if upstream.ca is not None:
            valid, remarks = check_authorities(f"{upstream.setting} ca", upstream.ca)
            checked.append(replace(upstream, ca=valid))
            warnings += remarks
        else:
            checked.append(upstream)
    return tuple(checked), tuple(warnings)


def _find_authorities(settings: Settings, occasion: Occasion) -> tuple[Certificates | None, tuple[str, ...], bool]:
    """Return what RELAYHOST_CA_URL gives, if it is set, the warnings about it, and whether it is an earlier copy."""
    url, sha256s = settings.relayhost_ca_url, settings.relayhost_ca_sha256
    if url is None:
        return None, (), False
    # Imported here: a start without a URL must not pay for HTTP and TLS.
    from entrypoint.system.authority_store import fetch_authorities, load_authorities, load_installed

    known = None
    if occasion is Occasion.START:
        known = load_authorities(url, sha256s=sha256s)
    elif occasion in (Occasion.REVIEW, Occasion.FETCH):
        known = load_installed(sha256s=sha256s)
    if known and occasion is not Occasion.FETCH:
        return known.certificates, (), True
    try:
        found = fetch_authorities(url, sha256s=sha256s, keeps_copy=occasion is not Occasion.LOOK)
    except StartupError as error:
        if known is None:
            raise
        return known.certificates, (f"{error} What was trusted before is trusted still.",), True
    return found.certificates, found.warnings, found.is_copy


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
