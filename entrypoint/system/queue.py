"""Puts Postfix's directories and its queue right before it starts, and finds out who else uses them. Disk, processes.

This is what `postfix check` does at each start, without its two hundred forks: the same list of directories
(postfix-files), the same postsuper(1). Uses `files` to make directories and `processes` to run Postfix's programs.
"""

from __future__ import annotations

import grp
import math
import os
import pwd
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from entrypoint import paths
from entrypoint.errors import CannotWriteError, CommandFailedError
from entrypoint.system.files import list_directory, list_names, make_directory, read_text
from entrypoint.system.processes import finish_command, start_command

MAIL_OWNER: Final = "postfix"
_SETGID_GROUP: Final = "postdrop"
_RESTING: Final = ("maildrop", "deferred", "hold")
_MOVING: Final = ("incoming", "active")
_OWNED: Final = (*_MOVING, "deferred", "hold", "corrupt", "bounce", "defer", "trace", "flush")
_WRITING_SECONDS: Final = 10.0
"""A client that has sent nothing of its message for so long is not waited for as for a message in the queue."""
_ANONYMOUS: Final = re.compile(r"/volumes/[0-9a-f]{64}/_data$|/containers/[0-9a-f]{64}/volumes/")
"""Where Docker, podman and containerd keep a volume that nobody named: the next container does not have it."""
_OF_THE_POD: Final = "/volumes/kubernetes.io~empty-dir/"
"""Where a kubelet keeps an emptyDir: the next container of the pod has it, the next pod does not."""
_OVERFLOW_USER: Final = "/proc/sys/kernel/overflowuid"
"""Whom a user namespace shows in the place of those it does not know (user_namespaces(7))."""
_ROOTS: Final = {"$queue_directory": paths.QUEUE, "$data_directory": paths.POSTFIX_DATA}
_NAMES: Final = {"$mail_owner": MAIL_OWNER, "$setgid_group": _SETGID_GROUP, "-": "root"}


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory that Postfix needs: its mode, and the names of its user and group."""

    path: str
    mode: int
    user: str
    group: str


def parse_directories(postfix_files: str) -> list[Directory]:
    """Return the directories below the queue and data directories that Postfix's own list of files names.

    A line is `$queue_directory/active:d:$mail_owner:-:700:ucr`; `-` leaves the group as a new directory has it.
    """
    found = []
    for line in postfix_files.splitlines():
        fields = line.split(":")
        root, slash, rest = fields[0].partition("/")
        if len(fields) >= 5 and fields[1] == "d" and root in _ROOTS:
            found.append(
                Directory(
                    path=f"{_ROOTS[root]}{slash}{rest}",
                    mode=int(fields[4], 8),
                    user=_NAMES.get(fields[2], fields[2]),
                    group=_NAMES.get(fields[3], fields[3]),
                )
            )
    return found


def make_directories() -> None:
    """Make every directory that Postfix needs, and give each its mode and owner back if something changed them.

    Raises CannotWriteError, with the command that helps, where they belong to somebody who is not in this container.
    """
    with open(f"{paths.POSTFIX_META}/postfix-files", encoding="utf-8") as file:
        directories = parse_directories(file.read())
    for directory in directories:
        owner = (pwd.getpwnam(directory.user).pw_uid, grp.getgrnam(directory.group).gr_gid)
        try:
            make_directory(directory.path, directory.mode, owner)
        except CannotWriteError as error:
            raise _refuse_unmapped(directory.path) or error from error


def is_running() -> bool:
    """Return whether a Postfix holds the lock of this queue (master(8) -t)."""
    return start_command((f"{paths.POSTFIX_DAEMONS}/master", "-t")).wait() != 0


def refuse_shared_queue() -> None:
    """Raise CommandFailedError when another Postfix uses this queue."""
    if is_running():
        raise CommandFailedError(
            f"another Postfix is running on the queue in {paths.QUEUE}. Stop that container first, or give each "
            "container a queue volume of its own"
        )


def count_messages() -> int:
    """Return how many messages are in the queue, wherever in it (QSHAPE_README), and have not gone out."""
    waiting = sum(len(names) for name in _RESTING for _, _, names in os.walk(f"{paths.QUEUE}/{name}"))
    return waiting + sum(1 for path in _list_moving() if has_recipients(path))


def has_pending() -> bool:
    """Return whether a message is on its way into the queue, or through it."""
    if list_names(f"{paths.QUEUE}/maildrop"):
        return True
    moment = time.time() - _WRITING_SECONDS
    return any(has_recipients(path, written_since=moment) for path in _list_moving())


def _list_moving() -> Iterator[str]:
    for name in _MOVING:
        for entry in list_names(f"{paths.QUEUE}/{name}"):
            yield f"{paths.QUEUE}/{name}/{entry}"


def has_recipients(path: str, *, written_since: float = math.inf) -> bool:
    """Return whether a queue file has a recipient who has not got it, as showq(8) reads it; not one that is gone.

    A file that is not executable is not whole: nobody was promised anything yet. It counts if it was written since a
    time in seconds since the epoch; else a crash has left it behind (global/mail_queue.h, MAIL_QUEUE_STAT_READY).
    Deliveries mark a recipient as done in the file itself, whether or not a qmgr(8) is there to remove the file.
    Records are a type, a length (base 128, low first) and text; C has, before the content, where that begins and how
    long it is; recipients are R before it or, with `sendmail -t`, behind it (global/rec_type.h, global/record.c).
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            return _find_recipient(file) if found.st_mode & stat.S_IXUSR else found.st_mtime > written_since
    except OSError:
        return False
    except (ValueError, IndexError, OverflowError, MemoryError):
        return True  # damaged: whom it is for cannot be known, and it lies there


