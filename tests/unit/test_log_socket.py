"""The log socket: who does not read it stops the mail; who reads slowly, or was frozen with all the rest, does not."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import pytest

from entrypoint import paths
from entrypoint.services.log_socket import LogSocket


@pytest.fixture
def log(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogSocket]:
    """A socket of the test's own."""
    monkeypatch.setattr(paths, "LOG_SOCKET", str(tmp_path / "log"))
    with contextlib.closing(LogSocket()) as made:
        yield made


@pytest.fixture
def daemon(log: LogSocket) -> Iterator[socket.socket]:
    """Who logs."""
    del log
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect(paths.LOG_SOCKET)
        yield one


def _look(log: LogSocket, *moments: float) -> list[bool]:
    return [log.is_neglected(moment) for moment in moments]


def test_line_that_stays_the_next_one_is_noticed(log: LogSocket, daemon: socket.socket) -> None:
    """And told once, so that the next reader has its time."""
    daemon.send(b"first")
    daemon.send(b"second")
    assert _look(log, 1, 2, 3, 4, 5, 6) == [False, False, False, True, False, False]


def test_reader_that_is_behind_is_left_alone(log: LogSocket, daemon: socket.socket) -> None:
    """It reads, however slowly: on a busy machine there is always a line in the socket."""
    for number in range(6):
        daemon.send(b"%d" % number)
    for moment in range(1, 7):
        assert not log.is_neglected(moment)
        os.read(log.fileno(), 100)


def test_silence_is_no_neglect(log: LogSocket) -> None:
    """Most relays log nothing most of the time."""
    assert not any(_look(log, *range(1, 20)))


def test_looks_are_a_second_apart_and_a_long_pause_is_one(log: LogSocket, daemon: socket.socket) -> None:
    """A stop looks ten times a second; and a container that was frozen for an hour must not end its forwarder."""
    daemon.send(b"x")
    assert not any(_look(log, *(1 + number / 10 for number in range(15))))
    assert not log.is_neglected(3600)


def test_socket_of_a_start_before_is_replaced(log: LogSocket) -> None:
    """A container that is started again has its old file."""
    del log
    with contextlib.closing(LogSocket()) as again, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect(paths.LOG_SOCKET)
        one.send(b"x")
        assert os.read(again.fileno(), 100) == b"x"
    assert os.stat(paths.LOG_SOCKET).st_mode & 0o777 == 0o666
