"""What every test below has in common: a failed test shows the logs of its containers."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes is the machine's matter.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

_LONG = (
    *("test_oauth2", "test_doctor", "test_alerts_of_real_faults", "test_upkeep", "test_stop", "test_discover_ca"),
    *("test_send_test", "test_status", "test_inbound", "test_secrets", "test_settings", "test_status_page"),
    *("test_delivery", "test_authorities_that_change", "test_logs", "test_faults", "test_bad_upstreams"),
    *("test_doctor_levels", "test_log_lines", "test_syslog", "test_probe", "test_support", "test_processes"),
    *("test_import", "test_queue", "test_refused_logins", "test_logins", "test_floods", "test_faults_of_the_machine"),
    *("test_soak", "test_golden_configurations", "test_crash"),
)
"""The files whose tests take longest, in this order: some wait, others keep a core busy."""
REPORTS = pytest.StashKey[dict[str, pytest.TestReport]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes long begin first, and what has no container end it: nobody waits for the last one alone."""

    def rank(item: pytest.Item) -> int:
        if item.path.parent.name not in ("image", "support"):
            return len(_LONG) + 1
        return _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep each phase's report where fixtures find it."""
    del call
    report = yield
    reports: dict[str, Any] = item.stash.setdefault(REPORTS, {})
    reports[report.when or ""] = report
    return report
