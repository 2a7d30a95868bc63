"""PROVIDER: what well-known providers want, as settings that any explicit setting overrides. Pure.

Hosts, ports and limits are from the providers' own documentation, which the pages in docs/providers/ name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.values import join_or

_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_SES: Final = "ses"

PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "gmail": {"RELAYHOST": "[smtp.gmail.com]:587", "RELAYHOST_RECIPIENT_LIMIT": "100"},
    "google-workspace": {"RELAYHOST": "[smtp-relay.gmail.com]:587", "RELAYHOST_RECIPIENT_LIMIT": "100"},
    "microsoft365": {
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


def parse_provider(text: str) -> str:
    """Return the name of a provider, with the region of `ses:eu-west-1`."""
    name, colon, region = text.lower().partition(":")
    if name not in PRESETS:
        known = tuple(f"{_SES}:<region>" if one == _SES else one for one in PRESETS)
        raise InvalidValue(f"'{text}' is no provider that is known", f"Write {join_or(known)}; or set RELAYHOST itself")
    if name == _SES and not _REGION.fullmatch(region):
        raise InvalidValue("Amazon SES has a host for each region", f"Write {SETTING}=ses:eu-west-1")
    if name != _SES and colon:
        raise InvalidValue(f"'{region}' follows the name", f"Write {SETTING}={name}")
    return f"{name}{colon}{region}"


def find_preset(provider: str | bytes | None) -> dict[str, str]:
    """Return the settings for a provider; none for one that cannot be read, which is told elsewhere."""
    text = provider.decode(errors="replace") if isinstance(provider, bytes) else provider or ""
    try:
        name, _, region = parse_provider(text.strip()).partition(":")
    except InvalidValue:
        return {}
    return {setting: value.replace("{region}", region) for setting, value in PRESETS[name].items()}
