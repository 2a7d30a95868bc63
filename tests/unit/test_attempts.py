"""The count of delivery attempts: of this message, by the queue manager alone, and honest about what it cannot know."""

from __future__ import annotations

import pytest

from entrypoint.commands.queue import format_attempts
from entrypoint.journal.lines import parse_line
from entrypoint.journal.messages import Messages
from entrypoint.system.log_tap import Attempts

ACTIVE = "from=<a@example.test>, size=345, nrcpt=1 (queue active)"


def _count(messages: Messages, *texts: str) -> dict[str, int]:
    for text in texts:
        messages.note(parse_line(text), 100.0)
    attempts: dict[str, int] = messages.report_attempts()["attempts"]
    return attempts


def test_each_time_a_message_is_taken_up_is_an_attempt() -> None:
    """Postfix itself does not say how often it has tried."""
    messages = Messages(since=0)
    active = f"postfix/qmgr[12]: 4FABC: {ACTIVE}"
    assert _count(messages, active, active, f"postfix/qmgr[99]: 3yXyZz9Ybcz: {ACTIVE}", active) == {
        "4FABC": 3,
        "3yXyZz9Ybcz": 1,
    }


@pytest.mark.parametrize("program", ["qmgr", "postsuper"])
def test_a_removed_message_is_forgotten(program: str) -> None:
    """Queue ids are used again: the next message of that name must begin at nothing, and memory must not grow."""
    messages = Messages(since=0)
    assert _count(messages, f"postfix/qmgr[1]: 4F00D: {ACTIVE}", f"postfix/{program}[2]: 4F00D: removed") == {}


@pytest.mark.parametrize(
    "text",
    [
        f"postfix/cleanup[9]: 4FABC: message-id=postfix/qmgr[12]: 4FABC: {ACTIVE}",
        f"postfix/smtpd[9]: NOQUEUE: reject: RCPT: helo=<x> INFO postfix/qmgr[12]: 4FABC: {ACTIVE}",
        f"postfix/cleanup[9]: 4FABC: {ACTIVE}",
        "postfix/smtp[9]: 4FABC: to=<x@example.com>, relay=none, status=deferred (queue active)",
        f"postfix/smtp[9]: 4FABC: host x said: 451 INFO postfix/qmgr[1]: 4FABC: {ACTIVE}",
        "postfix/cleanup[9]: 4FABC: message-id=postfix/qmgr[12]: 4FABC: removed",
        "postfix/cleanup[9]: 4FABC: removed",
        "postfix/qmgr[12]: 4FABC: from=<(queue active)>, status=expired, returned to sender",
    ],
)
def test_what_a_client_writes_is_no_attempt_and_no_removal(text: str) -> None:
    """HELO, Message-ID and an upstream's words are logged: they must not change the count."""
    messages = Messages(since=0)
    active = f"postfix/qmgr[12]: 4FABC: {ACTIVE}"
    assert _count(messages, active, text) == {"4FABC": 1}


def test_oldest_messages_are_forgotten_and_the_rest_stays_honest() -> None:
    """Memory is bounded; a message whose count may have been forgotten must not pass for exact."""
    messages = Messages(since=10.0, most_messages=2)
    for number, queue_id in enumerate(("A1111", "B2222", "C3333", "D4444"), 1):
        messages.note(parse_line(f"postfix/qmgr[1]: {queue_id}: {ACTIVE}"), 100.0 * number)
    report = messages.report_attempts()
    assert messages.forgotten == 2
    assert report["attempts"] == {"C3333": 1, "D4444": 1}
    attempts = Attempts(since=report["since"], by_queue_id=report["attempts"])
    assert attempts.count("A1111", 99.0) == (0, False)
    assert attempts.count("B2222", 200.0 - 1) == (0, False)
    assert attempts.count("C3333", 299.0) == (1, True)


@pytest.mark.parametrize(
    ("arrived_at", "shown"), [(99, "3+"), (100, "3+"), (101, "3")], ids=["before", "same-second", "after"]
)
def test_a_message_from_before_the_count_is_shown_as_at_least(arrived_at: int, shown: str) -> None:
    """A forwarder that was started again knows only what came since; arrival times are cut to seconds."""
    count, is_exact = Attempts(since=100.4, by_queue_id={"4FABC": 3}).count("4FABC", arrived_at)
    assert format_attempts(count, is_exact=is_exact) == shown
    assert format_attempts(None, is_exact=False) == "?"
