"""One event for each recipient that is done, with what belongs to its message and nothing that belongs to another."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from entrypoint.journal.addresses import Addresses
from entrypoint.journal.forms import Form
from entrypoint.journal.lines import parse_line
from entrypoint.journal.messages import Event, Messages
from entrypoint.journal.queue_ids import parse_arrival
from entrypoint.journal.tally import Tally
from entrypoint.services.intake import Intake, Output
from tests.support.schema import find_faults

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "log-schema.json").read_text(encoding="utf-8"))
ID = "4jZZZF5twMzGwyZ"
ARRIVAL = parse_arrival(ID)
RELAY = "mail.example.test[192.0.2.25]:587"
TLS = f"smtp[77]: Verified TLS connection established to {RELAY}: TLSv1.3 with cipher X (128/256 bits)"
SESSION = {"verdict": "verified", "protocol": "TLSv1.3", "cipher": "X", "bits": 128}
BEGINNING = (
    f"smtpd[5]: {ID}: client=app.example[192.0.2.7], sasl_method=PLAIN, sasl_username=app",
    f"cleanup[6]: {ID}: message-id=<m@app.example>",
    f"qmgr[4]: {ID}: from=<a@example.test>, size=345, nrcpt=2 (queue active)",
)
ACTIVE = BEGINNING[2]
REMOVED = f"qmgr[4]: {ID}: removed"
EXPIRED = f"qmgr[4]: {ID}: from=<a@example.test>, status=expired, returned to sender"


def attempt(
    to: str, status: str, reply: str = "250 2.0.0 Ok", *, pid: int = 77, uses: int = 1, queue_id: str = ID
) -> str:
    """The line of an attempt."""
    use = f"conn_use={uses}, " if uses > 1 else ""
    return (
        f"smtp[{pid}]: {queue_id}: to=<{to}>, relay={RELAY}, {use}delay=1.5, delays=1/0.2/0.2/0.1, dsn=2.0.0, "
        f"status={status} ({reply})"
    )


def follow(*lines: str, messages: Messages | None = None, at: float = 5000.0) -> list[Event]:
    """The events of some lines."""
    table = messages or Messages(since=0)
    return [event for line in lines for event in table.note(parse_line(f"postfix/{line}"), at)]


def test_event_has_all_that_the_lines_of_its_message_said() -> None:
    """The one line that answers the question what became of a message."""
    (event,) = follow(*BEGINNING, TLS, attempt("b@example.com", "sent"))
    assert event == {
        "queue_id": ID,
        "client": "192.0.2.7",
        "client_name": "app.example",
        "sasl_username": "app",
        "from": "a@example.test",
        "size": 345,
        "recipients": 2,
        "attempts": 1,
        "message_id": "m@app.example",
        "to": "b@example.com",
        "relay": RELAY,
        "dsn": "2.0.0",
        "delay": 1.5,
        "delays": {"before_queue": 1.0, "queue": 0.2, "connection": 0.2, "transmission": 0.1},
        "reply": "250 2.0.0 Ok",
        "tls": SESSION,
        "status": "sent",
        "accepted_at": round(ARRIVAL or 0, 3),
        "finished_at": 5000.0,
    }


def test_deferred_recipient_is_not_done_until_it_is() -> None:
    """A message that was tried three times is one delivery."""
    first = follow(*BEGINNING, attempt("b@example.com", "deferred", "later"), attempt("c@example.com", "sent"))
    assert [(event["to"], event["attempts"]) for event in first] == [("c@example.com", 1)]
    messages = Messages(since=0)
    again = (ACTIVE, attempt("b@example.com", "deferred", "later"))
    events = follow(
        *BEGINNING[:2], *again, *again, ACTIVE, attempt("b@example.com", "sent"), REMOVED, messages=messages
    )
    assert [(event["status"], event["attempts"]) for event in events] == [("sent", 3)]
    assert messages.report_attempts()["attempts"] == {}


def test_message_that_is_requeued_keeps_its_client_and_is_not_accepted_again() -> None:
    """`postsuper -r` gives it another id; nobody has handed anything in."""
    messages = Messages(since=0)
    other = "4jZZZH0000zBBBB"
    follow(*BEGINNING, f"postsuper[9]: {ID}: requeued", messages=messages)
    arrived = (f"pickup[9]: {other}: uid=100 from=<a@example.test> orig_id={ID}", ACTIVE.replace(ID, other))
    follow(*arrived, messages=messages)
    assert not messages.is_accepted(parse_line(f"postfix/{arrived[1]}"))
    (event,) = follow(attempt("b@example.com", "sent").replace(ID, other), messages=messages)
    assert (event["client"], event["sasl_username"], event["attempts"]) == ("192.0.2.7", "app", 1)
    assert messages.report_attempts()["attempts"] == {other: 1}


def test_expired_message_has_an_event_for_each_recipient_that_still_waited() -> None:
    """The queue manager names none of them when it gives up."""
    lines = (
        *BEGINNING,
        attempt("done@example.com", "sent"),
        attempt("b@example.com", "deferred", "first"),
        attempt("c@example.com", "deferred", "first"),
        ACTIVE,
        attempt("c@example.com", "bounced", "550 no"),
        attempt("b@example.com", "deferred", "last"),
        EXPIRED,
        f"bounce[8]: {ID}: sender non-delivery notification: 4jZZZG0000zDDDD",
        REMOVED,
    )
    events = follow(*lines)
    assert [(event["to"], event["status"], event["reply"]) for event in events] == [
        ("done@example.com", "sent", "250 2.0.0 Ok"),
        ("c@example.com", "bounced", "550 no"),
        ("b@example.com", "expired", "last"),
    ]


def test_message_whose_return_failed_and_that_was_delivered_after_all_has_not_expired() -> None:
    """A full disk keeps the notice from being written; the message stays, and may yet go out."""
    waiting = attempt("b@example.com", "deferred", "x")
    events = follow(*BEGINNING, waiting, EXPIRED, ACTIVE, attempt("b@example.com", "sent"), REMOVED)
    assert [event["status"] for event in events] == ["sent"]
    assert follow(*BEGINNING, waiting, EXPIRED, ACTIVE, waiting, REMOVED) == []
    assert follow(*BEGINNING, waiting, REMOVED) == []


def test_message_that_a_person_deletes_has_no_event() -> None:
    """It was neither delivered nor returned."""
    assert follow(*BEGINNING, attempt("b@example.com", "deferred", "x"), f"postsuper[9]: {ID}: removed") == []


def test_verdict_is_that_of_the_session_that_carried_the_message() -> None:
    """A verdict of an earlier connection beside a delivery in the clear would be a lie about what counts most."""
    other, third = "4jZZZG0000zDDDD", "4jZZZG0000zBBBB"
    messages = Messages(since=0)
    lines = (
        TLS,
        attempt("b@example.com", "sent"),
        attempt("c@example.com", "sent"),
        attempt("d@example.com", "sent", uses=2, queue_id=other),
        attempt("e@example.com", "sent", pid=78),
        attempt("f@example.com", "sent", queue_id=third),
        attempt("g@example.com", "sent", queue_id=third),
    )
    events = follow(*lines, messages=messages)
    shown = {event["to"][0]: event.get("tls") for event in events}
    assert shown == {"b": SESSION, "c": SESSION, "d": SESSION, "e": None, "f": None, "g": None}


def test_message_from_before_this_process_still_has_its_event() -> None:
    """A forwarder that was started again must not lose a delivery because it has not seen the message come."""
    (event,) = follow(attempt("b@example.com", "sent"))
    assert (event["queue_id"], event["to"], event["status"]) == (ID, "b@example.com", "sent")
    assert "from" not in event
    messages = Messages(since=0)
    entry = parse_line(f"postfix/{ACTIVE}")
    messages.note(entry, 0)
    assert not messages.is_accepted(entry)


def test_clients_message_is_accepted_once() -> None:
    """Every retry shows the message again; and the notices that the relay writes are no client's."""
    messages = Messages(since=0)
    follow(*BEGINNING[:2], messages=messages)
    entry = parse_line(f"postfix/{ACTIVE}")
    accepted = []
    for _ in range(3):
        messages.note(entry, 0)
        accepted.append(messages.is_accepted(entry))
    assert accepted == [True, False, False]


