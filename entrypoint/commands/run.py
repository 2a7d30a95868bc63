"""`authrelay run`: settings -> plan -> disk, then becomes the supervisor."""

from __future__ import annotations

import json
import os
import time
from typing import Final

from entrypoint import __version__, paths
from entrypoint.commands.prepare import Occasion, Prepared, prepare
from entrypoint.config.environment import list_files, read_environment
from entrypoint.system.agenda import Agenda, Watch, find_now, watch_files, write_agenda
from entrypoint.system.files import read_text
from entrypoint.system.install import install
from entrypoint.system.log import write_line
from entrypoint.system.processes import apply_file_limit, become, remember
from entrypoint.system.queue import describe_place
from entrypoint.upkeep.record import FETCHED, Record, key_by_text, save_record, say_changes
from entrypoint.upkeep.schedule import choose_next_fetch, plan_next_run
from entrypoint.upkeep.verdict import Upstream, Verdict, save_verdict

_VOLUME: Final = f"Give it a volume: --volume queue:{paths.QUEUE}"


def main(arguments: list[str]) -> int:
    """Start the relay; returns only by raising."""
    del arguments
    apply_file_limit()
    environ = read_environment()
    watches = watch_files(list_files(environ))
    prepared = prepare(Occasion.START)
    settings = prepared.settings
    os.environ["TZ"] = settings.tz
    time.tzset()
    write_line("INFO", f"version {__version__}, relaying to {settings.relayhost_nexthop}")
    for remark in install(prepared.plan.files):
        write_line("WARNING", remark)
    if fault := describe_place(read_text("/proc/self/mountinfo") or ""):
        write_line("WARNING", f"the queue lies {fault}: it is lost when this container is removed. {_VOLUME}")
    _begin_upkeep(prepared, watches)
    remember(json.dumps(environ))
    # What follows, and all that it starts, sees none of the settings; the passwords are in tables of root by now.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TZ": settings.tz, "TMPDIR": paths.RUN}
    become(paths.PYTHON, ("-I", "-m", "entrypoint.services.supervisor"), environment)


def _begin_upkeep(prepared: Prepared, watches: tuple[Watch, ...]) -> None:
    """Say what should be known at the start, and plan what comes after it."""
    fetch_due_at = None
    if prepared.settings.relayhost_ca_url is not None:
        # What was fetched earlier serves at once, so that no start waits; what is there now comes right after.
        fetch_due_at = find_now() if prepared.is_copy else choose_next_fetch(prepared.settings.relayhost_ca_refresh, 0)
    troubles = {**prepared.troubles, **key_by_text(prepared.fetch_warnings, FETCHED)}
    record = Record(troubles=troubles, fetch_due_at=fetch_due_at)
    say_changes(Record(), record)
    save_record(record)
    plan_next_run(record, watches, prepared.endings)
    nexthop = str(prepared.settings.relayhost_nexthop)
    if prepared.settings.probe == "no":
        untried = Upstream(setting="RELAYHOST", nexthop=nexthop, step="", words="it is not tried: PROBE=no")
        save_verdict(Verdict(at=time.time(), upstreams=(untried,)))
    else:
        write_agenda("probe", Agenda(due_at=find_now()))
