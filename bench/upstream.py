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

    def __init__(self, name: str, network: Network) -> None:
        self._name = name
        self._network = network
        self.taken: dict[int, float] = {}
        """When it said 250 to which message, in seconds since the epoch."""
        self.repeated = 0
        self.connections = 0
        self.most = 0
        self.cpu_seconds = 0.0

    def leave(self) -> None:
        """Be away: its name is not found, and its address not there."""
        run_docker("network", "disconnect", self._network.name, self._name)

    def come_back(self) -> None:
        """Be there again."""
        place = ("--ip", _find_address(self._network), "--alias", UPSTREAM)
        run_docker("network", "connect", *place, self._network.name, self._name)

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


def _find_address(network: Network) -> str:
    return network.address + "0"


@contextmanager
def make_upstream(network: Network, authority: str, trip_ms: int, cores: str) -> Iterator[Upstream]:
    """Run an upstream so far away, and remove it."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    run_docker(
        "run", "--detach", "--name", name, "--label", LABEL, "--network", network.name, "--network-alias", UPSTREAM,
        "--ip", _find_address(network), f"--cpuset-cpus={cores}", f"--volume={authority}:/authority", PEER_IMAGE,
        "python3", "/opt/bench/upstream.py", str(trip_ms),
    )  # fmt: skip
    try:
        yield Upstream(name, network)
    finally:
        run_docker("rm", "--force", name)


def measure_fsync() -> dict[str, float]:
    """Return what fsync(2) costs on a volume: milliseconds for one at a time, and how many a second twenty make."""
    directory = "/var/spool/postfix"
    program = ("python3", "/opt/bench/fsync.py", directory)
    found: dict[str, float] = json.loads(
        run_docker("run", "--rm", "--label", LABEL, "--network", "none", "--volume", directory, PEER_IMAGE, *program)
    )
    return found


@contextmanager
def make_authority() -> Iterator[str]:
    """Make the volume that has the CA, and remove it."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    run_docker("volume", "create", "--label", LABEL, name)
    try:
        yield name
    finally:
        run_docker("volume", "rm", name)
