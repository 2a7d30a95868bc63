"""What the status service may find: a report of the forwarder's, as it has the form of, and what goes with it. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from entrypoint.services.status.metrics import Observed
from entrypoint.system.service_record import Service, ServiceRecord
from entrypoint.system.space import Space
from entrypoint.upkeep.in_force import InForce, InForceCertificate
from entrypoint.upkeep.verdict import ShownCertificate, TlsState, Upstream, Verdict

NOW: Final = 1_764_000_000.0
_DELAY: Final = {"buckets": [[0.1, 3], [0.25, 4], [1, 4], ["+Inf", 5]], "sum": 1.2, "count": 5}
REPORT: Final[dict[str, Any]] = {
    "version": 1,
    "since": NOW - 500,
    "at": NOW,
    "lines": {"INFO": 10, "WARNING": 1},
    "unknown_lines": 2,
    "dropped": {"stdout": 3, "syslog": 4},
    "connections": 7,
    "rejections": {"450": 1, "554": 2},
    "accepted": 6,
    "accepted_bytes": 1234,
    "accepted_recipients": 8,
    "deliveries": {"sent": {"none": 5}, "deferred": {"auth": 3}, "bounced": {"recipient": 1}, "expired": {"none": 1}},
    "delays": dict.fromkeys(("total", "before_queue", "queue", "connection", "transmission"), _DELAY),
    "tls": {"verified": 4, "trusted": 0, "untrusted": 1, "anonymous": 0},
    "login_failures": 9,
    "client_login_failures": 3,
    "history": [[NOW - 60, 1, 1, 0, 0]],
    "last": [],
    "queues": {
        "active": {"messages": 0, "oldest_at": None},
        "deferred": {"messages": 3, "oldest_at": NOW - 100},
        "corrupt": {"messages": 1, "oldest_at": None},
    },
}
CHAIN: Final = (
    ShownCertificate(subject="CN=a", issuer="CN=b", sha256="AA", not_before=NOW - 9, not_after=NOW + 50),
    ShownCertificate(subject="CN=b", issuer="CN=b", sha256="BB", not_before=NOW - 9, not_after=NOW + 90),
)
OBSERVED: Final = Observed(
    now=NOW,
    checks={"is_healthy": True, "is_ready": False, "health": [], "readiness": [], "warnings": []},
    report=REPORT,
    services=ServiceRecord(services={"postfix": Service(state="RUNNING", pid=1, restarts=2)}),
    space=Space(free_bytes=1000, free_inodes=2000, needed_bytes=1),
    verdict=Verdict(
        at=NOW - 30,
        upstreams=(
            Upstream(
                setting="RELAYHOST",
                nexthop="[smtp.example.com]:587",
                step="",
                words="",
                tls=TlsState(level="secure", protocol="TLSv1.3", cipher="X", verdict="verified", chain=CHAIN),
            ),
            Upstream(setting="FALLBACK_RELAYHOST", nexthop="[b.example.com]:587", step="auth", words="no"),
        ),
    ),
    in_force=InForce(
        loaded_at=NOW - 400,
        reloads=3,
        certificates=(
            InForceCertificate(role="trusted_ca", what="", subject="", sha256="", not_after=int(NOW) + 500),
            InForceCertificate(role="trusted_ca", what="", subject="", sha256="", not_after=int(NOW) + 400),
            InForceCertificate(role="client", what="", subject="", sha256="", not_after=int(NOW) + 300),
        ),
        secrets={"RELAYHOST_PASSWORD": NOW - 40},
    ),
    is_configuration_valid=True,
    postfix_version="3.10.5",
)
WITHOUT_FORWARDER: Final = dataclasses.replace(OBSERVED, report=None)
