"""What a relay occupies: the image's bytes, its processes, their proportional set size. Runs docker; /proc."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.engine import Network, Subject, inspect, make_container, read_cpu_seconds, run_docker
from bench.start import wait_for_greeting
from bench.summary import summarize

_ROUNDS: Final = 3
_MEMORY_SECONDS: Final = 2.0
_CPU_SECONDS: Final = 60
"""Two of Docker's health checks, and whatever else comes once a minute or more often."""


def measure_images(images: Sequence[str]) -> dict[str, int]:
    """Return each image's size in bytes: the sum of its layers, uncompressed."""
    return {image: int(inspect(image)["Size"]) for image in images}


def measure_idle(subjects: Sequence[Subject], network: Network, idle_seconds: float) -> dict[str, Any]:
    """Return the processes of each subject and their memory, so many seconds after the first greeting.

    Three containers each, one at a time: two of one image would share pages and look smaller.
    """
    samples: dict[str, list[list[dict[str, Any]]]] = {subject.name: [] for subject in subjects}
    uses: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for _ in range(_ROUNDS):
        for subject in subjects:
            with make_container(subject, network) as name:
                run_docker("start", name)
                wait_for_greeting(network.address)
                time.sleep(idle_seconds)
                samples[subject.name].append(list_processes(name))
                before = read_cpu_seconds(name)
                time.sleep(_CPU_SECONDS)
                uses[subject.name].append((read_cpu_seconds(name) - before) * 1000 / _CPU_SECONDS)
    return {
        name: {
            "processes": summarize([len(processes) for processes in rounds]),
            "pss_kib": summarize([sum(one["pss_kib"] for one in processes) for processes in rounds]),
            "cpu_ms_per_second": summarize(uses[name]),
            "by_process": rounds[-1],
        }
        for name, rounds in samples.items()
    }


class Watch(threading.Thread):
    """Reads a container's memory now and then, and keeps the greatest."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self._name = name
        self._is_over = threading.Event()
        self.most_kib = 0
        self.most_processes = 0
        self.by_program: dict[str, dict[str, int]] = {}
        """How many of each program there were then, and what they occupied together."""

    def run(self) -> None:
        """Look until it is over."""
        while not self._is_over.wait(_MEMORY_SECONDS):
            processes = list_processes(self._name)
            self.most_processes = max(self.most_processes, len(processes))
            kib = sum(one["pss_kib"] for one in processes)
            if kib > self.most_kib:
                self.most_kib, self.by_program = kib, group_programs(processes)

    def end(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self.join()


def list_processes(name: str) -> list[dict[str, Any]]:
    """Return the command and the memory of each process, by its number on the host."""
    rows = run_docker("top", name, "-eo", "pid,args").splitlines()[1:]
    pairs = [row.split(None, 1) for row in rows]
    # A health check that happens to run just now is no part of an idle relay.
    return [
        {"command": command, "pss_kib": pss}
        for pid, command in pairs
        if "health" not in command and (pss := _read_pss(pid)) is not None
    ]


def group_programs(processes: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the number of processes of each program and what they occupy together, the greatest first."""
    groups: dict[str, dict[str, int]] = {}
    for one in processes:
        group = groups.setdefault(pathlib.PurePath(one["command"].split()[0]).name, {"processes": 0, "pss_kib": 0})
        group["processes"] += 1
        group["pss_kib"] += one["pss_kib"]
    return dict(sorted(groups.items(), key=lambda item: -item[1]["pss_kib"]))


def _read_pss(pid: str) -> int | None:
    """Return a process's proportional set size in KiB (proc(5) smaps_rollup); `None` when it has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return None
