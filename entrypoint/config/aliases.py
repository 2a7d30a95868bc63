"""ALIAS_TABLE: who gets the mail to root, postmaster and other names of the relay's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.routes import parse_sender_pattern, read_lines

EVERY_OTHER: Final = "*"
LOCAL_NAMES: Final = ("localhost", "localhost.localdomain")
"""What programs put behind a name that has no domain, beside the relay's own name."""
_EXAMPLE: Final = "Write 'root: person@example.com'"
_LINE: Final = re.compile(r"([^\s:]+)(?:\s*:\s*|\s+)(\S.*)")


@dataclass(frozen=True, kw_only=True)
class Alias:
    """One line of ALIAS_TABLE."""

    line: int
    pattern: str
    """A name or an address in lower case, or `*`: every other name of the relay's own."""
    targets: tuple[str, ...]
    """Addresses, and names that have a line of their own."""


def parse_table(text: str) -> tuple[Alias, ...]:
    """Return the lines of a table of `name: address, ...` (aliases(5)) or `name address`, `#` comments.

    Raises where a target is a name without a line, or leads back to where it came from.
    """
    lines = tuple(read_lines(text, _parse_line))
    by_name = index(lines)
    for name in by_name:
        resolve(by_name, name)
    return lines


def _parse_line(number: int, line: str) -> Alias:
    match = _LINE.fullmatch(line)
    if not match:
        raise InvalidValue("it is not a name and an address", _EXAMPLE)
    name, rest = match.groups()
    if name == EVERY_OTHER:
        pattern = name
    else:
        if name.startswith("@"):
            raise InvalidValue(
                f"'{name}' is a whole domain", f"{_EXAMPLE}, or one address, 'root@host.example.com: ...'"
            )
        pattern = _parse_name(name)
    targets = (word for word in re.split(r"[\s,]+", rest) if word)
    return Alias(line=number, pattern=pattern, targets=tuple(dict.fromkeys(map(_parse_target, targets))))


def _parse_name(text: str) -> str:
    """Return a name, or an address, in lower case; one at localhost is the name."""
    address = parse_sender_pattern(text if "@" in text else f"{text}@{LOCAL_NAMES[0]}")
    local, _, domain = address.rpartition("@")
    return local if domain in LOCAL_NAMES else address


def _parse_target(text: str) -> str:
    if text.startswith(("/", "|", '"', ":include:", "\\")):
        raise InvalidValue(f"'{text}' is a file or a program, and nothing is delivered here", _EXAMPLE)
    if text.startswith("@"):
        raise InvalidValue(f"'{text}' has no name", _EXAMPLE)
    name = _parse_name(text)
    # The name before the @ is written as the user has it.
    local, at, domain = name.rpartition("@")
    return f"{text[: len(local)]}{at}{domain}" if at else name


def index(lines: Iterable[Alias]) -> dict[str, Alias]:
    """Return the lines by their names."""
    return {line.pattern: line for line in lines}


def resolve(
    lines: Mapping[str, Alias], pattern: str, own_names: Collection[str] = (), seen: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the addresses that a line leads to in the end, each once.

    `own_names`: what else stands behind a name of the relay's own, as localhost does.
    """
    return tuple(dict.fromkeys(_expand(lines, lines[pattern], own_names, (*seen, pattern))))


def _expand(
    lines: Mapping[str, Alias], line: Alias, own_names: Collection[str], seen: tuple[str, ...]
) -> Iterator[str]:
    for target in line.targets:
        local, at, domain = target.lower().rpartition("@")
        name = local if at and domain in own_names else target.lower()
        is_name = "@" not in name
        following = name if name in lines else EVERY_OTHER if is_name and EVERY_OTHER in lines else None
        if following in seen:
            raise InvalidValue(
                f"line {line.line}: '{line.pattern}: {target}' leads back to '{following}'",
                f"Name an address in the end: '{line.pattern}: person@example.com'",
                may_hold_secret=True,
            )
        if following is not None:
            yield from resolve(lines, following, own_names, seen)
        elif is_name:
            raise InvalidValue(
                f"line {line.line}: '{target}' is no address, and there is no line for that name",
                f"Write {target}@example.com, or add a line '{target}: person@example.com'",
                may_hold_secret=True,
            )
        else:
            yield target
