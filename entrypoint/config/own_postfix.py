"""What the user says to Postfix itself: parameters, services, tables; in variables and in /etc/authrelay. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.fragments import (
    Assignment,
    OwnFile,
    OwnTable,
    choose_last,
    collect_tables,
    parse_fragment,
    translate_references,
)
from entrypoint.config.master import DELIVERS, MASTER_PREFIX, MasterEntry, parse_entry
from entrypoint.config.names import PARAMETER_PREFIX
from entrypoint.config.parameters import find_known, find_weakened, read_parameter
from entrypoint.errors import Problem


@dataclass(frozen=True, kw_only=True)
class OwnPostfix:
    """All of it, checked, with the paths at which Postfix finds the tables."""

    parameters: tuple[tuple[str, str], ...] = ()
    entries: tuple[MasterEntry, ...] = ()
    tables: tuple[OwnTable, ...] = ()


def judge_own(
    variables: Mapping[str, str],
    fragments: Iterable[OwnFile],
    files: Iterable[OwnFile],
    listed: frozenset[str],
    problems: list[Problem],
    warnings: list[str],
) -> OwnPostfix:
    """Return what holds of it; a variable goes before a file, and a later file before an earlier one."""
    in_files = [one for file in fragments for one in parse_fragment(file, problems)]
    in_variables = [
        Assignment(place=name, label=PARAMETER_PREFIX, name=name.removeprefix(PARAMETER_PREFIX), value=value)
        for name, value in sorted(variables.items())
        if not name.startswith(MASTER_PREFIX)
    ]
    assignments = choose_last((*in_files, *in_variables), warnings)
    entries = _parse_entries(variables, problems)
    options = [one for entry in entries for one in entry.assignments]
    deliverers = [entry.service for entry in entries if entry.command in DELIVERS]
    known = find_known(listed, (*assignments, *options), deliverers)
    # A parameter that is not the last has no effect, and may be wrong only in its name.
    checked = _check(assignments, known, problems)
    checked_options = {(one.place, one.name): one for one in _check(options, known, problems)}
    named = [(one.place, one.value) for one in (*checked, *checked_options.values())]
    tables = collect_tables(named, files, problems, warnings)
    warnings += find_weakened((*checked, *checked_options.values()))
    return OwnPostfix(
        parameters=tuple((one.name, translate_references(one.value)) for one in checked),
        entries=tuple(
            replace(
                entry,
                options=tuple(
                    (name, translate_references(one.value))
                    for name, _ in entry.options
                    if (one := checked_options.get((entry.setting, name)))
                ),
            )
            for entry in entries
        ),
        tables=tables,
    )


def _parse_entries(variables: Mapping[str, str], problems: list[Problem]) -> list[MasterEntry]:
    entries: dict[tuple[str, str], MasterEntry] = {}
    for name, value in sorted(variables.items()):
        if not name.startswith(MASTER_PREFIX):
            continue
        try:
            entry = parse_entry(name, value)
        except InvalidValue as invalid:
            problems.append(Problem(setting=name, what=invalid.what, remedy=invalid.remedy))
            continue
        if before := entries.get((entry.service, entry.type)):
            what = f"{before.setting} is about {entry.service} of type {entry.type} as well"
            problems.append(Problem(setting=name, what=what, remedy="Remove one of the two"))
        entries[entry.service, entry.type] = entry
    return list(entries.values())


def _check(assignments: Iterable[Assignment], known: frozenset[str], problems: list[Problem]) -> list[Assignment]:
    checked = []
    for one in assignments:
        outcome = read_parameter(one, known)
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            checked.append(outcome)
    return checked
