"""Medians and ranges. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def summarize(values: Sequence[float]) -> dict[str, float] | None:
    """Return the median, the least and the greatest of some values; `None` for no values."""
    if not values:
        return None
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "greatest": round(max(values), 2),
    }


def divide(one: dict[str, float] | None, other: dict[str, float] | None) -> float | None:
    """Return how many times the other's median the one's is."""
    return round(one["median"] / other["median"], 2) if one and other else None
