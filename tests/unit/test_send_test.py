"""What Postfix's lines say of one message among many; no other message's line is mistaken for its own."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest

from entrypoint.commands.send_test import main, make_message
from entrypoint.diagnosis.narration import Facts, hide, judge, make_json, render_step, tell_event
from entrypoint.diagnosis.trace import Event, Trace
from entrypoint.errors import UsageError

QID = "60D431A24D9"
RELAY = "mail.example.test[192.0.2.2]:587"
ACTIVE = f"postfix/qmgr[38]: {QID}: from=<a@example.test>, size=699, nrcpt=1 (queue active)"
CIPHER = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
SENT = "status=sent (250 2.0.0 Ok: queued as 1)"
FACTS = Facts(tls_level="secure", others={("second.example.test", 25): ("FALLBACK_RELAYHOST", "secure")})


def _delivery(
    status: str = SENT, relay: str = RELAY, to: str = "b@example.com", queue_id: str = QID, pid: int = 59, use: str = ""
) -> str:
    return (
        f"postfix/smtp[{pid}]: {queue_id}: to=<{to}>, relay={relay}, {use}delay=0.34, delays=0.01/0.02/0.1/0.21, "
        f"dsn=2.0.0, {status}"
    )


def _tls(relay: str = RELAY, word: str = "Verified", pid: int = 59, how: str = "established") -> str:
    return f"postfix/smtp[{pid}]: {word} TLS connection {how} to {relay}: {CIPHER}"


def _follow(*texts: str, recipients: int = 1) -> tuple[Trace, list[Event]]:
    trace = Trace(QID, recipients)
    return trace, [event for text in texts for event in trace.note(f"2026-11-23T23:42:03.382+00:00 INFO {text}")]


def _tell(*texts: str, facts: Facts = FACTS) -> str:
    _, events = _follow(*texts)
    steps = [tell_event(event, events[0].at - 1, facts) for event in events]
    return "".join(render_step(step) for step in steps if step)


def test_delivery_is_told_with_its_verdict_its_times_and_the_upstreams_words() -> None:
    """What a person would look for in the log, and where."""
    trace, events = _follow(ACTIVE, _tls(), _delivery(), f"postfix/qmgr[38]: {QID}: removed")
    assert [event.kind for event in events] == ["active", "tls", "delivery", "removed"]
    (delivery,) = trace.deliveries.values()
    assert (delivery.relay, delivery.trust, delivery.words) == (RELAY, "Verified", "250 2.0.0 Ok: queued as 1")
    assert trace.is_decided
    assert trace.is_over
    told = _tell(ACTIVE, _tls(), _delivery())
    assert f"   1.000 s  tls         Verified TLS connection established to {RELAY}: {CIPHER}\n" in told
    assert "the upstream said: 250 2.0.0 Ok: queued as 1\n" in told
    assert "0.01 s before the queue manager, 0.02 s in it, 0.1 s to connect and log in, 0.21 s to hand it over" in told
    assert "TLS: " not in told


@pytest.mark.parametrize("word", ["Verified", "Trusted", "Untrusted", "Anonymous"])
@pytest.mark.parametrize("how", ["established", "reused"])
def test_each_verdict_of_postfix_is_known(word: str, how: str) -> None:
    """It is the difference between a proven and a merely encrypted connection."""
    trace, events = _follow(_tls(word=word, how=how), _delivery())
    assert [event.kind for event in events] == ["tls", "delivery"]
    assert trace.deliveries["b@example.com"].trust == word


def test_verdict_of_another_process_or_another_message_is_not_ours() -> None:
    """Under load there are a hundred verdicts a second, and none names a message."""
    trace, events = _follow(
        _tls(word="Untrusted", pid=60),
        _tls(word="Anonymous"),
        _delivery(queue_id="AAAAA11111"),
        _delivery(),
    )
    assert [event.kind for event in events] == ["delivery"]
    assert trace.deliveries["b@example.com"].trust == ""
    _, events = _follow(_tls(word="Untrusted", pid=60), _delivery())
    assert [event.kind for event in events] == ["delivery"]


@pytest.mark.parametrize(
    "text",
    [
        f"postfix/cleanup[58]: AAAAA11111: message-id={QID}: to=<b@example.com>",
        f"postfix/cleanup[58]: {QID}: message-id=x INFO postfix/smtp[59]: {QID}: to=<b@example.com>",
        f"postfix/smtp[59]: AAAAA11111: host x said: 450 postfix/smtp[59]: {_delivery()}",
        f"postfix/smtpd[58]: {QID}: removed",
        f"postfix/smtpd[58]: {QID}: sender non-delivery notification: BBBBB22222",
        "not one of our lines",
    ],
)
def test_what_others_write_decides_nothing(text: str) -> None:
    """A client chooses its Message-ID, an upstream its words."""
    trace, events = _follow(text)
    assert events == []
    assert not trace.is_decided
    assert not trace.is_removed


def test_every_recipient_that_postfix_counts_is_waited_for() -> None:
    """An alias of the operator's may make two of one."""
    two = ACTIVE.replace("nrcpt=1", "nrcpt=2")
    trace, _ = _follow(two, _delivery())
    assert not trace.is_decided
    trace, _ = _follow(two, _delivery(), _delivery(to="c@example.com"))
    assert trace.is_decided
    assert judge(trace, [], 60, has_lost_it=False).exit_status == 0


