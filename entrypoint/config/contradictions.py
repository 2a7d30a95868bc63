"""Settings that are right one by one and wrong together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.key_pairs import check_pair
from entrypoint.config.login_contradictions import check_clients, find_client_warnings
from entrypoint.config.master import INET
from entrypoint.config.oauth2_contradictions import check_oauth2
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.config.upstream_contradictions import check_upstreams
from entrypoint.config.upstreams import MAIN_SERVICE
from entrypoint.errors import Problem


def find_contradictions(settings: Settings) -> list[Problem]:
    """Return every problem that lies between settings."""
    return [
        *check_upstreams(settings),
        *check_oauth2(settings),
        *_check_client_certificate(settings),
        *check_clients(settings),
        *_check_dkim(settings),
        *_check_listeners(settings),
        *_check_services(settings),
        *_check_syslog(settings),
        *_check_log(settings),
        *_check_status_listener(settings),
        *_check_rewriting(settings),
        *_check_lists(settings),
    ]


def find_warnings(settings: Settings) -> list[str]:
    """Return a sentence for each choice that is allowed but costs safety, or that has no effect."""
    warnings: list[str] = []
    for upstream in settings.every_upstream:
        level, nexthop = settings.find_tls_level(upstream), upstream.nexthop
        if upstream.credentials is None:
            continue
        if level.may_send_in_the_clear:
            allowed = "cleartext_auth" if upstream.is_named else "RELAYHOST_CLEARTEXT_AUTH=yes"
            warnings.append(f"{allowed}: the password for {nexthop} may cross the network unprotected")
        elif level is TlsLevel.ENCRYPT:
            warnings.append(
                f"{nexthop} is used at level encrypt: its certificate is not checked, so whoever answers in its place "
                "gets the password"
            )
    if settings.smtpd_milters and settings.milter_default_action == "accept":
        warnings.append("MILTER_DEFAULT_ACTION=accept: while a milter does not answer, mail goes out without it")
    nexthops = dict.fromkeys(upstream.nexthop for upstream in settings.every_upstream)
    for rule in settings.tls_policy_table or ():
        if not any(rule.applies_to(nexthop) for nexthop in nexthops):
            used = " and ".join(map(str, nexthops))
            warnings.append(
                f"TLS_POLICY_TABLE: the line for '{rule.destination}' has no effect: mail goes to {used} only"
            )
    return [*warnings, *find_client_warnings(settings)]


def _check_client_certificate(settings: Settings) -> Iterator[Problem]:
    if not settings.shows_client_certificate:
        if settings.client_key is not None:
            yield Problem(
                setting="CLIENT_CERT",
                value="none",
                what="there is a CLIENT_KEY that would never be used",
                remedy="Remove CLIENT_KEY, or give its certificate in CLIENT_CERT_FILE",
            )
        return
    pair = settings.client_cert, settings.client_key
    yield from check_pair("CLIENT", *pair, files=("client-cert.pem", "client-key.pem"), whose="client")
    if None not in pair and settings.client_cert_subject is not None:
        yield Problem(
            setting="CLIENT_CERT_SUBJECT",
            value=settings.client_cert_subject,
            what="CLIENT_CERT already has a subject; this one is for a certificate that is made here",
            remedy="Remove one of the two",
        )


def _check_dkim(settings: Settings) -> Iterator[Problem]:
    if not settings.signs:
        for setting, value, is_set in (
            ("DKIM_KEY", None, settings.dkim_key is not None),
            ("DKIM_SELECTOR", settings.dkim_selector, settings.dkim_selector is not None),
            ("DKIM_KEY_TYPE", settings.dkim_key_type, settings.dkim_key_type is not None),
        ):
            if is_set:
                yield Problem(
                    setting=setting,
                    value=value,
                    what="nothing is signed, for there is no DKIM_DOMAINS",
                    remedy="Set DKIM_DOMAINS=example.com as well, or remove it",
                )
        return
    if settings.dkim_key is not None and settings.dkim_key_type is not None:
        yield Problem(
            setting="DKIM_KEY_TYPE",
            value=settings.dkim_key_type,
            what="DKIM_KEY is there already; this is for keys that are made here",
            remedy="Remove one of the two",
        )
    for name, value in settings.postfix_parameters:
        if name in ("smtpd_milters", "non_smtpd_milters", "smtpd_milter_maps"):
            yield Problem(
                setting=f"POSTFIX_{name}",
                value=value,
                what="it takes the place of the milter that signs, and mail of DKIM_DOMAINS would leave unsigned",
                remedy="Give the others in SMTPD_MILTERS, or remove one of the two",
            )


def _check_listeners(settings: Settings) -> Iterator[Problem]:
    version = {"ipv4": 4, "ipv6": 6}.get(settings.inet_protocols)
    if version is None or isinstance(settings.inet_interfaces, str):
        return
    for address in settings.inet_interfaces:
        if address.version != version:
            yield Problem(
                setting="INET_INTERFACES",
                value=str(address),
                what=f"INET_PROTOCOLS={settings.inet_protocols} does not listen on it",
                remedy="Remove the address, or set INET_PROTOCOLS=all",
            )


def _check_services(settings: Settings) -> Iterator[Problem]:
    """Two services cannot have one socket; and what the upstreams have of their own follows from their settings."""
    made = {upstream.service for upstream in settings.every_upstream} - {MAIN_SERVICE}
    everywhere = {*settings.listen_ports, *(one.port for one in settings.listeners if one.address is None)}
    for entry in settings.master_entries:
        if entry.type == INET and entry.address is not None and entry.port in everywhere:
            yield Problem(
                setting=entry.setting,
                what=f"port {entry.port} is taken on every address already",
                remedy="Take another port, or leave the address out: then it replaces the one of LISTEN_PORTS",
            )
        if entry.service in made or entry.service.startswith("tlsproxy-"):
            yield Problem(
                setting=entry.setting,
                what=f"{entry.service} is made here, with an upstream's password and TLS",
                remedy="Give the service another name",
            )


def _check_syslog(settings: Settings) -> Iterator[Problem]:
    url = settings.syslog_url
    if settings.syslog_ca is not None and (url is None or url.transport != "tls"):
        yield Problem(
            setting="SYSLOG_CA",
            what="there is no TLS in which it would be looked at" if url else "there is no SYSLOG_URL",
            remedy=f"Set SYSLOG_URL=tls://{url.host if url else 'logs.example.com'} as well, or remove the CA",
        )


def _check_log(settings: Settings) -> Iterator[Problem]:
    if settings.log_addresses_key is not None and settings.log_addresses != "hash":
        yield Problem(
            setting="LOG_ADDRESSES_KEY",
            what=f"LOG_ADDRESSES={settings.log_addresses} makes no codes, and needs no key",
            remedy="Set LOG_ADDRESSES=hash, or remove the key",
        )


def _check_rewriting(settings: Settings) -> Iterator[Problem]:
    if settings.sender_rewrite_table or settings.alias_table or settings.sender_rewrite_reply_to != "kept":
        from entrypoint.config.rewriting_contradictions import check_rewriting  # no other start needs it

        yield from check_rewriting(settings)


def _check_lists(settings: Settings) -> Iterator[Problem]:
    if settings.has_list_settings:
        from entrypoint.config.list_contradictions import check_lists  # no other start needs it

        yield from check_lists(settings)


def _check_status_listener(settings: Settings) -> Iterator[Problem]:
    endpoint = settings.status_listen
    taken = {
        **{one.port: f"{one.setting}'s" for one in settings.listeners},
        **dict.fromkeys(settings.listen_ports, "one of LISTEN_PORTS"),
    }
    if endpoint and endpoint.port in taken:
        yield Problem(
            setting="STATUS_LISTEN",
            value=str(endpoint),
            what=f"port {endpoint.port} is {taken[endpoint.port]}, where mail comes in",
            remedy="Give it a port of its own, for example STATUS_LISTEN=0.0.0.0:9154",
        )
