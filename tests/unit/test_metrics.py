"""The metrics: as Prometheus' own parsers read them, named as docs/metrics.md names them, and bounded."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import socket
import threading
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from entrypoint import __version__, paths
from entrypoint.reasons import STEPS
from entrypoint.services.status.metrics import Observed, RelayCollector
from entrypoint.system.observations import OBSERVATIONS, ask_observations
from entrypoint.upkeep.verdict import Upstream, Verdict
from tests.unit.observed import NOW, OBSERVED, REPORT, WITHOUT_FORWARDER

DOCS: Final = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"
_ROW: Final = re.compile(r"^\| `(authrelay_\w+)` \| (\w+) \| ([^|]*?) ?\| ([^|]+) \|$")


def _registry(observed: Observed) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RelayCollector(observed))
    return registry


def read_samples(observed: Observed) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values, in the order of the labels' names."""
    text = generate_latest(_registry(observed)).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def test_metrics_say_what_was_found() -> None:
    """Every number once, under the name that alert rules and dashboards use."""
    samples = read_samples(OBSERVED)
    expected: dict[tuple[str, ...], float] = {
        ("authrelay_build_info", "3.10.5", __version__): 1,
        ("authrelay_healthy",): 1,
        ("authrelay_ready",): 0,
        ("authrelay_process_restarts_total", "postfix"): 2,
        ("authrelay_queue_free_bytes",): 1000,
        ("authrelay_queue_free_inodes",): 2000,
        ("authrelay_upstream_up", "RELAYHOST", "[smtp.example.com]:587"): 1,
        ("authrelay_upstream_up", "FALLBACK_RELAYHOST", "[b.example.com]:587"): 0,
        ("authrelay_upstream_probe_timestamp_seconds",): NOW - 30,
        ("authrelay_certificate_not_after_timestamp_seconds", "trusted_ca"): NOW + 400,
        ("authrelay_certificate_not_after_timestamp_seconds", "client"): NOW + 300,
        ("authrelay_certificate_not_after_timestamp_seconds", "upstream"): NOW + 50,
        ("authrelay_secret_changed_timestamp_seconds", "RELAYHOST_PASSWORD"): NOW - 40,
        ("authrelay_configuration_reloads_total",): 3,
        ("authrelay_configuration_valid",): 1,
        ("authrelay_forwarder_up",): 1,
        ("authrelay_forwarder_start_timestamp_seconds",): NOW - 500,
        ("authrelay_messages_accepted_total",): 6,
        ("authrelay_messages_accepted_bytes_total",): 1234,
        ("authrelay_client_connections_total",): 7,
        ("authrelay_client_rejections_total", "450"): 1,
        ("authrelay_client_rejections_total", "554"): 2,
        ("authrelay_client_login_failures_total",): 3,
        ("authrelay_upstream_login_failures_total",): 9,
        ("authrelay_upstream_tls_sessions_total", "verified"): 4,
        ("authrelay_upstream_tls_sessions_total", "untrusted"): 1,
        ("authrelay_deliveries_total", "none", "sent"): 5,
        ("authrelay_deliveries_total", "auth", "deferred"): 3,
        ("authrelay_deliveries_total", "connect", "deferred"): 0,
        ("authrelay_deliveries_total", "recipient", "bounced"): 1,
        ("authrelay_deliveries_total", "none", "expired"): 1,
        ("authrelay_delivery_delay_seconds_bucket", "0.1", "total"): 3,
        ("authrelay_delivery_delay_seconds_bucket", "+Inf", "total"): 5,
        ("authrelay_delivery_delay_seconds_count", "transmission"): 5,
        ("authrelay_delivery_delay_seconds_sum", "queue"): 1.2,
        ("authrelay_queue_messages", "deferred"): 3,
        ("authrelay_queue_messages", "corrupt"): 1,
        ("authrelay_queue_oldest_message_age_seconds", "deferred"): 100,
        ("authrelay_queue_oldest_message_age_seconds", "active"): 0,
        ("authrelay_log_lines_total", "WARNING"): 1,
        ("authrelay_log_lines_unknown_total",): 2,
        ("authrelay_log_lines_dropped_total", "stdout"): 3,
        ("authrelay_log_lines_dropped_total", "syslog"): 4,
    }
    assert {key: samples.get(key) for key in expected} == expected


