"""What other images call the same: for whoever comes from one, and keeps its names. Pure."""

from __future__ import annotations

import re
from typing import Final

MAILSERVER: Final = "docker-mailserver"
BOKY: Final = "boky/postfix"
WADER: Final = "mwader/postfix-relay"
BAPTISTE: Final = "juanluisbaptiste/postfix"
MAILU: Final = "Mailu"

FOREIGN: Final = {
    "DEFAULT_RELAY_HOST": (MAILSERVER, "RELAYHOST"),
    "RELAY_HOST": (MAILSERVER, "RELAYHOST"),
    "RELAY_PORT": (MAILSERVER, "part of RELAYHOST, [smtp.example.com]:587"),
    "RELAY_USER": (MAILSERVER, "RELAYHOST_USERNAME"),
    "RELAY_PASSWORD": (MAILSERVER, "RELAYHOST_PASSWORD"),
    "OVERRIDE_HOSTNAME": (MAILSERVER, "MYHOSTNAME"),
    "SMTP_SERVER": (BAPTISTE, "RELAYHOST"),
    "SMTP_PORT": (BAPTISTE, "part of RELAYHOST, [smtp.example.com]:587"),
    "SMTP_USERNAME": (BAPTISTE, "RELAYHOST_USERNAME"),
    "SMTP_PASSWORD": (BAPTISTE, "RELAYHOST_PASSWORD"),
    "SERVER_HOSTNAME": (BAPTISTE, "MYHOSTNAME"),
    "SMTP_NETWORKS": (BAPTISTE, "MYNETWORKS"),
    "RELAYUSER": (MAILU, "RELAYHOST_USERNAME"),
    "RELAYPASSWORD": (MAILU, "RELAYHOST_PASSWORD"),
    "POSTFIX_relayhost": (WADER, "RELAYHOST"),
    "POSTFIX_smtp_sasl_password_maps": (WADER, "RELAYHOST_USERNAME and RELAYHOST_PASSWORD"),
    "POSTMAP_sasl_passwd": (WADER, "RELAYHOST_USERNAME and RELAYHOST_PASSWORD"),
    "MASQUERADED_DOMAINS": (BOKY, "MASQUERADE_DOMAINS"),
    "ALLOW_EMPTY_SENDER_DOMAINS": (BOKY, "ALLOWED_SENDER_DOMAINS left unset"),
}
"""Variable: whose it is, and what it is here; empty where there is no such setting."""

_SUFFIX: Final = re.compile(r"_{1,2}FILE$")


def find_foreign(name: str) -> tuple[str, str] | None:
    """Return whose name a variable has, and what it is called here."""
    return FOREIGN.get(name) or FOREIGN.get(_SUFFIX.sub("", name))
