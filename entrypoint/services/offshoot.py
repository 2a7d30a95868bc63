"""Runs a service of ours in a fork of the supervisor, as another user, without starting another Python. Processes.

An idle Python of its own takes 8.4 MB, a fork that shares the supervisor's pages 3.3, and it is there at once. It
inherits no secret: the supervisor's environment was scrubbed before it began, and it never reads the settings that it
keeps for others.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from typing import NoReturn

from entrypoint.system.log import write_line
from entrypoint.system.processes import reset_signals


def branch_off(name: str, become_user: Callable[[], str | None], work: Callable[[], int]) -> NoReturn:
    """Become the service in a child that has its descriptors already; `become_user` returns what went wrong."""
    status = 70
    try:
        # What is here already is never looked at by the collector again, which would make copies of all its pages.
        gc.freeze()
        reset_signals()
        # For ps(1) and top(1): the command line is the supervisor's.
        with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(name)
        if complaint := become_user():
            write_line("ERROR", f"{name}: {complaint}")
        else:
            status = work()
    except Exception as error:
        write_line("ERROR", f"{name}: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def answer_logins() -> int:
    """Say whether logins are good, until the end."""
    from entrypoint.services.logins import service  # only who has users pays for it

    return service.main()


def sign_mail() -> int:
    """Be the milter that signs, until the end."""
    from entrypoint.services.dkim import service  # it alone needs cryptography

    return service.serve()
