"""The end of a container: its last words and its status. What needs processes is in the image tests."""

from __future__ import annotations

import os
import pathlib
import types
from typing import Any

import pytest
from supervisor.states import ProcessStates, SupervisorStates

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.services import supervisor


def _lose(name: str, mood: int = SupervisorStates.RUNNING, *, is_service: bool = True) -> tuple[str, int]:
    """Let a service be lost; return the failure's text and the supervisor's mood then."""
    options: Any = types.SimpleNamespace(mood=mood, loglevel=0, process_group_configs=[])
    root = supervisor._Root(options)
    process = types.SimpleNamespace(
        config=types.SimpleNamespace(name=name, autostart=is_service), ending="exit status 1"
    )
    root._end_all(types.SimpleNamespace(process=process))
    return root.failure, root.options.mood


@pytest.fixture(autouse=True)
def last_words(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A place of the test's own for what the forwarder keeps."""
    monkeypatch.setattr(paths, "LAST_FATAL_LINE", str(tmp_path / "words"))
    return tmp_path / "words"


def test_lost_postfix_ends_the_container_with_what_postfix_said(last_words: pathlib.Path) -> None:
    """ "exit status 1" sends people to search a log that their platform may not keep."""
    last_words.write_text("postfix/master[9]: fatal: bind 0.0.0.0 port 25: Address already in use\n")
    assert _lose("postfix") == (
        "postfix cannot be kept running: postfix/master[9]: fatal: bind 0.0.0.0 port 25: Address already in use",
        SupervisorStates.SHUTDOWN,
    )


def test_lost_service_without_words_says_how_it_ended(last_words: pathlib.Path) -> None:
    """Postfix's words are Postfix's: they must not be given as the reason for another service."""
    assert _lose("postfix")[0] == "postfix cannot be kept running: exit status 1"
    last_words.write_text("postfix/master[9]: fatal: x\n")
    assert _lose("log-forwarder")[0] == "log-forwarder cannot be kept running: exit status 1"


def test_service_that_is_lost_while_stopping_is_no_failure() -> None:
    """A container that was told to stop ends with 0."""
    assert _lose("postfix", SupervisorStates.SHUTDOWN) == ("", SupervisorStates.SHUTDOWN)


def test_upkeep_that_cannot_be_started_is_no_end() -> None:
    """A machine that is out of processes for a while must not end a relay over what can be done later."""
    assert _lose("upkeep", is_service=False) == ("", SupervisorStates.RUNNING)


@pytest.mark.parametrize(
    ("failure", "status", "word"), [("", 0, "INFO stopped; the queue is empty"), ("why", 70, "ERROR why")]
)
def test_end_has_a_status_and_one_line(failure: str, status: int, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of a container's log says why it is the last."""
    lines: list[str] = []

    def end() -> None:
        if failure:
            raise CommandFailedError(failure)

    monkeypatch.setattr(supervisor, "supervise", end)
    monkeypatch.setattr(supervisor, "look_at_rest", lambda: ("INFO", "the queue is empty"))
    monkeypatch.setattr(supervisor, "write_line", lambda severity, text: lines.append(f"{severity} {text}"))
    assert supervisor.main() == status
    assert lines == [word]


def _make_root(monkeypatch: pytest.MonkeyPatch, *processes: Any) -> supervisor._Root:
    options: Any = types.SimpleNamespace(mood=SupervisorStates.RUNNING, loglevel=0, process_group_configs=[])
    root = supervisor._Root(options)
    monkeypatch.setattr(root, "_list_processes", lambda: list(processes))
    return root


def _make_process(pid: int, *, is_neglected: bool = False) -> Any:
    log_socket = types.SimpleNamespace(is_neglected=lambda _: is_neglected)
    config = types.SimpleNamespace(name="log-forwarder", autostart=True, log_socket=log_socket)
    return types.SimpleNamespace(config=config, pid=pid, state=ProcessStates.RUNNING, starts=1, laststart=0.0)


@pytest.mark.parametrize(("pid", "is_neglected", "killed"), [(0, True, []), (77, False, []), (77, True, [77])])
def test_forwarder_that_does_not_read_is_ended(
    pid: int, is_neglected: bool, killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All daemons of Postfix would wait for it for ever, and every client."""
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: ended.append(pid))
    _make_root(monkeypatch, _make_process(pid, is_neglected=is_neglected))._watch_forwarder()
    assert ended == killed


def test_record_that_cannot_be_written_is_no_end(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A full disk stops no mail; a supervisor that ends over it does."""
    monkeypatch.setattr(paths, "SERVICES", "/nowhere/services.json")
    _make_root(monkeypatch, _make_process(77))._note_change(None)
    assert " WARNING authrelay: /nowhere/services.json cannot be written" in capfd.readouterr().out
