"""`python -m bench.deliveries`: mail through authrelay beside what a user would take instead. Runs docker; /proc.

Client and upstream have one core, the relay the other; with the same verified TLS, login and durability. One relay at a
time, on a fresh queue volume; who goes first changes. Prints a table, and writes bench/results/deliveries.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from bench.engine import (
    LABEL,
    EngineError,
    Subject,
    build_image,
    make_container,
    make_network,
    read_cpu_seconds,
    run_docker,
)
from bench.footprint import Watch
from bench.machine import describe_machine
from bench.report import render_deliveries
from bench.scenarios import CURVES, SCENARIOS, Scenario, make_subjects
from bench.start import wait_for_greeting
from bench.summary import divide, summarize
from bench.upstream import PEER_IMAGE, make_authority, make_upstream, measure_fsync

_HERE: Final = pathlib.Path(__file__).parent
_IMAGES: Final = ("bare", "exim", "opensmtpd", "peer")
_GIVE_UP_SECONDS: Final = 900.0
_SETTLING_SECONDS: Final = 4.0
"""Until authrelay has tried its upstream once, and everybody has come to rest."""
_POLL_SECONDS: Final = 0.5
_QUEUE_LENGTH: Final = "--sysctl=net.unix.max_dgram_qlen=1000"
"""As compose/relay.yaml has it; for all of them."""


def measure(subject: Subject, scenario: Scenario, authority: str, cores: tuple[str, str]) -> dict[str, Any]:
    """Return the numbers of one run. `cores`: of the relay, and of client and upstream."""
    # What the run before has left to be written and discarded would come with this one's fsync(2).
    os.sync()
    with ExitStack() as stack:
        network = stack.enter_context(make_network())
        upstream = stack.enter_context(make_upstream(network, authority, scenario.trip_ms, cores[1]))
        options = (
            *(f"--cpuset-cpus={cores[0]}", f"--volume={authority}:/authority:ro", "--network-alias=relay"),
            _QUEUE_LENGTH,
        )
        relay = stack.enter_context(make_container(subject, network, *options))
        run_docker("start", relay)
        wait_for_greeting(network.address, must_be_refused=False)
        time.sleep(_SETTLING_SECONDS)
        upstream.forget()
        watch = Watch(relay)
        if scenario.measures_memory:
            watch.start()
            stack.callback(watch.end)
        before, upstream_before = read_cpu_seconds(relay), upstream.cpu_seconds
        if scenario.is_backlog:
            upstream.leave()
        words = (scenario.sessions, scenario.messages, scenario.bytes, scenario.recipients, scenario.pause_seconds)
        told = json.loads(
            run_docker(
                "run", "--rm", "--label", LABEL, "--network", network.name, f"--cpuset-cpus={cores[1]}", PEER_IMAGE,
                "python3", "/opt/bench/client.py", "relay", *map(str, words),
            )
        )  # fmt: skip
        began_at = min(began for _, began, _ in told["accepted"])
        if scenario.is_backlog:
            upstream.come_back()
            before, began_at = read_cpu_seconds(relay), time.time()
            run_docker("exec", relay, "postqueue", "-f")
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        upstream.look()
        while len(upstream.taken) + upstream.repeated < scenario.transactions:
            if time.monotonic() > give_up:
                raise EngineError(
                    f"{subject.name}, {scenario.name}: {len(upstream.taken)} of {scenario.messages} arrived\n"
                    + run_docker("logs", "--tail", "5", relay)
                )
            time.sleep(_POLL_SECONDS)
            upstream.look()
        cpu = read_cpu_seconds(relay) - before
        return {
            **summarize_run(told["accepted"], upstream.taken, began_at),
            "cpu_seconds_per_1000": cpu / scenario.messages * 1000,
            "connections_per_1000": upstream.connections / scenario.messages * 1000,
            "most_connections": upstream.most,
            "repeated": upstream.repeated + scenario.messages - scenario.transactions,
            "upstream_cpu_seconds": upstream.cpu_seconds - upstream_before,
            "client_cpu_seconds": told["cpu"],
            **(describe_memory(watch) if watch.most_kib else {}),
        }


def describe_memory(watch: Watch) -> dict[str, Any]:
    """Return what was occupied at most, and by whom."""
    return {"pss_mib": watch.most_kib / 1024, "processes": watch.most_processes, "by_program": watch.by_program}


def summarize_run(
    accepted: Sequence[tuple[int, float, float]], taken: dict[int, float], began_at: float
) -> dict[str, float]:
    """Return rates and latencies of one run, from when it began to the last 250 of either side."""
    first_at = min(began for _, began, _ in accepted)
    times = sorted(taken.values())
    quarter = max(1, len(times) // 4)
    waits = sorted(max(0.0, taken[number] - at) * 1000 for number, _, at in accepted)
    return {
        "seconds": times[-1] - began_at,
        "accepted_per_second": len(accepted) / (max(at for _, _, at in accepted) - first_at),
        "delivered_per_second": len(accepted) / (times[-1] - began_at),
        "last_quarter_per_second": quarter / max(0.001, times[-1] - times[-quarter - 1])
        if len(times) > quarter
        else 0.0,
        **{f"p{share}_ms": waits[math.ceil(len(waits) * share / 100) - 1] for share in (50, 95, 99)},
    }


def measure_all(image: str, base: str, rounds: int, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return every number, medians and ranges, and the ratios over bare Postfix."""
    for name in _IMAGES:
        build_image(f"authrelay-bench-{name}:dev", str(_HERE / name), base)
    subjects = make_subjects(image)
    machine = {**describe_machine(), "fsync": measure_fsync()}
    last = (os.cpu_count() or 1) - 1
    cores, every = ("0", str(min(1, last))), (f"0-{last}", f"0-{last}")
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with make_authority() as authority:
        for number in range(rounds):
            for scenario in scenarios:
                names = scenario.relays if number % 2 == 0 else scenario.relays[::-1]
                for name in names:
                    row = measure(subjects[name], scenario, authority, every if scenario.is_shared else cores)
                    samples.setdefault(scenario.name, {}).setdefault(name, []).append(row)
                    sys.stderr.write(f"{scenario.name} {name}: {row['delivered_per_second']:.1f}/s\n")
    return {
        "machine": machine,
        "rounds": rounds,
        "scenarios": {scenario.name: describe(scenario, samples[scenario.name]) for scenario in scenarios},
    }


