"""What makes a relay unhealthy, what makes it unready, and what is only to be known."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import Final

import pytest

from entrypoint import paths
from entrypoint.health import checks
from entrypoint.health.checks import check_health, check_readiness, list_warnings, make_checks
from entrypoint.health.report import make_report, render_health
from entrypoint.system.service_record import Service, ServiceRecord, save_services
from entrypoint.system.space import Space, find_needed_bytes
from entrypoint.upkeep.in_force import InForce, InForceCertificate, save_in_force
from entrypoint.upkeep.record import SETTINGS, Record, save_record
from entrypoint.upkeep.verdict import Upstream, Verdict, save_verdict

HERE: Final = os.getpid()
RUNNING: Final = Service(state="RUNNING", pid=HERE)
GREETING: Final = ("127.0.0.1:25", True, "220 x ESMTP")
ROOM: Final = Space(free_bytes=10**9, free_inodes=10**6, needed_bytes=10**6)


@pytest.fixture(autouse=True)
def relay(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a relay that is well; a test spoils one."""
    for name in ("SERVICES", "UPKEEP", "VERDICT", "CONFIGURATION", "SETTINGS_IN_FORCE", "LAST_SENT"):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    monkeypatch.setattr(checks, "ask_listeners", lambda: iter([GREETING]))
    monkeypatch.setattr(checks, "measure_space", lambda: ROOM)
    save_services(ServiceRecord(services={"log-forwarder": RUNNING, "postfix": RUNNING, "status": RUNNING}))
    save_record(Record())
    upstream = Upstream(setting="RELAYHOST", nexthop="[smtp.example.com]:587", step="", words="fine")
    save_verdict(Verdict(at=time.time(), upstreams=(upstream,)))
    save_in_force(InForce(), [])


def find_faults(found: list[tuple[str, bool, str]]) -> dict[str, str]:
    return {name: detail for name, is_well, detail in found if not is_well}


def test_relay_that_is_well_is_healthy_and_ready() -> None:
    """The ordinary case, in the form that everything else takes it from."""
    report = make_checks()
    assert (report["is_healthy"], report["is_ready"], report["warnings"]) == (True, True, [])
    assert [one["name"] for one in report["health"]] == ["log-forwarder", "postfix", "127.0.0.1:25"]


@pytest.mark.parametrize(
    "service",
    [Service(state="FATAL", pid=0), Service(state="BACKOFF", pid=0), Service(state="RUNNING", pid=2**22 + 1)],
)
def test_service_that_is_not_there_is_unhealthy(service: Service) -> None:
    """Also one of which the supervisor has not noticed yet that it has gone."""
    save_services(ServiceRecord(services={"postfix": service}))
    assert "postfix" in find_faults(check_health())


def test_lost_status_service_is_told_and_stops_no_mail() -> None:
    """A restart for the sake of metrics would interrupt mail."""
    save_services(ServiceRecord(services={"postfix": RUNNING, "status": Service(state="FATAL", pid=0)}))
    assert find_faults(check_health()) == {}
    assert "mail is not affected" in list_warnings()[0]


def test_nothing_that_runs_is_unhealthy(tmp_path: pathlib.Path) -> None:
    """A check outside a relay must not say yes because there is nothing to ask."""
    (tmp_path / "SERVICES").unlink()
    assert find_faults(check_health()) == {"supervisor": "nothing has been started"}


def test_listener_that_does_not_greet_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is not healthy is not ready either."""
    monkeypatch.setattr(checks, "ask_listeners", lambda: iter([("127.0.0.1:25", False, "timed out")]))
    report = make_checks()
    assert (report["is_healthy"], report["is_ready"]) == (False, False)


def test_stop_is_unready_and_healthy_and_asks_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each listener would write into the log that it refuses; and a restart is under way already."""
    monkeypatch.setattr(checks, "ask_listeners", lambda: pytest.fail("a listener was asked"))
    save_services(ServiceRecord(services={"postfix": RUNNING}, is_stopping=True))
    report = make_checks()
    assert (report["is_healthy"], report["is_accepting"], report["is_ready"]) == (True, False, False)
    assert find_faults(check_readiness()) == {"stop": "the container is being stopped"}


