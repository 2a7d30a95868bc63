"""The upstream of a measurement, and the authority that signed its certificate. Runs docker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.engine import LABEL, Network, run_docker

UPSTREAM: Final = "smtp.bench.test"
PEER_IMAGE: Final = "authrelay-bench-peer:dev"


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
        "run", "--detach", "--name", name, "--label", LABEL, "--network", network.name, "--network-alias", UPSTREAM,
        "--ip", network.address + "0", f"--cpuset-cpus={cores}", f"--volume={authority}:/authority", PEER_IMAGE,
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