def describe(scenario: Scenario, samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what was done, and what came of it."""
    relays: dict[str, dict[str, Any]] = {
        name: {
            "runs": len(rows),
            **{key: summarize([row[key] for row in rows]) for key in rows[0] if key != "by_program"},
            **({"by_program": rows[-1]["by_program"]} if "by_program" in rows[-1] else {}),
        }
        for name, rows in sorted(samples.items())
    }
    return {
        "trip_ms": scenario.trip_ms,
        "bytes": scenario.bytes,
        "sessions": scenario.sessions,
        "messages": scenario.messages,
        "recipients": scenario.recipients,
        "pause_seconds": scenario.pause_seconds,
        "is_shared": scenario.is_shared,
        "relays": relays,
        "over_bare": compare(relays),
    }


def compare(relays: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return each relay's medians over those of bare Postfix."""
    keys = ("delivered_per_second", "accepted_per_second", "cpu_seconds_per_1000", "p50_ms", "p95_ms", "p99_ms")
    bare = relays.get("bare", {})
    return {
        name: {key: divide(numbers[key], bare.get(key)) for key in keys}
        for name, numbers in relays.items()
        if name != "bare"
    }


def add_results(earlier: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Return the earlier results with these in their place or beside them."""
    for name, scenario in results["scenarios"].items():
        relays = {**earlier["scenarios"].get(name, {}).get("relays", {}), **scenario["relays"]}
        earlier["scenarios"][name] = {**scenario, "relays": dict(sorted(relays.items())), "over_bare": compare(relays)}
    return {**results, "scenarios": earlier["scenarios"]}


def main() -> int:
    """Measure and tell; return 0, or 1 with a sentence when it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliveries", description=__doc__)
    parser.add_argument("--image", default="authrelay:dev", help="the image to measure (authrelay:dev)")
    parser.add_argument("--base", default=os.environ.get("BASE_IMAGE") or "localhost/authrelay-base:trixie-slim")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--curves", action="store_true", help="how cost grows, in place of the comparison")
    parser.add_argument("--only", default="", help="scenarios, with commas (all)")
    parser.add_argument("--relays", default="", help="which ones, with commas (all)")
    parser.add_argument("--add", action="store_true", help="keep what the file has of other scenarios and relays")
    parser.add_argument("--name", default="", help="results/NAME.json (deliveries, curves)")
    options = parser.parse_args()
    scenarios = CURVES if options.curves else SCENARIOS
    wanted = [one for one in scenarios if not options.only or one.name in options.only.split(",")]
    if options.relays:
        chosen = tuple(options.relays.split(","))
        wanted = [dataclasses.replace(one, relays=chosen) for one in wanted]
    try:
        results = measure_all(options.image, options.base, options.rounds, wanted)
    except EngineError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    path = _HERE / "results" / f"{options.name or ('curves' if options.curves else 'deliveries')}.json"
    if options.add:
        results = add_results(json.loads(path.read_text(encoding="utf-8")), results)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(render_deliveries(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
