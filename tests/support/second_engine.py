"""A container engine of its own, in a network of its own, that is set up in another way. Runs dockerd.

It is a second daemon beside the machine's, which stays as it is: another root, another socket, and a network namespace
in which its rules for iptables are alone. A veth pair leads to an outsider.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial

from tests.support.engine import EngineError
from tests.support.wait import wait_until

# Of the networks for documentation (RFC 5737, RFC 3849): no docker network has them.
HOST, HOST6 = "192.0.2.1", "2001:db8::1"
OUTSIDER, OUTSIDER6 = "192.0.2.9", "2001:db8::9"
REMAPPED_ROOT = 200000
"""Who root of a container is outside, in an engine that maps users."""


class SecondEngine:
    """The daemon and its network; a context manager within which every docker command of this process goes to it."""

    def __init__(self, images: Sequence[str], *, has_userland_proxy: bool = True, maps_users: bool = False) -> None:
        """With `maps_users` each container is in a user namespace (dockerd's userns-remap)."""
        self._images = images
        self._options = [f"--userland-proxy={str(has_userland_proxy).lower()}"]
        self._options += ["--userns-remap=daemon"] if maps_users else []
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="authrelay-engine-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._previous = os.environ.get("DOCKER_HOST")
        self._log = self._directory / "log"
        self.host_pid = 0
        """A process in the daemon's network."""
        self.outsider_pid = 0
        """A process in the outsider's."""

    def __enter__(self) -> SecondEngine:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        self._directory.chmod(0o711)
        for name in ("subuid", "subgid"):
            (self._directory / name).write_text(f"daemon:{REMAPPED_ROOT}:65536\n")
        self.host_pid = self._start(["unshare", "--net", "--mount", "sleep", "infinity"])
        self.outsider_pid = self._start(["unshare", "--net", "sleep", "infinity"])
        self._connect()
        entering = ["nsenter", f"--target={self.host_pid}", "--net", "--mount"]
        for name in ("subuid", "subgid"):
            # dockerd finds its users there; this machine's own files stay as they are.
            subprocess.run(["touch", f"/etc/{name}"], check=True)
            bind = ["mount", "--bind", str(self._directory / name), f"/etc/{name}"]
            subprocess.run([*entering, *bind], check=True)
        socket = self._directory / "docker.sock"
        self._start(
            [
                *(*entering, "dockerd", *self._options, "--experimental", "--ip6tables", f"--host=unix://{socket}"),
                *(f"--data-root={self._directory}/data", f"--exec-root={self._directory}/exec"),
                *(f"--pidfile={self._directory}/pid", "--containerd-namespace=second"),
                "--containerd-plugins-namespace=second-plugins",
            ]
        )
        with subprocess.Popen(["docker", "save", *self._images], stdout=subprocess.PIPE) as saving:
            os.environ["DOCKER_HOST"] = f"unix://{socket}"
            wait_until(self._answers, 30, "the second daemon should answer")
            subprocess.run(["docker", "load", "--quiet"], stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True)

    def _start(self, command: Sequence[str]) -> int:
        with self._log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return self._processes[-1].pid

    def _answers(self) -> bool:
        if self._processes[-1].poll() is not None:
            raise EngineError(self._log.read_text(errors="replace")[-2000:])
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0

    def _connect(self) -> None:
        """Lead a cable from the daemon's network to the outsider's."""
        for pid in (self.host_pid, self.outsider_pid):
            wait_until(partial(self._is_alone, pid), 5, "its network should be its own")
        peer = ["peer", "name", "outside", "netns", str(self.outsider_pid)]
        self._run_ip(self.host_pid, "link", "add", "outside", "type", "veth", *peer)
        for pid, address, address6 in ((self.host_pid, HOST, HOST6), (self.outsider_pid, OUTSIDER, OUTSIDER6)):
            self._run_ip(pid, "address", "add", f"{address}/24", "dev", "outside")
            self._run_ip(pid, "address", "add", f"{address6}/64", "dev", "outside", "nodad")
            for device in ("lo", "outside"):
                self._run_ip(pid, "link", "set", device, "up")

    @staticmethod
    def _is_alone(pid: int) -> bool:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")

    @staticmethod
    def _run_ip(pid: int, *arguments: str) -> None:
        subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *arguments], check=True)

    def _end(self) -> None:
        if self._previous is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = self._previous
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        shutil.rmtree(self._directory, ignore_errors=True)
