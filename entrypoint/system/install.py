"""Makes the disk equal to the plan, and refuses what Postfix complains about. Disk, processes.

Uses `files` to write, `processes` to run postmap and postconf, and `queue` for Postfix's own directories.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.system.files import make_directory, remove_others, write_file
from entrypoint.system.processes import finish_command, read_standard_error, start_command
from entrypoint.system.queue import make_directories, refuse_shared_queue, repair_queue


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


def install(files: Sequence[File]) -> list[str]:
    """Write every file, build the tables, put the queue right, and return what Postfix remarked about the queue.

    Raises CannotWriteError, or CommandFailedError with what Postfix said.
    """
    make_directory(paths.RUN, 0o755)
    make_directory(paths.POSTFIX_CONFIG_TARGET, 0o755)
    for file in files:
        write_file(file.path, file.text, file.mode)
    sources = [file.path for file in files if file.is_table]
    kept = {file.path for file in files} | {f"{source}.lmdb" for source in sources}
    for directory in (paths.RUN, paths.POSTFIX_CONFIG):
        remove_others(directory, frozenset(kept))
    make_directories()

    postmap = start_command(("postmap", *(f"lmdb:{source}" for source in sources))) if sources else None
    complaints = read_standard_error(("postconf",)).splitlines()
    if postmap:
        complaints += finish_command(postmap)
    if complaints:
        raise CommandFailedError(f"Postfix does not like its configuration: {'; '.join(complaints)}")
    refuse_shared_queue()
    return repair_queue()


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
