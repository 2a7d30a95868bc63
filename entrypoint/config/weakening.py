"""Which values of a Postfix parameter weaken what is safe by default, and what that means. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from entrypoint import paths


def _lacks(*words: str) -> Callable[[str], bool]:
    return lambda value: not set(words) <= set(re.split(r"[\s,]+", value))


def _is_not(*values: str) -> Callable[[str], bool]:
    return lambda value: value.strip().lower() not in values


def _always(_: str) -> bool:
    return True


def _allows_old_protocols(value: str) -> bool:
    return value.replace(" ", "") not in (">=TLSv1.2", ">=TLSv1.3", "TLSv1.2", "TLSv1.3", "TLSv1.2,TLSv1.3")


_GATEWAYS: Final = f"cidr:{paths.POSTFIX_CONFIG}/gateways"
_KNOWN_CLIENTS: Final = frozenset(
    {"permit_mynetworks", "permit_sasl_authenticated", "permit_tls_clientcerts", "check_client_access", _GATEWAYS}
)
_CLIENT_TABLE: Final = re.compile(r"(?!static:|inline:)(proxy:)?\w+:/\S+")
"""After check_client_access: whom it lets in, its owner wrote into a file, by address."""


def _may_relay_for_strangers(value: str) -> bool:
    """Return whether something before the first `reject` may say yes to a client that is not known (postconf(5))."""
    for word in re.split(r"[\s,]+", value.strip()):
        if word in ("reject", "defer", "reject_unauth_destination", "defer_unauth_destination"):
            return False
        is_harmless = word in _KNOWN_CLIENTS or word.startswith(("reject_", "defer_")) or _CLIENT_TABLE.fullmatch(word)
        if not is_harmless:
            return True
    return True


_STRANGERS: Final = "it may let strangers send through this relay"
_ANY_CLIENT: Final = "whoever connects may claim another client's address, and send"
_WEAKENING: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "smtp_tls_security_level": (
        _is_not("secure", "verify", "fingerprint", "dane-only"), "the upstream's certificate may go unchecked"),
    "smtp_tls_policy_maps": (
        _always, "it replaces the TLS rules that RELAYHOST_TLS and TLS_POLICY_TABLE made"),
    "smtp_tls_mandatory_protocols": (_allows_old_protocols, "it may allow TLS versions older than 1.2"),
    "smtp_tls_protocols": (_allows_old_protocols, "it may allow TLS versions older than 1.2"),
    "smtp_tls_secure_cert_match": (
        _is_not("nexthop", "nexthop, dot-nexthop"), "another name than the upstream's may be accepted"),
    "smtp_tls_verify_cert_match": (_is_not("hostname"), "another name than the upstream's may be accepted"),
    "smtp_sasl_security_options": (_lacks("noplaintext", "noanonymous"), "the password may be sent without TLS"),
    "smtp_sasl_tls_security_options": (_lacks("noanonymous"), "an anonymous login may be taken for a real one"),
    "smtp_sasl_auth_soft_bounce": (_is_not("yes"), "a wrong password returns mail instead of keeping it"),
    "smtpd_relay_restrictions": (_may_relay_for_strangers, _STRANGERS),
    "smtpd_tls_auth_only": (_is_not("yes"), "clients may send their password in the clear"),
    "smtpd_recipient_restrictions": (
        lambda value: "permit" in re.split(r"[\s,]+", value), _STRANGERS),
    "smtpd_forbid_bare_newline": (
        _is_not("yes", "normalize", "reject", "note"), "messages can be smuggled (CVE-2023-51764)"),
    "smtpd_forbid_bare_newline_exclusions": (bool, "messages can be smuggled from there (CVE-2023-51764)"),
    "smtpd_forbid_unauth_pipelining": (_is_not("yes"), "clients may talk before they are asked, as smugglers do"),
    "smtpd_client_event_limit_exceptions": (bool, "one client may take all sessions"),
    "smtpd_data_restrictions": (
        lambda value: value.strip() != "$smtpd_relay_restrictions" and _may_relay_for_strangers(value),
        "strangers may send to <postmaster>"),
    "smtpd_authorized_xclient_hosts": (bool, _ANY_CLIENT),
    "smtpd_upstream_proxy_protocol": (bool, _ANY_CLIENT),
    "mynetworks": (_always, "it replaces MYNETWORKS and the guard against a gateway"),
    "mynetworks_style": (_always, "it replaces MYNETWORKS and the guard against a gateway"),
    "relay_domains": (_always, "strangers may send to those domains"),
    "debug_peer_list": (bool, "the log may show passwords"),
}  # fmt: skip
"""Parameter -> (whether a value is weaker than ours, what that means)."""


def describe_weakening(name: str, value: str) -> str:
    """Return what a value costs; nothing where it is as safe as ours."""
    is_weaker, meaning = _WEAKENING.get(name, (None, ""))
    return f"weakens a safe default: {meaning}" if is_weaker and is_weaker(value) else ""
