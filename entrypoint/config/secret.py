"""A text that does not show itself. Pure."""

from __future__ import annotations


class Secret:
    """A password or key: equal by its text, and hidden from every repr, format and log."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Each caller is a place to look at."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "(secret)"

    def __format__(self, specification: str) -> str:
        return repr(self)