def _find_recipient(file: BinaryIO) -> bool:
    content = (0, 0)
    while kind := file.read(1):
        text = file.read(_read_length(file))
        if kind == b"R":
            return True
        if kind == b"C":
            fields = text.split()
            content = (int(fields[1]), int(fields[4]))
        elif kind == b"M":
            file.seek(content[0] + content[1])
        elif kind == b"E":
            break
    return False


def _read_length(file: BinaryIO) -> int:
    length = shift = 0
    while byte := file.read(1):
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            break
    return length


def describe_place(mountinfo: str, path: str = paths.QUEUE) -> str:
    """Return what is wrong with where the queue lies, by /proc/self/mountinfo (proc(5)); nothing, on a named volume.

    `path`: something else that must not be lost.
    """
    mounts = [fields for line in mountinfo.splitlines() if len(fields := line.split()) > 6]
    above = [fields for fields in mounts if fields[4] != "/" and f"{path}/".startswith(f"{fields[4]}/")]
    if not above:
        return "in the container's own layer"
    # The closest one, and of those the last that was mounted, is the one in sight.
    found = max(enumerate(above), key=lambda pair: (len(pair[1][4]), pair[0]))[1]
    if found[found.index("-") + 1] == "tmpfs":
        return "in memory"
    if _OF_THE_POD in found[3]:
        return "in an emptyDir of the pod"
    return "on a volume without a name" if _ANONYMOUS.search(found[3]) else ""


def give_files_back() -> list[str]:
    """Make the queue files Postfix's own, where a restored volume or another map of users gave them away.

    Not those in maildrop, whose owner is who handed them in (postdrop(1)).
    """
    found = pwd.getpwnam(MAIL_OWNER)
    strays = list(_list_strays(found.pw_uid))
    try:
        for path in strays:
            os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise _refuse_unmapped(strays[0]) or CannotWriteError(f"{strays[0]}: {error.strerror}") from error
    text = f"{len(strays)} files and directories of the queue belonged to another user, as in a restored volume"
    return [f"{text}: given back to Postfix"] if strays else []


def _refuse_unmapped(path: str) -> CannotWriteError | None:
    """Return what to say of a file whose owner does not exist in this container's user namespace, if it is one."""
    root = map_user(0, read_text("/proc/self/uid_map") or "")
    if root == 0 or os.lstat(path).st_uid != int(read_text(_OVERFLOW_USER) or 0):
        return None
    return CannotWriteError(
        f"{path} belongs to a user whom this container, in its user namespace, cannot see or change. "
        f"As root outside, where the volume lies: chown -R {root}:{root} . The start does the rest"
    )


def _list_strays(uid: int) -> Iterator[str]:
    for name in _OWNED:
        for directory, hashed, entries in os.walk(f"{paths.QUEUE}/{name}"):
            for entry in (*hashed, *entries):
                path = f"{directory}/{entry}"
                if os.lstat(path).st_uid != uid:
                    yield path


def map_user(uid: int, uid_map: str) -> int:
    """Return what a user of this container is outside, by /proc/self/uid_map (user_namespaces(7))."""
    for line in uid_map.splitlines():
        first, outside, count = (int(word) for word in line.split())
        if first <= uid < first + count:
            return outside + uid - first
    return uid


def repair_queue() -> list[str]:
    """Give Postfix its files back and let postsuper(1) put their names right; return what a person should know."""
    remarks = give_files_back()
    remarks += finish_command(start_command(("postsuper",)))
    damaged = list_directory(f"{paths.QUEUE}/corrupt")
    if damaged:
        lie, them = ("message lies", "it") if len(damaged) == 1 else ("messages lie", "them")
        remarks.append(f"{len(damaged)} damaged {lie} in {paths.QUEUE}/corrupt: Postfix could not read {them}")
    return remarks
