"""`authrelay run`: settings -> plan -> disk, then becomes the supervisor."""

from __future__ import annotations

import os
import time

from entrypoint import __version__, paths
from entrypoint.commands.prepare import prepare
from entrypoint.system.install import install
from entrypoint.system.log import write_line
from entrypoint.system.processes import apply_file_limit, become


def main(arguments: list[str]) -> int:
    """Start the relay; returns only by raising."""
    del arguments
    apply_file_limit()
    settings, plan, warnings = prepare(keeps_certificate=True)
    os.environ["TZ"] = settings.tz
    time.tzset()
    write_line("INFO", f"version {__version__}, relaying to {settings.relayhost_nexthop}")
    for warning in warnings:
        write_line("WARNING", warning)
    for remark in install(plan.files):
        write_line("WARNING", remark)
    # What follows, and all that it starts, sees none of the settings; the passwords are in tables of root by now.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TZ": settings.tz, "TMPDIR": paths.RUN}
    become(paths.PYTHON, ("-I", "-m", "entrypoint.services.supervisor"), environment)
