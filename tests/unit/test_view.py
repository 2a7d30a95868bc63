"""What the status page is told: whole in its form, without secrets, and with addresses as LOG_ADDRESSES has them."""

from __future__ import annotations

import json
import pathlib
import stat
import time
from typing import Any

import pytest

from entrypoint import paths
from entrypoint.journal.addresses import Addresses
from entrypoint.services.status import service
from entrypoint.services.status import view as view_module
from entrypoint.services.status.page import render_page
from entrypoint.services.status.redaction import hide_in_queue, hide_login_reply
from entrypoint.services.status.sections import describe_queue
from entrypoint.services.status.view import describe_reasons, gather
from entrypoint.system.queue_list import list_queue
from entrypoint.upkeep.in_force import InForce, InForceCertificate, load_settings_in_force, save_in_force
from entrypoint.upkeep.record import Record, save_record
from entrypoint.upkeep.verdict import Upstream, Verdict, load_verdict, save_verdict
from tests.unit.observed import CHAIN, OBSERVED, REPORT

TEMPLATES = str(pathlib.Path(__file__).parents[2] / "templates")

KEYS = {
    "version", "postfix_version", "now", "hostname", "log_addresses", "report", "is_healthy", "is_ready", "health",
    "troubles", "verdict", "certificates", "secrets", "configuration", "services", "space", "queue_total", "queue_read",
    "queue_oldest_at", "queue", "reasons", "settings",
}  # fmt: skip
CHECKS: dict[str, Any] = {
    "is_healthy": True,
    "is_ready": False,
    "health": [{"name": "postfix", "is_well": True, "detail": "running"}],
    "readiness": [{"name": "RELAYHOST", "is_well": False, "detail": "ann@example.com is refused"}],
    "warnings": ["bob@example.com"],
}
ENTRY = """{"queue_name": "deferred", "queue_id": "%s", "arrival_time": %d, "message_size": 3,
 "sender": "a@example.org",
 "recipients": [{"address": "b@example.com", "delay_reason": "host x[1.2.3.4] said: 450 b@example.com is full"}]}"""


