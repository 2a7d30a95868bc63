"""Settings that are right one by one and wrong together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.certificates import has_same_key
from entrypoint.config.nexthop import Nexthop
from entrypoint.config.parameters import find_weakened
from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.config.web_url import hide_query
from entrypoint.errors import Problem


def find_contradictions(settings: Settings) -> list[Problem]:
    """Return every problem that lies between settings."""
    return [
        *_check_credentials(settings),
        *_check_nexthops(settings),
        *_check_tls(settings),
        *_check_client_certificate(settings),
        *_check_listeners(settings),
        *_check_syslog(settings),
        *_check_log(settings),
        *_check_status_listener(settings),
    ]


def find_warnings(settings: Settings) -> list[str]:
    """Return a sentence for each choice that is allowed but costs safety, or that has no effect."""
    warnings = find_weakened(settings.postfix_parameters)
    for nexthop, _, _ in settings.credentials:
        level = settings.find_tls_level(nexthop)
        if level.may_send_in_the_clear:
            warnings.append(
                f"RELAYHOST_CLEARTEXT_AUTH=yes: the password for {nexthop} may cross the network unprotected"
            )
        elif level is TlsLevel.ENCRYPT:
            warnings.append(
                f"{nexthop} is used at level encrypt: its certificate is not checked, so whoever answers in its place "
                "gets the password"
            )
    for rule in settings.tls_policy_table or ():
        if not any(rule.applies_to(nexthop) for nexthop in settings.nexthops):
            used = " and ".join(str(nexthop) for nexthop in settings.nexthops)
            warnings.append(
                f"TLS_POLICY_TABLE: the line for '{rule.destination}' has no effect: mail goes to {used} only"
            )
    return warnings


def _check_credentials(settings: Settings) -> Iterator[Problem]:
    pairs = (
        ("RELAYHOST", settings.relayhost_username, settings.relayhost_password),
        ("FALLBACK_RELAYHOST", settings.fallback_relayhost_username, settings.fallback_relayhost_password),
    )
    for prefix, username, password in pairs:
        if username is not None and password is None:
            yield Problem(
                setting=f"{prefix}_USERNAME",
                value=username,
                what=f"there is a user name but no {prefix}_PASSWORD",
                remedy=f"Set {prefix}_PASSWORD_FILE=/run/secrets/password as well, or neither",
            )
        if password is not None and username is None:
            yield Problem(
                setting=f"{prefix}_PASSWORD",
                what=f"there is a password but no {prefix}_USERNAME",
                remedy=f"Set {prefix}_USERNAME=user@example.com as well, or neither",
            )
    if (
        settings.relayhost_auth == "password"
        and settings.relayhost_username is None
        and settings.relayhost_password is None
    ):
        yield Problem(
            setting="RELAYHOST_AUTH",
            value="password",
            what="there are no credentials to log in with",
            remedy="Set RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE, or RELAYHOST_AUTH=none",
        )
    if settings.relayhost_auth == "none" and settings.relayhost_username is not None:
        yield Problem(
            setting="RELAYHOST_AUTH",
            value="none",
            what="there is a user name that would never be used",
            remedy="Remove RELAYHOST_USERNAME and RELAYHOST_PASSWORD, or RELAYHOST_AUTH",
        )
    if settings.fallback_relayhost is None and (
        settings.fallback_relayhost_username is not None or settings.fallback_relayhost_password is not None
    ):
        yield Problem(
            setting="FALLBACK_RELAYHOST_USERNAME",
            what="there is no FALLBACK_RELAYHOST to log in to",
            remedy="Set FALLBACK_RELAYHOST=[smtp2.example.com]:587, or remove its credentials",
        )
    if settings.relayhost_cleartext_auth:
        return
    for nexthop, _, _ in settings.credentials:
        level = settings.find_tls_level(nexthop)
        if level.may_send_in_the_clear:
            yield Problem(
                setting="TLS_POLICY_TABLE" if settings.find_tls_rule(nexthop) else "RELAYHOST_TLS",
                value=f"{nexthop} {level.value}" if settings.find_tls_rule(nexthop) else level.value,
                what=f"the password for {nexthop} could be sent without TLS",
                remedy="Write secure, or verify, or remove the credentials. To send it in the clear over a network "
                "that nobody else can reach: RELAYHOST_CLEARTEXT_AUTH=yes",
            )


def _check_nexthops(settings: Settings) -> Iterator[Problem]:
    named = [("RELAYHOST", settings.relayhost), ("FALLBACK_RELAYHOST", settings.fallback_relayhost)]
    for name, nexthop in named:
        if nexthop and settings.relayhost_mx and nexthop.is_bracketed:
            yield Problem(
                setting="RELAYHOST_MX",
                value="yes",
                what=f"{name} is in brackets, which forbid an MX lookup",
                remedy=f"Write {name}={nexthop.host} without brackets, or remove RELAYHOST_MX",
            )
    fallback = settings.fallback_relayhost
    if fallback is None:
        return
    if fallback.uses_implicit_tls != settings.relayhost.uses_implicit_tls:
        yield Problem(
            setting="FALLBACK_RELAYHOST",
            value=str(settings.fallback_nexthop),
            what="one of RELAYHOST and FALLBACK_RELAYHOST has port 465 and the other has not, and Postfix cannot "
            "change between implicit TLS and STARTTLS within a delivery",
            remedy=f"Give both the same kind of port, for example [{fallback.host}]:{settings.relayhost.port}",
        )
    if str(settings.fallback_nexthop) == str(settings.relayhost_nexthop):
        yield Problem(
            setting="FALLBACK_RELAYHOST",
            value=str(settings.fallback_nexthop),
            what="it is RELAYHOST itself",
            remedy="Name another host, or remove it",
        )


def _check_tls(settings: Settings) -> Iterator[Problem]:
    level = settings.relayhost_tls
    if level is TlsLevel.FINGERPRINT and not settings.relayhost_fingerprint:
        yield Problem(
            setting="RELAYHOST_TLS",
            value="fingerprint",
            what="there is no fingerprint to compare with",
            remedy="Set RELAYHOST_FINGERPRINT to the SHA-256 of the upstream's certificate, AB:CD:...",
        )
    if settings.relayhost_fingerprint and level is not TlsLevel.FINGERPRINT:
        yield Problem(
            setting="RELAYHOST_FINGERPRINT",
            what=f"RELAYHOST_TLS={level.value} never looks at it",
            remedy="Set RELAYHOST_TLS=fingerprint, or remove the fingerprint",
        )
    used_levels = {settings.find_tls_level(nexthop) for nexthop in settings.nexthops}
    for name, value in (("RELAYHOST_CA", settings.relayhost_ca), ("RELAYHOST_CA_URL", settings.relayhost_ca_url)):
        if value is not None and not any(used.checks_the_authority for used in used_levels):
            yield Problem(
                setting=name,
                what=f"RELAYHOST_TLS={level.value} never looks at a CA",
                remedy="Set RELAYHOST_TLS=secure, or remove the CA",
            )
    yield from _check_fetched_authority(settings)
    for nexthop in settings.nexthops:
        yield from _check_tls_of(settings, nexthop)


def _check_fetched_authority(settings: Settings) -> Iterator[Problem]:
    url = settings.relayhost_ca_url
    if url is None:
        if settings.relayhost_ca_sha256 is not None:
            yield Problem(
                setting="RELAYHOST_CA_SHA256",
                what="there is no RELAYHOST_CA_URL whose CA it would be compared with",
                remedy="Set RELAYHOST_CA_URL=https://ca.example.com/ca.pem as well, or remove it",
            )
        return
    if settings.relayhost_ca is not None:
        yield Problem(
            setting="RELAYHOST_CA_URL",
            value=hide_query(url),
            what="RELAYHOST_CA is set as well, and only one of them can be meant",
            remedy="Remove RELAYHOST_CA or RELAYHOST_CA_FILE to have the CA fetched, or remove the URL",
        )
    if url.lower().startswith("http:") and settings.relayhost_ca_sha256 is None:
        yield Problem(
            setting="RELAYHOST_CA_URL",
            value=hide_query(url),
            what="whoever is on the way could put a CA of their own in place of what http:// fetches",
            remedy="Write https://, or set RELAYHOST_CA_SHA256=AB:CD:... to the fingerprint that the CA's owner "
            "publishes",
        )


def _check_tls_of(settings: Settings, nexthop: Nexthop) -> Iterator[Problem]:
    level, rule = settings.find_tls_level(nexthop), settings.find_tls_rule(nexthop)
    name = "RELAYHOST" if nexthop == settings.relayhost_nexthop else "FALLBACK_RELAYHOST"
    has_match = rule is not None and any(attribute == "match" for attribute, _ in rule.attributes)
    if nexthop.is_address and level.checks_the_authority and not has_match:
        yield Problem(
            setting=name,
            value=str(nexthop),
            what="it is an IP address, and Postfix finds only names in a certificate",
            remedy=f"Write the host's name; or name it in TLS_POLICY_TABLE: '{nexthop} secure match=smtp.example.com'; "
            "or set RELAYHOST_TLS=fingerprint",
        )
    if nexthop.uses_implicit_tls and level in (TlsLevel.NONE, TlsLevel.MAY):
        yield Problem(
            setting=name,
            value=str(nexthop),
            what=f"port 465 is TLS from the first byte, and its level is {level.value}",
            remedy="Write port 587 or 25, or a level of encrypt or better",
        )


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
    if settings.client_cert is not None and settings.client_key is None:
        yield Problem(
            setting="CLIENT_CERT",
            what="there is a certificate but no CLIENT_KEY",
            remedy="Set CLIENT_KEY_FILE=/run/secrets/client-key.pem as well, or neither",
        )
    if settings.client_key is not None and settings.client_cert is None:
        yield Problem(
            setting="CLIENT_KEY",
            what="there is a key but no CLIENT_CERT",
            remedy="Set CLIENT_CERT_FILE=/run/secrets/client-cert.pem as well, or neither",
        )
    if settings.client_cert is not None and settings.client_key is not None:
        if settings.client_cert_subject is not None:
            yield Problem(
                setting="CLIENT_CERT_SUBJECT",
                value=settings.client_cert_subject,
                what="CLIENT_CERT already has a subject; this one is for a certificate that is made here",
                remedy="Remove one of the two",
            )
        if not has_same_key(settings.client_cert, settings.client_key):
            yield Problem(
                setting="CLIENT_KEY",
                what="it is not the key of the first certificate in CLIENT_CERT",
                remedy="Give the pair that belongs together, the client's own certificate before its intermediates",
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


def _check_status_listener(settings: Settings) -> Iterator[Problem]:
    endpoint = settings.status_listen
    if endpoint and endpoint.port in settings.listen_ports:
        yield Problem(
            setting="STATUS_LISTEN",
            value=str(endpoint),
            what=f"port {endpoint.port} is one of LISTEN_PORTS, where mail comes in",
            remedy="Give it a port of its own, for example STATUS_LISTEN=0.0.0.0:9154",
        )
