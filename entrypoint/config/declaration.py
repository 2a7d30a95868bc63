"""How a setting is declared: once, as a field of `Settings`, with everything that code and documentation need. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

SETTING: Final = "<setting>"
"""Stands in a remedy for the name of the setting, which a parser that serves several does not know."""


class InvalidValue(ValueError):
    """A value that its setting cannot take: `what` is wrong, and the `remedy` with a literal example.

    `may_hold_secret`: the value looks as if a password or key were in it by mistake, so that it is not quoted.
    """

    def __init__(self, what: str, remedy: str, *, may_hold_secret: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.may_hold_secret = may_hold_secret


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaration:
    """One setting as users and the README see it."""

    name: str
    """The environment variable."""
    group: str
    help: str
    parse: Callable[[str], Any]
    """Turns the user's text into the value, or raises InvalidValue."""
    parse_file: Callable[[bytes], Any] | None
    """The same for a file's bytes, where a file may hold what a variable cannot (DER, ZIP)."""
    default: str | None
    """As a user would write it; `None` where there is none."""
    default_help: str
    """What happens when it is unset, where `default` alone does not say it."""
    cleared: Any
    """The value for the word `none`; MISSING where `none` has no meaning or one of its own."""
    is_required: bool
    is_secret: bool
    parameter: str
    """The Postfix parameter that it feeds (postconf(5)), if it is exactly one."""


MISSING: Final = object()


def _field(parse: Callable[[str], Any], help_text: str, **metadata: Any) -> Any:
    settled = {
        "group": "",
        "parse_file": None,
        "default": None,
        "default_help": "",
        "cleared": MISSING,
        "is_required": False,
        "is_secret": False,
        "parameter": "",
    } | metadata
    return dataclasses.field(metadata={"parse": parse, "help": help_text, **settled})


def required(parse: Callable[[str], T], help_text: str, *, group: str, parameter: str = "") -> T:
    """Declare a setting without which nothing can run."""
    return cast(T, _field(parse, help_text, group=group, parameter=parameter, is_required=True))


def optional(
    parse: Callable[[str], T],
    help_text: str,
    *,
    group: str,
    default_help: str = "",
    parameter: str = "",
    parse_file: Callable[[bytes], T] | None = None,
    cleared: object = MISSING,
    is_secret: bool = False,
) -> T | None:
    """Declare a setting that is `None` when the user does not set it."""
    field = _field(
        parse,
        help_text,
        group=group,
        default_help=default_help,
        parameter=parameter,
        parse_file=parse_file,
        cleared=cleared,
        is_secret=is_secret,
    )
    return cast("T | None", field)


def defaulted(
    parse: Callable[[str], T],
    help_text: str,
    *,
    default: str,
    group: str,
    parameter: str = "",
    parse_file: Callable[[bytes], T] | None = None,
    cleared: object = MISSING,
) -> T:
    """Declare a setting whose default is a text that the user could have written."""
    field = _field(
        parse, help_text, group=group, default=default, parameter=parameter, parse_file=parse_file, cleared=cleared
    )
    return cast(T, field)


def list_declarations(settings: type) -> tuple[Declaration, ...]:
    """Return the declarations of a settings class in the order in which they stand."""
    return tuple(
        Declaration(name=field.name.upper(), **field.metadata)
        for field in dataclasses.fields(settings)
        if field.metadata
    )
