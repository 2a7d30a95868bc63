"""Settings that are being found, and what a person must know about each. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from entrypoint.config.settings import DECLARATIONS

_SECRETS: Final = "/run/secrets"
_HOLDERS: Final = frozenset(declaration.name for declaration in DECLARATIONS if declaration.is_secret)
_ORDER: Final = [declaration.name for declaration in DECLARATIONS]
_WIDTH: Final = 118


@dataclass
class Draft:
    """What was found so far."""

    source: str
    """Where it is from, in a person's words."""
    values: dict[str, str] = field(default_factory=dict)
    """By setting, as a variable would hold it."""
    files: dict[str, str] = field(default_factory=dict)
    """By setting: the path of a file that it is to be given as, which is the person's own already."""
    remarks: list[str] = field(default_factory=list)
    """What is about no setting that is set."""
    _notes: dict[str, list[str]] = field(default_factory=dict)

    def set(self, name: str, value: str, note: str = "") -> None:
        """Set a setting, and say why it is not simply the same."""
        self.values[name] = value
        if note:
            self.note(name, note)

    def set_file(self, name: str, path: str, note: str = "") -> None:
        """The same for a file of the person's own."""
        self.files[name] = path
        if note:
            self.note(name, note)

    def note(self, name: str, text: str) -> None:
        """Say something of a setting."""
        if text not in self._notes.setdefault(name, []):
            self._notes[name].append(text)

    def remark(self, text: str) -> None:
        """Say something that is about no setting."""
        if text not in self.remarks:
            self.remarks.append(text)

    def list_secrets(self) -> dict[str, str]:
        """Return what has to be a file, by its name: passwords, and what has several lines."""
        return {_name_file(name): value for name, value in self.values.items() if name in _HOLDERS or "\n" in value}

    def render(self) -> str:
        """Return an env file (docker run --env-file) with the remarks as comments; no secret is in it."""
        lines = list(_comment(f"From {self.source}, by authrelay import."))
        secrets = self.list_secrets()
        names = {*self.values, *self.files}
        for name in sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)):
            for text in self._notes.get(name, ()):
                lines += _comment(text)
            if name in self.files:
                lines.append(f"{name}_FILE={self.files[name]}")
            elif _name_file(name) in secrets:
                lines.append(f"{name}_FILE={_SECRETS}/{_name_file(name)}")
            else:
                lines.append(f"{name}={self.values[name]}")
        orphans = [text for name, texts in self._notes.items() if name not in names for text in texts]
        for text in (*orphans, *self.remarks):
            lines += _comment(text)
        return "\n".join(lines) + "\n"


def _name_file(name: str) -> str:
    return name.lower().replace("_", "-")


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))
