"""A real Prometheus that scrapes relays and judges the alert rules, and its promtool. Runs docker."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.engine import Container, Engine, File, Network, Result
from tests.support.wait import wait_until

PROMETHEUS_IMAGE = "authrelay-peer-prometheus:dev"
MONITORING = pathlib.Path(__file__).parents[2] / "monitoring"
RULES = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
ALERTS = tuple(re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE))
METRIC = re.compile(r"\bauthrelay_\w+")

_PORT = 9090
_HASTE = 20
_SECONDS = {"m": 60, "h": 3600}


def hasten(rules: str) -> str:
    """Let an hour of the rules be three minutes: ranges are twenty times shorter, and nothing waits for its `for`."""
    hastened = re.sub(r"^( +for: )\d+[mh]$", r"\g<1>1s", rules, flags=re.MULTILINE)
    return re.sub(r"(?<=[\[:])(\d+)([mh])(?=[\]:])", _shorten, hastened)


def _shorten(span: re.Match[str]) -> str:
    return f"{int(span[1]) * _SECONDS[span[2]] // _HASTE}s"


class Promtool:
    """A container with promtool and the files of monitoring/."""

    def __init__(self, engine: Engine) -> None:
        files = {
            f"/monitoring/{path.relative_to(MONITORING)}": File(data=path.read_bytes())
            for path in MONITORING.rglob("*.yaml")
        }
        self.container = engine.run(PROMETHEUS_IMAGE, ["sleep", "infinity"], kind="promtool", files=files)

    def run(self, command: str) -> Result:
        """Run one shell command line in /monitoring."""
        return self.container.exec(["sh", "-c", f"cd /monitoring && {command}"], check=False)


class Prometheus:
    """A Prometheus with the example's configuration, but for its targets and its pace."""

    def __init__(
        self, engine: Engine, network: Network, targets: Sequence[str], *, rules: str = RULES, pace_seconds: int = 1
    ) -> None:
        """`targets`: `host:port`. It scrapes at each pace, waits no longer for an answer, and then judges the rules."""
        self._pace_seconds = pace_seconds
        self.container: Container = engine.run(
            PROMETHEUS_IMAGE,
            kind="prometheus",
            network=network,
            arguments=["--publish", f"127.0.0.1::{_PORT}"],
            files={
                "/etc/prometheus/prometheus.yml": File(data=self._configure(targets)),
                "/etc/prometheus/alerts.yaml": File(data=rules.encode()),
            },
        )
        self._published = self.container.published_port(_PORT)
        wait_until(self._is_ready, 20, "Prometheus should start")

    def _configure(self, targets: Sequence[str]) -> bytes:
        example = (MONITORING / "prometheus.yaml").read_text(encoding="utf-8")
        assert example.count(": 15s") == 2
        hurried = example.replace(": 15s", f": {self._pace_seconds}s")
        return hurried.replace('["relay:9154"]', json.dumps(list(targets))).encode()

    def watch(self, targets: Sequence[str]) -> None:
        """Have other targets from now on."""
        write = ["sh", "-c", "cat >/etc/prometheus/prometheus.yml"]
        self.container.exec(write, stdin=self._configure(targets), is_privileged=True)
        self.container.kill("HUP")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; its samples. Raises ValueError for one that Prometheus cannot evaluate."""
        result: list[dict[str, Any]] = self._get("/api/v1/query", {"query": expression})["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None where there is nothing."""
        samples = self.query(expression)
        assert len(samples) <= 1, f"{expression}: {samples}"
        return float(samples[0]["value"][1]) if samples else None

    def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self._get("/api/v1/label/__name__/values", {}))

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules as it understood them."""
        return [rule for group in self._get("/api/v1/rules", {})["groups"] for rule in group["rules"]]

    def alerts(self) -> list[dict[str, Any]]:
        """What fires or is pending, with labels and the annotations' texts."""
        alerts: list[dict[str, Any]] = self._get("/api/v1/alerts", {})["alerts"]
        return alerts

    def firing(self, target: str) -> set[str]:
        """The names of the alerts that fire for a target."""
        return {
            alert["labels"]["alertname"]
            for alert in self.alerts()
            if alert["state"] == "firing" and alert["labels"].get("instance") == target
        }

    def _is_ready(self) -> bool:
        try:
            return self._ask("/-/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        answer = json.loads(self._ask(f"{path}?{urllib.parse.urlencode(parameters)}")[1])
        if answer["status"] != "success":
            raise ValueError(f"{parameters}: {answer['error']}")
        return answer["data"]

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._published, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
