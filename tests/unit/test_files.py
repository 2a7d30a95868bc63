"""Files of ours on the disk: whole, with the right mode, and with words when it does not work."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import time

import pytest

from entrypoint.errors import CannotWriteError
from entrypoint.system.files import list_directory, make_directory, read_text, remove_others, write_file


def test_file_is_written_whole_with_its_mode_and_nothing_beside_it(tmp_path: pathlib.Path) -> None:
    """A password table that is readable for a moment is readable."""
    path = tmp_path / "table"
    path.write_text("old and much longer")
    path.chmod(0o666)
    write_file(str(path), "neu ü\n", 0o600)
    assert path.read_bytes() == "neu ü\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["table"]


def test_file_has_its_mode_under_any_umask(tmp_path: pathlib.Path) -> None:
    """A hardened host's umask must not hide main.cf from Postfix's daemons."""
    before = os.umask(0o077)
    try:
        write_file(str(tmp_path / "main.cf"), "x\n", 0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "main.cf").stat().st_mode) == 0o644


def test_file_is_dated_back_so_that_postfix_does_not_wait(tmp_path: pathlib.Path) -> None:
    """Postfix waits for a source that is younger than two seconds."""
    write_file(str(tmp_path / "file"), "x", 0o644)
    assert 5 < time.time() - (tmp_path / "file").stat().st_mtime < 60


def test_file_is_replaced_and_never_changed_in_place(tmp_path: pathlib.Path) -> None:
    """Whoever reads meanwhile sees the old text to its end."""
    path = tmp_path / "file"
    write_file(str(path), "old", 0o644)
    with path.open() as reader:
        write_file(str(path), "new", 0o644)
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_file_that_fails_leaves_the_old_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not cost the configuration that worked."""
    path = tmp_path / "file"
    write_file(str(path), "old", 0o644)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CannotWriteError, match="No space left on device"):
        write_file(str(path), "new", 0o644)
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (
            errno.EROFS,
            "Read-only file system. With --read-only give the container its writable places: --tmpfs /run "
            "--tmpfs /tmp, and volumes at /var/spool/postfix and /var/lib/authrelay.",
        ),
        (errno.ENOSPC, "No space left on device. Make room on the volume that it lies on."),
        (errno.EPERM, "Operation not permitted. The container lacks a capability: docs/hardening.md lists those"),
        (errno.EACCES, "Permission denied. The container lacks a capability, or the volume belongs to another user"),
        (errno.EIO, "Input/output error. Check the volume or directory that it lies on."),
    ],
)
def test_error_names_the_path_the_reason_and_the_remedy(
    number: int, remedy: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reason is mended elsewhere: an option, a volume, a capability, a disk."""
    path = str(tmp_path / "file")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CannotWriteError) as caught:
        write_file(path, "x", 0o644)
    assert str(caught.value).startswith(f"{path} cannot be written: {remedy}")
    assert caught.value.exit_status == 73


def test_directory_is_made_with_its_parents_and_mode(tmp_path: pathlib.Path) -> None:
    """Twice: the second start finds the first one's."""
    owner = (os.getuid(), os.getgid())
    for _ in range(2):
        make_directory(str(tmp_path / "a" / "b"), 0o700, owner)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_directory_where_a_file_is_in_the_way_is_an_error_of_ours(tmp_path: pathlib.Path) -> None:
    """A traceback is a bug."""
    (tmp_path / "a").write_text("")
    with pytest.raises(CannotWriteError, match="a/b cannot be written: Not a directory"):
        make_directory(str(tmp_path / "a" / "b"), 0o700)


def test_text_of_a_missing_file_is_none(tmp_path: pathlib.Path) -> None:
    """Missing is the normal case on the first start."""
    assert read_text(str(tmp_path / "file")) is None
    (tmp_path / "file").write_text("ü", encoding="utf-8")
    assert read_text(str(tmp_path / "file")) == "ü"


def test_durable_file_is_synced_with_its_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the upstream pins must survive a power cut, and its name must, too."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    path = tmp_path / "file"
    write_file(str(path), "text", 0o600, is_durable=True)
    assert synced == [f"{path}.new", str(tmp_path)]


def test_directory_that_cannot_be_listed_is_told(tmp_path: pathlib.Path) -> None:
    """A missing capability shows first where root may not look."""
    with pytest.raises(CannotWriteError, match=r"/nothing cannot be read: No such file or directory\. Check"):
        list_directory(str(tmp_path / "nothing"))
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert list_directory(str(tmp_path)) == ["a", "b"]


def test_others_are_removed_and_directories_stay(tmp_path: pathlib.Path) -> None:
    """A table of an earlier start, with an old password in it, must not lie there for ever."""
    for name in ("kept", "old", "link"):
        (tmp_path / name).write_text("")
    (tmp_path / "directory").mkdir()
    remove_others(str(tmp_path), frozenset({str(tmp_path / "kept")}))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "kept"]
