"""How many clients are served at once, so that they fit into the container's memory and none takes all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from entrypoint.config.settings import Settings
from entrypoint.config.upstreams import Upstream

_MEBIBYTE: Final = 2**20
_FIXED_BYTES: Final = 60 * _MEBIBYTE
"""The supervisor, the forwarder, the status service, qmgr(8) with a long queue, what else there is one of; some air."""
_LOGIN_BYTES: Final = 24 * _MEBIBYTE
"""The login service, and the one child in which a password is verified (`system.password_hashes`)."""
_DELIVERY_BYTES: Final = 7 * _MEBIBYTE // 2
"""An smtp(8) in TLS that trusts the system's bundle."""
_SESSION_BYTES: Final = 5 * _MEBIBYTE // 2
"""An smtpd(8) and the cleanup(8) that takes its message. All three were measured: private pages and page tables."""
_SIGNER_BYTES: Final = 10 * _MEBIBYTE
"""The milter that signs, where there is one."""
_DELIVERIES: Final = 20
"""postconf(5) default_destination_concurrency_limit."""
_LEAST_AT_FIRST: Final = 5
"""postconf(5) initial_destination_concurrency."""
_MOST_PROCESSES: Final = 100
"""postconf(5) default_process_limit."""
_MOST_FOR_ONE: Final = 50
"""postconf(5) smtpd_client_connection_count_limit."""
_LEAST_SESSIONS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many sessions there are at once."""

    sessions: int
    """On each port."""
    sessions_of_one: int
    """Of one client's address on each port: two at least, and a fifth of many, are left to others."""
    missing_bytes: int = 0
    """How much more memory even the least number needs."""


def choose_process_limit(upstream: Upstream) -> str:
    """Return how many smtp(8) an upstream may have (master(5) maxproc): as many as connections, where that is set.

    With one recipient a message qmgr(8) counts connections by recipient, and this is the only bound
    (postconf(5) default_destination_recipient_limit).
    """
    return "-" if upstream.concurrency is None else str(upstream.concurrency)


def choose_first_deliveries(upstream: Upstream) -> int:
    """Return with how many deliveries at once a burst begins: where many are wanted, with a fifth of them."""
    wanted = upstream.concurrency or _DELIVERIES
    return min(wanted, max(_LEAST_AT_FIRST, wanted // 5))


def choose_capacity(settings: Settings, memory_bytes: int | None) -> Capacity:
    """Return what fits: Postfix's own numbers where memory is not limited."""
    if memory_bytes is None:
        return Capacity(sessions=_MOST_PROCESSES, sessions_of_one=_MOST_FOR_ONE)
    counted = [int(one.processes) for one in settings.listeners if one.processes != "-"]
    ports = max(1, len(settings.own_ports) + len(settings.listeners) - len(counted))
    deliveries = _count_deliveries(settings)
    logins = _LOGIN_BYTES if settings.smtpd_users_table is not None else 0
    signer = _SIGNER_BYTES if settings.signs else 0
    needed = _FIXED_BYTES + _DELIVERY_BYTES * deliveries + logins + signer + _SESSION_BYTES * sum(counted)
    fitting = (memory_bytes - needed) // (_SESSION_BYTES * ports)
    sessions = max(_LEAST_SESSIONS, min(_MOST_PROCESSES, fitting))
    return Capacity(
        sessions=sessions,
        sessions_of_one=min(_MOST_FOR_ONE, sessions - max(2, sessions // 5)),
        missing_bytes=max(0, needed + _LEAST_SESSIONS * ports * _SESSION_BYTES - memory_bytes),
    )


def _count_deliveries(settings: Settings) -> int:
    """Return how many smtp(8) to expect: those of the busiest upstream, and a burst's beginning at each other."""
    limits = {upstream.service: upstream.concurrency or _DELIVERIES for upstream in settings.every_upstream}
    return max(limits.values()) + _LEAST_AT_FIRST * (len(limits) - 1)
