"""The pictures of the status page in docs/images, and of which page each was taken. Writes docs/images."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.support.views import make_broken, make_busy, make_empty

_DIRECTORY: Final = pathlib.Path(__file__).parents[2] / "docs" / "images"
_RECORD: Final = _DIRECTORY / "status-page.json"
"""The SHA-256 of the HTML that each picture shows: fonts and browsers draw differently, the page must be current."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is shown, and on what screen."""

    make: Callable[[], dict[str, Any]]
    is_dark: bool = False
    width: int = 1200
    height: int = 800


PICTURES: Final = {
    f"status-page-{state}{suffix}": Picture(make=make, is_dark=is_dark, width=width, height=height)
    for state, make in (("empty", make_empty), ("busy", make_busy), ("broken", make_broken))
    for suffix, is_dark, width, height in (
        ("", False, 1200, 800),
        ("-dark", True, 1200, 800),
        ("-phone", False, 360, 1100),
    )
}


def find_stale(pages: Mapping[str, str]) -> list[str]:
    """Return the names of the pictures that lack, or were taken of another page; `pages` is HTML by name."""
    record = json.loads(_RECORD.read_text(encoding="utf-8")) if _RECORD.exists() else {}
    return [
        name
        for name, page in pages.items()
        if record.get(name) != _hash(page) or not (_DIRECTORY / f"{name}.png").exists()
    ]


def save_pictures(pages: Mapping[str, str], pictures: Mapping[str, bytes]) -> None:
    """Put the pictures into docs/images."""
    _DIRECTORY.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (_DIRECTORY / f"{name}.png").write_bytes(picture)
    record = {name: _hash(page) for name, page in sorted(pages.items())}
    _RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _hash(page: str) -> str:
    return hashlib.sha256(page.encode()).hexdigest()
