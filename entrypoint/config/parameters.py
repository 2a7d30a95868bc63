"""`POSTFIX_<parameter>`: which may be set, and which weaken what is safe by default. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from entrypoint.config.names import PARAMETER_PREFIX, find_close_parameter
from entrypoint.errors import Problem

_OWNED: Final = {
    **dict.fromkeys(
        ("config_directory", "queue_directory", "data_directory", "daemon_directory", "command_directory",
         "meta_directory", "shlib_directory", "mail_owner", "setgid_group", "process_id_directory"),
        "the image has its files, volumes and users there",
    ),
    **dict.fromkeys(
        ("maillog_file", "maillog_file_prefixes", "syslog_facility", "syslog_name"),
        "the log forwarder would no longer see Postfix's lines",
    ),
    **dict.fromkeys(
        ("multi_instance_enable", "multi_instance_directories", "multi_instance_name", "multi_instance_group",
         "multi_instance_wrapper"),
        "one container runs one Postfix",
    ),
}  # fmt: skip
"""Parameters that the image itself depends on, and why."""

_HAS_ITS_OWN_NONE: Final = ("_security_level", "_eecdh_grade", "_cert_file", "_chain_files")
"""Endings of parameters for which Postfix gives the word `none` a meaning (postconf(5))."""


def _lacks(*words: str) -> Callable[[str], bool]:
    return lambda value: not set(words) <= set(re.split(r"[\s,]+", value))


def _is_not(*values: str) -> Callable[[str], bool]:
    return lambda value: value.strip().lower() not in values


def _always(_: str) -> bool:
    return True


def _allows_old_protocols(value: str) -> bool:
    return value.replace(" ", "") not in (">=TLSv1.2", ">=TLSv1.3", "TLSv1.2", "TLSv1.3", "TLSv1.2,TLSv1.3")


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
    "smtpd_relay_restrictions": (_lacks("reject"), "it may let strangers send through this relay"),
    "smtpd_tls_auth_only": (_is_not("yes"), "clients may send their password in the clear"),
    "smtpd_recipient_restrictions": (
        lambda value: "permit" in value.split(), "it may let strangers send through this relay"),
    "smtpd_forbid_bare_newline": (
        _is_not("yes", "normalize", "reject", "note"), "messages can be smuggled (CVE-2023-51764)"),
    "smtpd_forbid_bare_newline_exclusions": (bool, "messages can be smuggled from there (CVE-2023-51764)"),
    "smtpd_forbid_unauth_pipelining": (_is_not("yes"), "clients may talk before they are asked, as smugglers do"),
    "smtpd_client_event_limit_exceptions": (bool, "one client may take all sessions"),
    "smtpd_data_restrictions": (
        lambda value: value.strip() != "$smtpd_relay_restrictions" and _lacks("reject")(value),
        "strangers may send to <postmaster>"),
    "mynetworks": (_always, "it replaces MYNETWORKS and the guard against a gateway"),
    "mynetworks_style": (_always, "it replaces MYNETWORKS and the guard against a gateway"),
    "relay_domains": (_always, "strangers may send to those domains"),
}  # fmt: skip
"""Parameter -> (whether a value is weaker than ours, what that means)."""


def read_parameter(name: str, value: str, known: frozenset[str]) -> tuple[str, str] | Problem:
    """Return (parameter, value) from a variable `POSTFIX_<parameter>`, or what is wrong with it.

    `none` clears the parameter, but where the word has a meaning of Postfix's own.
    """
    parameter = name.removeprefix(PARAMETER_PREFIX)
    if parameter in _OWNED:
        return Problem(setting=name, what=f"it cannot be changed, because {_OWNED[parameter]}", remedy="Remove it")
    if parameter not in known:
        close = find_close_parameter(parameter, known)
        hint = f"Did you mean {PARAMETER_PREFIX}{close}?" if close else "See postconf(5) for the names, or remove it"
        return Problem(setting=name, what="Postfix has no such parameter", remedy=hint)
    is_login = parameter == "smtp_sasl_password_maps"
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        return Problem(
            setting=name,
            value=None if is_login else value,
            what="it contains a line break or another control character, which would start a new parameter",
            remedy="Write it on one line",
        )
    if is_login and not all(word.startswith("lmdb:") or word == "none" for word in re.split(r"[\s,]+", value.strip())):
        return Problem(
            setting=name,
            what="a password would end up in main.cf, which everyone in the container can read",
            remedy="Use RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE",
        )
    if value.strip().lower() == "none" and not parameter.endswith(_HAS_ITS_OWN_NONE):
        return parameter, ""
    return parameter, value.strip()


def find_weakened(parameters: tuple[tuple[str, str], ...]) -> list[str]:
    """Return a warning for each parameter that is weaker than the safe default it replaces."""
    return [
        f"{PARAMETER_PREFIX}{name}={value} weakens a safe default: {_WEAKENING[name][1]}"
        for name, value in parameters
        if name in _WEAKENING and _WEAKENING[name][0](value)
    ]
