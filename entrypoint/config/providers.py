"""PROVIDER: what well-known providers want, as settings that any explicit setting overrides. Pure.

Hosts, ports and limits are from the providers' own documentation, which the pages in docs/providers/ name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.oauth2 import MAIL_SCOPE
from entrypoint.config.values import join_or

_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_TENANT: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
"""The directory's id, one of its domains, or common, organizations or consumers, for accounts of more than one."""
_SES: Final = "ses"
_MICROSOFT: Final = "microsoft365"
_GOOGLE_TOKENS: Final = {"OAUTH2_TOKEN_URL": "https://oauth2.googleapis.com/token"}

PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "gmail": {"RELAYHOST": "[smtp.gmail.com]:587", "RELAYHOST_RECIPIENT_LIMIT": "100"},
    "google-workspace": {"RELAYHOST": "[smtp-relay.gmail.com]:587", "RELAYHOST_RECIPIENT_LIMIT": "100"},
    _MICROSOFT: {
        "RELAYHOST": "[smtp.office365.com]:587",
        "RELAYHOST_CONCURRENCY": "3",
        "RELAYHOST_RATE_DELAY": "2s",
    },
    _SES: {
        "RELAYHOST": "[email-smtp.{region}.amazonaws.com]:587",
        "RELAYHOST_RECIPIENT_LIMIT": "50",
        "MESSAGE_SIZE_LIMIT": "40M",
    },
    "sendgrid": {"RELAYHOST": "[smtp.sendgrid.net]:587", "RELAYHOST_USERNAME": "apikey"},
    "mailgun": {"RELAYHOST": "[smtp.mailgun.org]:587", "MESSAGE_SIZE_LIMIT": "25M"},
    "mailgun-eu": {"RELAYHOST": "[smtp.eu.mailgun.org]:587", "MESSAGE_SIZE_LIMIT": "25M"},
    "postmark": {
        "RELAYHOST": "[smtp.postmarkapp.com]:587",
        "RELAYHOST_CONCURRENCY": "10",
        "RELAYHOST_RECIPIENT_LIMIT": "50",
        "MESSAGE_SIZE_LIMIT": "10M",
    },
    "mailjet": {"RELAYHOST": "[in-v3.mailjet.com]:587"},
    "brevo": {"RELAYHOST": "[smtp-relay.brevo.com]:587"},
    "fastmail": {"RELAYHOST": "[smtp.fastmail.com]:465"},
    "icloud": {
        "RELAYHOST": "[smtp.mail.me.com]:587",
        "RELAYHOST_RECIPIENT_LIMIT": "500",
        "MESSAGE_SIZE_LIMIT": "20M",
    },
    "infomaniak": {"RELAYHOST": "[mail.infomaniak.com]:465", "RELAYHOST_RECIPIENT_LIMIT": "100"},
    "proton": {"RELAYHOST": "[smtp.protonmail.ch]:587"},
    "resend": {"RELAYHOST": "[smtp.resend.com]:587", "RELAYHOST_USERNAME": "resend"},
    "scaleway": {"RELAYHOST": "[smtp.tem.scw.cloud]:587", "RELAYHOST_RECIPIENT_LIMIT": "10"},
    "smtp2go": {"RELAYHOST": "[mail.smtp2go.com]:587"},
    "sparkpost": {"RELAYHOST": "[smtp.sparkpostmail.com]:587", "RELAYHOST_USERNAME": "SMTP_Injection"},
    "sparkpost-eu": {"RELAYHOST": "[smtp.eu.sparkpostmail.com]:587", "RELAYHOST_USERNAME": "SMTP_Injection"},
}
"""By name; `{region}` stands for what follows the colon."""

OAUTH2_PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "gmail": _GOOGLE_TOKENS,
    "google-workspace": _GOOGLE_TOKENS,
    _MICROSOFT: {"OAUTH2_TOKEN_URL": "https://login.microsoftonline.com/{region}/oauth2/v2.0/token"},
}
"""The same for whoever uses OAuth 2.0; `{region}` is the tenant."""


