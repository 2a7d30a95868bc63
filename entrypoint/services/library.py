"""The parts of supervisor that the house uses, without its web server, its client and its entry points.

Importing those takes most of its time and a third of its memory, at every start and in two processes. Whoever needs one
of the modules later gets it.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

_LEFT_OUT: Final = (
    *("supervisor.xmlrpc", "xmlrpc.client", "http.client", "html", "html.entities", "html.parser"),
    *("importlib.metadata", "importlib.resources"),
)


class _Nothing(types.ModuleType):
    """Stands for a module while something is imported that only names what is in it."""

    __path__ = ()  # type: ignore[assignment] # a package, so that what lies in it is looked for here

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextlib.contextmanager
def _leave_out() -> Iterator[None]:
    absent = [name for name in _LEFT_OUT if name not in sys.modules]
    sys.modules.update({name: _Nothing(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _leave_out():
    from supervisor import events as events
    from supervisor.medusa.asyncore_25 import ExitNow as ExitNow
    from supervisor.options import ProcessConfig as ProcessConfig
    from supervisor.options import ServerOptions as ServerOptions
    from supervisor.options import decode_wait_status as decode_wait_status
    from supervisor.process import Subprocess as Subprocess
    from supervisor.states import RUNNING_STATES as RUNNING_STATES
    from supervisor.states import STOPPED_STATES as STOPPED_STATES
    from supervisor.states import SupervisorStates as SupervisorStates
    from supervisor.states import getProcessStateDescription as getProcessStateDescription
    from supervisor.supervisord import Supervisor as Supervisor
