"""What is looked at: would a restart help, and can mail be accepted and delivered now? Network, disk, by `system`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from entrypoint.health.report import Finding, make_report
from entrypoint.system.greeting import ask_listeners
from entrypoint.system.service_record import STATUS, load_services
from entrypoint.system.space import measure_space
from entrypoint.upkeep.in_force import load_in_force
from entrypoint.upkeep.record import load_record
from entrypoint.upkeep.token_states import load_token_states
from entrypoint.upkeep.verdict import find_readiness, load_verdict

_LEAST_INODES: Final = 100
"""A message in transit takes a few; a queue that is this close to the end is as good as full."""


def check_health() -> list[Finding]:
    """Return what decides whether the container should be restarted: its services run, and its listeners greet."""
    record = load_services()
    if record is None:
        return [("supervisor", False, "nothing has been started")]
    # No mail depends on the status service, and a restart would stop mail.
    services = [(name, one.is_up, one.state.lower()) for name, one in record.services.items() if name != STATUS]
    # One that is being stopped tells every client, and writes into the log, that it is.
    return services if record.is_stopping else [*services, *ask_listeners()]


def check_intake() -> list[Finding]:
    """Return what decides, on top of that, whether mail can be accepted."""
    return [*_check_stop(), *_check_space()]


def check_delivery() -> list[Finding]:
    """Return what decides whether what was accepted can be delivered."""
    return [*_check_certificates(), *find_readiness(load_verdict(), load_token_states().values())]


def check_readiness() -> list[Finding]:
    """Return both: whether mail can be accepted and delivered."""
    return [*check_intake(), *check_delivery()]


def list_warnings() -> list[str]:
    """Return what should be known but stops no mail, such as a CA that could not be fetched again.

    A changed secret that cannot be used is one: what was before is in force, and a secret that a fleet shares must not
    take every relay of it out of service at once.
    """
    warnings = list(load_record().troubles.values())
    warnings += [f"{one.setting}: {one.describe()}" for one in load_token_states().values() if one.what]
    record = load_services()
    status = record.services.get(STATUS) if record else None
    if status and not status.is_up:
        warnings.append("the status service does not run: no metrics and no page; mail is not affected")
    return warnings


def make_checks() -> dict[str, Any]:
    """Return everything that is found now."""
    return make_report(check_health(), check_intake(), check_delivery(), list_warnings())


def _check_stop() -> Iterator[Finding]:
    record = load_services()
    if record and record.is_stopping:
        yield "stop", False, "the container is being stopped"


def _check_space() -> Iterator[Finding]:
    try:
        space = measure_space()
    except OSError as error:
        yield "queue", False, error.strerror or str(error)
        return
    is_well = space.free_bytes >= space.needed_bytes
    room = f"{_name_size(space.free_bytes)} free of the {_name_size(space.needed_bytes)} that Postfix wants"
    yield "queue space", is_well, room if is_well else f"{room}: it takes no message"
    if space.free_inodes is not None:
        is_well = space.free_inodes >= _LEAST_INODES
        yield "queue inodes", is_well, f"{space.free_inodes} free{'' if is_well else ': no message can be stored'}"


def _check_certificates() -> Iterator[Finding]:
    now = time.time()
    in_force = load_in_force()
    for role, what in (("client", "client certificate"), ("trusted_ca", "trusted CA")):
        ends = [one.not_after for one in in_force.certificates if one.role == role]
        # Of several CAs one that is still valid may be the upstream's; of the client's chain the first is its own.
        if ends and (ends[0] if role == "client" else max(ends)) <= now:
            yield what, False, "it has ended"


def _name_size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