def test_upstream_that_is_away_keeps_no_mail_from_coming_in() -> None:
    """It waits in the queue: that is what the queue is for."""
    save_verdict(
        Verdict(at=1.0, upstreams=(Upstream(setting="RELAYHOST", nexthop="[x]:25", step="connect", words="no"),))
    )
    report = make_checks()
    assert (report["is_healthy"], report["is_accepting"], report["is_ready"]) == (True, True, False)
    assert [one["name"] for one in report["intake"]] == ["queue space", "queue inodes"]


def test_settings_that_cannot_be_used_are_a_warning() -> None:
    """What was before is in force: a bad secret that a fleet shares must not take all of it out of service."""
    save_record(Record(troubles={SETTINGS: "RELAYHOST_PASSWORD_FILE: the file is empty.", "other": "x"}))
    assert find_faults(check_readiness()) == {}
    assert len(list_warnings()) == 2


@pytest.mark.parametrize(
    ("space", "faults"),
    [
        (ROOM, []),
        (dataclasses.replace(ROOM, free_inodes=None), []),
        (dataclasses.replace(ROOM, free_bytes=10**6 - 1), ["queue space"]),
        (dataclasses.replace(ROOM, free_bytes=0, needed_bytes=0), []),
        (dataclasses.replace(ROOM, free_inodes=3), ["queue inodes"]),
    ],
)
def test_queue_without_room_is_unready(space: Space, faults: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Postfix answers 452 from there on."""
    monkeypatch.setattr(checks, "measure_space", lambda: space)
    assert list(find_faults(check_readiness())) == faults


@pytest.mark.parametrize(
    ("main_cf", "needed"),
    [
        ("", 15_360_000),
        ("message_size_limit = 1000\n", 1500),
        ("message_size_limit = 0\n", 0),
        ("message_size_limit = 1000\nqueue_minfree = 5000\n", 5000),
        ("# message_size_limit = 7\nmessage_size_limit = 1000\nmessage_size_limit = 2000\n", 3000),
    ],
)
def test_room_that_postfix_wants_is_postfixs_own_rule(main_cf: str, needed: int) -> None:
    """One and a half times message_size_limit, or queue_minfree; the last line of a parameter counts."""
    assert find_needed_bytes(main_cf) == needed


@pytest.mark.parametrize(
    ("ends", "faults"),
    [
        ([("trusted_ca", 1), ("client", 1)], []),
        ([("trusted_ca", -1), ("trusted_ca", 1)], []),
        ([("trusted_ca", -1)], ["trusted CA"]),
        ([("client", -1)], ["client certificate"]),
        ([("client", 1), ("client", -1)], []),
    ],
)
def test_certificate_that_has_ended_is_unready(ends: list[tuple[str, int]], faults: list[str]) -> None:
    """Of several CAs one may still be the upstream's; of our own chain the first is what counts."""
    now = int(time.time())
    certificates = tuple(
        InForceCertificate(role=role, what="", subject="", sha256="", not_after=now + 1000 * sign)
        for role, sign in ends
    )
    save_in_force(InForce(certificates=certificates), [])
    assert list(find_faults(check_readiness())) == faults


def test_broken_upstream_is_unready_and_healthy() -> None:
    """Mail is accepted and waits; a restart would mend nothing."""
    save_verdict(Verdict(at=time.time(), upstreams=(Upstream(setting="R", nexthop="x", step="auth", words="no"),)))
    report = make_checks()
    assert (report["is_healthy"], report["is_ready"]) == (True, False)


def test_health_is_told_in_lines_and_values() -> None:
    """The same for people and for programs."""
    assert render_health([("a", True, "b"), ("c", False, "d")], ["e"]) == "ok     a: b\nFAILED c: d\nWARN   e\n"
    report = make_report([("a", True, "b")], [], [("c", False, "d")], ["e"])
    assert report["readiness"] == [{"name": "c", "is_well": False, "detail": "d"}]
