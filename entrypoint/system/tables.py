"""Asks Postfix what a lookup table has for a key, and whether it can read one, by postmap(1). Processes, disk.

Uses `processes` to run it.
"""

from __future__ import annotations

import os
import re
import tempfile

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


def find_wrong_patterns(text: str) -> dict[int, str]:
    """Return what Postfix cannot read in a regexp_table(5), by the number of the line."""
    with tempfile.TemporaryDirectory() as directory:
        table = os.path.join(directory, "table")
        # There may be no configuration yet, and this one must not be looked at for faults of its own.
        for path, content in ((table, text), (os.path.join(directory, "main.cf"), "compatibility_level = 3.10\n")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        process = start_command(("postmap", "-c", directory, "-q", "X-No-Such-Header: x", f"regexp:{table}"))
        output, _ = process.communicate()
    wrong: dict[int, str] = {}
    for line in output.splitlines():
        if match := re.search(rf"{re.escape(table)}, line (\d+): (.*)", line):
            # The first remark says what is wrong; a second one says that the line is left out.
            wrong.setdefault(int(match[1]), match[2].rstrip("."))
    return wrong
