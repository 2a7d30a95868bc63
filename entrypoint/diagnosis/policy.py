"""What a TLS policy of Postfix's allows of a handshake: the rule, versions, ciphers, the name to ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.system.handshake import TLS_VERSIONS

_TABLE_LIMIT: Final = re.compile(r"[\s,]+")


def split_tables(text: str) -> tuple[str, ...]:
    """Return the tables of a list such as smtp_tls_policy_maps; one in braces may hold blanks (DATABASE_README)."""
    tables, depth, word = [], 0, ""
    for character in text:
        if depth == 0 and _TABLE_LIMIT.match(character):
            tables.append(word)
            word = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        word += character
    return tuple(one for one in (*tables, word) if one)


def list_policy_keys(nexthop: Nexthop) -> tuple[str, ...]:
    """Return what Postfix asks smtp_tls_policy_maps for, in its order: the nexthop, then each domain above a bare name
    (postconf(5) smtp_tls_policy_maps)."""
    key = str(nexthop)
    if "[" in key or ":" in key:
        return (key,)
    labels = key.split(".")
    return (key, *("." + ".".join(labels[i:]) for i in range(1, len(labels))))


def parse_policy(text: str, destination: str) -> TlsRule:
    """Return the rule that a table's answer is; raise ValueError for a level that Postfix does not have."""
    level, *words = [word for word in re.split(r"[\s,]+", text) if word] or [""]
    attributes = (word.partition("=") for word in words)
    return TlsRule(
        destination=destination,
        level=TlsLevel(level.lower()),
        attributes=tuple((name, value) for name, _, value in attributes),
    )


def choose_versions(protocols: str) -> tuple[str, ...]:
    """Return the TLS versions that a list such as smtp_tls_mandatory_protocols allows (postconf(5)): `>=TLSv1.2`,
    `<=TLSv1.2`, `!TLSv1.3`, or those that are named alone."""
    known = {name.lower(): position for position, name in enumerate(TLS_VERSIONS)}
    allowed, named = set(known.values()), set()
    for word in re.split(r"[\s,:;]+", protocols.lower()):
        bare = word.lstrip("!<>=")
        # What is older than what we know is a floor that lets all pass, and nothing else.
        position = known.get(bare, -1)
        if word.startswith(">="):
            allowed &= {one for one in allowed if one >= position}
        elif word.startswith("<="):
            allowed &= {one for one in allowed if one <= position}
        elif word.startswith("!"):
            allowed.discard(position)
        elif word:
            named.add(position)
    return tuple(TLS_VERSIONS[one] for one in sorted(allowed & named if named else allowed))


def choose_ciphers(level: TlsLevel, attributes: Mapping[str, str], values: Mapping[str, str]) -> str:
    """Return the ciphers for OpenSSL: a grade's list without what is excluded (postconf(5) smtp_tls_mandatory_ciphers).

    An `exclude` of the policy replaces the lists of main.cf. Security level 0, as Postfix has it: what is too weak is
    said by the grade.
    """
    is_optional = level is TlsLevel.MAY
    grade = attributes.get("ciphers", values["smtp_tls_ciphers" if is_optional else "smtp_tls_mandatory_ciphers"])
    excluded = attributes.get("exclude")
    if excluded is None:
        excluded = values["smtp_tls_exclude_ciphers"]
        if not is_optional:
            excluded += f" {values['smtp_tls_mandatory_exclude_ciphers']}"
    known = {"high": "tls_high_cipherlist", "null": "tls_null_cipherlist"}
    names = [f"!{name}" for name in re.split(r"[\s,:]+", excluded) if name]
    if grade.lower() != "null":
        names.append("!eNULL")
    return ":".join([values[known.get(grade.lower(), "tls_medium_cipherlist")], *names, "!aNULL", "@SECLEVEL=0"])


def choose_server_name(word: str, host: str, nexthop: str) -> str | None:
    """Return the name to ask for in the handshake (postconf(5) smtp_tls_servername)."""
    return {"": None, "hostname": host, "nexthop": nexthop}.get(word, word)
