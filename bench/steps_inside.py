"""Times the steps of `authrelay run` inside the image, each round in a process of its own. Given to Python on stdin.

Imports only what the image has; `python -m bench` prints what it writes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

_ONE_ROUND = """
import json, os, sys, time
marks, last = {}, time.perf_counter()
def mark(step):
    global last
    now = time.perf_counter()
    marks[step] = (now - last) * 1000
    last = time.perf_counter()

import entrypoint.__main__, entrypoint.config.environment
mark("import settings (environs)")
import entrypoint.plan.compute
mark("import plan (jinja2)")
import entrypoint.commands.start
mark("import the rest")
from entrypoint import paths
from entrypoint.commands import prepare
from entrypoint.system import files, install, processes
settings, _ = prepare.read_settings()
mark("read_settings")
facts = prepare.read_host_name(), prepare.read_routes()
mark("read host name and routes")
client = prepare._find_client_certificate(settings, facts[0])
mark("make the client certificate" if sys.argv[1] == "first" else "load the client certificate")
plan = prepare.compute_plan(settings, prepare.Facts(
    host_name=facts[0], subnets=facts[1][0], gateways=facts[1][1],
    client_chain=prepare._choose_chain(settings, client)))
mark("compute_plan (templates)")
os.makedirs(paths.POSTFIX_CONFIG_TARGET, exist_ok=True)
import pwd
postfix = pwd.getpwnam("postfix")
files.make_directory(paths.POSTFIX_DATA, 0o700, (postfix.pw_uid, postfix.pw_gid))
for file in plan.files:
    files.write_file(file.path, file.text, file.mode)
mark("write the files")
tables = [f"lmdb:{file.path}" for file in plan.files if file.is_table]
processes.finish_command(processes.start_command(("postmap", *tables)))
mark("postmap")
processes.read_standard_error(("postconf",))
mark("postconf")
processes.finish_command(processes.start_command(("postfix", "check")))
mark("postfix check")
install.install(plan.files)
mark("install as a whole")
print(json.dumps(marks))
"""


def time_command(*arguments: str) -> float:
    """Return the wall time of a command in milliseconds."""
    began = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def time_round() -> dict[str, float]:
    """Return the time of each step of one first start and one restart."""
    steps = {"interpreter (python3 -I -c pass)": time_command(sys.executable, "-I", "-c", "pass")}
    for kind in ("first", "again"):
        if kind == "first" and os.path.exists("/var/lib/authrelay/client.pem"):
            os.unlink("/var/lib/authrelay/client.pem")
        output = subprocess.run(
            (sys.executable, "-I", "-c", _ONE_ROUND, kind), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        steps |= json.loads(output)
    supervisor = time_command(sys.executable, "-I", "-c", "import entrypoint.services.supervisor")
    steps["supervisor: interpreter and imports"] = supervisor
    forwarder = time_command(sys.executable, "-I", "-c", "import entrypoint.services.forwarder")
    steps["log forwarder: interpreter and imports (beside)"] = forwarder
    return steps


print(json.dumps([time_round() for _ in range(int(sys.argv[1]))]))
