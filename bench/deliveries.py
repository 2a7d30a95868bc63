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
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.engine import (
    LABEL,
    EngineError,
    Network,
    Subject,
    build_image,
    inspect,
    make_container,
    make_network,
    read_cpu_seconds,
    run_docker,
)
from bench.footprint import list_processes
from bench.machine import describe_machine
from bench.start import wait_for_greeting
from bench.summary import divide, summarize

_HERE: Final = pathlib.Path(__file__).parent
_PEER: Final = "authrelay-bench-peer:dev"
_IMAGES: Final = ("bare", "exim", "opensmtpd", "peer")
_UPSTREAM: Final = "smtp.bench.test"
_GIVE_UP_SECONDS: Final = 900.0
_SETTLING_SECONDS: Final = 4.0
"""Until authrelay has tried its upstream once, and everybody has come to rest."""
_POLL_SECONDS: Final = 0.5
_MEMORY_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of work."""

    name: str
    trip_ms: int
    """Of a round trip to the upstream."""
    bytes: int
    sessions: int
    messages: int
    recipients: int = 1
    pause_seconds: float = 0.0
    relays: tuple[str, ...] = ("bare", "authrelay", "authrelay-50", "exim", "opensmtpd")
    measures_memory: bool = False


SCENARIOS: Final = (
    Scenario(name="burst-0", trip_ms=0, bytes=4000, sessions=20, messages=2000),
    Scenario(name="burst-20", trip_ms=20, bytes=4000, sessions=20, messages=2000),
    Scenario(name="burst-80", trip_ms=80, bytes=4000, sessions=20, messages=1000),
    Scenario(name="one-0", trip_ms=0, bytes=4000, sessions=1, messages=500),
    Scenario(name="one-20", trip_ms=20, bytes=4000, sessions=1, messages=500),
    Scenario(name="100k-0", trip_ms=0, bytes=100_000, sessions=20, messages=500),
    Scenario(name="100k-20", trip_ms=20, bytes=100_000, sessions=20, messages=500),
    Scenario(name="5M-0", trip_ms=0, bytes=5_000_000, sessions=20, messages=40),
    Scenario(name="5M-20", trip_ms=20, bytes=5_000_000, sessions=20, messages=40),
    Scenario(name="trickle-20", trip_ms=20, bytes=4000, sessions=1, messages=20, pause_seconds=3.0),
)


def make_subjects(image: str) -> dict[str, Subject]:
    """Return the relays by name."""
    environment = (
        ("RELAYHOST", f"[{_UPSTREAM}]:587"),
        ("RELAYHOST_USERNAME", "relay@bench.test"),
        ("RELAYHOST_PASSWORD", "secret"),
        ("RELAYHOST_CA_FILE", "/authority/ca.pem"),
    )
    own = Subject(
        name="authrelay",
        image=str(inspect(image)["Id"]),
        environment=environment,
        volumes=("/var/spool/postfix", "/var/lib/authrelay"),
    )
    fifty = (*environment, ("RELAYHOST_CONCURRENCY", "50"))
    subjects = (
        own,
        dataclasses.replace(own, name="authrelay-50", environment=fifty),
        Subject(name="bare", image="authrelay-bench-bare:dev", volumes=("/var/spool/postfix",)),
        Subject(name="exim", image="authrelay-bench-exim:dev", volumes=("/var/spool/exim4",)),
        Subject(name="opensmtpd", image="authrelay-bench-opensmtpd:dev", volumes=("/var/spool/smtpd",)),
    )
    return {subject.name: subject for subject in subjects}


class Upstream:
    """The server at the far end, in its container."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.taken: dict[int, float] = {}
        """When it said 250 to which message, in seconds since the epoch."""
        self.repeated = 0
        self.connections = 0
        self.most = 0
        self.cpu_seconds = 0.0

    def forget(self) -> None:
        """Count from now on."""
        self.look()
        self.taken, self.repeated, self.connections, self.most = {}, 0, 0, 0

    def look(self) -> None:
        """Add what came since the last look."""
        script = (
            "rm -f /run/taken.json; kill -USR1 1; "
            "for i in $(seq 200); do [ -e /run/taken.json ] && break; sleep 0.02; done; cat /run/taken.json"
        )
        found = json.loads(run_docker("exec", self._name, "sh", "-c", script))
        for number, at in found["taken"]:
            self.repeated += number in self.taken
            self.taken[number] = at
        self.connections += found["connections"]
        self.most = max(self.most, found["most"])
        self.cpu_seconds = found["cpu"]