def test_table_is_bounded_by_messages_and_recipients_and_by_time() -> None:
    """Clients that go away in the middle, and lists of a thousand that wait, must not grow it without end."""
    messages = Messages(since=0, most_messages=10)
    for number in range(100):
        follow(f"smtpd[5]: 4AB{number:04}: client=unknown[192.0.2.7]", messages=messages)
    assert (len(messages._arriving), messages.forgotten) == (10, 90)
    follow(BEGINNING[0], messages=messages, at=5000 + 3601)
    assert list(messages._arriving) == [ID]
    follow(ACTIVE, messages=messages)
    for number in range(100):
        follow(attempt(f"{number}@example.com", "deferred", "x"), messages=messages)
    assert len(messages._queued) + len(messages._arriving) + messages._waiting <= 10
    for pid in range(5000):
        follow(TLS.replace("[77]", f"[{pid}]"), messages=messages)
    assert len(messages._sessions) == 2000


@pytest.mark.parametrize(
    ("queue_id", "arrived_at"),
    [
        ("3yXyZz9Yabz", None),
        ("2615D1882D9", None),
        ("4jZZZF5twMzGwyZ", ARRIVAL),
        ("0000010000z0", 1.0),
        ("0000010001zz0", 52.000103),
        ("00000A0000z0", None),
        ("", None),
    ],
)
def test_long_queue_id_tells_when_its_message_arrived(queue_id: str, arrived_at: float | None) -> None:
    """The age of a message in the queue is known without opening its file."""
    assert parse_arrival(queue_id) == arrived_at
    assert pytest.approx(1795644000, abs=2 * 86400) == ARRIVAL