def test_both_formats_say_the_same() -> None:
    """OpenMetrics is stricter; what its parser takes is right in the older format, too."""

    def read(families: object) -> set[tuple[str, ...]]:
        return {
            (sample.name, *sorted(sample.labels.values()), str(sample.value))
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
        }

    registry = _registry(OBSERVED)
    old = read(parse_text(generate_latest(registry).decode()))
    new = read(parse_openmetrics(generate_openmetrics(registry).decode()))  # type: ignore[no-untyped-call]
    assert old == new


def test_table_in_the_docs_is_what_is_told() -> None:
    """A metric that nobody can look up is used wrongly, and one that is only in the docs is missed."""
    rows = [match.groups() for line in DOCS.read_text(encoding="utf-8").splitlines() if (match := _ROW.match(line))]
    told = []
    for family in RelayCollector(OBSERVED).collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        words = ", ".join(f"`{name}`" for name in sorted(labels))
        told.append((family.name + suffix, family.type, words, family.documentation))
    assert sorted(rows) == sorted(told)


def test_without_the_forwarder_its_metrics_are_absent() -> None:
    """Zeros would be read as a quiet hour; what is absent can be alerted on."""
    samples = read_samples(WITHOUT_FORWARDER)
    assert samples[("authrelay_forwarder_up",)] == 0
    names = {key[0] for key in samples}
    assert "authrelay_healthy" in names
    assert not names & {"authrelay_deliveries_total", "authrelay_queue_messages", "authrelay_messages_accepted_total"}


def test_upstream_that_is_not_probed_is_neither_up_nor_down() -> None:
    """With PROBE=no nobody knows."""
    untried = Verdict(at=NOW, upstreams=(Upstream(setting="R", nexthop="x", step="", words="", is_tried=False),))
    names = {key[0] for key in read_samples(dataclasses.replace(OBSERVED, verdict=untried))}
    assert not any(name.startswith("authrelay_upstream_up") for name in names)
    assert "authrelay_upstream_probe_timestamp_seconds" not in names


def test_labels_are_bounded_whatever_the_report_says() -> None:
    """Ten thousand domains, codes or reasons must not become as many series."""
    many = {f"x{number}": 1 for number in range(10000)}
    report = {**REPORT, "rejections": many, "deliveries": {"deferred": many, **{name: {"none": 1} for name in many}}}
    samples = read_samples(dataclasses.replace(OBSERVED, report=report))
    assert len(samples) < 200
    assert samples[("authrelay_client_rejections_total", "other")] == 10000
    assert samples[("authrelay_deliveries_total", "other", "deferred")] == 10000
    assert "other" in STEPS


def test_failures_are_counted_from_0() -> None:
    """A series that begins at 1 is no increase: the alert for the first message that expired would never fire."""
    samples = read_samples(dataclasses.replace(OBSERVED, report={**REPORT, "deliveries": {}}))
    for status in ("deferred", "bounced", "expired"):
        assert [samples[("authrelay_deliveries_total", step, status)] for step in STEPS] == [0] * len(STEPS)


def test_markup_in_a_label_stays_in_its_label() -> None:
    """The upstream is the user's text; quotes and line breaks in it must not make a line of their own."""
    odd = Upstream(setting="RELAYHOST", nexthop='x"\n\\ 1\nforged_total 9', step="", words="")
    samples = read_samples(dataclasses.replace(OBSERVED, verdict=Verdict(at=NOW, upstreams=(odd,))))
    assert samples[("authrelay_upstream_up", "RELAYHOST", odd.nexthop)] == 1
    assert ("forged_total",) not in samples


@pytest.fixture
def forwarder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A socket where the forwarder's would be."""
    monkeypatch.setattr(paths, "OBSERVATIONS", str(tmp_path / "observations"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(paths.OBSERVATIONS)
    listener.listen(1)
    return listener


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(64) == OBSERVATIONS
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(json.dumps(REPORT).encode() + b"\n", REPORT), (b"", None), (b"not JSON\n", None), (b"[1]\n", None)],
)
def test_report_is_asked_for_in_one_line(answer: bytes, expected: object, forwarder: socket.socket) -> None:
    """One question, one answer; a forwarder that answers oddly is as good as none."""
    with forwarder:
        _answer_once(forwarder, answer)
        assert ask_observations(2.0) == expected


def test_forwarder_that_says_nothing_is_not_waited_for(forwarder: socket.socket) -> None:
    """A scrape has its own patience."""
    with forwarder:
        assert ask_observations(0.1) is None
    assert ask_observations(0.1) is None
