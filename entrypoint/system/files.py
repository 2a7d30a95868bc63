"""Writes files whole and atomically, and makes the directories they lie in. Disk."""

from __future__ import annotations

import os
import time
from typing import Final

from entrypoint.errors import CannotWriteError

_AGE_SECONDS: Final = 10
"""Postfix calls a source that changed within the last two seconds "hot" and waits before it reads it. Ours are whole
when they appear, so that they are dated back."""


def make_directory(path: str, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
    """Make a directory with its parents, if it is missing, and give it the mode and the (uid, gid)."""
    try:
        os.makedirs(path, exist_ok=True)
        os.chown(path, *owner)
        os.chmod(path, mode)
    except OSError as error:
        raise CannotWriteError(_explain(path, error)) from error


def write_file(path: str, text: str, mode: int) -> None:
    """Make a file have exactly this text and mode: a reader sees the old one or the new one, never a part."""
    temporary = f"{path}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            os.fchmod(descriptor, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            moment = time.time() - _AGE_SECONDS
            os.utime(descriptor, (moment, moment))
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError as error:
        raise CannotWriteError(_explain(path, error)) from error


def make_durable(path: str) -> None:
    """Wait until a file and its directory entry are on the disk."""
    for name in (path, os.path.dirname(path)):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def _explain(path: str, error: OSError) -> str:
    return (
        f"{path} cannot be written: {error.strerror}. With --read-only give the container its writable places: "
        "--tmpfs /run --tmpfs /tmp, and volumes at /var/spool/postfix and /var/lib/authrelay."
    )
