"""The pictures of docs/performance.md, as SVG. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

BURSTS: Final = ("burst-0", "burst-20", "burst-80")
_COLORS: Final = {
    "bare": "#8a8f98", "authrelay": "#1f6feb", "authrelay-50": "#0b3d91", "exim": "#b7791f", "opensmtpd": "#2f855a",
}  # fmt: skip
CURVES: Final = {
    "backlog": "messages queued",
    "recipients": "recipients of a message",
    "connections": "connections to the upstream",
}
"""What grows, by the beginning of the scenarios' names."""
_WIDTH: Final = 180
_HEIGHT: Final = 120
_LEFT: Final = 44
_STEP: Final = 240


def draw_bars(results: dict[str, Any]) -> str:
    """Return an SVG: messages delivered a second by each relay, at each distance."""
    bars, top, labels = [], 24, []
    most = max(
        numbers["delivered_per_second"]["median"]
        for name in BURSTS
        if name in results["scenarios"]
        for numbers in results["scenarios"][name]["relays"].values()
    )
    for name in BURSTS:
        if (scenario := results["scenarios"].get(name)) is None:
            continue
        labels.append(f'<text x="8" y="{top}" font-weight="bold">{scenario["trip_ms"]} ms to the upstream</text>')
        top += 8
        for relay, color in _COLORS.items():
            if (numbers := scenario["relays"].get(relay)) is None:
                continue
            value = numbers["delivered_per_second"]["median"]
            width = round(430 * value / most, 1)
            bars.append(f'<rect x="120" y="{top}" width="{width}" height="16" fill="{color}"/>')
            labels.append(f'<text x="112" y="{top + 13}" text-anchor="end">{relay}</text>')
            labels.append(f'<text x="{126 + width}" y="{top + 13}">{value:.0f}</text>')
            top += 20
        top += 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {top - 20}" font-family="sans-serif" font-size="12" '
        'role="img" aria-label="Messages delivered a second">\n'
        f'<rect width="620" height="{top - 20}" fill="#fff"/>\n' + "\n".join(bars + labels) + "\n</svg>\n"
    )


def select_points(results: dict[str, Any], kind: str) -> list[tuple[int, int, dict[str, Any]]]:
    """Return how much there was of what grows, of how many messages, and what was measured; the least first."""
    found = []
    for name, scenario in results["scenarios"].items():
        beginning, _, count = name.rpartition("-")
        if beginning == kind:
            found += [(int(count), scenario["messages"], numbers) for numbers in scenario["relays"].values()]
    return sorted(found, key=lambda point: point[0])


def draw_curves(results: dict[str, Any]) -> str:
    """Return an SVG: seconds for a message or recipient, and memory, over each of what grows, on logarithmic axes."""
    parts = []
    for column, (kind, title) in enumerate(CURVES.items()):
        points = select_points(results, kind)
        left = _LEFT + column * _STEP
        parts.append(f'<text x="{left}" y="16" font-weight="bold">{title}</text>')
        for row, (label, pick) in enumerate((("messages/s", "delivered_per_second"), ("PSS MiB", "pss_mib"))):
            pairs = [(count, float(numbers[pick]["median"])) for count, _, numbers in points if numbers.get(pick)]
            if pairs:
                parts.append(_draw_curve(pairs, label, left, 34 + row * (_HEIGHT + 46)))
    width, height = _LEFT + len(CURVES) * _STEP, 34 + 2 * (_HEIGHT + 46)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11" role="img" aria-label="Messages a second and memory as the work grows">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _draw_curve(pairs: list[tuple[int, float]], label: str, left: float, top: float) -> str:
    """Return one small plot; the vertical axis begins at 0."""
    least, most = math.log10(pairs[0][0]), math.log10(pairs[-1][0])
    greatest = max(value for _, value in pairs)
    places = [
        (
            round(left + _WIDTH * (math.log10(count) - least) / ((most - least) or 1), 1),
            round(top + _HEIGHT * (1 - value / greatest), 1),
            count,
            value,
        )
        for count, value in pairs
    ]
    bottom = top + _HEIGHT
    lines = [
        f'<text x="{left}" y="{top - 4}" fill="#555">{label}</text>',
        f'<path d="M{left} {top}V{bottom}H{left + _WIDTH}" fill="none" stroke="#8a8f98"/>',
        f'<polyline points="{" ".join(f"{x},{y}" for x, y, _, _ in places)}" fill="none" stroke="#1f6feb"/>',
    ]
    for x, y, count, value in places:
        lines.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="#1f6feb"/>')
        lines.append(f'<text x="{x}" y="{y - 5}" text-anchor="middle">{value:.{0 if value >= 10 else 1}f}</text>')
        lines.append(f'<text x="{x}" y="{bottom + 13}" text-anchor="middle">{count}</text>')
    return "\n".join(lines)
