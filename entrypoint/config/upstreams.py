"""Upstreams beside RELAYHOST: UPSTREAMS, and the one that a line of SENDER_RELAY_TABLE names. Pure.

An *upstream* is one account at one server, and how that server is checked. Each has an smtp(8) service of its own,
which reads no password but this one: however the tables overlap, none leaves for another server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from entrypoint.config.certificates import (
    Certificates,
    has_same_key,
    parse_authorities_text,
    parse_certificate_chain,
    parse_private_key,
)
from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.oauth2 import PARSERS as OAUTH2_PARSERS
from entrypoint.config.oauth2 import OAuth2, find_faults, make_oauth2
from entrypoint.config.routes import Route, parse_recipient_pattern, parse_sender_pattern
from entrypoint.config.secret import Secret
from entrypoint.config.tls import TlsLevel, parse_fingerprint, parse_level
from entrypoint.config.values import (
    join_or,
    parse_boolean,
    parse_choice,
    parse_duration_seconds,
    parse_integer,
    parse_list,
    parse_mechanism,
    parse_password,
    parse_username,
)

MAIN_SERVICE: Final = "smtp"
"""The service of RELAYHOST and FALLBACK_RELAYHOST; another's is `smtp-NAME` (master(5))."""
PASSWORD: Final = "password"  # noqa: S105 - a word
XOAUTH2: Final = "xoauth2"
TOKEN_AUTHS: Final = (XOAUTH2, "oauthbearer")
"""The mechanisms in which the password is an access token, and which a real password must never be given to."""
AUTHS: Final = (PASSWORD, *TOKEN_AUTHS, "none")
MOST_RECIPIENTS: Final = 1000
"""Of one message; postconf(5) default_destination_recipient_limit is 50."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_OAUTH2: Final = "oauth2_"
_EXAMPLE: Final = '[bulk]\nnexthop = "[smtp.example.com]:587"'


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One account at one server, and how the server is checked; times in seconds."""

    setting: str
    """Who names it, in a person's words: `RELAYHOST`, `UPSTREAMS [bulk]`, `SENDER_RELAY_TABLE line 3`."""
    service: str
    """Its smtp(8) in master.cf."""
    nexthop: Nexthop
    username: str | None = None
    password: Secret | None = None
    """With OAuth 2.0 the access token; empty while there is none, so that no login is tried with it."""
    oauth2: OAuth2 | None = None
    auth: str = PASSWORD
    """One of AUTHS."""
    tls: TlsLevel = TlsLevel.SECURE
    """Where TLS_POLICY_TABLE has no line for it."""
    cleartext_auth: bool = False
    ca: Certificates | None = None
    """`None` is the system's bundle; or, where `follows_url`, what RELAYHOST_CA_URL gives."""
    follows_url: bool = False
    fingerprint: tuple[str, ...] | None = None
    client_cert: Certificates | None = None
    """`None` is CLIENT_CERT, or the one that is made."""
    client_key: Secret | None = None
    mechanisms: tuple[str, ...] | None = None
    concurrency: int | None = None
    rate_delay: int | None = None
    recipient_limit: int | None = None
    senders: tuple[str, ...] = ()
    """Whose mail goes there: `user@example.com` or `@example.com`."""
    domains: tuple[str, ...] = ()
    """Mail to which goes there: `example.com`, or `.example.com` for all below it."""

    @property
    def is_named(self) -> bool:
        """Whether it is one of UPSTREAMS, and has nothing from RELAYHOST."""
        return self.setting.startswith("UPSTREAMS")

    @property
    def account(self) -> tuple[str, str | None]:
        """What makes it another than the others."""
        return str(self.nexthop), self.username

    @property
    def credentials(self) -> tuple[str, Secret] | None:
        """User name and password, or access token, if there is a login."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password

    @property
    def has_token(self) -> bool:
        """Whether its password is an access token."""
        return self.auth in TOKEN_AUTHS


_KEYS: Final[Mapping[str, Callable[[str], Any]]] = {
    "nexthop": parse_nexthop,
    "username": parse_username,
    "password": parse_password,
    "auth": parse_choice(*AUTHS),
    "tls": parse_level,
    "cleartext_auth": parse_boolean,
    "ca": parse_authorities_text,
    "fingerprint": parse_list(parse_fingerprint),
    "client_cert": parse_certificate_chain,
    "client_key": parse_private_key,
    "mechanisms": parse_list(parse_mechanism),
    "concurrency": parse_integer(1, 1000),
    "rate_delay": parse_duration_seconds,
    "recipient_limit": parse_integer(1, MOST_RECIPIENTS),
    "senders": parse_list(parse_sender_pattern),
    "domains": parse_list(parse_recipient_pattern),
    **{f"{_OAUTH2}{key}": parse for key, parse in OAUTH2_PARSERS.items()},
}
"""docs/upstreams-schema.json says the same to an editor."""


def parse_upstreams(text: str) -> tuple[Upstream, ...]:
    """Return the upstreams of a TOML text: one table for each, named by it (https://toml.io/en/v1.0.0)."""
    import tomllib  # who has one upstream does not wait for it

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its words quote no more than a character of the file.
        raise InvalidValue(
            f"it is not TOML: {error}", f"Write, for example,\n{_EXAMPLE}", may_hold_secret=True
        ) from None
    found: list[Upstream] = []
    for name, table in tables.items():
        try:
            found.append(_parse_upstream(name, table))
        except InvalidValue as problem:
            remedy = problem.remedy.replace(f"{SETTING}=", "")
            raise InvalidValue(f"[{name}] {problem.what}", remedy, may_hold_secret=True) from None
    if not found:
        raise InvalidValue("it names no upstream", f"Write, for example,\n{_EXAMPLE}")
    _refuse_repeated(found)
    return tuple(found)


def _parse_upstream(name: str, table: object) -> Upstream:
    if not _NAME.fullmatch(name):
        raise InvalidValue("is not a name", "Write a name of at most 32 letters a-z, digits and hyphens, as [bulk]")
    if not isinstance(table, dict):
        raise InvalidValue("is not a table", f"Write, for example,\n{_EXAMPLE}")
    given: dict[str, Any] = {}
    for key, value in table.items():
        parse = _KEYS.get(key)
        if parse is None:
            raise InvalidValue(f"{key}: there is no such key", f"Write {join_or(tuple(_KEYS))}")
        try:
            given[key] = parse(_write_as_variable(value))
        except InvalidValue as problem:
            raise InvalidValue(f"{key}: {problem.what}", problem.remedy.replace(SETTING, key)) from None
    oauth2 = {key.removeprefix(_OAUTH2): given.pop(key) for key in tuple(given) if key.startswith(_OAUTH2)}
    for key, what, remedy in find_faults(oauth2, f"{_OAUTH2}{{}}".format) if oauth2 else ():
        raise InvalidValue(f"{_OAUTH2}{key}: {what}", remedy)
    _check_upstream(given, has_oauth2=bool(oauth2))
    if oauth2:
        given.setdefault("auth", XOAUTH2)
    setting, service = f"UPSTREAMS [{name}]", f"{MAIN_SERVICE}-{name}"
    return Upstream(setting=setting, service=service, oauth2=make_oauth2(oauth2), **given)


def _write_as_variable(value: object) -> str:
    """Return what a variable would hold for the same."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, str | int):
        return str(value)
    raise InvalidValue("it is neither text, a number, nor a list of texts", 'Write, for example, tls = "secure"')


def _check_upstream(given: Mapping[str, Any], *, has_oauth2: bool) -> None:
    """Refuse what is wrong within one upstream."""
    if "nexthop" not in given:
        raise InvalidValue("nexthop is missing", 'Write nexthop = "[smtp.example.com]:587"')
    if has_oauth2 and "password" in given:
        raise InvalidValue("there is a password, and OAuth 2.0 needs none", "Remove password, or the oauth2_ keys")
    if has_oauth2 and "username" not in given:
        raise InvalidValue(
            "username is missing", 'Write the mailbox that it logs in to: username = "relay@example.com"'
        )
    login = () if has_oauth2 else (("username", "password"),)
    for one, other in (*login, ("client_cert", "client_key")):
        for has, lacks in ((one, other), (other, one)):
            if has in given and lacks not in given:
                raise InvalidValue(f"there is {has} but no {lacks}", f"Write {lacks} as well, or neither")
    auth = given.get("auth")
    if has_oauth2 and auth in (PASSWORD, "none"):
        raise InvalidValue(f'auth = "{auth}" never uses the oauth2_ keys', 'Write auth = "xoauth2", or remove them')
    if auth == "none" and "username" in given:
        raise InvalidValue('auth = "none" never uses username', "Remove username and password, or auth")
    if auth not in (None, "none") and "username" not in given:
        raise InvalidValue(f'auth = "{auth}" and there is no username', "Write username and password as well")
    if "client_cert" in given and not has_same_key(given["client_cert"], given["client_key"]):
        raise InvalidValue("client_key is not the key of client_cert", "Give the pair that belongs together")
    level = given.get("tls", TlsLevel.SECURE)
    if level is TlsLevel.FINGERPRINT and "fingerprint" not in given:
        raise InvalidValue("tls is fingerprint and there is none", 'Write fingerprint = ["AB:CD:..."] as well')
    if "fingerprint" in given and level is not TlsLevel.FINGERPRINT:
        raise InvalidValue(f'tls = "{level.value}" never looks at fingerprint', 'Write tls = "fingerprint"')
    if given.get("ca") is not None and not level.checks_the_authority:
        raise InvalidValue(f'tls = "{level.value}" never looks at ca', 'Write tls = "secure", or remove ca')


def _refuse_repeated(upstreams: list[Upstream]) -> None:
    """Refuse two upstreams that are one account, or that want the same mail."""
    accounts: dict[object, str] = {}
    for upstream in upstreams:
        keys = (
            ("its account", upstream.account),
            *((f"the sender '{sender}'", sender) for sender in upstream.senders),
            *((f"the domain '{domain}'", ("to", domain)) for domain in upstream.domains),
        )
        for words, key in keys:
            if key in accounts:
                raise InvalidValue(
                    f"{upstream.setting.split()[1]} has {words} in common with {accounts[key]}",
                    "Name it in one of them",
                    may_hold_secret=True,
                )
            accounts[key] = upstream.setting.split()[1]


def name_service(nexthop: Nexthop, username: str | None) -> str:
    """Return the service of an account that has no name: one of its own, and the same whatever else is configured."""
    import hashlib  # who has no table does not wait for it

    digest = hashlib.sha256(f"{nexthop}\0{username or ''}".encode()).hexdigest()
    return f"{MAIN_SERVICE}-{digest[:12]}"


def find_upstream(route: Route, known: Iterable[Upstream]) -> Upstream | None:
    """Return the upstream that a line is about, if it is known.

    A nexthop without a user name is RELAYHOST or FALLBACK_RELAYHOST, with its account, where it is the same; another's
    account is never guessed.
    """
    for upstream in known:
        if route.upstream:
            if upstream.service == f"{MAIN_SERVICE}-{route.upstream}" and upstream.is_named:
                return upstream
        elif route.nexthop is not None and str(route.nexthop) == str(upstream.nexthop):
            is_main = upstream.service == MAIN_SERVICE
            if route.username == upstream.username or (route.username is None and is_main):
                return upstream
    return None