def take(intake: Intake, *lines: str, at: float = 5000.0) -> list[str]:
    """What is written for some lines."""
    written: list[Output] = []
    for line in lines:
        intake.take(f"<22>Nov 23 00:01:02 postfix/{line}".encode(), at, written.append, lambda _: None)
    return [output.line for output in written]


@pytest.fixture(autouse=True)
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hints are left."""
    for name in ("TROUBLE", "UNTRUSTED", "LAST_SENT"):
        monkeypatch.setattr(f"entrypoint.paths.{name}", str(tmp_path / name))


def test_report_counts_what_the_lines_said() -> None:
    """Metrics and the page show nothing that is not counted here."""
    intake = Intake(Form(), since=60.0)
    refused = "SASL authentication failed; server x[1.2.3.4] said: 535 5.7.8 no"
    take(
        intake,
        "smtpd[5]: connect from unknown[192.0.2.7]",
        "smtpd[5]: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 no; from=<> to=<b@x> proto=ESMTP helo=<h>",
        *BEGINNING,
        TLS,
        f"smtp[77]: {ID}: {refused}",
        attempt("b@example.com", "deferred", refused),
        attempt("c@example.com", "deferred", refused),
        "smtp[7]: connect to x[1.2.3.4]:25: Connection refused",
        "smtpd[5]: warning: x",
        "smtpd[5]: warning: h[192.0.2.7]: SASL PLAIN authentication failed: wrong password, sasl_username=a",
        "smtpd[5]: warning: h[192.0.2.7]: SASL LOGIN authentication aborted",
        "smtpd[5]: what nobody knows",
        at=61.0,
    )
    take(
        intake,
        ACTIVE,
        attempt("b@example.com", "sent"),
        attempt("c@example.com", "deferred", "x"),
        EXPIRED,
        REMOVED,
        at=125.0,
    )
    report = intake.report(3600.0)
    expected: dict[str, Any] = {
        "version": 1,
        "since": 60.0,
        "at": 3600.0,
        "lines": {"INFO": 19},
        "unknown_lines": 1,
        "connections": 1,
        "rejections": {"554": 1},
        "accepted": 1,
        "accepted_bytes": 345,
        "accepted_recipients": 2,
        "deliveries": {
            "sent": {"none": 1}, "deferred": {"auth": 2, "other": 1}, "bounced": {}, "expired": {"other": 1},
        },
        "tls": {"verified": 1, "trusted": 0, "untrusted": 0, "anonymous": 0},
        "login_failures": 2,
        "client_login_failures": 1,
        "history": [[60, 1, 0, 2, 0], [120, 0, 1, 1, 1]],
        "forgotten_messages": 0,
    }  # fmt: skip
    assert {key: report[key] for key in expected} == expected
    assert [(event["to"], event["status"]) for event in report["last"]] == [
        ("c@example.com", "expired"),
        ("b@example.com", "sent"),
    ]
    total = report["delays"]["total"]
    assert (total["sum"], total["count"], total["buckets"][-1]) == (1.5, 1, ["+Inf", 1])
    assert [count for _, count in total["buckets"]] == [0] * 4 + [1] * 11
    json.dumps(report)


def test_json_log_has_each_line_and_each_event() -> None:
    """One stream for both: whoever reads events alone selects them by one word."""
    intake = Intake(Form("json", Addresses("domain")), since=0)
    written = [
        json.loads(line)
        for line in take(intake, *BEGINNING, TLS, attempt("b@example.com", "sent", "250 2.0.0 b: queued as 7F2B"))
    ]
    assert [fault for record in written for fault in find_faults(record, SCHEMA)] == []
    assert [record["event"] for record in written] == ["client", "message-id", "queued", "tls", "attempt", "delivery"]
    event = written[-1]
    assert (event["from"], event["to"], event["message_id"]) == ("*@example.test", "*@example.com", "*@app.example")
    assert (event["sasl_username"], event["reply"], event["step"]) == (
        "*",
        "250 2.0.0 (left out), queued as 7F2B",
        "none",
    )
    assert intake.report(0)["last"] == [
        {key: event[key] for key in event if key not in ("version", "severity", "event")}
    ]


def test_plain_log_with_full_addresses_is_what_it_always_was() -> None:
    """People's own patterns read it: nothing is added, nothing changed."""
    written = take(Intake(Form(), since=0), *BEGINNING, TLS, attempt("b@example.com", "sent"))
    assert [line.split(" ", 2)[2] for line in written] == [
        f"postfix/{line}\n" for line in (*BEGINNING, TLS, attempt("b@example.com", "sent"))
    ]


