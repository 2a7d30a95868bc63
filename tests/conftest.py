"""What every test below has in common: a failed test shows the logs of its containers."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

REPORTS = pytest.StashKey[dict[str, pytest.TestReport]]()


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
