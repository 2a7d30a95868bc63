"""What one `authrelay health` costs. Runs docker."""

from __future__ import annotations

import json
from typing import Any, Final

from bench.engine import Network, Subject, make_container, run_docker
from bench.start import wait_for_greeting
from bench.summary import summarize

# Runs inside, where a check runs: the child's own times, without what the engine needs to enter the container.
_SCRIPT: Final = """
import json, os, resource, subprocess, sys, time
rows = []
while len(rows) < int(sys.argv[1]):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    status = subprocess.run(["authrelay", "health"], stdout=subprocess.DEVNULL).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows.append([status, cpu * 1000, (time.monotonic() - began) * 1000])
print(json.dumps(rows))
"""


def measure_health(subject: Subject, network: Network, rounds: int) -> dict[str, Any]:
    """Return the CPU and wall time of `authrelay health` in a relay that is well, in milliseconds."""
    with make_container(subject, network) as name:
        run_docker("start", name)
        wait_for_greeting(network.address)
        command = ("/opt/authrelay/bin/python3", "-I", "-", str(rounds))
        # The first checks find a relay that is still busy with its start; they are not counted.
        run_docker("exec", "--interactive", name, *command[:-1], "2", stdin=_SCRIPT)
        rows = json.loads(run_docker("exec", "--interactive", name, *command, stdin=_SCRIPT))
    assert all(status == 0 for status, _, _ in rows), rows
    return {
        "cpu_ms": summarize([cpu for _, cpu, _ in rows]),
        "wall_ms": summarize([wall for _, _, wall in rows]),
    }
