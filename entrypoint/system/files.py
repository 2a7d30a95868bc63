"""Writes files whole and atomically, and makes the directories they lie in. Disk."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import time
from typing import Final

from entrypoint.errors import CannotWriteError

STATUS_GROUP: Final = "authrelay"
"""The group of the status service, which is nobody else's."""
_AGE_SECONDS: Final = 10
"""Postfix calls a source that changed within the last two seconds "hot" and waits before it reads it. Ours are whole
when they appear, so that they are dated back."""

_REMEDIES: Final = {
    errno.EROFS: "With --read-only give the container its writable places: --tmpfs /run --tmpfs /tmp, and volumes at "
    "/var/spool/postfix and /var/lib/authrelay",
    errno.ENOSPC: "Make room on the volume that it lies on",
    errno.EPERM: "The container lacks a capability: docs/hardening.md lists those that it needs",
    errno.EACCES: "The container lacks a capability, or the volume belongs to another user: docs/hardening.md",
}


def make_directory(path: str, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
    """Make a directory with its parents, if it is missing, and give it the mode and the (uid, gid).

    What is right already is not set again, and a mode is set while the directory is our own: CAP_FOWNER is not needed.
    """
    try:
        os.makedirs(path, exist_ok=True)
        found = os.stat(path)
        if stat.S_IMODE(found.st_mode) != mode:
            if found.st_uid != os.geteuid():
                os.chown(path, os.geteuid(), -1)
            os.chmod(path, mode)
            found = os.stat(path)
        if (found.st_uid, found.st_gid) != owner:
            os.chown(path, *owner)
    except OSError as error:
        raise CannotWriteError(_explain(path, error)) from error


def write_file(
    path: str, text: str, mode: int, *, user: str = "root", group: str = "", is_durable: bool = False
) -> None:
    """Make a file have exactly this text, mode and owners: a reader sees the old one or the new one, never a part.

    `is_durable`: whether this holds after a loss of power, too; then the text is on the disk before the name is.
    """
    temporary = f"{path}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            if group:
                os.fchown(descriptor, -1, grp.getgrnam(group).gr_gid)
            os.fchmod(descriptor, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            moment = time.time() - _AGE_SECONDS
            os.utime(descriptor, (moment, moment))
            if user != "root":  # last: what belongs to another can no longer be set without CAP_FOWNER
                os.fchown(descriptor, pwd.getpwnam(user).pw_uid, -1)
            if is_durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        if is_durable:
            _sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        raise CannotWriteError(_explain(path, error)) from error


def share_file(path: str, mode: int, group: str) -> None:
    """Let a group of the image's have a file, or a socket, that is ours."""
    os.chown(path, -1, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def rename_file(source: str, target: str) -> None:
    """Put a file in the place of another: a reader sees the old one or the new one."""
    try:
        os.rename(source, target)
    except OSError as error:
        raise CannotWriteError(_explain(target, error)) from error


def list_directory(path: str) -> list[str]:
    """Return the names in a directory."""
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise CannotWriteError(_explain(path, error, "read")) from error


def list_names(path: str) -> list[str]:
    """Return the names in a directory that others change meanwhile; none where there is no such directory."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def read_text(path: str) -> str | None:
    """Return a file's text, or `None` where there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def remove_others(directory: str, kept: frozenset[str]) -> None:
    """Remove what lies in a directory of ours and is not to be kept, so that nothing of an earlier start remains."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if path not in kept and not os.path.isdir(path):
            os.unlink(path)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: str, error: OSError, what: str = "written") -> str:
    remedy = _REMEDIES.get(error.errno or 0, "Check the volume or directory that it lies on")
    return f"{path} cannot be {what}: {error.strerror}. {remedy}."
