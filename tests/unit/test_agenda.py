"""When what runs now and then is due: the supervisor decides it by this, once a second, for years."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from entrypoint import paths
from entrypoint.system.agenda import (
    Agenda,
    double_pause,
    find_now,
    find_step,
    find_wall_offset,
    is_due,
    read_agenda,
    watch_files,
    write_agenda,
)


@pytest.fixture(autouse=True)
def _run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RUN", str(tmp_path))


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """A secret, written a while ago."""
    path = tmp_path / "secret"
    path.write_text("old")
    _age(path)
    return path


def _age(path: pathlib.Path, seconds: float = 60) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_agenda_survives_the_disk(file: pathlib.Path) -> None:
    """The one that writes it and the one that reads it are different processes."""
    agenda = Agenda(due_at=1.5, watches=watch_files([str(file), "/nowhere"], not_before=7.0), wall_offset=3.5)
    write_agenda("probe", agenda)
    assert read_agenda("probe") == agenda
    assert read_agenda("another") == Agenda()


def test_time_makes_it_due() -> None:
    """At the moment, and not before; never, where nothing is planned."""
    assert is_due(Agenda(due_at=10.0), 10.0)
    assert not is_due(Agenda(due_at=10.0), 9.9)
    assert not is_due(Agenda(), find_now())


@pytest.mark.parametrize(("seconds", "step"), [(-3600, -3600), (86400, 86400), (-5, 0), (0, 0)])
def test_wall_clock_that_was_set_makes_it_due(seconds: float, step: float) -> None:
    """Postfix goes by that clock; one that is put right little by little calls nobody."""
    agenda = Agenda(wall_offset=find_wall_offset() - seconds)
    assert find_step(agenda) == pytest.approx(step, abs=1)
    assert is_due(agenda, find_now()) == bool(step)
    assert find_step(Agenda()) == 0


@pytest.mark.parametrize(("times", "seconds"), [(0, 5), (3, 40), (10, 900), (2000, 900)])
def test_pause_grows_up_to_the_longest(times: int, seconds: float) -> None:
    """However often: what is counted for years must not end in an overflow."""
    assert double_pause(5.0, times, 900.0) == seconds


def test_unchanged_file_is_not_due(file: pathlib.Path) -> None:
    """Also where it is missing, as it was."""
    assert not is_due(Agenda(watches=watch_files([str(file), "/nowhere"])), 0.0)


@pytest.mark.parametrize("text", ["new", "newer"])
def test_changed_file_makes_it_due(text: str, file: pathlib.Path) -> None:
    """Written in place, with the same length or another."""
    agenda = Agenda(watches=watch_files([str(file)]))
    file.write_text(text)
    _age(file, 5)
    assert is_due(agenda, 0.0)


def test_replaced_removed_and_new_files_make_it_due(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A file of the same age and size in its place is another file."""
    agenda = Agenda(watches=watch_files([str(file)]))
    stamp = file.stat()
    other = tmp_path / "other"
    other.write_text("new")
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.rename(file)
    assert is_due(agenda, 0.0)
    file.unlink()
    assert is_due(agenda, 0.0)
    gone = Agenda(watches=watch_files([str(file)]))
    file.write_text("again")
    _age(file)
    assert is_due(gone, 0.0)


def test_link_that_leads_elsewhere_makes_it_due(tmp_path: pathlib.Path) -> None:
    """The kubelet changes nothing but the link `..data`."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "password").write_text(name)
        _age(tmp_path / name / "password")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "password").symlink_to("..data/password")
    agenda = Agenda(watches=watch_files([str(tmp_path / "password")]))
    assert not is_due(agenda, 0.0)
    (tmp_path / "link").symlink_to("two")
    (tmp_path / "link").rename(tmp_path / "..data")
    assert is_due(agenda, 0.0)


def test_file_that_is_being_written_is_left_alone_until_it_rests(file: pathlib.Path) -> None:
    """Half a password would be told as an error, and the whole one a second later as good."""
    agenda = Agenda(watches=watch_files([str(file)]))
    file.write_text("ne")
    assert not is_due(agenda, 0.0)
    _age(file, 1)
    assert is_due(agenda, 0.0)


def test_change_counts_only_from_its_time_on(file: pathlib.Path) -> None:
    """What deliveries meet comes in crowds."""
    agenda = Agenda(watches=watch_files([str(file)], not_before=20.0))
    file.write_text("changed")
    _age(file, 5)
    assert not is_due(agenda, 19.0)
    assert is_due(agenda, 20.0)
