"""`python -m bench.page`: writes the figures of docs/performance.md, and its pictures, from bench/results. Disk."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any, Final

from bench.plots import BURSTS, CURVES, draw_bars, draw_curves, select_points
from bench.report import COLUMNS

_ROOT: Final = pathlib.Path(__file__).parents[1]
_PAGE: Final = _ROOT / "docs" / "performance.md"
_RESULTS: Final = _ROOT / "bench" / "results"
_PICTURES: Final = _ROOT / "docs" / "images"
_BEGIN: Final = "<!-- figures: python -m bench.page -->\n"
_END: Final = "<!-- end of figures -->\n"
_BEGIN_CURVES: Final = "<!-- curves: python -m bench.page -->\n"
_END_CURVES: Final = "<!-- end of curves -->\n"
_BEGIN_STARTS: Final = "<!-- starts: python -m bench.page -->\n"
_END_STARTS: Final = "<!-- end of starts -->\n"
_STARTS: Final = (
    ("first start, to the first 220, ms", "first", "from_started_ms"),
    ("restart, to the first 220, ms", "restart", "from_started_ms"),
    ("first start, from the 220 to `healthy`, ms", "first", "healthy_ms"),
    ("restart, from the 220 to `healthy`, ms", "restart", "healthy_ms"),
)
_IDLE: Final = (
    ("processes at rest", "processes", 1),
    ("their PSS, MiB", "pss_kib", 1 / 1024),
    ("CPU at rest, ms a second", "cpu_ms_per_second", 1),
)
_TRIPS: Final = 3
"""Round trips of a message in a session that goes on: RSET; MAIL, RCPT and DATA in one; the content."""


def predict(trip_ms: float, connections: float, cpu_seconds_per_1000: float, fsyncs: float, cores: int = 1) -> float:
    """Return messages a second: what the connections allow, or what the cores do, or the disk (fsync(2) a second)."""
    by_cpu = cores * 1000 / cpu_seconds_per_1000
    by_trips = connections / (_TRIPS * trip_ms / 1000 + cpu_seconds_per_1000 / 1000)
    return min(by_cpu, by_trips, fsyncs)


def render_tables(results: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [_describe_machine(results), ""]
    for name, scenario in results["scenarios"].items():
        lines += [
            f"**{name}**: {scenario['messages']} messages of {scenario['bytes']} bytes, {scenario['sessions']} client "
            f"session{'s' * (scenario['sessions'] > 1)}, {scenario['trip_ms']} ms to the upstream"
            + (", everybody on every core" if scenario.get("is_shared") else ""),
            "",
            "| | runs | " + " | ".join(title for title, _ in COLUMNS) + " | times bare |",
            "|---|" + "---:|" * (len(COLUMNS) + 2),
        ]
        for relay, numbers in scenario["relays"].items():
            cells = [_spread(numbers[key], has_range=key == "delivered_per_second") for _, key in COLUMNS]
            ratio = scenario["over_bare"].get(relay, {}).get("delivered_per_second")
            shown = f"{ratio:.2f}" if ratio else "1" if relay == "bare" else "-"
            lines.append(f"| {relay} | {numbers['runs']} | " + " | ".join(cells) + f" | {shown} |")
        lines.append("")
    fsyncs = results["machine"]["fsync"]["twenty_per_second"]
    lines += [
        "| | round trip | connections | model, messages/s | measured, last quarter | measured, whole burst |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in BURSTS:
        for relay in ("authrelay", "authrelay-50"):
            if numbers := results["scenarios"].get(name, {}).get("relays", {}).get(relay):
                trip, most = results["scenarios"][name]["trip_ms"], numbers["most_connections"]["median"]
                model = predict(trip, most, numbers["cpu_seconds_per_1000"]["median"], fsyncs)
                end, whole = (numbers[key]["median"] for key in ("last_quarter_per_second", "delivered_per_second"))
                lines.append(f"| {relay} | {trip} ms | {most:.0f} | {model:.0f} | {end:.0f} | {whole:.0f} |")
    return "\n".join(lines) + "\n\n"


def _spread(summary: dict[str, float], *, has_range: bool) -> str:
    shown = _round(summary["median"])
    return f"{shown} ({_round(summary['least'])}-{_round(summary['greatest'])})" if has_range else shown


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def render_curves(results: dict[str, Any]) -> str:
    """Return the tables of what grows, in Markdown."""
    lines = [_describe_machine(results), ""]
    for kind, title in CURVES.items():
        points = select_points(results, kind)
        if not points:
            continue
        lines += [
            f"| {title} | messages | seconds | messages/s | of its last quarter | CPU s/1000 | at once | PSS MiB |",
            "|---:|" + "---:|" * 7,
        ]
        for count, messages, numbers in points:
            keys = (
                *("seconds", "delivered_per_second", "last_quarter_per_second", "cpu_seconds_per_1000"),
                *("most_connections", "pss_mib"),
            )
            cells = (_round(numbers[key]["median"]) if numbers.get(key) else "-" for key in keys)
            lines.append(f"| {count} | {messages} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines) + "\n"


def render_starts(results: dict[str, Any]) -> str:
    """Return the table of starts and of what a relay costs at rest, in Markdown."""
    machine = results["machine"]
    lines = [
        f"{machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}, Docker {machine['engine']} on "
        f"{machine['storage']}; medians of {results['rounds']}, least and greatest in brackets.",
        "",
        "| | authrelay | bare | times bare |",
        "|---|---:|---:|---:|",
    ]
    for title, kind, key in _STARTS:
        own, bare = (results["starts"][name][kind].get(key) for name in ("authrelay", "bare"))
        ratio = results["ratios"][kind].get(key)
        cells = [_spread(one, has_range=True) if one else "-" for one in (own, bare)]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {f'{ratio:.2f}' if ratio else '-'} |")
    for title, key, factor in _IDLE:
        cells = [_round(results["idle"][name][key]["median"] * factor) for name in ("authrelay", "bare")]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | |")
    return "\n".join(lines) + "\n\n"


def _describe_machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory']}, Linux {machine['kernel']}, Docker "
        f"{machine['engine']} on {machine['storage']}; fsync(2) of 4 kB on a volume {machine['fsync']['ms']:.2f} ms, "
        f"{machine['fsync']['twenty_per_second']} a second by twenty at once. Medians, least and greatest in "
        "brackets."
    )


def main() -> None:
    """Write all of it."""
    results, curves, starts = (
        json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("deliveries", "curves", "latest")
    )
    page = _PAGE.read_text(encoding="utf-8")
    for begin, end, figures in (
        (_BEGIN, _END, f"\n{render_tables(results)}"),
        (_BEGIN_CURVES, _END_CURVES, f"\n{render_curves(curves)}"),
        (_BEGIN_STARTS, _END_STARTS, f"\n{render_starts(starts)}"),
    ):
        pattern = f"(?s){re.escape(begin)}.*{re.escape(end)}"
        page = re.sub(pattern, lambda _, text=f"{begin}{figures}{end}": text, page)  # type: ignore[misc]
    _PAGE.write_text(page, encoding="utf-8")
    (_PICTURES / "deliveries.svg").write_text(draw_bars(results), encoding="utf-8")
    (_PICTURES / "curves.svg").write_text(draw_curves(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
