"""A real Prometheus at a real relay: what it scrapes is what the dashboard and the rules ask for, and stays so."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.prometheus import METRIC, MONITORING, RULES, Prometheus
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

DOMAINS = int(os.environ.get("AUTHRELAY_DOMAINS", "500"))
"""How many recipient domains the labels must stay few under; 10000 take some minutes."""
MOST_SERIES = 200
TEXT = b"Subject: x\r\n\r\nhello\r\n"


class Watched:
    """A relay without a fault, and the Prometheus that watches it."""

    def __init__(self, relay: Relay, prometheus: Prometheus, client: Client) -> None:
        self.relay, self.prometheus, self._client = relay, prometheus, client

    def send(self, *recipients: str) -> None:
        self._client.send(self.relay.container.name, 25, "a@example.test", recipients, TEXT)

    def sum(self, metric: str) -> float:
        """All series of a metric together."""
        return self.prometheus.value(f"sum({metric})") or 0

    def send_and_count(self, *recipients: str) -> None:
        """Send, and wait until Prometheus knows of it."""
        before = self.sum('authrelay_deliveries_total{status="sent"}')
        self.send(*recipients)
        counted = partial(self.sum, 'authrelay_deliveries_total{status="sent"}')
        wait_until(lambda: counted() == before + len(recipients), 120, "every recipient should be counted")

    def refuse(self) -> None:
        """Let a client be refused something."""
        self._client.converse(
            self.relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT, parameters=["SIZE=999999999"]
        )


@pytest.fixture(scope="module")
def watched(
    engine: Engine, network: Network, module_relays: Relays, the_upstream: Upstream, client: Client
) -> Iterator[Watched]:
    relay = module_relays.start({"PROBE": "yes"})
    made = Watched(relay, Prometheus(engine, network, [f"{relay.container.name}:9154"]), client)
    wait_until(lambda: made.sum("authrelay_ready") == 1, 30, "it should become ready")
    made.send_and_count("a@example.com", "b@example.com")
    made.refuse()
    rates = partial(made.prometheus.query, "rate(authrelay_client_rejections_total[1m])")
    wait_until(rates, 20, "the refusal should be counted, and a second sample be there")
    yield made
    the_upstream.reset()


def read_expressions() -> list[str]:
    """The dashboard's queries as Grafana asks them when everything is chosen."""
    dashboard: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for variable, value in (("$__rate_interval", "1m"), ("$__range", "5m"), ("$job", ".+"), ("$instance", ".+")):
        found = [expression.replace(variable, value) for expression in found]
    return found


def test_dashboard_and_rules_ask_for_what_the_relay_tells(watched: Watched) -> None:
    """A metric under another name is an empty panel, and an alert that never fires."""
    wanted = set(METRIC.findall(RULES + " ".join(read_expressions())))
    assert len(wanted) > 20
    assert wanted <= watched.prometheus.names()


def test_every_panel_has_data(watched: Watched) -> None:
    """Every query of the dashboard is one that Prometheus evaluates, and that finds something at a relay that works."""
    empty = [expression for expression in read_expressions() if not watched.prometheus.query(expression)]
    assert empty == []


def test_rules_find_nothing_wrong_with_a_relay_that_works(watched: Watched) -> None:
    """Prometheus itself must have evaluated each, and neither text nor expression may fail."""
    rules = watched.prometheus.rules

    def are_evaluated() -> bool:
        return all(rule["lastEvaluation"] > "0001-01-02" for rule in rules())

    wait_until(are_evaluated, 20, "every rule should have been evaluated")
    assert {rule["health"] for rule in rules()} == {"ok"}
    assert watched.prometheus.alerts() == []


def test_counters_survive_a_reload_and_a_new_password(watched: Watched, the_upstream: Upstream) -> None:
    """A counter that begins anew with each rotation is a dip in every graph, and an alert that ends too soon."""
    the_upstream.set_accounts({LOGIN: f"{PASSWORD}\nnew"})
    watched.relay.kill("HUP")
    watched.relay.set_secret("/run/secrets/password", b"new")
    reloads = partial(watched.sum, "authrelay_configuration_reloads_total")
    wait_until(lambda: reloads() == 1, 30, "the new password should be in force")
    watched.send_and_count("c@example.com")
    counters = [name for name in watched.prometheus.names() if re.fullmatch(r"authrelay_.+_(total|bucket)", name)]
    assert len(counters) > 10
    assert [name for name in counters if watched.prometheus.query(f"resets({name}[1h]) > 0")] == []
    assert watched.prometheus.query("changes(authrelay_forwarder_start_timestamp_seconds[1h]) > 0") == []


def test_labels_stay_few_whatever_the_recipients(watched: Watched) -> None:
    """A label for each domain would fill Prometheus, and tell whoever reads it to whom mail goes."""
    series = 'count({__name__=~"authrelay_.+"})'
    before = watched.prometheus.value(series)
    for begin in range(0, DOMAINS, 500):
        watched.send_and_count(*(f"u@d{number}.example" for number in range(begin, min(begin + 500, DOMAINS))))
    after = watched.prometheus.value(series)
    print(f"{before} series before, {after} after mail to {DOMAINS} domains")
    assert before == after
    assert before is not None
    assert before < MOST_SERIES
