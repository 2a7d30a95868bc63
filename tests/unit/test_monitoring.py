"""The dashboard and the alert rules as files: what Grafana and a person need of them."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = pathlib.Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULES = (ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

# Where nothing else is said, the rules are those of Grafana's dashboard-linter.


def find_lost(value: Any, kept: Any, path: str = "") -> list[str]:
    """Where `kept` has not what `value` has."""
    if isinstance(value, dict) and isinstance(kept, dict):
        return [lost for key, one in value.items() for lost in find_lost(one, kept.get(key), f"{path}/{key}")]
    if isinstance(value, list) and isinstance(kept, list) and len(value) == len(kept):
        pairs = enumerate(zip(value, kept, strict=True))
        return [lost for at, (one, other) in pairs for lost in find_lost(one, other, f"{path}/{at}")]
    return [] if value == kept else [f"{path}: {value!r}, {kept!r}"]


def test_dashboard_says_nothing_that_grafana_does_not_know() -> None:
    """A misspelled option is passed over in silence: what Grafana's own types do not keep is one."""
    register_default_plugins()
    kept = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert find_lost(DASHBOARD, kept) == []


def test_dashboard_lets_choose_the_source_the_job_and_the_instance() -> None:
    """A dashboard with somebody else's names in it shows nothing."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert (variables["datasource"]["label"], variables["datasource"]["query"]) == ("Data source", "prometheus")
    for name in ("job", "instance"):
        one = variables[name]
        assert (one["label"], one["multi"], one["allValue"]) == (name.capitalize(), True, ".+")
        assert one["datasource"]["uid"] == "${datasource}"
        # A pod that came while the page was open must appear in the list: 2 is on every change of the time.
        assert one["refresh"] == 2
    assert not DASHBOARD["editable"], "changes in the browser would be lost with the next version"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    """At night nobody guesses what a line means, or whether it is seconds."""
    known = {value for value in vars(units).values() if isinstance(value, str)}
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in known
    assert panel["targets"]
    assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_shows_the_chosen_relays_only(expression: str) -> None:
    """A panel that forgets the choice mixes other relays in; a counter that is not a rate only ever climbs."""
    selectors = re.findall(r"\bauthrelay_\w+(\{[^}]*\})?(\[[^\]]*\])?", expression)
    assert selectors
    for selector, _ in selectors:
        assert 'job=~"$job", instance=~"$instance"' in selector
    for name, span in re.findall(r"\b(authrelay_\w+)\{[^}]*\}(\[[^\]]*\])?", expression):
        is_counter = name.endswith(("_total", "_bucket"))
        assert span in (("[$__rate_interval]", "[$__range]") if is_counter else ("",))
    if "histogram_quantile" in expression:
        assert re.search(r"sum by \(le\b[^)]*\) \(rate\(", expression)


def test_panels_have_places_of_their_own() -> None:
    """Grafana moves what overlaps, and the rows fall apart."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rows_are_the_questions_of_a_person_on_call() -> None:
    """The order of a search: does it flow, how fast, what waits, and then why."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "At a glance",
        "Flow",
        "Delay",
        "Queue",
        "Upstream and TLS",
        "Clients",
        "Certificates and secrets",
        "Processes and log",
    ]


def test_every_alert_leads_to_its_section_and_every_section_has_its_alert() -> None:
    """A link that leads nowhere is found at night."""
    alerts = re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE)
    links = re.findall(r"^ +runbook: docs/monitoring\.md#(\w+)$", RULES, re.MULTILINE)
    sections = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert links == [name.lower() for name in alerts]
    assert sections == alerts


def test_every_alert_has_what_a_person_needs() -> None:
    """How bad, since when, in a sentence, and what to do."""
    for text in re.split(r"(?m)^ +- alert: ", RULES)[1:]:
        assert re.search(r"(?m)^ +severity: (critical|warning)$", text), text
        for key in ("expr", "for", "summary", "description"):
            assert len(re.findall(rf"(?m)^ +{key}: ", text)) == 1, f"{key}: {text}"
