"""OAuth 2.0 for one account: where its access tokens come from, and by which grant (RFC 6749, RFC 7523). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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
from entrypoint.config.secret import Secret
from entrypoint.config.values import parse_carriable_text, parse_choice, parse_password
from entrypoint.config.web_url import parse_web_url

CLIENT_CREDENTIALS: Final = "client_credentials"
REFRESH_TOKEN: Final = "refresh_token"  # noqa: S105 - the name of a grant
SERVICE_ACCOUNT: Final = "service_account"
GRANTS: Final = (CLIENT_CREDENTIALS, REFRESH_TOKEN, SERVICE_ACCOUNT)
MAIL_SCOPE: Final = "https://mail.google.com/"
"""What Google wants for SMTP (https://developers.google.com/workspace/gmail/imap/xoauth2-protocol)."""
_LOOPBACK: Final = re.compile(r"http://(localhost|127\.[0-9.]+|\[::1\])([:/]|$)", re.IGNORECASE)
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")
"""RFC 6749 section 3.3: scope-token."""
_EXAMPLE: Final = f"{SETTING}=https://login.example.com/oauth2/token"


@dataclass(frozen=True, kw_only=True)
class ServiceAccount:
    """What is needed of a Google service account's JSON key file."""

    email: str
    key: Secret
    key_id: str
    token_url: str | None


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """How access tokens are come by."""

    grant: str
    token_url: str
    client_id: str = ""
    """Empty for a service account, which is its own client."""
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    """As the user gave it; a later one, which an answer brought, lies in the state volume."""
    scope: str = ""
    service_account: ServiceAccount | None = None
    client_cert: Certificates | None = None
    """`None`: the one that is made here and kept, where a certificate is shown at all."""
    client_key: Secret | None = None
    ca: Certificates | None = None
    """Who may sign the endpoint's certificate; `None` is the system's bundle."""

    @property
    def shows_certificate(self) -> bool:
        """Whether the client proves who it is by a signature (private_key_jwt), and not by a secret."""
        if self.client_key is not None:
            return True
        # Without either, an application of its own could not be told from anybody; a person's needs neither (RFC 8252).
        return self.grant == CLIENT_CREDENTIALS and self.client_secret is None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return tuple(one.reveal() for one in (self.client_secret, self.refresh_token) if one)


def parse_token_url(text: str) -> str:
    """Return the URL of a token endpoint: https, or http on loopback, where nobody is on the way (RFC 6749 3.2)."""
    if found := re.search(r"[{<]\s*tenant\w*\s*[}>]", text, re.IGNORECASE):
        raise InvalidValue(
            f"'{found[0]}' stands for the tenant",
            f"Write its id or domain there: {SETTING}=https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
        )
    try:
        url = parse_web_url(text)
    except InvalidValue as problem:
        what = problem.what.replace(", and a CA needs neither", "")
        raise InvalidValue(what, f"Write {_EXAMPLE}", may_hold_secret=problem.may_hold_secret) from None
    if not url.lower().startswith("https:") and not _LOOPBACK.match(url):
        raise InvalidValue("whoever is on the way could read the secrets that http:// sends", f"Write {_EXAMPLE}")
    return url


def parse_client_id(text: str) -> str:
    """Return the identifier of a client (RFC 6749 section 2.2, appendix A.1)."""
    if not re.fullmatch(r"[!-~]+", text):
        raise InvalidValue(
            "it contains a blank or a character that is not ASCII",
            f"Copy it from the provider's page of the application: {SETTING}=11111111-2222-3333-4444-555555555555",
        )
    return text


def parse_scope(text: str) -> str:
    """Return scopes with one blank between them, from a list with blanks or line breaks."""
    words = text.split()
    if not words or not all(_SCOPE.fullmatch(word) for word in words):
        raise InvalidValue(
            "it has a character that no scope has (RFC 6749 section 3.3)", f"Write {SETTING}={MAIL_SCOPE}"
        )
    return " ".join(words)


def parse_service_account(text: str) -> ServiceAccount:
    """Return what matters of the JSON key file that Google Cloud's console gives for a service account."""
    import json  # who has none does not wait for it

    remedy = "Give the file that Google Cloud's console made: IAM, Service accounts, Keys, Add key, JSON"
    try:
        values = json.loads(text)
    except ValueError:
        raise InvalidValue("it is not JSON", remedy, may_hold_secret=True) from None
    if not isinstance(values, dict) or values.get("type") != "service_account":
        raise InvalidValue("it is not the key of a service account", remedy, may_hold_secret=True)
    missing = [name for name in ("client_email", "private_key") if not isinstance(values.get(name), str)]
    if missing:
        raise InvalidValue(f"it has no {missing[0]}", remedy, may_hold_secret=True)
    try:
        key = parse_private_key(values["private_key"])
        url = parse_token_url(values["token_uri"]) if values.get("token_uri") else None
    except InvalidValue as problem:
        raise InvalidValue(problem.what, remedy, may_hold_secret=True) from None
    return ServiceAccount(
        email=values["client_email"], key=key, key_id=str(values.get("private_key_id", "")), token_url=url
    )


PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "token_url": parse_token_url,
    "client_id": parse_client_id,
    "client_secret": parse_password,
    "refresh_token": parse_password,
    "scope": parse_scope,
    "grant": parse_choice(*GRANTS),
    "service_account": parse_service_account,
    "client_cert": parse_certificate_chain,
    "client_key": parse_private_key,
    "ca": parse_authorities_text,
}
"""The settings by their names without `OAUTH2_`, and the keys of an upstream of UPSTREAMS without `oauth2_`."""


