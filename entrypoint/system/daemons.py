"""The running Postfix: its processes, having it read its configuration again, and having the queue tried. Processes.

Uses `files` to read proc(5), and `processes` to run Postfix's commands.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Collection, Iterable
from typing import Final

from entrypoint import paths
from entrypoint.system.files import read_text
from entrypoint.system.processes import finish_command, send_signal, start_command

_POLL_SECONDS: Final = 0.05
_NO_PROCESS: Final = 2**30
"""More than any process's number (proc_sys_kernel(5) pid_max)."""
_RELOADED_SECONDS: Final = 5.0
"""master(8) lets qmgr(8) end within moments; on a busy machine they are long."""


def list_children(pid: int) -> set[int]:
    """Return the children of a process (proc(5)); those of the first one are its own, and all orphans."""
    text = read_text(f"/proc/{pid}/task/{pid}/children")
    return {int(word) for word in (text or "").split()}


def find_name(pid: int) -> str:
    """Return a process's name; nothing for one that has ended."""
    with contextlib.suppress(OSError):
        status = read_text(f"/proc/{pid}/stat") or ""
        name, _, rest = status.partition("(")[2].rpartition(")")
        return "" if rest.split()[:1] in (["Z"], ["X"], []) else name
    return ""


def _find_master() -> int:
    """Return the number of master(8); that of no process where there has been none."""
    return int((read_text(f"{paths.QUEUE}/pid/master.pid") or f"{_NO_PROCESS}").strip())


def find_daemons(name: str) -> set[int]:
    """Return Postfix's daemons of a name, for example `qmgr`."""
    return {pid for pid in list_children(_find_master()) if find_name(pid) == name}


def wait_until_ended(name: str, pids: Collection[int], timeout_seconds: float) -> bool:
    """Wait for the end of such daemons, and return whether it has come."""
    ends_at = time.monotonic() + timeout_seconds
    while find_daemons(name) & set(pids):
        if time.monotonic() >= ends_at:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def reload_postfix() -> None:
    """Have the configuration read again, and all that waits tried with it.

    The queue manager of before would take the flush with it when it ends: it must have ended.
    """
    managers = find_daemons("qmgr")
    renew_daemons()
    wait_until_ended("qmgr", managers, _RELOADED_SECONDS)
    flush_queue()


def renew_daemons() -> None:
    """End every daemon after what it does now, and with it the sessions that wait for a message (master(8), SIGHUP).

    `postfix reload` does the same, and has postsuper(1) look at the queue, which takes what cleanup(8) is just writing
    for files with a wrong name.
    """
    # One that is just being started again reads everything anyway.
    with contextlib.suppress(ProcessLookupError):
        send_signal(_find_master(), signal.SIGHUP)


def flush_queue() -> None:
    """Have all that waits tried now (postqueue(1) -f)."""
    finish_command(start_command(("postqueue", "-f")))


def flush_domains(domains: Iterable[str]) -> None:
    """Have what waits for recipients in these domains tried now (postqueue(1) -s, postconf(5) fast_flush_domains)."""
    for domain in domains:
        finish_command(start_command(("postqueue", "-s", domain)))
