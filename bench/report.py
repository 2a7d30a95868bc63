"""The results as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

START_TARGET: Final = 1.0
"""The most that a start may take, as a multiple of bare Postfix's."""
HEALTHY_TARGET_MS: Final = 600
"""From the first 220 to the engine's knowing that all is well."""
HEALTH_TARGET_MS: Final = 100
IMPORT_BUDGETS: Final = {"authrelay run": 230, "supervisor": 190, "log forwarder": 90}
"""How many modules a start may import, beside those that every Python has: their time is in the table."""
IDLE_TARGETS: Final = {"processes": 12, "pss_mib": 45.0, "cpu_ms_per_second": 2.0}

COLUMNS: Final = (
    ("delivered/s", "delivered_per_second"),
    ("accepted/s", "accepted_per_second"),
    ("p50 ms", "p50_ms"),
    ("p95 ms", "p95_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU s/1000", "cpu_seconds_per_1000"),
    ("conn/1000", "connections_per_1000"),
    ("at once", "most_connections"),
)
_KINDS: Final = (("first", "first start, fresh volumes"), ("restart", "restart"))
_FIELDS: Final = (
    ("from_command_ms", "docker start -> 220"),
    ("from_started_ms", "StartedAt -> 220"),
    ("configured_ms", "  of it: -> settings read, plan made"),
    ("master_ms", "  of it: -> master started"),
    ("healthy_ms", "220 -> healthy"),
)


def render_report(results: dict[str, Any]) -> str:
    """Return all tables."""
    machine = results["machine"]
    return "\n".join(
        [
            f"{machine['cores']} cores, {machine['processor']}, {machine['memory']}, Linux {machine['kernel']}, "
            f"{machine['engine']} on {machine['storage']}; load before: {machine['load_before']}, "
            f"other containers: {machine['other_containers']}",
            "",
            *_render_starts(results),
            "",
            *_render_idle(results),
            "",
            *_render_health(results),
            "",
            *_render_steps(results["steps_ms"]),
            "",
            *_render_imports(results["imports"]),
            "",
        ]
    )


def _render_starts(results: dict[str, Any]) -> Iterable[str]:
    starts = results["starts"]
    yield f"Start, ms: median (range) of {results['rounds']}{'authrelay':>31}{'bare':>24}{'ratio':>9}"
    for kind, title in _KINDS:
        yield f"  {title}"
        for field, label in _FIELDS:
            own, bare = starts["authrelay"][kind][field], starts["bare"][kind][field]
            ratio = results["ratios"][kind].get(field)
            shown = f"{ratio:9.2f}" if ratio is not None else ""
            yield f"    {label:<38}{_spread(own):>24}{_spread(bare):>24}{shown}"
    ratio = max(results["ratios"][kind]["from_started_ms"] for kind, _ in _KINDS)
    yield f"  The target is a ratio of at most {START_TARGET} from StartedAt: {_judge(ratio, START_TARGET)}."
    healthy = max(starts["authrelay"][kind]["healthy_ms"]["median"] for kind, _ in _KINDS)
    judged = _judge(healthy, HEALTHY_TARGET_MS)
    yield f"  The target is at most {HEALTHY_TARGET_MS} ms from the 220 to healthy: {judged}."


def _judge(value: float, target: float) -> str:
    return "met" if value <= target else "missed"


def _render_idle(results: dict[str, Any]) -> Iterable[str]:
    yield "Image, MB: " + ", ".join(f"{image} {size / 1e6:.1f}" for image, size in results["image_bytes"].items())
    for name, idle in results["idle"].items():
        if idle is None:
            continue
        yield (
            f"{name}, {results['idle_seconds']:.0f} s after the greeting: {idle['processes']['median']:.0f} processes, "
            f"PSS {idle['pss_kib']['median'] / 1024:.1f} MiB, CPU {idle['cpu_ms_per_second']['median']:.2f} ms a second"
        )
        for process in idle["by_process"]:
            yield f"    {process['pss_kib'] / 1024:6.1f} MiB  {process['command'][:80]}"
    if own := results["idle"]["authrelay"]:
        found = {
            "processes": own["processes"]["median"],
            "pss_mib": own["pss_kib"]["median"] / 1024,
            "cpu_ms_per_second": own["cpu_ms_per_second"]["median"],
        }
        for key, target in IDLE_TARGETS.items():
            yield f"  The target is {key.replace('_', ' ')} of at most {target:g}: {_judge(found[key], target)}."


def _render_health(results: dict[str, Any]) -> Iterable[str]:
    health = results["health"]
    verdict = _judge(health["cpu_ms"]["median"], HEALTH_TARGET_MS)
    yield f"authrelay health: CPU {_spread(health['cpu_ms'])} ms, wall {_spread(health['wall_ms'])} ms"
    yield f"  The target is less than {HEALTH_TARGET_MS} ms of CPU: {verdict}."


def _render_steps(steps: dict[str, Any]) -> Iterable[str]:
    yield "Steps of `authrelay run`, ms of wall time, alone in the image: median (range)"
    for step, summary in steps.items():
        yield f"    {step:<50}{_spread(summary):>24}"


def _render_imports(imports: dict[str, Any]) -> Iterable[str]:
    yield "Imports by `python -X importtime`, ms: median (range)"
    for program, found in imports.items():
        budget = IMPORT_BUDGETS[program]
        yield f"  {program}: {found['modules']} modules, of {budget} at most: {_judge(found['modules'], budget)}"
        for package, summary in found["packages_ms"].items():
            yield f"    {package:<50}{_spread(summary):>24}"


def _spread(summary: dict[str, float] | None) -> str:
    if summary is None:
        return "-"
    return f"{summary['median']:.0f} ({summary['least']:.0f}-{summary['greatest']:.0f})"


def render_deliveries(results: dict[str, Any]) -> str:
    """Return the medians as text for a terminal."""
    lines = []
    for name, scenario in results["scenarios"].items():
        lines.append(
            f"{name}: {scenario['messages']} messages of {scenario['bytes']} bytes, {scenario['sessions']} sessions, "
            f"{scenario['trip_ms']} ms"
        )
        lines.append(f"    {'':<18}" + "".join(f"{title:>13}" for title, _ in COLUMNS) + f"{'over bare':>13}")
        for relay, numbers in scenario["relays"].items():
            cells = "".join(
                f"{numbers[key]['median']:>13.{_choose_digits(numbers[key]['median'])}f}" for _, key in COLUMNS
            )
            ratio = scenario["over_bare"].get(relay, {}).get("delivered_per_second")
            memory = numbers.get("pss_mib")
            lines.append(
                f"    {relay:<18}{cells}{ratio or '':>13}"
                + (f"  {memory['greatest']:.0f} MiB at most" if memory else "")
            )
    return "\n".join(lines) + "\n"


def _choose_digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2
