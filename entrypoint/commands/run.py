"""`authrelay run`: becomes the supervisor, which waits for a child that prepares everything meanwhile.

Each needs about as long, and hardly anything of what the other imports.
"""

from __future__ import annotations

import gc
from typing import Final

from entrypoint import paths
from entrypoint.system.processes import apply_file_limit, become_beside, leave_result

_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TMPDIR": paths.RUN}
"""The supervisor, and all that it starts, sees none of the settings; the passwords are in tables of root by then."""


def main(arguments: list[str]) -> int:
    """Start the relay; returns only by raising, in the child."""
    del arguments
    apply_file_limit()
    writer = become_beside(paths.PYTHON, ("-I", "-m", "entrypoint.services.supervisor"), _ENVIRONMENT)
    # Nothing that so short a process makes is worth looking for.
    gc.disable()
    from entrypoint.commands.start import start  # the supervisor has no need of it

    leave_result(writer, start())
