"""Makes the disk equal to the plan, before Postfix starts and while it runs. Disk, processes.

Uses `files` to write, `processes` to run Postfix's commands, `daemons` for the running Postfix, and `queue` for its
directories.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from entrypoint import paths
from entrypoint.errors import CommandFailedError
from entrypoint.system.daemons import reload_postfix
from entrypoint.system.files import make_directory, read_text, remove_others, rename_file, write_file
from entrypoint.system.processes import finish_command, read_standard_error, start_command
from entrypoint.system.queue import is_running, make_directories, refuse_shared_queue, repair_queue

_CONFIGURATION: Final = frozenset({f"{paths.POSTFIX_CONFIG}/main.cf", f"{paths.POSTFIX_CONFIG}/master.cf"})


class File(Protocol):
    """A file of the plan, as far as this module needs it."""

    @property
    def path(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def mode(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def is_table(self) -> bool: ...
    @property
    def text_type(self) -> str: ...
    @property
    def user(self) -> str: ...


def install(files: Sequence[File]) -> list[str]:
    """Write every file, build the tables, put the queue right, and return what Postfix remarked about the queue.

    Raises CannotWriteError, or CommandFailedError with what Postfix said.
    """
    make_directory(paths.RUN, 0o755)
    make_directory(paths.POSTFIX_CONFIG_TARGET, 0o755)
    for file in files:
        write_file(file.path, file.text, file.mode, user=file.user, group=file.group)
    sources = [file.path for file in files if file.is_table]
    kept = {file.path for file in files} | {f"{source}.lmdb" for source in sources}
    for directory in (paths.RUN, paths.POSTFIX_CONFIG):
        remove_others(directory, frozenset(kept))
    make_directories()

    postmap = start_command(("postmap", *(f"lmdb:{source}" for source in sources))) if sources else None
    complaints = read_standard_error(("postconf",)).splitlines()
    if postmap:
        complaints += finish_command(postmap)
    complaints += _try_text_tables(files, paths.POSTFIX_CONFIG, paths.POSTFIX_CONFIG)
    _refuse(complaints)
    refuse_shared_queue()
    return repair_queue()


def install_log_rules(files: Sequence[File]) -> None:
    """Write how the log is to be written, before its first line."""
    make_directory(paths.RUN, 0o755)
    for file in files:
        if file.path == paths.LOG_RULES:
            write_file(file.path, file.text, file.mode)


def apply_changes(files: Sequence[File], *, noticed: Collection[str] = ()) -> list[str]:
    """Bring a running relay to the plan and return the paths of what changed: nothing changed, nothing is done.

    Each file is replaced whole and each table with its source, deliveries under way end as they began (postfix(1)
    reload), and what waits is tried at once. `noticed`: tables for which Postfix is not reloaded, since each daemon
    looks whether its tables are still there before it serves again. Raises before anything is replaced when Postfix
    does not like it.
    """
    changed = [file for file in files if read_text(file.path) != file.text]
    if not changed:
        return []
    if _CONFIGURATION & {file.path for file in changed}:
        import tempfile  # no start needs it

        with tempfile.TemporaryDirectory() as directory:
            write_configuration(files, directory)
            _refuse(find_complaints(directory))
    if any(file.text_type for file in changed):
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            write_configuration([file for file in changed if file.text_type], directory)
            _refuse(_try_text_tables(changed, directory, paths.POSTFIX_CONFIG))
    tables = [file for file in changed if file.is_table]
    for file in tables:
        write_file(f"{file.path}.next", file.text, file.mode)
    if tables:
        _refuse(finish_command(start_command(("postmap", *(f"lmdb:{file.path}.next" for file in tables)))))
    for file in changed:
        if file.is_table:
            # The table first: from the moment at which the source is right, everything is.
            rename_file(f"{file.path}.next.lmdb", f"{file.path}.lmdb")
            rename_file(f"{file.path}.next", file.path)
        else:
            write_file(file.path, file.text, file.mode, user=file.user, group=file.group)
    is_seen = {file.path for file in changed} <= set(noticed)
    if not is_seen and is_running():  # one that is just being started again reads everything anyway
        reload_postfix()
    return [file.path for file in changed]


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


def find_table_complaints(files: Sequence[File], directory: str) -> list[str]:
    """Return what Postfix says of the tables that `write_configuration` has written there."""
    sources = [os.path.join(directory, os.path.basename(file.path)) for file in files if file.is_table]
    command = ("postmap", "-c", directory, *(f"lmdb:{path}" for path in sources))
    complaints = finish_command(start_command(command)) if sources else []
    return [_name_own_tables(text) for text in (*complaints, *_try_text_tables(files, directory, directory))]


def _try_text_tables(files: Sequence[File], directory: str, configuration: str) -> list[str]:
    """Return what Postfix says of tables that it reads as text: a bad line would be left out at each lookup.

    `configuration`: where the main.cf is that holds for postmap(1).
    """
    complaints = []
    for file in files:
        if file.text_type:
            table = f"{file.text_type}:{os.path.join(directory, os.path.basename(file.path))}"
            complaints += read_standard_error(("postmap", "-c", configuration, "-q", "x", table)).splitlines()
    return complaints


def _name_own_tables(complaint: str) -> str:
    """Return what Postfix said with the path at which the user has a table, in the place of its copy's."""
    return re.sub(rf"\S*/{paths.OWN_TABLE_PREFIX}", f"{paths.OWN_TABLES}/", complaint)


def _refuse(complaints: Sequence[str]) -> None:
    if complaints:
        complaints = [_name_own_tables(text) for text in complaints]
        raise CommandFailedError(f"Postfix does not like its configuration: {'; '.join(complaints)}")
