"""The metrics, by Prometheus' own client library: names and units as its conventions have them. By `view`'s sources.

Every label is of a bounded set, whatever clients and upstreams send.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from entrypoint import __version__
from entrypoint.health.checks import make_checks
from entrypoint.reasons import STEPS
from entrypoint.services.status.view import read_postfix_version
from entrypoint.system.observations import ask_observations
from entrypoint.system.service_record import ServiceRecord, load_services
from entrypoint.system.space import Space, measure_space
from entrypoint.upkeep.in_force import InForce, load_in_force
from entrypoint.upkeep.record import SETTINGS, load_record
from entrypoint.upkeep.verdict import Verdict, load_verdict

_STATUSES: Final = ("sent", "deferred", "bounced", "expired")
_REASONS: Final = frozenset({"none", *STEPS})
_OTHER: Final = "other"
_CODE: Final = re.compile(r"[45]\d\d")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything that metrics are made of."""

    now: float
    checks: Mapping[str, Any]
    report: Mapping[str, Any] | None
    """The forwarder's; `None` when it does not answer, and then what it counts is absent."""
    services: ServiceRecord
    space: Space
    verdict: Verdict
    in_force: InForce
    is_configuration_valid: bool
    postfix_version: str


class RelayCollector(Collector):
    """Gives the metrics of one moment."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def collect(self) -> Iterable[Metric]:
        """Give every metric."""
        observed = self._observed
        yield from _tell_state(observed)
        yield from _tell_queue_space(observed.space)
        yield from _tell_upstreams(observed.verdict)
        yield from _tell_configuration(observed)
        is_up = observed.report is not None
        yield _gauge("forwarder_up", "Whether the log forwarder answers; it counts what mail does.", is_up)
        if observed.report is not None:
            yield from _tell_mail(observed.report)
            yield from _tell_log(observed.report)
            yield from _tell_queues(observed.report["queues"], observed.now)


def render_metrics(checks: Mapping[str, Any] | None, *, is_openmetrics: bool) -> bytes:
    """Return the metrics as they are now in one of the two formats."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RelayCollector(observe(checks)))
    generate = generate_openmetrics if is_openmetrics else generate_latest
    text: bytes = generate(registry)
    return text


def observe(checks: Mapping[str, Any] | None) -> Observed:
    """Look at everything; `checks` are from `make_checks`, if there are fresh ones."""
    return Observed(
        now=time.time(),
        checks=checks or make_checks(),
        report=ask_observations(),
        services=load_services() or ServiceRecord(),
        space=measure_space(),
        verdict=load_verdict(),
        in_force=load_in_force(),
        is_configuration_valid=SETTINGS not in load_record().troubles,
        postfix_version=read_postfix_version() or "",
    )


def _tell_state(observed: Observed) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "authrelay_build",
        "Which version this is.",
        {"version": __version__, "postfix_version": observed.postfix_version},
    )
    yield _gauge("healthy", "Whether the services run and the listeners greet.", observed.checks["is_healthy"])
    yield _gauge("ready", "Whether mail can be accepted and delivered now.", observed.checks["is_ready"])
    restarts = _count("process_restarts", "Services that were started again, by service.", ["service"])
    for name, service in observed.services.services.items():
        restarts.add_metric([name], service.restarts)
    yield restarts


def _tell_queue_space(space: Space) -> Iterator[Metric]:
    yield _gauge("queue_free_bytes", "Room on the file system of the queue.", space.free_bytes)
    if space.free_inodes is not None:
        yield _gauge("queue_free_inodes", "Files that fit on the file system of the queue.", space.free_inodes)


def _tell_upstreams(verdict: Verdict) -> Iterator[Metric]:
    tried = [one for one in verdict.upstreams if one.is_tried]
    if not tried:
        return
    up = GaugeMetricFamily(
        "authrelay_upstream_up",
        "Whether the last probe of the upstream came through, login included.",
        labels=["setting", "upstream"],
    )
    for one in tried:
        up.add_metric([one.setting, one.nexthop], one.is_well)
    yield up
    yield _gauge("upstream_probe_timestamp_seconds", "When the upstreams were probed last.", verdict.at)


def _tell_configuration(observed: Observed) -> Iterator[Metric]:
    in_force = observed.in_force
    ends: dict[str, float] = {}
    shown: list[tuple[str, float]] = [(one.role, one.not_after) for one in in_force.certificates]
    shown += [("upstream", link.not_after) for one in observed.verdict.upstreams if one.tls for link in one.tls.chain]
    for role, end in shown:
        ends[role] = min(end, ends.get(role, end))
    certificates = GaugeMetricFamily(
        "authrelay_certificate_not_after_timestamp_seconds",
        "When the first certificate ends: of the trusted CAs, of the client's chain, of what the upstream showed last.",
        labels=["role"],
    )
    for role, end in sorted(ends.items()):
        certificates.add_metric([role], end)
    yield certificates
    secrets = GaugeMetricFamily(
        "authrelay_secret_changed_timestamp_seconds",
        "When the file of a setting that was given as X_FILE changed last.",
        labels=["setting"],
    )
    for name, at in sorted(in_force.secrets.items()):
        secrets.add_metric([name], at)
    yield secrets
    reloads = _count("configuration_reloads", "Reloads of Postfix because settings or their files had changed.")
    reloads.add_metric([], in_force.reloads)
    yield reloads
    yield _gauge(
        "configuration_valid",
        "Whether the settings and their files as they are now could be used; if not, what was before is in force.",
        observed.is_configuration_valid,
    )


