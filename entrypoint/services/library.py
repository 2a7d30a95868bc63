"""The parts of supervisor that the house uses, without its web server, its client and its entry points.

Importing those takes most of its time and a third of its memory, at every start and in two processes.
"""

from __future__ import annotations

from entrypoint.placeholders import leave_out

with leave_out(
    *("supervisor.xmlrpc", "xmlrpc.client", "http.client", "html", "html.entities", "html.parser"),
    *("importlib.metadata", "importlib.resources"),
):
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
