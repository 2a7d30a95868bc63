"""The running Postfix: who its processes are, and in which order it is told things."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from entrypoint.system import daemons


def test_flush_after_a_reload_waits_for_the_next_queue_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one takes a flush with it when it ends, and what waits would wait for minutes more."""
    events: list[str] = []
    running: Iterator[set[int]] = iter([{5}, {5}, {5}, set(), {6}])

    def find_daemons(name: str) -> set[int]:
        found = next(running)
        events.append(f"{name} {sorted(found)}")
        return found

    monkeypatch.setattr(daemons, "find_daemons", find_daemons)
    monkeypatch.setattr(daemons, "_find_master", lambda: 4)
    monkeypatch.setattr(daemons, "send_signal", lambda pid, number: events.append(f"{number.name} {pid}"))
    monkeypatch.setattr(daemons, "start_command", " ".join)
    monkeypatch.setattr(daemons, "finish_command", events.append)
    daemons.reload_postfix()
    assert events == ["qmgr [5]", "SIGHUP 4", "qmgr [5]", "qmgr [5]", "qmgr []", "postqueue -f"]


def test_wait_for_daemons_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that hangs must not keep the upkeep for ever."""
    monkeypatch.setattr(daemons, "find_daemons", lambda _: {7, 8})
    assert not daemons.wait_until_ended("smtp", {7}, 0.1)
    assert daemons.wait_until_ended("smtp", {9}, 0.1)


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def test_process_has_a_name_until_it_has_ended() -> None:
    """A zombie is no process that works."""
    with start(["cat"]) as process:
        assert process.pid in daemons.list_children(os.getpid())
        while daemons.find_name(process.pid) != "cat":  # before exec it is a Python
            assert process.poll() is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert daemons.find_name(process.pid) == ""
    assert daemons.find_name(process.pid) == ""
