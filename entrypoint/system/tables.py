"""Asks a lookup table of Postfix's what it has for a key, by postmap(1). Processes, and whatever the table is.

Uses `processes` to run it.
"""

from __future__ import annotations

from entrypoint.errors import CommandFailedError
from entrypoint.system.processes import start_command


def query_table(table: str, key: str, *, configuration: str, timeout_seconds: float) -> str | None:
    """Return what a table, `type:name`, has for a key; `None` for nothing; CommandFailedError where it cannot be read.

    A table may be a server on the network.
    """
    command = ("timeout", "--kill-after=1", str(timeout_seconds), "postmap", "-c", configuration, "-q", key, table)
    process = start_command(command)
    output, _ = process.communicate()
    if process.returncode == 0:
        return output.strip()
    spoken = "; ".join(line.strip() for line in output.splitlines() if line.strip())
    if process.returncode == 124:
        spoken = f"it did not answer within {timeout_seconds:g} s"
    # Not to be found is status 1, too, without a word.
    if process.returncode != 1 or spoken:
        raise CommandFailedError(spoken or f"postmap ended with status {process.returncode}")
    return None
