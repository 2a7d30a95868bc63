"""The user's own parameters of Postfix, wherever they stand: which may be set, and to what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from entrypoint.config.fragments import Assignment
from entrypoint.config.names import find_close_parameter
from entrypoint.config.weakening import describe_weakening
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
    "smtp_sasl_mechanism_filter": "a password could be sent as an access token; SMTP_SASL_MECHANISM_FILTER is for that",
}  # fmt: skip
"""Parameters that the image itself depends on, and why."""

_HAS_ITS_OWN_NONE: Final = ("_security_level", "_eecdh_grade", "_cert_file", "_chain_files")
"""Endings of parameters for which Postfix gives the word `none` a meaning (postconf(5))."""

_EXAMPLE_SERVICE: Final = "retry_"
"""A service whose own parameters, as qmgr(8) has them for each, show what those of another are called."""


def read_parameter(one: Assignment, known: frozenset[str]) -> Assignment | Problem:
    """Return a parameter with its final value, or what is wrong with it.

    `none` clears the parameter, but where the word has a meaning of Postfix's own.
    """
    # A variable is named by its parameter; elsewhere the place alone does not say which one is meant.
    which = "" if one.place == f"{one.label}{one.name}" else f"{one.label}{one.name}: "
    if one.name in _OWNED:
        what = f"{which}it cannot be changed, because {_OWNED[one.name]}"
        return Problem(setting=one.place, what=what, remedy="Remove it")
    if one.name not in known:
        close = find_close_parameter(one.name, known)
        hint = f"Did you mean {one.label}{close}?" if close else "See postconf(5) for the names, or remove it"
        return Problem(setting=one.place, what=f"{which}Postfix has no such parameter", remedy=hint)
    is_login = one.name in ("smtp_sasl_password_maps", "lmtp_sasl_password_maps")
    if any(ord(character) < 32 or ord(character) == 127 for character in one.value):
        return Problem(
            setting=one.place,
            value=None if is_login or which else one.value,
            what=f"{which}it contains a line break or another control character, which would start a new parameter",
            remedy="Write it on one line",
        )
    words = re.split(r"[\s,]+", one.value.strip())
    if is_login and not all(word.startswith("lmdb:") or word in ("none", "") for word in words):
        return Problem(
            setting=one.place,
            what=f"{which}a password would end up in main.cf, which everyone in the container can read",
            remedy="Use RELAYHOST_USERNAME and RELAYHOST_PASSWORD_FILE",
        )
    if one.value.strip().lower() == "none" and not one.name.endswith(_HAS_ITS_OWN_NONE):
        return replace(one, value="")
    return replace(one, value=one.value.strip())


def find_known(listed: frozenset[str], assignments: Iterable[Assignment], services: Iterable[str]) -> frozenset[str]:
    """Return the names that may be set: Postfix's own, and those that come into being by what the user set.

    These are parameters that another one's value uses (`$mua_restrictions`), restriction classes, and what qmgr(8) has
    for each service that delivers (postconf(5) transport_...).
    """
    names = set(listed)
    for one in assignments:
        names |= set(re.findall(r"\$[({]?(\w+)", one.value))
        if one.name == "smtpd_restriction_classes":
            names |= set(re.split(r"[\s,]+", one.value))
    endings = [name.removeprefix(_EXAMPLE_SERVICE) for name in listed if name.startswith(_EXAMPLE_SERVICE)]
    names |= {f"{service}_{ending}" for service in services for ending in endings}
    return frozenset(names)


def find_weakened(assignments: Iterable[Assignment]) -> list[str]:
    """Return a warning for each parameter that is weaker than the safe default it replaces."""
    found = []
    for one in assignments:
        if effect := describe_weakening(one.name, one.value):
            text = f"{one.label}{one.name}={one.value} {effect}"
            found.append(text if one.place == f"{one.label}{one.name}" else f"{one.place}: {text}")
    return found
