"""Where the time of `authrelay run` goes, step by step and import by import, on one core at its leisure. Runs docker.

The steps are the functions that `run` calls, timed one by one inside the image; they add up to a little more than a
start takes, since `install` has Postfix check the queue while it does the rest.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any, Final

from bench.engine import Subject, run_docker
from bench.summary import summarize

_SCRIPT: Final = pathlib.Path(__file__).with_name("steps_inside.py")
_PYTHON: Final = "/opt/authrelay/bin/python3"
_PROGRAMS: Final = {
    "authrelay run": "entrypoint.commands.start",
    "supervisor": "entrypoint.services.supervisor",
    "log forwarder": "entrypoint.services.forwarder",
}
"""What a start imports: the second when the first has become it, the third beside it."""
_IMPORT: Final = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")
_MOST_PACKAGES: Final = 8


def measure_steps(subject: Subject, rounds: int) -> dict[str, Any]:
    """Return the median wall time of each step in milliseconds, in the order of a first start."""
    variables = [f"--env={key}={value}" for key, value in subject.environment]
    output = run_docker(
        "run", "--rm", "--interactive", "--network", "none", "--hostname", "relay.bench.test", *variables,
        "--entrypoint", _PYTHON, subject.image, "-I", "-", str(rounds),
        stdin=_SCRIPT.read_text(encoding="utf-8"),
    )  # fmt: skip
    samples: list[dict[str, float]] = json.loads(output)
    return {step: summarize([one[step] for one in samples]) for step in samples[0]}


def measure_imports(image: str, rounds: int) -> dict[str, Any]:
    """Return what each program's imports cost by `python -X importtime`, in ms and over the bare interpreter's.

    The modules of the standard library are one package; those that the interpreter needs in any case are left out.
    """
    always = {name for name, _ in _read_import_times(image, "sys")}
    programs = {}
    for program, module in _PROGRAMS.items():
        samples: list[dict[str, float]] = []
        count = 0
        for _ in range(rounds):
            times = [(name, ms) for name, ms in _read_import_times(image, module) if name not in always]
            packages: dict[str, float] = {"total": sum(ms for _, ms in times)}
            for name, ms in times:
                package = _choose_package(name)
                packages[package] = packages.get(package, 0.0) + ms
            samples.append(packages)
            count = len(times)
        most = sorted(samples[0], key=lambda package: -samples[0][package])[:_MOST_PACKAGES]
        found = {package: summarize([one[package] for one in samples]) for package in most}
        programs[program] = {"modules": count, "packages_ms": found}
    return programs


def _read_import_times(image: str, module: str) -> list[tuple[str, float]]:
    """Return each module that is imported and its own time in milliseconds."""
    command = f"exec {_PYTHON} -I -X importtime -c 'import {module}' 2>&1"
    output = run_docker("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", command)
    return [(name, int(own) / 1000) for own, name in _IMPORT.findall(output)]


def _choose_package(name: str) -> str:
    top = name.partition(".")[0]
    # The image's Python may have modules of the standard library that this machine's has not; those are private ones.
    return "the standard library" if top in sys.stdlib_module_names or top.startswith("_") else top