def test_worst_recipient_decides_the_exit_status() -> None:
    """A script must not take half a success for one."""
    deferred = "status=deferred (host x said: 451 4.3.0 later (in reply to RCPT TO command))"
    bounced = "status=bounced (host x said: 550 5.1.1 no (in reply to RCPT TO command))"
    cases = {(SENT, deferred): (75, "deferred"), (deferred, bounced): (69, "bounced"), (SENT, bounced): (69, "bounced")}
    for (first, second), expected in cases.items():
        trace, _ = _follow(_delivery(first), _delivery(second, to="c@example.com"), recipients=2)
        outcome = judge(trace, [], 60, has_lost_it=False)
        assert (outcome.exit_status, outcome.result) == expected
        assert ("postsuper -d" in outcome.text) == (deferred in (first, second))
    trace, _ = _follow(_delivery())
    assert judge(trace, ["c@example.com"], 60, has_lost_it=False).exit_status == 69


def test_bounce_waits_for_the_notice_and_names_it() -> None:
    """The bounce message is a message of its own, and may be the next surprise."""
    bounced = _delivery("status=bounced (host x said: 550 5.1.1 no (in reply to RCPT TO command))")
    trace, _ = _follow(bounced)
    assert trace.is_decided
    assert not trace.is_over
    trace, _ = _follow(bounced, f"postfix/bounce[83]: {QID}: sender non-delivery notification: 000671A2574")
    assert trace.is_over
    assert "000671A2574" in judge(trace, [], 60, has_lost_it=False).text


def test_fallback_is_called_so_and_what_went_before_it_is_shown() -> None:
    """Mail that goes another way than usual looks the same in an inbox."""
    second = "second.example.test[192.0.2.3]:25"
    refused = f"postfix/smtp[59]: connect to {RELAY}: Connection refused"
    told = _tell(refused, _tls(second), _delivery(relay=second))
    assert f"remark      connect to {RELAY}: Connection refused" in told
    assert "this is FALLBACK_RELAYHOST" in told
    assert "this is FALLBACK_RELAYHOST" not in _tell(_delivery())


