"""Puts Postfix's directories and its queue right before it starts, and finds out who else uses them. Disk, processes.

This is what `postfix check` does at each start, without its two hundred forks: the same list of directories
(postfix-files), the same postsuper(1). Uses `files` to make directories and `processes` to run Postfix's programs.
"""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from typing import Final

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.system.files import list_directory, make_directory
from entrypoint.system.processes import finish_command, start_command

_MAIL_OWNER: Final = "postfix"
_SETGID_GROUP: Final = "postdrop"
_ROOTS: Final = {"$queue_directory": paths.QUEUE, "$data_directory": paths.POSTFIX_DATA}
_NAMES: Final = {"$mail_owner": _MAIL_OWNER, "$setgid_group": _SETGID_GROUP, "-": "root"}


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
    """Make every directory that Postfix needs, and give each its mode and owner back if something changed them."""
    with open(f"{paths.POSTFIX_META}/postfix-files", encoding="utf-8") as file:
        directories = parse_directories(file.read())
    for directory in directories:
        owner = (pwd.getpwnam(directory.user).pw_uid, grp.getgrnam(directory.group).gr_gid)
        make_directory(directory.path, directory.mode, owner)


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


def repair_queue() -> list[str]:
    """Let postsuper(1) put misnamed and misplaced queue files right; return what a person should know."""
    remarks = finish_command(start_command(("postsuper",)))
    damaged = list_directory(f"{paths.QUEUE}/corrupt")
    if damaged:
        remarks.append(f"{len(damaged)} damaged messages lie in {paths.QUEUE}/corrupt: Postfix could not read them")
    return remarks
