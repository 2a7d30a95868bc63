"""What is wrong between the settings of upstreams: accounts, nexthops, routes and TLS. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.settings import Settings
from entrypoint.config.tls import TlsLevel
from entrypoint.config.upstreams import TOKEN_AUTHS, Upstream, find_upstream
from entrypoint.config.web_url import hide_query
from entrypoint.errors import Problem


def check_upstreams(settings: Settings) -> Iterator[Problem]:
    """Yield every problem."""
    yield from _check_credentials(settings)
    yield from _check_cleartext(settings)
    for upstream in settings.every_upstream:
        yield from _check_token(upstream)
        if upstream.setting == "RELAYHOST" or upstream.is_named:
            yield from _check_mechanisms(upstream)
    yield from _check_nexthops(settings)
    yield from _check_routes(settings)
    yield from _check_tls(settings)


def _check_credentials(settings: Settings) -> Iterator[Problem]:
    pairs = (
        ("RELAYHOST", settings.relayhost_username, settings.relayhost_password),
        ("FALLBACK_RELAYHOST", settings.fallback_relayhost_username, settings.fallback_relayhost_password),
    )
    for prefix, username, password in pairs:
        if username is not None and password is None and not (prefix == "RELAYHOST" and settings.given_oauth2):
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
        settings.relayhost_auth not in (None, "none")
        and not settings.given_oauth2
        and settings.relayhost_username is None
        and settings.relayhost_password is None
    ):
        yield Problem(
            setting="RELAYHOST_AUTH",
            value=settings.relayhost_auth,
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


def _check_token(upstream: Upstream) -> Iterator[Problem]:
    """Refuse what no server could take for a token: most likely it is a password, which must not be sent as one."""
    if not upstream.has_token or upstream.password is None:
        return
    token = upstream.password.reveal()
    if not token.isascii() or not token.isprintable() or " " in token:
        setting, key = _name_key(upstream, "password", f"{upstream.setting}_PASSWORD")
        yield Problem(
            setting=setting,
            what=f"{key}it is no access token: those have no blanks and nothing that is not ASCII (RFC 6750)",
            remedy=f"Give the token that is sent as 'Bearer', or set {_name_auth(upstream)}=password",
        )


def _check_mechanisms(upstream: Upstream) -> Iterator[Problem]:
    """Refuse a filter that would have a password sent as a token, or a token as a password."""
    given, auth = upstream.mechanisms or (), _name_auth(upstream)
    setting, key = _name_key(upstream, "mechanisms", "SMTP_SASL_MECHANISM_FILTER")
    value = None if key else ", ".join(given)
    wanted = [name for name in given if not name.startswith("!")]
    if upstream.has_token and (f"!{upstream.auth}" in given or any(name != upstream.auth for name in wanted)):
        yield Problem(
            setting=setting,
            value=value,
            what=f"{key}{auth}={upstream.auth} logs in by that mechanism alone; another would take the access token "
            "for a password",
            remedy=f"Remove it, or write {upstream.auth}",
        )
    named = next((name for name in wanted if name in TOKEN_AUTHS), None)
    if not upstream.has_token and named:
        yield Problem(
            setting=setting,
            value=value,
            what=f"{key}by {named} a password would be sent as an access token",
            remedy=f"Remove {named}; or, if it is an access token, set {auth}={named}",
        )


def _name_key(upstream: Upstream, key: str, setting: str) -> tuple[str, str]:
    """Return the setting, and what leads to the key in it where the upstream is one of UPSTREAMS."""
    return ("UPSTREAMS", f"{upstream.setting.split()[1]} {key}: ") if upstream.is_named else (setting, "")


def _name_auth(upstream: Upstream) -> str:
    return "auth" if upstream.is_named else "RELAYHOST_AUTH"


def _check_cleartext(settings: Settings) -> Iterator[Problem]:
    for upstream in settings.every_upstream:
        level, nexthop = settings.find_tls_level(upstream), upstream.nexthop
        if upstream.credentials is None or upstream.cleartext_auth or not level.may_send_in_the_clear:
            continue
        is_named = upstream.is_named
        setting = upstream.setting if is_named else "RELAYHOST_TLS"
        if settings.find_tls_rule(nexthop):
            setting = "TLS_POLICY_TABLE"
        yield Problem(
            setting=setting,
            value=f"{nexthop} {level.value}" if setting == "TLS_POLICY_TABLE" else level.value,
            what=f"the password for {nexthop} could be sent without TLS",
            remedy="Write secure, or verify, or remove the credentials. To send it in the clear over a network "
            f"that nobody else can reach: {'cleartext_auth = true' if is_named else 'RELAYHOST_CLEARTEXT_AUTH=yes'}",
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


def _check_routes(settings: Settings) -> Iterator[Problem]:
    """Check each line of the tables: its upstream is there, it has one password, and nobody else wants the mail."""
    named = {upstream.service: upstream for upstream in settings.upstreams or ()}
    wanted = {
        **{sender: upstream.setting for upstream in named.values() for sender in upstream.senders},
        **{domain: upstream.setting for upstream in named.values() for domain in upstream.domains},
    }
    tables = (("SENDER_RELAY_TABLE", settings.sender_relay_table), ("TRANSPORT_TABLE", settings.transport_table))
    for name, table in tables:
        for route in table or ():
            place = f"{name} line {route.line}"
            upstream = None if route.service else find_upstream(route, settings.every_upstream)
            if route.upstream and upstream is None:
                known = ", ".join(one.removeprefix("smtp-") for one in named) or "none"
                yield Problem(
                    setting=place,
                    value=route.upstream,
                    what=f"there is no upstream of that name; UPSTREAMS has {known}",
                    remedy=f"Add [{route.upstream}] to UPSTREAMS; or, if it is a host, write [{route.upstream}]:25",
                )
            if upstream and route.password is not None and route.password != upstream.password:
                yield Problem(
                    setting=place,
                    value=f"{route.nexthop} {route.username}",
                    what=f"it has another password than {upstream.setting}, for the same account",
                    remedy="Write the same password in both places",
                )
            if route.pattern in wanted:
                yield Problem(
                    setting=place,
                    value=route.pattern,
                    what=f"{wanted[route.pattern]} names it, too",
                    remedy="Name it in one of them",
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
    # Those of UPSTREAMS have a CA of their own.
    heirs = [one for one in settings.every_upstream if not one.is_named]
    used_levels = {settings.find_tls_level(upstream) for upstream in heirs}
    for name, value in (("RELAYHOST_CA", settings.relayhost_ca), ("RELAYHOST_CA_URL", settings.relayhost_ca_url)):
        if value is not None and not any(used.checks_the_authority for used in used_levels):
            yield Problem(
                setting=name,
                what=f"RELAYHOST_TLS={level.value} never looks at a CA",
                remedy="Set RELAYHOST_TLS=secure, or remove the CA",
            )
    yield from _check_fetched_authority(settings)
    for upstream in settings.every_upstream:
        yield from _check_tls_of(settings, upstream)


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


def _check_tls_of(settings: Settings, upstream: Upstream) -> Iterator[Problem]:
    name, nexthop = upstream.setting, upstream.nexthop
    level, rule = settings.find_tls_level(upstream), settings.find_tls_rule(nexthop)
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
