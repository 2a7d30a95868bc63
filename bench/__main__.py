"""`python -m bench`: measures, prints a table, and writes the numbers to bench/results/NAME.json."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from typing import Any, Final

from bench.engine import EngineError, Subject, build_image, inspect, make_network, run_docker
from bench.footprint import measure_idle, measure_images
from bench.health import measure_health
from bench.machine import describe_machine
from bench.report import render_report
from bench.start import NoGreetingError, measure_starts
from bench.steps import measure_imports, measure_steps
from bench.summary import divide
from bench.upstream import PEER_IMAGE, UPSTREAM, make_authority, make_upstream

_HERE: Final = pathlib.Path(__file__).parent
_BARE_IMAGE: Final = "authrelay-bench-bare:dev"
_QUEUE: Final = "/var/spool/postfix"
_MOST_ROUNDS: Final = 99


def main() -> int:
    """Measure what the command line asks for; return 0, or 1 with a sentence when it could not be measured."""
    options = _parse_arguments()
    try:
        results = measure(options.image, options.base, options.rounds, options.idle_seconds)
    except (EngineError, NoGreetingError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    path = _HERE / "results" / f"{options.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{render_report(results)}{path.relative_to(_HERE.parent)}\n")
    return 0


def measure(image: str, base: str, rounds: int, idle_seconds: float) -> dict[str, Any]:
    """Return every number."""
    build_image(_BARE_IMAGE, str(_HERE / "bare"), base)
    build_image(PEER_IMAGE, str(_HERE / "peer"), base)
    bare = Subject(name="bare", image=_BARE_IMAGE, volumes=(_QUEUE,))
    machine = describe_machine()
    with make_network() as network, make_authority() as authority, make_upstream(network, authority, 0, "0-1"):
        own = _make_subject(image, authority)
        _warm_up((own, bare))
        starts = measure_starts((own, bare), network, rounds)
        health = measure_health(own, network, rounds)
        # Another process's memory is root's to see.
        idle = measure_idle((own, bare), network, idle_seconds) if os.geteuid() == 0 else {"authrelay": None}
        # They run without a network, and without the volume that has the CA.
        alone = [(name, value) for name, value in own.environment if name != "RELAYHOST_CA_FILE"]
        steps = measure_steps(dataclasses.replace(own, environment=tuple(alone)), rounds)
        imports = measure_imports(own.image, rounds)
    return {
        "machine": machine,
        "rounds": rounds,
        "idle_seconds": idle_seconds,
        "ratios": {
            kind: {
                field: divide(starts["authrelay"][kind][field], starts["bare"][kind][field])
                for field in ("from_command_ms", "from_started_ms")
            }
            for kind in ("first", "restart")
        },
        "image_bytes": measure_images((base, _BARE_IMAGE, image)),
        "health": health,
        "idle": idle,
        "steps_ms": steps,
        "imports": imports,
        "starts": starts,
    }


def _make_subject(image: str, authority: str) -> Subject:
    """Return authrelay with an upstream that is there, and with which all is well: otherwise it would look for it."""
    return Subject(
        name="authrelay",
        # By its number: the tag may move to another build while this runs.
        image=str(inspect(image)["Id"]),
        environment=(
            ("RELAYHOST", f"[{UPSTREAM}]:587"),
            ("RELAYHOST_USERNAME", "relay@bench.test"),
            ("RELAYHOST_PASSWORD", "secret"),
            ("RELAYHOST_CA_FILE", "/authority/ca.pem"),
        ),
        volumes=(_QUEUE, "/var/lib/authrelay"),
        options=(f"--volume={authority}:/authority:ro",),
    )


def _warm_up(subjects: tuple[Subject, ...]) -> None:
    """Read each image once, so that the first round does not pay for the disk."""
    for subject in subjects:
        read_all = ("sh", subject.image, "-c", "find /usr /opt -type f -exec cat {} + >/dev/null")
        run_docker("run", "--rm", "--network", "none", "--entrypoint", *read_all)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What authrelay costs beside bare Postfix.")
    parser.add_argument("--name", default="latest", help="results/NAME.json (latest)")
    parser.add_argument("--image", default="authrelay:dev", help="the image to measure (authrelay:dev)")
    parser.add_argument(
        "--base", default=os.environ.get("BASE_IMAGE") or _find_base(), help="the image that both stand on"
    )
    parser.add_argument("--rounds", type=_parse_rounds, default=9, help="how often each thing is measured (9)")
    parser.add_argument("--idle-seconds", type=float, default=10, help="when memory is read, after the greeting (10)")
    return parser.parse_args()


def _parse_rounds(text: str) -> int:
    rounds = int(text)
    if not 1 <= rounds <= _MOST_ROUNDS:
        raise ValueError(text)
    return rounds


def _find_base() -> str:
    """Return the base image that is here already: the public tag, or the one that was bootstrapped."""
    tags = ("debian:trixie-slim", "localhost/authrelay-base:trixie-slim")
    here = run_docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return next((tag for tag in tags if tag in here), tags[0])


if __name__ == "__main__":
    sys.exit(main())