@dataclass(frozen=True, kw_only=True)
class LoginEndpoints:
    """Where a person agrees that mail is sent as theirs; `{region}` is the tenant."""

    authorize_url: str
    device_url: str = ""
    """Empty where a device's login cannot be given access to mail."""
    scope: str
    loopback: str = "127.0.0.1"
    """The host that a redirect to this machine must have (RFC 8252 section 7.3)."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What else is needed to be given a refresh token."""


_GOOGLE_LOGIN: Final = LoginEndpoints(
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    scope=MAIL_SCOPE,
    parameters={"access_type": "offline", "prompt": "consent"},
)
LOGIN_ENDPOINTS: Final[Mapping[str, LoginEndpoints]] = {
    "gmail": _GOOGLE_LOGIN,
    "google-workspace": _GOOGLE_LOGIN,
    _MICROSOFT: LoginEndpoints(
        authorize_url="https://login.microsoftonline.com/{region}/oauth2/v2.0/authorize",
        device_url="https://login.microsoftonline.com/{region}/oauth2/v2.0/devicecode",
        scope="https://outlook.office.com/SMTP.Send offline_access",
        loopback="localhost",
    ),
}
_APPLICATION_SCOPES: Final = {_MICROSOFT: "https://outlook.office365.com/.default"}
"""What an application of its own asks for; a refresh token has the scope that a person agreed to."""


def parse_provider(text: str) -> str:
    """Return the name of a provider, with the region of `ses:eu-west-1`, the tenant of `microsoft365:contoso.com`."""
    name, colon, region = text.lower().partition(":")
    if name not in PRESETS:
        known = tuple(f"{_SES}:<region>" if one == _SES else one for one in PRESETS)
        raise InvalidValue(f"'{text}' is no provider that is known", f"Write {join_or(known)}; or set RELAYHOST itself")
    if name == _SES and not _REGION.fullmatch(region):
        raise InvalidValue("Amazon SES has a host for each region", f"Write {SETTING}=ses:eu-west-1")
    if name == _MICROSOFT and colon and not _TENANT.fullmatch(region):
        raise InvalidValue(
            f"'{region}' is neither the id of a tenant nor one of its domains", f"Write {SETTING}={name}:contoso.com"
        )
    if name not in (_SES, _MICROSOFT) and colon:
        raise InvalidValue(f"'{region}' follows the name", f"Write {SETTING}={name}")
    return f"{name}{colon}{region}"


def find_preset(provider: str | bytes | None, given: Collection[str] = ()) -> dict[str, str]:
    """Return the settings for a provider; none for one that cannot be read, which is told elsewhere.

    `given` are the names of the settings that are set: whether OAuth 2.0 is used, and how, follows from them.
    """
    text = provider.decode(errors="replace") if isinstance(provider, bytes) else provider or ""
    try:
        name, _, region = parse_provider(text.strip()).partition(":")
    except InvalidValue:
        return {}
    preset = dict(PRESETS[name])
    if (region and name == _MICROSOFT) or any(one.startswith("OAUTH2_") for one in given):
        preset |= {} if name == _MICROSOFT and not region else OAUTH2_PRESETS.get(name, {})
        if name in _APPLICATION_SCOPES and "OAUTH2_REFRESH_TOKEN" not in given:
            preset["OAUTH2_SCOPE"] = _APPLICATION_SCOPES[name]
    return {setting: value.replace("{region}", region) for setting, value in preset.items()}


def find_login_endpoints(provider: str) -> LoginEndpoints | None:
    """Return where a person logs in to a provider; `None` for one without OAuth 2.0."""
    name, _, region = parse_provider(provider).partition(":")
    found = LOGIN_ENDPOINTS.get(name)
    return found and replace(
        found,
        authorize_url=found.authorize_url.replace("{region}", region),
        device_url=found.device_url.replace("{region}", region),
    )
