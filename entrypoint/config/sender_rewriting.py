"""SENDER_REWRITE_TABLE: which sender becomes which. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.routes import parse_sender_pattern, read_lines

EVERYONE: Final = "*"
_EXAMPLE: Final = "Write '@example.com @example.org' or '* relay@example.com'"


@dataclass(frozen=True, kw_only=True)
class SenderRewrite:
    """One line of SENDER_REWRITE_TABLE."""

    line: int
    pattern: str
    """An address or `@domain` in lower case, or `*`."""
    target: str
    """An address, or `@domain`, which keeps the local part."""


def parse_table(text: str) -> tuple[SenderRewrite, ...]:
    """Return the lines of a table of `sender new-sender`, `#` comments; raise where one leads in a circle."""
    lines = tuple(read_lines(text, _parse_line))
    for line in lines:
        _follow(lines, line)
    return lines


def _parse_line(number: int, line: str) -> SenderRewrite:
    words = line.split()
    if len(words) != 2:
        raise InvalidValue("it has no new sender" if len(words) < 2 else f"something follows '{words[1]}'", _EXAMPLE)
    if words[1] == EVERYONE:
        raise InvalidValue(f"'{EVERYONE}' is no new sender", _EXAMPLE)
    pattern = words[0] if words[0] == EVERYONE else parse_sender_pattern(words[0])
    local, _, domain = parse_sender_pattern(words[1]).rpartition("@")
    # The local part is written as the user has it.
    return SenderRewrite(line=number, pattern=pattern, target=f"{words[1][: len(local)]}@{domain}")


def rewrite(lines: Iterable[SenderRewrite], sender: str) -> str:
    """Return what becomes of an address in lower case, as cleanup(8) does it: again until nothing changes.

    What a line writes is left as it is, unless another line is about it: `render_sender_rewrites` has it so.
    """
    lines = tuple(lines)
    written = {line.target.lower() for line in lines}
    for _ in range(len(lines) + 1):
        line = _find_line(lines, sender, written)
        after = sender if line is None else _apply(line, sender)
        if after == sender:
            break
        sender = after
    return sender


def _find_line(lines: tuple[SenderRewrite, ...], sender: str, written: set[str]) -> SenderRewrite | None:
    """Return the line that is about an address: the address itself, its domain, everyone."""
    by_pattern = {line.pattern: line for line in lines}
    for key in (sender, f"@{sender.rpartition('@')[2]}"):
        if key in by_pattern:
            return by_pattern[key]
        if key in written:
            return None
    return by_pattern.get(EVERYONE)


def _apply(line: SenderRewrite, sender: str) -> str:
    target = line.target.lower()
    return sender.rpartition("@")[0] + target if target.startswith("@") else target


def _follow(lines: tuple[SenderRewrite, ...], first: SenderRewrite) -> None:
    """Raise where what a line writes comes back to it."""
    written = {line.target.lower() for line in lines}
    sender = {"*": "someone@everyone.invalid"}.get(first.pattern, first.pattern)
    sender = f"someone{sender}" if sender.startswith("@") else sender
    seen = [sender]
    while line := _find_line(lines, sender, written):
        sender, before = _apply(line, sender), sender
        if sender == before:
            return
        if sender in seen:
            raise InvalidValue(
                f"line {first.line}: '{first.pattern}' becomes '{first.target}', and line {line.line} leads back",
                "Remove one of the two lines",
                may_hold_secret=True,
            )
        seen.append(sender)
