"""Makes the disk equal to the plan, has Postfix check it, and refuses what Postfix complains about. Disk, processes.

Uses `files` to write and `processes` to run postmap, postfix and postconf.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from typing import Protocol

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.system.files import make_directory, remove_others, write_file
from entrypoint.system.processes import finish_command, read_standard_error, start_command


class File(Protocol):
    """A file of the plan, as far as this module needs it."""

    @property
    def path(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def mode(self) -> int: ...
    @property
    def is_table(self) -> bool: ...


def install(files: Sequence[File]) -> None:
    """Write every file, build the tables, and let Postfix check its configuration and its queue directory.

    Raises CannotWriteError, or CommandFailedError with what Postfix said.
    """
    postfix = pwd.getpwnam("postfix")
    make_directory(paths.RUN, 0o755)
    make_directory(paths.POSTFIX_CONFIG_TARGET, 0o755)
    make_directory(paths.POSTFIX_DATA, 0o700, (postfix.pw_uid, grp.getgrnam("postfix").gr_gid))
    for file in files:
        write_file(file.path, file.text, file.mode)
    sources = [file.path for file in files if file.is_table]
    kept = {file.path for file in files} | {f"{source}.lmdb" for source in sources}
    for directory in (paths.RUN, paths.POSTFIX_CONFIG):
        remove_others(directory, frozenset(kept))

    # `postfix check` makes the queue's directories and puts misnamed queue files right; the tables do not wait for it.
    check = start_command(("postfix", "check"))
    try:
        if sources:
            finish_command(start_command(("postmap", *(f"lmdb:{source}" for source in sources))), must_be_silent=True)
        complaints = read_standard_error(("postconf",))
        if complaints:
            raise CommandFailedError(f"Postfix does not like its configuration: {'; '.join(complaints.splitlines())}")
    finally:
        finish_command(check, must_be_silent=True)


def write_configuration(files: Sequence[File], directory: str) -> list[str]:
    """Write the files into a directory of the user's, flat, and return their names."""
    os.makedirs(directory, exist_ok=True)
    names = []
    for file in files:
        name = os.path.basename(file.path)
        write_file(os.path.join(directory, name), file.text, file.mode)
        names.append(name)
    return sorted(names)


def find_complaints(directory: str) -> list[str]:
    """Return what Postfix says of a configuration directory that it should accept in silence."""
    complaints = read_standard_error(("postconf", "-c", directory))
    complaints += read_standard_error(("postconf", "-c", directory, "-M"))
    return list(dict.fromkeys(complaints.splitlines()))
