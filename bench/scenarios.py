"""What is measured: the kinds of work, and the relays that do it. Runs docker."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from bench.engine import Subject, inspect
from bench.upstream import UPSTREAM

_MOST_RECIPIENTS: Final = 50
"""Of one transaction: postconf(5) default_destination_recipient_limit."""
_OWN: Final = ("authrelay",)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of work."""

    name: str
    trip_ms: int
    """Of a round trip to the upstream."""
    bytes: int
    sessions: int
    messages: int
    recipients: int = 1
    pause_seconds: float = 0.0
    relays: tuple[str, ...] = ("bare", "authrelay", "authrelay-50", "exim", "opensmtpd")
    measures_memory: bool = False
    is_backlog: bool = False
    """Whether the upstream is away until everything is queued, and the time is counted from then."""

    is_shared: bool = False
    """Whether everybody may use every core, as on a small server; by default the relay has one of its own."""

    @property
    def transactions(self) -> int:
        """How many times the upstream takes a message: each to some of the recipients."""
        return self.messages * math.ceil(self.recipients / _MOST_RECIPIENTS)


SCENARIOS: Final = (
    Scenario(name="burst-0", trip_ms=0, bytes=4000, sessions=20, messages=2000),
    Scenario(name="burst-20", trip_ms=20, bytes=4000, sessions=20, messages=2000),
    Scenario(name="burst-80", trip_ms=80, bytes=4000, sessions=20, messages=2000),
    Scenario(name="shared-0", trip_ms=0, bytes=4000, sessions=20, messages=2000, is_shared=True),
    Scenario(name="shared-20", trip_ms=20, bytes=4000, sessions=20, messages=2000, is_shared=True),
    Scenario(name="shared-80", trip_ms=80, bytes=4000, sessions=20, messages=2000, is_shared=True),
    Scenario(name="one-0", trip_ms=0, bytes=4000, sessions=1, messages=500),
    Scenario(name="one-20", trip_ms=20, bytes=4000, sessions=1, messages=500),
    Scenario(name="100k-0", trip_ms=0, bytes=100_000, sessions=20, messages=500),
    Scenario(name="100k-20", trip_ms=20, bytes=100_000, sessions=20, messages=500),
    Scenario(name="5M-0", trip_ms=0, bytes=5_000_000, sessions=20, messages=40),
    Scenario(name="5M-20", trip_ms=20, bytes=5_000_000, sessions=20, messages=40),
    Scenario(name="trickle-20", trip_ms=20, bytes=4000, sessions=1, messages=20, pause_seconds=3.0),
    # What some settings cost or gain.
    Scenario(
        name="settings-20", trip_ms=20, bytes=4000, sessions=20, messages=2000,
        relays=("authrelay", "authrelay-json", "authrelay-tls2", "authrelay-no-reuse", "authrelay-tmpfs"),
    ),
    # The upstream is so far away that nearly all of them are queued at one time.
    Scenario(
        name="queue-10000", trip_ms=80, bytes=4000, sessions=20, messages=10000, relays=_OWN, measures_memory=True
    ),
)  # fmt: skip
CURVES: Final = (
    *(
        Scenario(
            name=f"backlog-{count}", trip_ms=0, bytes=4000, sessions=20, messages=count,
            relays=_OWN, measures_memory=True, is_backlog=True,
        )
        for count in (100, 1000, 10_000, 100_000)
    ),
    *(
        Scenario(
            name=f"recipients-{count}", trip_ms=20, bytes=4000, sessions=4, messages=max(4, 2000 // count),
            recipients=count, relays=_OWN, measures_memory=True,
        )
        for count in (1, 10, 100, 1000)
    ),
    *(
        Scenario(
            name=f"connections-{count}", trip_ms=80, bytes=4000, sessions=20, messages=min(4000, 200 * count),
            relays=(f"authrelay-{count}",), measures_memory=True,
        )
        for count in (1, 5, 20, 50, 100, 200)
    ),
)  # fmt: skip
"""How cost grows with the work."""


def make_subjects(image: str) -> dict[str, Subject]:
    """Return the relays by name."""
    environment = (
        ("RELAYHOST", f"[{UPSTREAM}]:587"),
        ("RELAYHOST_USERNAME", "relay@bench.test"),
        ("RELAYHOST_PASSWORD", "secret"),
        ("RELAYHOST_CA_FILE", "/authority/ca.pem"),
    )
    own = Subject(
        name="authrelay",
        image=str(inspect(image)["Id"]),
        environment=environment,
        volumes=("/var/spool/postfix", "/var/lib/authrelay"),
    )
    subjects = (
        own,
        *(
            dataclasses.replace(
                own, name=f"authrelay-{count}", environment=(*environment, ("RELAYHOST_CONCURRENCY", str(count)))
            )
            for count in (1, 5, 20, 50, 100, 200)
        ),
        dataclasses.replace(
            own,
            name="authrelay-json",
            environment=(*environment, ("LOG_FORMAT", "json"), ("LOG_ADDRESSES", "hash")),
        ),
        dataclasses.replace(own, name="authrelay-tls2", environment=(*environment, ("TLS_LOG_LEVEL", "2"))),
        dataclasses.replace(
            own, name="authrelay-no-reuse", environment=(*environment, ("POSTFIX_smtp_tls_connection_reuse", "no"))
        ),
        # Nothing of it is safe: what the disk costs.
        dataclasses.replace(
            own, name="authrelay-tmpfs", volumes=("/var/lib/authrelay",), options=("--tmpfs=/var/spool/postfix",)
        ),
        Subject(name="bare", image="authrelay-bench-bare:dev", volumes=("/var/spool/postfix",)),
        Subject(name="exim", image="authrelay-bench-exim:dev", volumes=("/var/spool/exim4",)),
        Subject(name="opensmtpd", image="authrelay-bench-opensmtpd:dev", volumes=("/var/spool/smtpd",)),
    )
    return {subject.name: subject for subject in subjects}
