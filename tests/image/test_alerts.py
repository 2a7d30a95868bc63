"""The alert rules, judged by promtool on a simulated clock: each fires for its fault, none without one."""

from __future__ import annotations

import re

import pytest

from tests.support.engine import Engine, File
from tests.support.prometheus import ALERTS, RULES, Promtool


@pytest.fixture(scope="module")
def promtool(engine: Engine) -> Promtool:
    return Promtool(engine)


def split_rules() -> dict[str, str]:
    """The text of each rule by its name."""
    parts = re.split(r"(?m)^(?= +- (?:alert|name): )", RULES)
    return {match[1]: part for part in parts if (match := re.match(r" +- alert: (\w+)", part))}


def test_rules_and_configuration_are_what_prometheus_takes(promtool: Promtool) -> None:
    """A rule with a slip in it keeps the whole of somebody's Prometheus from reloading."""
    result = promtool.run("promtool check rules --lint-fatal alerts.yaml && promtool check config prometheus.yaml")
    assert result.status == 0, result.text + result.stderr.decode()
    assert f"SUCCESS: {len(ALERTS)} rules found" in result.text


def test_every_alert_fires_for_its_fault_and_none_without_one(promtool: Promtool) -> None:
    """An alert that cries in a quiet night is switched off, and then it is missing when it counts."""
    result = promtool.run("promtool test rules tests/*.yaml")
    assert result.status == 0, result.text + result.stderr.decode()


def test_every_alert_has_a_test_that_would_miss_it(promtool: Promtool) -> None:
    """A rule that nobody tests is one that nobody knows to work: without it, or without its `for`, its test fails."""
    broken = {}
    for name, text in split_rules().items():
        broken[f"{name}.gone"] = RULES.replace(text, "")
        hasty = re.sub(r"for: [1-9]\d*[mh]", "for: 0m", text)
        if hasty != text:
            broken[f"{name}.hasty"] = RULES.replace(text, hasty)
    assert len(broken) > len(ALERTS)
    promtool.container.put({f"/broken/{key}/alerts.yaml": File(data=text.encode()) for key, text in broken.items()})
    said = promtool.run(
        "for d in /broken/*; do mkdir $d/tests; cp tests/faults.yaml $d/tests; key=${d##*/}; "
        'if promtool test rules --run "^${key%.*}$" $d/tests/faults.yaml >$d/said 2>&1; then echo "$key: unnoticed"; '
        'elif ! grep -q exp: $d/said; then echo "$key: cannot be judged"; cat $d/said; fi; done'
    )
    assert said.text == ""