@pytest.fixture
def bare(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A container in which nothing was written yet; its commands are the test's."""
    monkeypatch.setattr(paths, "QUEUE", str(tmp_path))
    for name in (
        "SERVICES",
        "UPKEEP",
        "VERDICT",
        "CONFIGURATION",
        "SETTINGS_IN_FORCE",
        "POSTFIX_VERSION",
        "OBSERVATIONS",
        "LOG_RULES",
    ):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    set_queue(tmp_path, "")
    return tmp_path


def set_queue(directory: pathlib.Path, script: str) -> None:
    program = directory / "postqueue"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def list_entries(count: int) -> str:
    lines = "\n".join((ENTRY % (f"ID{number}", 1000 - number)).replace("\n", "") for number in range(count))
    return f"cat <<'END'\n{lines}\nEND"


def test_view_has_every_key_when_there_is_nothing_yet(bare: pathlib.Path) -> None:
    """The page is asked for in the first second, too."""
    assert bare
    view = gather(CHECKS)
    assert set(view) == KEYS
    assert view["report"] is None
    assert view["verdict"] == {"at": 0.0, "is_well": False, "upstreams": []}
    assert (view["queue"], view["queue_total"], view["settings"], view["services"]) == ([], 0, [], {})
    assert [one["name"] for one in view["health"]] == ["postfix", "RELAYHOST"]
    assert "<!doctype html>" in render_page(view, TEMPLATES)


def test_view_lists_the_oldest_messages_and_counts_all(bare: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of a million messages must make a page, and the page must say how many there are."""
    monkeypatch.setattr(view_module, "_MOST_SHOWN", 3)
    set_queue(bare, list_entries(5))
    view = gather(CHECKS)
    assert [entry["queue_id"] for entry in view["queue"]] == ["ID4", "ID3", "ID2"]
    assert view["queue_total"] == 5
    assert view["queue"][0]["recipients_total"] == 1
    assert view["reasons"][0]["messages"] == 5
    refused = ENTRY.replace("450 b@example.com is full", "535 5.7.8 not k1-Wm").replace(
        "host x", "authentication failed x"
    )
    set_queue(bare, "cat <<'END'\n" + (refused % ("ID", 1)).replace("\n", "") + "\nEND")
    assert "said: 535 5.7.8'" in str(gather(CHECKS))
    assert "k1-Wm" not in str(gather(CHECKS))
    set_queue(bare, list_entries(5))
    monkeypatch.setattr(view_module, "_MOST_READ", 4)
    monkeypatch.setattr(view_module, "ask_observations", lambda: REPORT)
    assert gather(CHECKS)["queue_total"] == 4


def test_queue_that_is_too_long_to_be_read_is_told_as_far_as_it_was_counted(
    bare: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """postqueue tells messages in no order: the oldest of those that were read may be the youngest of all."""
    queues = {"deferred": {"messages": 99, "oldest_at": 7}, "hold": {"messages": 1, "oldest_at": None}}
    big = {**REPORT, "queues": {**queues, "corrupt": {"messages": 5, "oldest_at": 1}}}
    monkeypatch.setattr(view_module, "_MOST_READ", 4)
    monkeypatch.setattr(view_module, "ask_observations", lambda: big)
    set_queue(bare, list_entries(5))
    view = gather(CHECKS)
    assert (view["queue_total"], view["queue_read"], view["queue_oldest_at"]) == (100, 4, 7)
    told = describe_queue({**view, "now": 67.0})["words"]
    assert told == "100 messages wait, the oldest for 1 min. What follows is about 4 of them."
    set_queue(bare, list_entries(3))
    view = gather(CHECKS)
    assert (view["queue_total"], view["queue_read"], view["queue_oldest_at"]) == (3, 3, 998)


def test_queue_of_a_postfix_that_does_not_run_is_empty(bare: pathlib.Path) -> None:
    """postqueue says so on its output, and that is no message."""
    set_queue(bare, "echo 'postqueue: fatal: Queue report unavailable - mail system is down'; exit 69")
    assert list_queue(10).entries == ()
    set_queue(bare, f"{list_entries(3)}\nexec sleep 60")
    began = time.monotonic()
    found = list_queue(2)
    assert time.monotonic() - began < 30
    assert (len(found.entries), found.is_complete) == (2, False)


def test_verdict_comes_back_as_it_was_left(bare: pathlib.Path) -> None:
    """The chain that the upstream showed is on the page until the next probe."""
    assert bare
    save_verdict(OBSERVED.verdict)
    assert load_verdict() == OBSERVED.verdict
    upstream = gather(CHECKS)["verdict"]["upstreams"][0]
    assert upstream["tls"]["chain"][0]["subject"] == CHAIN[0].subject
    assert upstream["is_well"] is True


def test_what_is_in_force_is_told(bare: pathlib.Path) -> None:
    """Which CA, until when, since when the password is what it is."""
    assert bare
    one = InForceCertificate(role="client", what="w", subject="s", sha256="h", not_after=5, renewed_at=4)
    row = {"name": "RELAYHOST", "value": "x", "is_default": False}
    save_in_force(InForce(loaded_at=1.0, reloads=2, certificates=(one,), secrets={"RELAYHOST_PASSWORD": 3.0}), [row])
    view = gather(CHECKS)
    assert view["configuration"] == {"is_valid": True, "problem": "", "loaded_at": 1.0, "reloads": 2}
    assert view["secrets"] == [{"setting": "RELAYHOST_PASSWORD", "changed_at": 3.0}]
    assert view["certificates"][0]["not_after"] == 5
    assert view["settings"] == [row] == load_settings_in_force()


def test_addresses_are_hidden_everywhere_when_they_are_to_be(bare: pathlib.Path) -> None:
    """A page that shows what the log hides would be the leak."""
    set_queue(bare, list_entries(2))
    save_verdict(Verdict(at=1.0, upstreams=(Upstream(setting="R", nexthop="x", step="", words="as me@example.org"),)))
    given = {"RELAYHOST_USERNAME": "me@example.org", "FALLBACK_RELAYHOST_USERNAME": "apikey", "X": "zoe@example.org"}
    save_in_force(InForce(), [{"name": name, "value": value, "is_default": False} for name, value in given.items()])
    (bare / "LOG_RULES").write_text("plain domain\n")
    save_record(Record(troubles={"X": "bob@example.com"}))
    view = gather()
    assert view["log_addresses"] == "domain"
    text = str(view)
    assert {"name": "R x", "is_well": True, "detail": "as *@example.org"} in view["health"]
    assert view["troubles"] == ["*@example.com"]
    for local in ("ann@", "bob@", "me@", "'a@", "'b@", " b@", "apikey", "zoe@"):
        assert local not in text
    assert "*@example.com" in text
    assert "*@example.org" in text


def test_code_of_an_address_is_the_same_wherever_it_is_shown(
    bare: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code that is made of a code leads to nothing in the log."""
    monkeypatch.setattr(paths, "ADDRESSES_KEY", str(bare / "key"))
    (bare / "key").write_bytes(b"k" * 32)
    (bare / "LOG_RULES").write_text("plain hash\n")
    save_verdict(Verdict(at=1.0, upstreams=(Upstream(setting="R", nexthop="x", step="auth", words="as me@a.test"),)))
    save_in_force(InForce(), [{"name": "RELAYHOST_USERNAME", "value": "me@a.test", "is_default": False}])
    code = Addresses("hash", b"k" * 32).hide("me@a.test")
    checks = json.loads(service._tell_checks(None))
    for view in (gather(), gather(checks)):
        assert view["settings"][0]["value"] == code
        assert view["health"][-1]["detail"] == f"as {code}" == view["verdict"]["upstreams"][0]["words"]


def test_upstreams_words_are_left_out_where_addresses_are_hidden() -> None:
    """It may name anybody there, without an @, and nothing in the queue tells that it is a name."""
    reason = "host x[1.2.3.4] said: 451 4.2.2 bob is over quota (in reply to RCPT TO command)"
    queue = [{"sender": "", "recipients": [{"address": "ann@example.com", "delay_reason": reason}]}]
    ((recipient,),) = (entry["recipients"] for entry in hide_in_queue(queue, Addresses("hash", b"k" * 16)))
    assert recipient["delay_reason"] == "host x[1.2.3.4] said: 451 4.2.2 (left out) (in reply to RCPT TO command)"
    assert recipient["address"].endswith("@example.com")
    assert "ann" not in recipient["address"]
    greeting = "host x[1.2.3.4] refused to talk to me: 421 4.7.0 bob, go away"
    assert Addresses("domain").hide_in(greeting) == "host x[1.2.3.4] refused to talk to me: 421 4.7.0 (left out)"
    assert hide_in_queue(queue, Addresses()) == queue


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "SASL authentication failed; server x[1.2.3.4] said: 535 5.7.8 not k1-Wm (AGFubg==)",
            "SASL authentication failed; server x[1.2.3.4] said: 535 5.7.8",
        ),
        (
            "SASL authentication failed; non-empty initial PLAIN challenge from server x[1.2.3.4]: AGFubgBrMS1XbQ==",
            "SASL authentication failed; non-empty initial PLAIN challenge from server x[1.2.3.4]: (left out)",
        ),
        ("host x[1.2.3.4] said: 550 5.1.1 no such user (in reply to RCPT TO command)",) * 2,
        ("connect to x[1.2.3.4]:587: Connection refused",) * 2,
    ],
)
def test_words_of_a_refused_login_are_not_shown(reason: str, expected: str) -> None:
    """Some upstreams echo what they were sent, and the service cannot know the password to look for it."""
    assert hide_login_reply(reason) == expected


def test_reasons_are_counted_by_message_and_explained() -> None:
    """The person on call needs the sentence, and how much waits for it."""
    refused = {"delay_reason": "connect to x[1.2.3.4]:587: Connection refused"}
    found = describe_reasons([{"recipients": [refused, refused]}, {"recipients": [refused]}, {"recipients": [{}]}])
    assert [(one["messages"], one["step"]) for one in found] == [(2, "connect")]
    assert found[0]["remedy"]