@pytest.mark.parametrize(
    ("change", "delivery", "words"),
    [
        ({"tls_level": "none"}, _delivery(), "none was used, because RELAYHOST_TLS"),
        ({"tls_level": "may"}, _delivery(), "the upstream offered none"),
        ({}, _delivery(use="conn_use=3, "), "it has carried 3 messages"),
        ({}, _delivery(), "its line was not seen; the level is secure"),
        ({}, _delivery("status=deferred (TLS is required, but was not offered by host x)"), "ended before it"),
    ],
)
def test_missing_verdict_is_explained(change: dict[str, Any], delivery: str, words: str) -> None:
    """No line about TLS may mean no TLS, or no line."""
    facts = Facts(tls_level=change.get("tls_level", "secure"))
    assert words in _tell(delivery, facts=facts)


def test_no_server_means_no_word_about_tls_and_the_remedy_of_the_reason() -> None:
    """The sentence is the one that `authrelay queue` has."""
    told = _tell(_delivery(f"status=deferred (connect to {RELAY}: Connection refused)", relay="none"))
    assert "TLS" not in told.replace("STARTTLS", "").replace("implicit TLS", "")
    assert "-> Check the port in RELAYHOST" in told


def test_secrets_are_left_out_everywhere() -> None:
    """An upstream may repeat what it was sent."""
    words = "status=deferred (host x said: 451 4.3.0 bad hunter2)"
    trace, events = _follow(_delivery(words))
    step = tell_event(events[0], 0, FACTS)
    assert step is not None
    shown = render_step(hide(step, ["hunter2"]))
    answer = make_json([hide(step, ["hunter2"])], judge(trace, [], 60, has_lost_it=False), trace, ["hunter2"])
    assert "hunter2" not in shown + str(answer)
    assert "(hidden)" in shown


def test_message_that_is_gone_without_a_line_is_not_called_sent() -> None:
    """To guess would be worse than to say that nobody knows."""
    trace, _ = _follow(ACTIVE, f"postfix/qmgr[38]: {QID}: removed")
    outcome = judge(trace, [], 60, has_lost_it=False)
    assert (outcome.result, outcome.exit_status) == ("lost", 75)
    trace, _ = _follow(ACTIVE)
    assert judge(trace, [], 60, has_lost_it=True).result == "lost"
    undecided = judge(trace, [], 7, has_lost_it=False)
    assert (undecided.result, undecided.exit_status) == ("undecided", 75)
    assert f"postsuper -d {QID}" in undecided.text


def test_message_is_whole_and_answered_by_no_program() -> None:
    """Upstreams refuse mail without Date or Message-ID (RFC 5322 section 3.6); RFC 3834 is about answers."""
    text = make_message("a@example.test", ["b@example.com", "c@example.com"], "relay.example.test")
    message = email.message_from_string(text, policy=email.policy.default)
    assert not message.defects
    assert message["Auto-Submitted"] == "auto-generated"
    assert str(message["Subject"]).startswith("authrelay test ")
    assert str(message["Message-ID"]).endswith("@relay.example.test>")
    assert [address.addr_spec for address in message["To"].addresses] == ["b@example.com", "c@example.com"]
    assert message["From"].addresses[0].addr_spec == "a@example.test"
    assert message["Date"].datetime is not None
    assert "Nothing has to be done." in message.get_content()
    assert text.isascii()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--to"),
        (["--to"], "--to"),
        (["--to", "nobody"], "'nobody' is no mail address"),
        (["--to", "a@b\r\nDATA"], "'a@b\\r\\nDATA' is no mail address"),
        (["--to", "a,b@example.com"], "is no mail address"),
        (["--to", "grüße@example.com"], "ASCII addresses only"),
        (["--to", "a@example.com", "--from", ""], "is no mail address"),
        (["--to", "a@example.com", "--timeout", "0"], "is not a number of seconds"),
        (["--to", "a@example.com", "--timeout", "nan"], "is not a number of seconds"),
        (["--to", "a@example.com", "now"], "unrecognized arguments: now"),
    ],
)
def test_wrong_command_line_is_named(arguments: list[str], words: str) -> None:
    """Nothing is sent to an address that was not meant."""
    with pytest.raises(UsageError) as caught:
        main(arguments)
    assert words in str(caught.value)
    assert "usage: authrelay send-test" in str(caught.value)