def make_oauth2(given: Mapping[str, Any]) -> OAuth2 | None:
    """Return what follows from the values, by the names of PARSERS; `None` where none is given, or one is missing."""
    if not given or any(True for _ in find_faults(given, str)):
        return None
    account: ServiceAccount | None = given.get("service_account")
    grant = _choose_grant(given)
    return OAuth2(
        grant=grant,
        token_url=_find_token_url(given),
        client_id=given.get("client_id", ""),
        client_secret=given.get("client_secret"),
        refresh_token=given.get("refresh_token"),
        scope=given.get("scope", MAIL_SCOPE if grant == SERVICE_ACCOUNT else ""),
        service_account=account,
        client_cert=given.get("client_cert"),
        client_key=given.get("client_key"),
        ca=given.get("ca"),
    )


def find_faults(given: Mapping[str, Any], name: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong between the values: (which one, what, remedy); `name` gives the setting of each."""
    grant, url = _choose_grant(given), _find_token_url(given)
    needed = {
        CLIENT_CREDENTIALS: ("client_id",),
        REFRESH_TOKEN: ("client_id", "refresh_token"),
        SERVICE_ACCOUNT: ("service_account",),
    }[grant]
    unused = {
        CLIENT_CREDENTIALS: ("refresh_token", "service_account"),
        REFRESH_TOKEN: ("service_account",),
        SERVICE_ACCOUNT: ("client_id", "client_secret", "refresh_token", "client_cert", "client_key"),
    }[grant]
    if not url:
        yield (
            "token_url",
            "it is not known where access tokens come from",
            f"Set {name('token_url')}=https://login.example.com/oauth2/token, or a PROVIDER that has one: gmail, "
            "microsoft365:<tenant>",
        )
    elif grant == CLIENT_CREDENTIALS and "googleapis.com/" in url:
        yield (
            "grant",
            "Google gives no access to a mailbox to an application of its own",
            f"Set {name('service_account')} (Workspace), or get a {name('refresh_token')}: authrelay oauth2 login "
            "--provider gmail",
        )
    elif grant == CLIENT_CREDENTIALS and re.search(r"microsoftonline\.\w+/(common|organizations|consumers)/", url):
        yield (
            "token_url",
            "an application of its own belongs to one tenant, and this URL names none",
            f"Set {name('token_url')}=https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
        )
    for key in needed:
        if key not in given:
            yield key, f"the grant {grant} needs it", f"Set {name(key)}: docs/oauth2.md says where it comes from"
    for key in unused:
        if key in given:
            yield key, f"the grant {grant} never uses it", f"Remove it, or {name('grant')}"
    if "client_secret" in given and "client_key" in given:
        yield "client_secret", f"there is a {name('client_key')} as well", "Give the secret or the certificate"
    yield from _check_certificate(given, name)


def _check_certificate(given: Mapping[str, Any], name: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
    for one, other in (("client_cert", "client_key"), ("client_key", "client_cert")):
        if one in given and other not in given:
            yield one, f"there is no {name(other)}", f"Set {name(other)} as well, or neither to have them made"
    if {"client_cert", "client_key"} <= set(given) and not has_same_key(given["client_cert"], given["client_key"]):
        yield "client_key", f"it is not the key of {name('client_cert')}", "Give the pair that belongs together"


def _choose_grant(given: Mapping[str, Any]) -> str:
    """Return the grant that was chosen, or that follows from what was given."""
    if "grant" in given:
        return str(given["grant"])
    if "service_account" in given:
        return SERVICE_ACCOUNT
    return REFRESH_TOKEN if "refresh_token" in given else CLIENT_CREDENTIALS


def _find_token_url(given: Mapping[str, Any]) -> str:
    account: ServiceAccount | None = given.get("service_account")
    return given.get("token_url") or (account.token_url if account else None) or ""


def check_access_token(text: str) -> str:
    """Return a token as a table of Postfix and RFC 6750 (section 2.1, b64token) carry it, or raise InvalidValue."""
    if not re.fullmatch(r"[!-~]+", text):
        raise InvalidValue("the access token has a character that no token has (RFC 6750 section 2.1)", "")
    return parse_carriable_text(text)
