"""`python -m bench.page`: writes the figures of docs/performance.md, and its picture, anew from bench/results. Disk."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any, Final

from bench.report import COLUMNS

_ROOT: Final = pathlib.Path(__file__).parents[1]
_PAGE: Final = _ROOT / "docs" / "performance.md"
_PICTURE: Final = _ROOT / "docs" / "images" / "deliveries.svg"
_BEGIN: Final = "<!-- figures: python -m bench.page -->\n"
_END: Final = "<!-- end of figures -->\n"
_TRIPS: Final = 3
"""Round trips of a message in a session that goes on: RSET; MAIL, RCPT and DATA in one; the content."""
_BURSTS: Final = ("burst-0", "burst-20", "burst-80")
_COLORS: Final = {
    "bare": "#8a8f98", "authrelay": "#1f6feb", "authrelay-50": "#0b3d91", "exim": "#b7791f", "opensmtpd": "#2f855a",
}  # fmt: skip


def predict(trip_ms: float, connections: float, cpu_seconds_per_1000: float, cores: int = 1) -> float:
    """Return messages a second: what the connections allow, or what the cores do."""
    by_cpu = cores * 1000 / cpu_seconds_per_1000
    by_trips = connections / (_TRIPS * trip_ms / 1000 + cpu_seconds_per_1000 / 1000)
    return min(by_cpu, by_trips)


def render_tables(results: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    machine = results["machine"]
    lines = [
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory']}, Linux {machine['kernel']}, Docker "
        f"{machine['engine']} on {machine['storage']}; medians of {results['rounds']}, least and greatest in brackets.",
        "",
    ]
    for name, scenario in results["scenarios"].items():
        lines += [
            f"**{name}**: {scenario['messages']} messages of {scenario['bytes']} bytes, {scenario['sessions']} client "
            f"session{'s' * (scenario['sessions'] > 1)}, {scenario['trip_ms']} ms to the upstream",
            "",
            "| | " + " | ".join(title for title, _ in COLUMNS) + " | times bare |",
            "|---|" + "---:|" * (len(COLUMNS) + 1),
        ]
        for relay, numbers in scenario["relays"].items():
            cells = [_spread(numbers[key], has_range=key == "delivered_per_second") for _, key in COLUMNS]
            ratio = scenario["over_bare"].get(relay, {}).get("delivered_per_second") or 1
            lines.append(f"| {relay} | " + " | ".join(cells) + f" | {ratio:.2f} |")
        lines.append("")
    lines += ["| | round trip | connections | model, messages/s | measured |", "|---|---:|---:|---:|---:|"]
    for name in _BURSTS:
        for relay in ("authrelay", "authrelay-50"):
            if numbers := results["scenarios"].get(name, {}).get("relays", {}).get(relay):
                trip, most = results["scenarios"][name]["trip_ms"], numbers["most_connections"]["median"]
                model = predict(trip, most, numbers["cpu_seconds_per_1000"]["median"])
                measured = numbers["delivered_per_second"]["median"]
                lines.append(f"| {relay} | {trip} ms | {most:.0f} | {model:.0f} | {measured:.0f} |")
    return "\n".join(lines) + "\n\n"


def _spread(summary: dict[str, float], *, has_range: bool) -> str:
    shown = _round(summary["median"])
    return f"{shown} ({_round(summary['least'])}-{_round(summary['greatest'])})" if has_range else shown


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw_bars(results: dict[str, Any]) -> str:
    """Return an SVG: messages delivered a second by each relay, at each distance."""
    bars, top, labels = [], 24, []
    most = max(
        numbers["delivered_per_second"]["median"]
        for name in _BURSTS
        if name in results["scenarios"]
        for numbers in results["scenarios"][name]["relays"].values()
    )
    for name in _BURSTS:
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


def main() -> None:
    """Write both."""
    results = json.loads((_ROOT / "bench" / "results" / "deliveries.json").read_text(encoding="utf-8"))
    page = _PAGE.read_text(encoding="utf-8")
    pattern = f"(?s){re.escape(_BEGIN)}.*{re.escape(_END)}"
    figures = f"{_BEGIN}\n{render_tables(results)}{_END}"
    _PAGE.write_text(re.sub(pattern, lambda _: figures, page), encoding="utf-8")
    _PICTURE.write_text(draw_bars(results), encoding="utf-8")


if __name__ == "__main__":
    main()
