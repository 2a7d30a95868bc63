"""An hour by minute as a small picture, and the same in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from entrypoint.services.status.wording import format_count, format_minute

MINUTES: Final = 60
WIDTH: Final = 240
HEIGHT: Final = 32
_STEP: Final = WIDTH // MINUTES
_BAR: Final = _STEP - 1
_LEAST_HEIGHT: Final = 2
"""One message beside a thousand must be seen, too."""


@dataclass(frozen=True, kw_only=True)
class Sparkline:
    """One number by minute; `path` is an SVG path in WIDTH x HEIGHT, and empty where nothing happened."""

    path: str
    total: str
    peak: str
    """`at most 12 a minute`."""
    words: str
    """All that the picture shows, for whom does not see it."""


def fill_hour(history: Sequence[Sequence[float]], column: int, now: float) -> list[tuple[int, int]]:
    """Return (minute, number) for each of the last sixty minutes, oldest first; the report leaves quiet ones out."""
    numbers = {int(row[0]) // 60: int(row[column]) for row in history}
    last = int(now) // 60
    return [(minute * 60, numbers.get(minute, 0)) for minute in range(last - MINUTES + 1, last + 1)]


def make_sparkline(noun: str, hour: Sequence[tuple[int, int]]) -> Sparkline:
    """Return the picture of an hour; `noun` says what is counted: `accepted`."""
    most_at, most = max(hour, key=lambda minute: minute[1])
    total = sum(number for _, number in hour)
    span = f"from {format_minute(hour[0][0])} to {format_minute(hour[-1][0])}"
    if not total:
        return Sparkline(path="", total="0", peak="", words=f"None {noun} {span}.")
    peak = f"at most {format_count(most)} a minute"
    words = f"{format_count(total)} {noun} {span}; {peak}, at {format_minute(most_at)}."
    bars = []
    for index, (_, number) in enumerate(hour):
        if number:
            height = max(_LEAST_HEIGHT, round(HEIGHT * number / most))
            bars.append(f"M{index * _STEP} {HEIGHT}v-{height}h{_BAR}v{height}z")
    return Sparkline(path="".join(bars), total=format_count(total), peak=peak, words=words)
