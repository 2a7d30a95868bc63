"""Where the time of `authrelay run` goes, step by step, on one core at its leisure. Runs docker.

The steps are the functions that `run` calls, timed one by one inside the image; they add up to a little more than a
start takes, since `install` has Postfix check the queue while it does the rest.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Final

from bench.engine import Subject, run_docker
from bench.summary import summarize

_SCRIPT: Final = pathlib.Path(__file__).with_name("steps_inside.py")


def measure_steps(subject: Subject, rounds: int) -> dict[str, Any]:
    """Return the median wall time of each step in milliseconds, in the order of a first start."""
    variables = [f"--env={key}={value}" for key, value in subject.environment]
    output = run_docker(
        "run", "--rm", "--interactive", "--network", "none", "--hostname", "relay.bench.test", *variables,
        "--entrypoint", "/opt/authrelay/bin/python3", subject.image, "-I", "-", str(rounds),
        stdin=_SCRIPT.read_text(encoding="utf-8"),
    )  # fmt: skip
    samples: list[dict[str, float]] = json.loads(output)
    return {step: summarize([one[step] for one in samples]) for step in samples[0]}