@contextmanager
def make_upstream(network: Network, authority: str, trip_ms: int, cores: str) -> Iterator[Upstream]:
    """Run an upstream so far away, and remove it."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    run_docker(
        "run", "--detach", "--name", name, "--label", LABEL, "--network", network.name, "--network-alias", _UPSTREAM,
        "--ip", network.address + "0", f"--cpuset-cpus={cores}", f"--volume={authority}:/authority", _PEER,
        "python3", "/opt/bench/upstream.py", str(trip_ms),
    )  # fmt: skip
    try:
        yield Upstream(name)
    finally:
        run_docker("rm", "--force", name)


@contextmanager
def make_authority() -> Iterator[str]:
    """Make the volume that has the CA, and remove it."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    run_docker("volume", "create", "--label", LABEL, name)
    try:
        yield name
    finally:
        run_docker("volume", "rm", name)


class Watch(threading.Thread):
    """Reads a container's memory now and then, and keeps the greatest."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self._name = name
        self._is_over = threading.Event()
        self.most_kib = 0
        self.most_processes = 0

    def run(self) -> None:
        """Look until it is over."""
        while not self._is_over.wait(_MEMORY_SECONDS):
            processes = list_processes(self._name)
            self.most_kib = max(self.most_kib, sum(one["pss_kib"] for one in processes))
            self.most_processes = max(self.most_processes, len(processes))

    def end(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self.join()


def measure(subject: Subject, scenario: Scenario, authority: str, cores: tuple[str, str]) -> dict[str, Any]:
    """Return the numbers of one run. `cores`: of the relay, and of client and upstream."""
    with ExitStack() as stack:
        network = stack.enter_context(make_network())
        upstream = stack.enter_context(make_upstream(network, authority, scenario.trip_ms, cores[1]))
        options = (f"--cpuset-cpus={cores[0]}", f"--volume={authority}:/authority:ro", "--network-alias=relay")
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
        words = (scenario.sessions, scenario.messages, scenario.bytes, scenario.recipients, scenario.pause_seconds)
        told = json.loads(
            run_docker(
                "run", "--rm", "--label", LABEL, "--network", network.name, f"--cpuset-cpus={cores[1]}", _PEER,
                "python3", "/opt/bench/client.py", "relay", *map(str, words),
            )
        )  # fmt: skip
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        upstream.look()
        while len(upstream.taken) < scenario.messages:
            if time.monotonic() > give_up:
                raise EngineError(
                    f"{subject.name}, {scenario.name}: {len(upstream.taken)} of {scenario.messages} arrived\n"
                    + run_docker("logs", "--tail", "5", relay)
                )
            time.sleep(_POLL_SECONDS)
            upstream.look()
        cpu = read_cpu_seconds(relay) - before
        return {
            **summarize_run(told["accepted"], upstream.taken),
            "cpu_seconds_per_1000": cpu / scenario.messages * 1000,
            "connections_per_1000": upstream.connections / scenario.messages * 1000,
            "most_connections": upstream.most,
            "repeated": upstream.repeated,
            "upstream_cpu_seconds": upstream.cpu_seconds - upstream_before,
            "client_cpu_seconds": told["cpu"],
            **({"pss_mib": watch.most_kib / 1024, "processes": watch.most_processes} if watch.most_kib else {}),
        }


def summarize_run(accepted: Sequence[tuple[int, float, float]], taken: dict[int, float]) -> dict[str, float]:
    """Return rates and latencies of one run: from the first MAIL to the last 250 of either side."""
    began_at = min(began for _, began, _ in accepted)
    waits = sorted(max(0.0, taken[number] - at) * 1000 for number, _, at in accepted)
    return {
        "seconds": max(taken.values()) - began_at,
        "accepted_per_second": len(accepted) / (max(at for _, _, at in accepted) - began_at),
        "delivered_per_second": len(accepted) / (max(taken.values()) - began_at),
        **{f"p{share}_ms": waits[math.ceil(len(waits) * share / 100) - 1] for share in (50, 95, 99)},
    }


def measure_all(image: str, base: str, rounds: int, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return every number, medians and ranges, and the ratios over bare Postfix."""
    for name in _IMAGES:
        build_image(f"authrelay-bench-{name}:dev", str(_HERE / name), base)
    subjects = make_subjects(image)
    machine = describe_machine()
    last = (os.cpu_count() or 1) - 1
    cores = ("0", str(min(1, last)))
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with make_authority() as authority:
        for number in range(rounds):
            for scenario in scenarios:
                names = scenario.relays if number % 2 == 0 else scenario.relays[::-1]
                for name in names:
                    row = measure(subjects[name], scenario, authority, cores)
                    samples.setdefault(scenario.name, {}).setdefault(name, []).append(row)
                    sys.stderr.write(f"{scenario.name} {name}: {row['delivered_per_second']:.1f}/s\n")
    return {
        "machine": machine,
        "rounds": rounds,
        "scenarios": {scenario.name: describe(scenario, samples[scenario.name]) for scenario in scenarios},
    }


