"""What an old configuration does to addresses and headers: canonical and generic maps, aliases, header checks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from entrypoint.migration.draft import Draft
from entrypoint.migration.tables import ReadTable, read_maps, split_maps

_SENDERS: Final = ("sender_canonical_maps", "canonical_maps", "smtp_generic_maps")
_ALIASES: Final = ("alias_maps", "virtual_alias_maps")
_EVERYBODY: Final = ("*", "/.+/", "/.*/", "/^.*$/", "/.@/")
_NO_ADDRESS: Final = re.compile(r"[/|\"\\]|:include:")
TAKEN: Final = frozenset({*_SENDERS, *_ALIASES, "alias_database", "masquerade_domains", "header_checks"})
"""The parameters that are looked at here."""


def take_rewriting(draft: Draft, parameters: Mapping[str, str], read_table: ReadTable) -> None:
    """Take over what there is a setting for, and say what becomes of the rest."""
    _take_senders(draft, parameters, read_table)
    _take_aliases(draft, parameters, read_table)
    if domains := parameters.get("masquerade_domains", "").strip():
        draft.set("MASQUERADE_DOMAINS", domains, "CHANGED: recipients are relayed as they are written")
    _take_header_checks(draft, parameters.get("header_checks", ""), read_table)


def _take_senders(draft: Draft, parameters: Mapping[str, str], read_table: ReadTable) -> None:
    lines: dict[str, str] = {}
    for name in _SENDERS:
        for pattern, target in _read(draft, name, parameters.get(name, ""), read_table):
            sender = "*" if pattern in _EVERYBODY else pattern
            if (sender == "*" or "@" in sender) and "@" in target:
                lines.setdefault(sender, target)
            else:
                draft.remark(f"NOT TAKEN: {name} has '{pattern} {target}'; SENDER_REWRITE_TABLE has addresses")
    if lines:
        note = "CHANGED: senders alone are rewritten, in the envelope and in From; recipients and Reply-To stay"
        draft.set("SENDER_REWRITE_TABLE", "\n".join(f"{sender} {target}" for sender, target in lines.items()), note)


def _take_aliases(draft: Draft, parameters: Mapping[str, str], read_table: ReadTable) -> None:
    """Take the names that lead to an address in the end; `postmaster: root` alone, as Debian has it, does not."""
    lines: dict[str, list[str]] = {}
    for name in _ALIASES:
        for key, value in _read(draft, name, parameters.get(name, ""), read_table):
            targets = [word for word in re.split(r"[\s,]+", value) if word and not _NO_ADDRESS.match(word)]
            lines.setdefault(key.rstrip(":").lower(), targets)
    kept = {name for name, targets in lines.items() if any("@" in target for target in targets)}
    while more := {name for name, targets in lines.items() if name not in kept and kept & {*map(str.lower, targets)}}:
        kept |= more
    table = "".join(f"{name}: {', '.join(_choose(targets, kept))}\n" for name, targets in lines.items() if name in kept)
    if table:
        draft.set("ALIAS_TABLE", table.rstrip("\n"), "LEFT OUT: files, programs, and names that lead to no address")


def _choose(targets: Iterable[str], kept: set[str]) -> list[str]:
    return [target for target in targets if "@" in target or target.lower() in kept]


def _take_header_checks(draft: Draft, value: str, read_table: ReadTable) -> None:
    rules = []
    for table in split_maps(value):
        kind, _, place = table.partition(":")
        text = read_table(place) if kind == "regexp" else None
        if text is None:
            reason = "HEADER_CHECKS_TABLE has regexp:" if kind != "regexp" else "it is not here"
            draft.remark(f"NOT READ: header_checks has {table}: {reason}; docs/rewriting.md says what can be done")
        else:
            rules.append(text.strip("\n"))
    if rules:
        draft.set("HEADER_CHECKS_TABLE", "\n".join(rules))


def _read(draft: Draft, name: str, value: str, read_table: ReadTable) -> list[tuple[str, str]]:
    records, unread = read_maps(value, read_table)
    for table in unread:
        draft.remark(f"NOT READ: {name} has {table}, which is not here, or is no list of addresses")
    return records
