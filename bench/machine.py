"""What the numbers were measured on. Reads /proc; runs docker. No names of hosts."""

from __future__ import annotations

import os
import platform
from typing import Any

from bench.engine import run_docker


def describe_machine() -> dict[str, Any]:
    """Return cores, memory, kernel and engine, and how busy the machine is already."""
    return {
        "cores": os.cpu_count(),
        "processor": _read_field("/proc/cpuinfo", "model name"),
        "memory": _read_field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "engine": run_docker("version", "--format", "{{.Server.Version}}").strip(),
        "storage": run_docker("info", "--format", "{{.Driver}}").strip(),
        "load_before": round(os.getloadavg()[0], 2),
        "other_containers": len(run_docker("ps", "--quiet").split()),
    }


def _read_field(path: str, name: str) -> str:
    with open(path, encoding="utf-8") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith(name)), "unknown")
