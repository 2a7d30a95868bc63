"""Asks the status service of a relay over HTTP from the machine of the tests. Network."""

from __future__ import annotations

import dataclasses
import http.client
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.relay import Relay

PORT = 9154


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(relay: Relay, path: str, *, accept: str = "*/*", method: str = "GET", timeout_seconds: float = 20) -> Answer:
    """The answer to one request; the machine reaches a container by its address on the network."""
    connection = http.client.HTTPConnection(find_address(relay), PORT, timeout=timeout_seconds)
    try:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(code=response.status, headers=headers, body=response.read())
    finally:
        connection.close()


def find_address(relay: Relay) -> str:
    """The IPv4 address of a relay."""
    networks = relay.container.inspect()["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def read_metrics(relay: Relay) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its sorted label values; Prometheus' own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(ask(relay, "/metrics").text):
        for sample in family.samples:
            labels = [f"{name}={value}" for name, value in sorted(sample.labels.items())]
            found[(sample.name, *labels)] = sample.value
    return found