def test_password_that_postfix_logs_is_left_out() -> None:
    """smtp(8) of 3.10 shows the answer that it had ready when a server's first challenge is not empty."""
    answer = "SASL authentication failed; non-empty initial PLAIN challenge from server x[1.2.3.4]: AGFubgBrMS1XbQ=="
    written = take(Intake(Form("json"), since=0), *BEGINNING, attempt("b@example.com", "deferred", answer))
    assert "AGFubgBrMS1XbQ" not in "".join(written)
    assert "from server x[1.2.3.4]: (left out))" in written[-1]


def test_reason_classes_are_a_bounded_set() -> None:
    """An upstream that says something new each time must not make new numbers, nor be remembered for ever."""
    tally = Tally(0)
    steps = {tally.find_step("deferred", f"host x[1.2.3.4] said: 451 {number}") for number in range(2000)}
    assert steps == {"message"}
    assert len(tally._classifier._known) == 512
    assert tally.find_step("sent", "250 Ok") == "none"


def test_codes_are_stable_within_a_key_and_differ_between_keys() -> None:
    """Hashes are for following one recipient through the log, and useless to whoever has not the key."""
    one, other = Addresses("hash", b"k" * 32), Addresses("hash", b"l" * 32)
    assert one.hide("Ann@Example.com") == one.hide("ann@example.com").replace("example", "Example")
    assert one.hide("ann@example.com") != other.hide("ann@example.com")
    assert one.hide("ann@example.com") != one.hide("bob@example.com")
    assert one.hide("") == ""
    assert Addresses("hash").hide("ann@example.com") == "*@example.com"
    assert Addresses().hide("ann@example.com") == "ann@example.com"
    for number in range(10_000):
        one.hide(f"{number}@example.com")
    assert len(one._shown) == 8192
