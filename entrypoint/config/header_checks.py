"""HEADER_CHECKS_TABLE: lines of header_checks(5), as far as they can be judged without Postfix. Pure.

What a pattern means Postfix alone knows: `system.tables` asks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.routes import parse_sender_pattern

_ACTIONS: Final = (
    "BCC", "DISCARD", "DUNNO", "HOLD", "IGNORE", "INFO", "PASS", "PREPEND", "REDIRECT", "REJECT", "REPLACE", "STRIP",
    "WARN",
)  # fmt: skip
"""header_checks(5), without FILTER."""
_EXAMPLE: Final = "Write '/^Subject: test/ REJECT no tests, please'"
_HEADER: Final = re.compile(r"[!-9;-~]+[ \t]*:.*|\$.*")
"""RFC 5322 section 2.2; or what a pattern has matched."""
_RULE: Final = re.compile(
    r"(if\s+)?!?([^\w\s\\])(?P<pattern>(?:\\.|(?!\2)[^\\])+)\2(?P<flags>[a-zA-Z]*)(?P<rest>.*)", re.S
)


def parse_table(text: str) -> str:
    """Return the table as it is, with plain line ends; raise InvalidValue for the first line that Postfix would
    misunderstand or ignore."""
    text = text.replace("\r\n", "\n").rstrip("\n") + "\n"
    odd = next((character for character in text if character not in "\t\n" and not character.isprintable()), None)
    if odd is not None:
        raise InvalidValue("it contains a character that cannot be printed", "Remove it", may_hold_secret=True)
    depth, seen = 0, dict[str, int]()
    for number, line in _join_lines(text):
        try:
            depth += _check_line(line)
        except InvalidValue as problem:
            raise InvalidValue(f"line {number}: {problem.what}", problem.remedy, may_hold_secret=True) from None
        if depth < 0:
            raise InvalidValue(
                f"line {number}: there is no 'if' before this 'endif'", "Remove it", may_hold_secret=True
            )
        if depth == 0 and (rule := _RULE.fullmatch(line)):
            pattern = line[: rule.start("rest")]
            if pattern in seen:
                raise InvalidValue(
                    f"line {number} has the pattern of line {seen[pattern]}, which comes first",
                    "Keep one of them",
                    may_hold_secret=True,
                )
            seen[pattern] = number
    if depth:
        raise InvalidValue(
            "an 'if' has no 'endif'", "Add a line 'endif' behind what depends on it", may_hold_secret=True
        )
    return text


def _join_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each logical line and where it begins: one that begins with a blank continues (regexp_table(5))."""
    logical, start = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not logical:
                raise InvalidValue(
                    f"line {number}: it begins with a blank, as only what continues a line does",
                    "Remove the blank",
                    may_hold_secret=True,
                )
            logical += "\n" + line
            continue
        if logical:
            yield start, logical
        logical, start = line, number
    if logical:
        yield start, logical


def _check_line(line: str) -> int:
    """Raise for a line that is wrong; return by how much deeper the next one lies."""
    line = line.strip()
    if line.lower() == "endif":
        return -1
    rule = _RULE.fullmatch(line)
    if not rule:
        raise InvalidValue("it is no pattern between slashes and an action", _EXAMPLE)
    if unknown := set(rule["flags"]) - set("imx"):
        raise InvalidValue(
            f"there is no flag '{min(unknown)}'", "Write i, m, x or none: all letters are the same unless i is there"
        )
    rest = rule["rest"].strip()
    if rule[1]:
        if rest:
            raise InvalidValue(
                "something follows the condition", "Write 'if /^Subject:/', then the lines, then 'endif'"
            )
        return 1
    action, _, argument = rest.replace("\n", " ").partition(" ")
    _check_action(action.upper(), action, argument.strip())
    return 0


def _check_action(action: str, written: str, argument: str) -> None:
    if action == "FILTER":
        raise InvalidValue(
            "FILTER would take the message past its upstream, its account and its limits",
            "Name the upstream in SENDER_RELAY_TABLE or TRANSPORT_TABLE",
        )
    if action not in _ACTIONS:
        raise InvalidValue(
            f"'{written}' is no action" if written else "it has no action", f"Write one of {', '.join(_ACTIONS)}"
        )
    if action in ("PREPEND", "REPLACE") and not _HEADER.fullmatch(argument):
        raise InvalidValue(f"{action} needs a whole header", f"Write '{action} X-Name: text'")
    if action in ("BCC", "REDIRECT"):
        if "@" not in argument or argument.startswith("@") or " " in argument:
            raise InvalidValue(f"{action} needs one address", f"Write '{action} person@example.com'")
        parse_sender_pattern(argument)
    if action in ("DUNNO", "IGNORE") and argument:
        raise InvalidValue(f"something follows {action}", f"Write {action} alone")