def _tell_mail(report: Mapping[str, Any]) -> Iterator[Metric]:
    for name, key, help_text in (
        ("messages_accepted", "accepted", "Messages that were taken into the queue."),
        ("messages_accepted_bytes", "accepted_bytes", "Their size."),
        ("client_connections", "connections", "Connections of clients, without health checks."),
        ("client_login_failures", "client_login_failures", "Logins of clients that were refused."),
        ("upstream_login_failures", "login_failures", "Logins that an upstream refused."),
    ):
        family = _count(name, help_text)
        family.add_metric([], report[key])
        yield family
    deliveries = _count(
        "deliveries",
        "Attempts to deliver to one recipient each, by what became of them and at which step they failed.",
        ["status", "reason"],
    )
    for (status, reason), count in _sum_deliveries(report["deliveries"]).items():
        deliveries.add_metric([status, reason], count)
    yield deliveries
    yield _tell_delays(report["delays"])
    rejections = _count("client_rejections", "Commands of clients that were refused, by reply code.", ["code"])
    for code, count in _sum_by(report["rejections"], lambda code: code if _CODE.fullmatch(code) else _OTHER).items():
        rejections.add_metric([code], count)
    yield rejections
    sessions = _count(
        "upstream_tls_sessions", "TLS sessions with upstreams, by how far Postfix could check them.", ["verdict"]
    )
    for verdict in ("verified", "trusted", "untrusted", "anonymous"):
        sessions.add_metric([verdict], report["tls"].get(verdict, 0))
    yield sessions


def _tell_delays(delays: Mapping[str, Any]) -> Metric:
    family = HistogramMetricFamily(
        "authrelay_delivery_delay_seconds",
        "How long recipients waited that were delivered to, by stage; Postfix's delay and its four parts.",
        labels=["stage"],
    )
    for stage in ("total", "before_queue", "queue", "connection", "transmission"):
        found = delays[stage]
        buckets = [("+Inf" if end == "+Inf" else str(float(end)), count) for end, count in found["buckets"]]
        family.add_metric([stage], buckets=buckets, sum_value=found["sum"])
    return family


def _tell_log(report: Mapping[str, Any]) -> Iterator[Metric]:
    lines = _count("log_lines", "Lines of the log, by severity.", ["severity"])
    for severity, count in sorted(report["lines"].items()):
        lines.add_metric([severity], count)
    yield lines
    unknown = _count("log_lines_unknown", "Lines of Postfix whose form is not known; they are passed on whole.")
    unknown.add_metric([], report["unknown_lines"])
    yield unknown
    dropped = _count("log_lines_dropped", "Lines that were lost because an output did not keep up.", ["output"])
    for output in ("stdout", "syslog"):
        dropped.add_metric([output], report["dropped"].get(output, 0))
    yield dropped
    yield _gauge("forwarder_start_timestamp_seconds", "Since when the log forwarder counts.", report["since"])


def _tell_queues(queues: Mapping[str, Any], now: float) -> Iterator[Metric]:
    messages = GaugeMetricFamily("authrelay_queue_messages", "Messages by Postfix's queue.", labels=["queue"])
    ages = GaugeMetricFamily(
        "authrelay_queue_oldest_message_age_seconds",
        "Since when the oldest message of each queue waits; 0 for an empty one.",
        labels=["queue"],
    )
    for name, one in queues.items():
        messages.add_metric([name], one["messages"])
        oldest_at = one["oldest_at"]
        ages.add_metric([name], 0.0 if oldest_at is None else max(0.0, now - oldest_at))
    yield messages
    yield ages


def _sum_deliveries(found: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], float]:
    """Return counts by status and reason, also those at 0 without which a first failure is no increase."""
    counts: dict[tuple[str, str], float] = {("sent", "none"): 0}
    counts |= {(status, reason): 0 for status in ("deferred", "bounced", "expired") for reason in STEPS}
    for status, reasons in found.items():
        for reason, count in reasons.items():
            key = (status if status in _STATUSES else _OTHER, reason if reason in _REASONS else _OTHER)
            counts[key] = counts.get(key, 0) + count
    return counts


def _sum_by(found: Mapping[str, float], name: Any) -> dict[str, float]:
    counts: dict[str, float] = {}
    for key, count in found.items():
        counts[name(key)] = counts.get(name(key), 0) + count
    return counts


def _count(name: str, help_text: str, labels: list[str] | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(f"authrelay_{name}", help_text, labels=labels or [])


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"authrelay_{name}", help_text, value=float(value))
