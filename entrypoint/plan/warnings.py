"""What should be known of a plan that works all the same. Pure."""

from __future__ import annotations

import math

from entrypoint.config.settings import Settings
from entrypoint.config.values import LOOPBACK_ONLY
from entrypoint.plan.capacity import choose_capacity
from entrypoint.plan.files import Facts
from entrypoint.plan.networks import find_public_subnets


def list_warnings(settings: Settings, facts: Facts) -> tuple[str, ...]:
    """Return every warning."""
    return (*_warn_of_public_subnets(settings, facts), *_warn_of_little_memory(settings, facts))


def _warn_of_little_memory(settings: Settings, facts: Facts) -> tuple[str, ...]:
    capacity = choose_capacity(settings, facts.memory_bytes)
    if not capacity.missing_bytes or facts.memory_bytes is None:
        return ()
    needed = math.ceil((facts.memory_bytes + capacity.missing_bytes) / 2**20)
    return (
        f"the container's memory is limited to {facts.memory_bytes // 2**20} MiB, which is used up when "
        f"{capacity.sessions} clients send at once. Give it {needed} MiB (--memory {needed}m), or set a smaller "
        "RELAYHOST_CONCURRENCY",
    )


def _warn_of_public_subnets(settings: Settings, facts: Facts) -> tuple[str, ...]:
    public = find_public_subnets(settings, facts)
    if not public or settings.inet_interfaces == LOOPBACK_ONLY:
        return ()
    names = ", ".join(map(str, public))
    return (
        f"MYNETWORKS is not set, and the attached subnet {names} is public: nobody there may send. "
        f"If its hosts are yours, set MYNETWORKS={names}",
    )
