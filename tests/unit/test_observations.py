"""What the forwarder tells of itself: to whoever may ask, at once, and without holding the log up."""

from __future__ import annotations

import pathlib
import socket
import stat
import subprocess
import sys
import time
from typing import Any

import pytest

from entrypoint import paths
from entrypoint.services.observations import Observations
from entrypoint.system.address_key import install_key, load_or_make_key
from entrypoint.system.observations import ask_observations
from entrypoint.system.queue_sizes import measure_queues
from tests.support.wait import wait_until


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where observations are answered and the queue lies."""
    monkeypatch.setattr(paths, "OBSERVATIONS", str(tmp_path / "observations"))
    monkeypatch.setattr(paths, "QUEUE", str(tmp_path / "queue"))
    return tmp_path


def answer(_: float) -> dict[str, Any]:
    """A report."""
    return {"version": 1}


def test_observations_are_answered_with_the_queues_and_silence_is_none(place: pathlib.Path) -> None:
    """The status service must be able to say that the forwarder does not answer."""
    assert ask_observations() is None
    Observations(answer).open(paths.OBSERVATIONS, group="root")
    assert stat.S_IMODE((place / "observations").stat().st_mode) == 0o660
    (place / "queue" / "deferred" / "A").mkdir(parents=True)
    (place / "queue" / "deferred" / "A" / "0000010000z0").touch()
    report = ask_observations()
    assert report is not None
    assert report["version"] == 1
    assert report["queues"]["deferred"] == {"messages": 1, "oldest_at": 1.0}
    assert report["queues"]["active"] == {"messages": 0, "oldest_at": None}


def test_who_asks_nothing_holds_up_the_next_one_for_a_moment_only(place: pathlib.Path) -> None:
    """A status service that hangs must not blind the next one."""
    del place
    Observations(answer).open(paths.OBSERVATIONS, group="no-such-group")
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(paths.OBSERVATIONS)
    began = time.monotonic()
    assert ask_observations(5.0) is not None
    assert 0.5 < time.monotonic() - began < 4
    silent.close()
    with socket.socket(socket.AF_UNIX) as wrong:
        wrong.connect(paths.OBSERVATIONS)
        wrong.sendall(b"attempts\n")
        wrong.settimeout(5)
        assert wrong.recv(64) == b""


def test_age_of_a_queue_is_that_of_its_oldest_message(place: pathlib.Path) -> None:
    """Names tell; a name from before long queue ids does not, and its file's last change stands for it."""
    (place / "queue" / "hold").mkdir(parents=True)
    (place / "queue" / "hold" / "2615D1882D9").touch()
    oldest_at = measure_queues()["hold"]["oldest_at"]
    assert abs(oldest_at - time.time()) < 60
    (place / "queue" / "hold" / "4jZZZF5twMzGwyZ").touch()
    assert measure_queues()["hold"]["messages"] == 2


def test_key_is_made_once_and_for_nobody_else(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that change with every start would follow nobody; a key that others read hides nothing."""
    monkeypatch.setattr(paths, "STATE", str(place))
    monkeypatch.setattr(paths, "OWN_ADDRESSES_KEY", str(place / "kept"))
    monkeypatch.setattr(paths, "ADDRESSES_KEY", str(place / "in-force"))
    monkeypatch.setattr("entrypoint.system.address_key.STATUS_GROUP", "root")
    key = load_or_make_key()
    assert len(key) == 64
    assert load_or_make_key() == key
    assert stat.S_IMODE((place / "kept").stat().st_mode) == 0o600
    install_key(key)
    assert (place / "in-force").read_text() == key
    assert stat.S_IMODE((place / "in-force").stat().st_mode) == 0o640


# The forwarder itself, its files elsewhere. Arguments: a directory.
_PROGRAM = """
import sys
from entrypoint import paths
for name in ("LISTENERS", "LOG_TAP", "OBSERVATIONS", "LOG_RULES", "LAST_SENT", "TROUBLE", "UNTRUSTED"):
    setattr(paths, name, sys.argv[1] + "/" + name)
from entrypoint.services.forwarder import main
main()
"""


def test_every_line_is_written_or_counted_as_dropped(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody reads the output nothing waits; and the number that is said afterwards is the true one."""
    (tmp_path / "LISTENERS").write_text("[]")
    (tmp_path / "LOG_RULES").write_text("json full\n")
    monkeypatch.setattr(paths, "OBSERVATIONS", str(tmp_path / "OBSERVATIONS"))
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    command = (sys.executable, "-c", _PROGRAM, str(tmp_path))
    with log, sender:
        log.bind(str(tmp_path / "log"))
        root = pathlib.Path(__file__).parents[2]
        forwarder = subprocess.Popen(command, stdin=log.fileno(), stdout=subprocess.PIPE, cwd=root)
        sender.connect(str(tmp_path / "log"))
        for number in range(30_000):
            sender.send(b"<22>postfix/smtpd[7]: connect from unknown[192.0.2.%d]" % (number % 250))
        wait_until(
            lambda: (ask_observations() or {"connections": 0})["connections"] == 30_000, 60, "all should be read"
        )
    report = ask_observations()
    assert report is not None
    forwarder.terminate()
    written, _ = forwarder.communicate(timeout=20)
    dropped = report["dropped"]["stdout"]
    assert dropped > 5000
    assert written.count(b'"event":"connect"') == 30_000 - dropped
    assert b'"event":"authrelay","program":"authrelay","text":"%d log lines were dropped' % dropped in written
    assert report["lines"] == {"INFO": 30_000}
