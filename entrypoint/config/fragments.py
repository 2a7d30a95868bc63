"""Files of main.cf's form, and the tables beside them: what lies in /etc/authrelay. Pure.

The form is Postfix's own (postconf(5)): `name = value`, a line that begins with a blank goes on, `#` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from entrypoint import paths
from entrypoint.errors import Problem

_NAME: Final = re.compile(r"(\w[\w-]*)\s*=(.*)", re.DOTALL)
_REFERENCE: Final = re.compile(rf"(?:(?P<type>\w+):)?{re.escape(paths.OWN_TABLES)}/(?P<name>[^\s,{{}}]*)")
FRAGMENT_SUFFIX: Final = ".cf"
COMPILED: Final = "lmdb"
_AS_TEXT: Final = frozenset({"regexp", "cidr", "texthash"})
_FORMER: Final = frozenset({"hash", "btree", "dbm", "cdb", "sdbm"})


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A parameter that somebody set, and where."""

    place: str
    """A variable's name, or file and line."""
    label: str
    """What stands before the parameter's name there: `POSTFIX_` or nothing."""
    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file of the user's as it was read."""

    path: str
    text: str = field(repr=False)
    is_private: bool
    """Whether only its owner can read it."""

    @property
    def name(self) -> str:
        """Its name in its directory."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """A lookup table of the user's that a parameter names."""

    name: str
    type: str
    """`lmdb`, or a type that Postfix reads as text; empty for a file that is no table."""
    text: str = field(repr=False)
    is_private: bool

    @property
    def path(self) -> str:
        """Where Postfix finds it."""
        return f"{paths.POSTFIX_CONFIG}/{paths.OWN_TABLE_PREFIX}{self.name}"


def parse_fragment(file: OwnFile, problems: list[Problem]) -> Iterator[Assignment]:
    """Yield each assignment of a file in its order, each parameter once."""
    first: dict[str, int] = {}
    for number, line in _join_lines(file.text):
        place = f"{file.path} line {number}"
        match = _NAME.fullmatch(line)
        if not match:
            what = (
                "it begins with a blank, and there is no line before it that it could go on"
                if line[:1].isspace()
                else ("it is not of the form 'name = value'")
            )
            problems.append(Problem(setting=place, what=what, remedy="Write, for example, maximal_queue_lifetime = 2d"))
            continue
        name, value = match[1], " ".join(match[2].split("\n")).strip()
        if name in first:
            problems.append(
                Problem(
                    setting=place,
                    what=f"{name} is already set in line {first[name]} of the same file",
                    remedy="Remove one of the two lines",
                )
            )
            continue
        first[name] = number
        yield Assignment(place=place, label="", name=name, value=value)


def choose_last(assignments: Iterable[Assignment], warnings: list[str]) -> list[Assignment]:
    """Return one assignment for each parameter, the last, and say where two places disagree."""
    chosen: dict[str, Assignment] = {}
    for one in assignments:
        before = chosen.get(one.name)
        if before and before.value != one.value:
            warnings.append(f"{one.place}: {one.name} goes before what {before.place} says of it")
        chosen[one.name] = one
    return sorted(chosen.values(), key=lambda one: one.name)


def find_references(text: str) -> list[tuple[str, str]]:
    """Return type and name of each file in /etc/authrelay/tables that a value names."""
    return [(match["type"] or "", match["name"]) for match in _REFERENCE.finditer(text)]


def translate_references(text: str) -> str:
    """Return a value with the paths at which Postfix finds those files."""
    return text.replace(f"{paths.OWN_TABLES}/", f"{paths.POSTFIX_CONFIG}/{paths.OWN_TABLE_PREFIX}")


def collect_tables(
    named: Iterable[tuple[str, str]], files: Iterable[OwnFile], problems: list[Problem], warnings: list[str]
) -> tuple[OwnTable, ...]:
    """Return the tables that (place, value) pairs name."""
    there = {file.name: file for file in files}
    tables: dict[str, OwnTable] = {}
    for place, value in named:
        for kind, name in find_references(value):
            problem = _check_reference(place, kind, name, there, tables)
            if problem:
                problems.append(problem)
                continue
            file = there[name]
            tables[name] = OwnTable(name=name, type=kind, text=file.text, is_private=file.is_private)
    warnings += (
        f"{file.path}: no parameter names it, so that it has no effect. "
        f"Name it, for example transport_maps = {COMPILED}:{file.path}"
        for file in there.values()
        if file.name not in {name for _, value in named for _, name in find_references(value)}
    )
    return tuple(tables.values())


def _check_reference(
    place: str, kind: str, name: str, there: dict[str, OwnFile], tables: dict[str, OwnTable]
) -> Problem | None:
    path = f"{paths.OWN_TABLES}/{name}"
    types = ", ".join((COMPILED, *sorted(_AS_TEXT)))
    if kind in _FORMER:
        what, remedy = f"{kind}: is no type of table here", f"Write {COMPILED}:{path}; the table is made at the start"
    elif kind and kind != COMPILED and kind not in _AS_TEXT:
        what, remedy = f"a file cannot be a table of type {kind}: here", f"Use one of {types}"
    elif name not in there:
        what, remedy = f"there is no file {path}", f"Mount it there; there are: {', '.join(sorted(there)) or 'none'}"
    elif name in tables and tables[name].type != kind:
        what = f"{path} is {kind or 'plain'} here and {tables[name].type or 'plain'} elsewhere"
        remedy = "Use one type, or a copy of the file under another name"
    else:
        return None
    return Problem(setting=place, what=what, remedy=remedy)


def _join_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of its first line and the text of each logical line (postconf(5))."""
    number = 0
    lines: list[str] = []
    for index, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and lines:
            lines.append(line.strip())
            continue
        if lines:
            yield number, "\n".join(lines)
        number, lines = index, [line.rstrip()]
    if lines:
        yield number, "\n".join(lines)
