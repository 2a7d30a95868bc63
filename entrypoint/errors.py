"""Every error that ends authrelay, with one exit status each (sysexits(3)). Pure.

Only these reach the hall (`entrypoint.__main__`). A traceback is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class StartupError(Exception):
    """The base of all errors that a user may see; its text is the whole message."""

    exit_status: ClassVar[int] = 70


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong with what the user set.

    `setting` is the variable as the user wrote it, `value` its text (`None` for a secret or when it does not help),
    `what` is wrong with it, and `remedy` says how to mend it, with a literal example.
    """

    setting: str
    what: str
    remedy: str
    value: str | None = None

    def __str__(self) -> str:
        subject = self.setting if self.value is None else f"{self.setting}={quote_value(self.value)}"
        # The other parts may quote the user's text as well, and a problem is one line.
        return escape_odd(f"{subject}: {self.what}. {self.remedy}{'' if self.remedy.endswith(('?', '.')) else '.'}")


class ConfigurationError(StartupError):
    """What the user set cannot work; lists every problem, sorted, one a line (EX_CONFIG)."""

    exit_status = 78

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=str))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(StartupError):
    """The command line cannot be understood (EX_USAGE)."""

    exit_status = 64


class UnavailableError(StartupError):
    """A server without which a start cannot go on does not answer as it must (EX_UNAVAILABLE)."""

    exit_status = 69


class BadCertificateError(StartupError):
    """A certificate, key or CA that was given cannot be used (EX_DATAERR)."""

    exit_status = 65


class CannotWriteError(StartupError):
    """A file or directory of ours cannot be written, or not even read (EX_CANTCREAT)."""

    exit_status = 73


class CommandFailedError(StartupError):
    """A command of Postfix, or a service that must run, failed (EX_SOFTWARE)."""

    exit_status = 70


def quote_value(value: str) -> str:
    """Return a value fit for one line of a message: control characters escaped, at most 120 characters."""
    escaped = escape_odd(value)
    return escaped if len(escaped) <= 120 else escaped[:117] + "..."


def escape_odd(text: str) -> str:
    """Return a text on one line: line breaks, control characters and what is not Unicode escaped as in Python."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
