"""The container engine, by its command line; what a run makes carries a label and is removed. Runs docker; /sys."""

from __future__ import annotations

import contextlib
import json
import pathlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

LABEL: Final = "authrelay.bench"
"""scripts/clean removes what carries it, should a run be killed."""
_TIMEOUT_SECONDS: Final = 1800


class EngineError(Exception):
    """A docker command failed."""


def run_docker(*arguments: str, stdin: str = "") -> str:
    """Run one docker command and return its standard output; raise EngineError when it fails."""
    done = subprocess.run(
        ("docker", *arguments), input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise EngineError(f"docker {' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def inspect(name: str) -> dict[str, Any]:
    """Return what docker knows of a container or an image."""
    found: dict[str, Any] = json.loads(run_docker("inspect", name))[0]
    return found


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An image that is measured, and how it is run."""

    name: str
    image: str
    environment: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    """Paths that get a fresh volume in every container."""
    options: tuple[str, ...] = ()
    """Of `docker create`."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of the run's own, so that a container's address is known before it is started."""

    name: str
    subnet: str

    @property
    def address(self) -> str:
        """The one address that containers get, one after the other."""
        return self.subnet.removesuffix("0/24") + "25"


@contextlib.contextmanager
def make_network() -> Iterator[Network]:
    """Make a bridge network with a subnet that is free, and remove it."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    for third in range(200, 250):
        subnet = f"10.251.{third}.0/24"
        try:
            run_docker("network", "create", "--label", LABEL, "--subnet", subnet, name)
        except EngineError as error:
            if "overlap" not in str(error):
                raise
            continue
        break
    else:
        raise EngineError("no subnet of 10.251.200.0/21 is free for a network")
    try:
        yield Network(name=name, subnet=subnet)
    finally:
        run_docker("network", "rm", name)


@contextlib.contextmanager
def make_container(subject: Subject, network: Network, *options: str) -> Iterator[str]:
    """Create a container, not started, with fresh volumes; remove both. Yields its name."""
    name = f"authrelay-bench-{secrets.token_hex(4)}"
    variables = [f"--env={key}={value}" for key, value in subject.environment]
    volumes = [f"--volume={path}" for path in subject.volumes]
    run_docker(
        "create", "--name", name, "--label", LABEL, "--network", network.name, "--ip", network.address,
        "--hostname", "relay.bench.test", *variables, *volumes, *subject.options, *options, subject.image,
    )  # fmt: skip
    try:
        yield name
    finally:
        run_docker("rm", "--force", "--volumes", name)


def build_image(tag: str, directory: str, base: str) -> None:
    """Build an image from a directory on a base image."""
    run_docker("build", "--quiet", "--label", LABEL, "--build-arg", f"BASE_IMAGE={base}", "--tag", tag, directory)


def read_cpu_seconds(container: str) -> float:
    """Return what all processes of a container have used (cgroups(7), version 2 or 1)."""
    pid = inspect(container)["State"]["Pid"]
    rows = [row.split(":", 2) for row in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()]
    for _, controllers, path in rows:
        if "cpuacct" in controllers.split(","):
            for root in (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup/cpuacct"):
                if (usage := pathlib.Path(f"{root}{path}/cpuacct.usage")).exists():
                    return int(usage.read_text(encoding="ascii")) / 1e9
    for _, controllers, path in rows:
        if not controllers:
            for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                if (stat := pathlib.Path(f"{root}{path}/cpu.stat")).exists():
                    return int(stat.read_text(encoding="ascii").split()[1]) / 1e6
    raise EngineError("the engine shows no group whose CPU time can be read")
