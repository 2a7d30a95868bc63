"""The tables of an old configuration: what `hash:/etc/postfix/sasl_passwd` and the like hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

ReadTable = Callable[[str], str | None]
"""Gives the text of a table's source by its path, or nothing."""
_FILES: Final = frozenset({"hash", "btree", "lmdb", "cdb", "dbm", "texthash", "sdbm"})
"""Whose source is lines of key and value (postmap(1))."""


def split_maps(value: str) -> list[str]:
    """Return the tables of a parameter (DATABASE_README): separated by blanks or commas, but not within braces."""
    return re.findall(r"(?:[a-z]+:\{[^}]*\}|[^\s,]+)", value)


def read_maps(value: str, read_table: ReadTable) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the records of all tables of a parameter, and the tables that cannot be read."""
    records: list[tuple[str, str]] = []
    unread = []
    for table in split_maps(value):
        kind, _, place = table.removeprefix("proxy:").partition(":")
        if kind == "static":
            records.append(("*", place))
        elif kind == "inline":
            pairs = re.split(r",\s*", place.strip("{} "))
            records += [(key.strip(), text.strip()) for key, _, text in (pair.partition("=") for pair in pairs)]
        elif kind in _FILES and (text := read_table(place)) is not None:
            records += parse_source(text)
        else:
            unread.append(table)
    return records, unread


def parse_source(text: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each record of a table's source; a line that begins with a blank goes on (postmap(1))."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    for line in lines:
        key, _, value = line.partition(" ") if "\t" not in line.split(" ")[0] else line.partition("\t")
        yield key, value.strip()