def describe(scenario: Scenario, samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what was done, and what came of it."""
    relays = {
        name: {key: summarize([row[key] for row in rows]) for key in rows[0]} for name, rows in sorted(samples.items())
    }
    keys = ("delivered_per_second", "accepted_per_second", "cpu_seconds_per_1000", "p50_ms", "p95_ms", "p99_ms")
    bare = relays.get("bare", {})
    return {
        "trip_ms": scenario.trip_ms,
        "bytes": scenario.bytes,
        "sessions": scenario.sessions,
        "messages": scenario.messages,
        "recipients": scenario.recipients,
        "pause_seconds": scenario.pause_seconds,
        "relays": relays,
        "over_bare": {
            name: {key: divide(numbers[key], bare.get(key)) for key in keys}
            for name, numbers in relays.items()
            if name != "bare"
        },
    }


_COLUMNS: Final = (
    ("delivered/s", "delivered_per_second"),
    ("accepted/s", "accepted_per_second"),
    ("p50 ms", "p50_ms"),
    ("p95 ms", "p95_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU s/1000", "cpu_seconds_per_1000"),
    ("conn/1000", "connections_per_1000"),
    ("at once", "most_connections"),
)


def render_table(results: dict[str, Any]) -> str:
    """Return the medians as text for a terminal."""
    lines = []
    for name, scenario in results["scenarios"].items():
        lines.append(
            f"{name}: {scenario['messages']} messages of {scenario['bytes']} bytes, {scenario['sessions']} sessions, "
            f"{scenario['trip_ms']} ms: medians of {results['rounds']}"
        )
        lines.append(f"    {'':<14}" + "".join(f"{title:>13}" for title, _ in _COLUMNS) + f"{'over bare':>13}")
        for relay, numbers in scenario["relays"].items():
            cells = "".join(
                f"{numbers[key]['median']:>13.{_choose_digits(numbers[key]['median'])}f}" for _, key in _COLUMNS
            )
            ratio = scenario["over_bare"].get(relay, {}).get("delivered_per_second")
            memory = numbers.get("pss_mib")
            lines.append(
                f"    {relay:<14}{cells}{ratio or '':>13}"
                + (f"  {memory['greatest']:.0f} MiB at most" if memory else "")
            )
    return "\n".join(lines) + "\n"


def _choose_digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


def main() -> int:
    """Measure and tell; return 0, or 1 with a sentence when it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliveries", description=__doc__)
    parser.add_argument("--image", default="authrelay:dev", help="the image to measure (authrelay:dev)")
    parser.add_argument("--base", default=os.environ.get("BASE_IMAGE") or "localhost/authrelay-base:trixie-slim")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--only", default="", help="scenarios, with commas (all)")
    parser.add_argument("--relays", default="", help="which ones, with commas (all)")
    parser.add_argument("--name", default="deliveries", help="results/NAME.json (deliveries)")
    options = parser.parse_args()
    wanted = [one for one in SCENARIOS if not options.only or one.name in options.only.split(",")]
    if options.relays:
        chosen = tuple(options.relays.split(","))
        wanted = [dataclasses.replace(one, relays=chosen) for one in wanted]
    try:
        results = measure_all(options.image, options.base, options.rounds, wanted)
    except EngineError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    path = _HERE / "results" / f"{options.name}.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(render_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
