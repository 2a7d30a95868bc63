"""`python -m bench.forwarder`: what the log forwarder costs beside Debian's rsyslog. Runs docker.

Prints a table, and writes the numbers to bench/results/forwarder.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any, Final

from bench.engine import LABEL, run_docker
from bench.machine import describe_machine
from bench.summary import summarize

_HERE: Final = pathlib.Path(__file__).parent
_IMAGE: Final = "authrelay-bench-syslog:dev"
_MESSAGES: Final = 5000


def measure_forwarder(image: str, messages: int, rounds: int) -> dict[str, Any]:
    """Return lines a second on one core, CPU for 1000 messages and peak memory, for each form and for rsyslog."""
    context = str(_HERE / "syslog")
    run_docker(
        "build", "--quiet", "--label", LABEL, "--build-arg", f"IMAGE={image}", "--tag", f"{_IMAGE}", context
    )  # fmt: skip
    script = (_HERE / "forwarder_inside.py").read_text(encoding="utf-8")
    python = ("/opt/authrelay/bin/python3", "-I", "-", str(messages), str(rounds))
    options = ("--rm", "--interactive", "--label", LABEL, "--network", "none")
    found = json.loads(run_docker("run", *options, _IMAGE, *python, stdin=script))
    return {
        "lines": found["lines"],
        "messages": messages,
        "rounds": rounds,
        "programs": {
            name: {
                "lines_per_second": summarize([found["lines"] / row["seconds"] for row in rows]),
                "cpu_ms_per_1000_messages": summarize([row["cpu_seconds"] * 1e6 / messages for row in rows]),
                "peak_mib": summarize([row["peak_kib"] / 1024 for row in rows]),
            }
            for name, rows in found["rows"].items()
        },
    }


def render_table(results: dict[str, Any]) -> str:
    """Return the medians as text for a terminal."""
    lines = [f"{results['lines']} lines of {results['messages']} messages, on one core: medians of {results['rounds']}"]
    lines.append(f"    {'':<12}{'lines/s':>10}{'CPU ms/1000 messages':>24}{'peak MiB':>12}")
    for name, numbers in results["programs"].items():
        speed, cpu, peak = (
            numbers[key]["median"] for key in ("lines_per_second", "cpu_ms_per_1000_messages", "peak_mib")
        )
        lines.append(f"    {name:<12}{speed:>10.0f}{cpu:>24.0f}{peak:>12.1f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.forwarder", description=__doc__)
    parser.add_argument("--image", default="authrelay:dev", help="the image to measure (authrelay:dev)")
    parser.add_argument("--messages", type=int, default=_MESSAGES, help=f"how many in each round ({_MESSAGES})")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    options = parser.parse_args()
    machine = describe_machine()
    results = {"machine": machine, **measure_forwarder(options.image, options.messages, options.rounds)}
    print(render_table(results), end="")
    (_HERE / "results" / "forwarder.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
