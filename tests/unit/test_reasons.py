"""Postfix's words are explained, the closest explanation first."""

from __future__ import annotations

import pytest

from entrypoint.commands.queue import describe_message, describe_reasons, format_age, render_queue
from entrypoint.reasons import ROWS, STEPS, explain, find_host
from entrypoint.system.log_tap import Attempts

HOST = "mail.example.com[192.0.2.25]"
REASONS = {
    "unable to look up host mail.example.com: Name or service not known": "no such name",
    "unable to look up host mail.example.com: Temporary failure in name resolution": "name server does not answer",
    f"connect to {HOST}:587: Connection refused": "nothing listens on that port",
    f"connect to {HOST}:25: Connection timed out": "nothing comes back",
    "connect to mail.example.com[2001:db8::25]:25: Network is unreachable": "no way to that address",
    f"TLS is required, but was not offered by host {HOST}": "offers no STARTTLS",
    f"delivery temporarily suspended: TLS is required, but was not offered by host {HOST}": "offers no STARTTLS",
    "Server certificate not verified": "not signed by a trusted CA",
    "Cannot start TLS: handshake failure": "no TLS version or cipher",
    f"SASL authentication failed; server {HOST} said: 535 5.7.8 no": "refuses the user name or the password",
    f"SASL authentication failed; cannot authenticate to server {HOST}: no mechanism available": "no login mechanism",
    f"host {HOST} said: 450 4.7.1 too many messages, slow down (in reply to RCPT TO command)": "limits how much",
    f"host {HOST} said: 450 4.2.0 greylisted (in reply to RCPT TO command)": "just now",
    f"host {HOST} refused to talk to me: 421 4.7.0 Too many connections": "limits how much",
    f"host {HOST} refused to talk to me: 554 5.7.1 blocked": "does not want to talk to this relay",
    "no TLSA records found": "at level dane-only no mail goes without TLSA records",
    "TLSA lookup error for mail.example.com:587": "no name server answers whether",
    "client TLS configuration problem": "cannot use the TLS policy",
    "something that nobody has seen": "no explanation for these words",
}

LOGIN = f"SASL authentication failed; server {HOST} said: "
SAID = f"host {HOST} said: "
PROVIDERS = {
    LOGIN + "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled": (
        "auth",
        "with a password",
    ),
    LOGIN + "550 5.7.30 Basic authentication is not supported for Client Submission.": ("auth", "with a password"),
    LOGIN + "525 5.7.1 Unauthorized IP address": ("auth", "the public address"),
    LOGIN + "435 4.7.8 Error: authentication failed:": ("auth", "refuses the user name or the password"),
    LOGIN + "451 Authentication failed: Maximum credits exceeded": ("auth", "all that it may for now"),
    SAID + "550-5.4.5 Daily user sending limit exceeded. (in reply to end of DATA command)": (
        "message",
        "all that it may for now",
    ),
    SAID + "550 Unauthenticated senders not allowed (in reply to MAIL FROM command)": ("auth", "wants a login"),
    SAID + "550 5.7.1 Relaying denied (in reply to RCPT TO command)": ("auth", "relays nothing without a login"),
    SAID + "502 5.7.0 Your SMTP account is not yet activated (in reply to MAIL FROM command)": ("auth", "or not yet"),
    SAID + "550 enable blank senders in your account (in reply to RCPT TO command)": ("sender", "without a sender"),
    SAID + "554 5.2.252 SendAsDenied; a@example.com not allowed to send as b@example.com (in reply to end of DATA "
    "command)": ("sender", "from that address"),
    SAID + "554 Message rejected: Email address is not verified. (in reply to end of DATA command)": (
        "sender",
        "from that address",
    ),
    SAID + "432 4.3.2 Concurrent connections limit exceeded. (in reply to end of DATA command)": (
        "message",
        "limits how much",
    ),
    f"host {HOST} refused to talk to me: 421-4.7.0 Try again later, closing connection. (EHLO)": (
        "greeting",
        "the name that this relay gives itself",
    ),
    SAID + "550 5.7.1 this is spam (in reply to end of DATA command)": ("message", "refuses the message"),
    SAID + "550 5.1.1 no such user (in reply to RCPT TO command)": ("recipient", "for this recipient"),
    SAID + "452 4.2.2 mailbox full: over quota (in reply to RCPT TO command)": ("recipient", "just now"),
}
"""What providers say, and what looks like it and is something else (docs/providers/)."""


@pytest.mark.parametrize(("reason", "meaning"), REASONS.items())
def test_reason_is_explained(reason: str, meaning: str) -> None:
    """An operator at night reads one sentence, not Postfix's source."""
    assert meaning in explain(reason).meaning


@pytest.mark.parametrize(("reason", "expected"), PROVIDERS.items())
def test_words_of_a_provider_are_explained(reason: str, expected: tuple[str, str]) -> None:
    """What is wrong with an account is told from a wrong password, and from a message that nobody wants."""
    step, meaning = expected
    advice = explain(reason)
    assert advice.step == step
    assert meaning in advice.meaning


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        (f"host {HOST} refused to talk to me: 421 4.7.0 TOO MANY connections", "greeting"),
        (f"host {HOST} said: 421 4.7.0 Too many messages (in reply to MAIL FROM command)", "sender"),
        (f"host {HOST} said: 450 4.7.1 rate limit exceeded (in reply to RCPT TO command)", "recipient"),
        (f"host {HOST} said: 452 4.2.2 exceeded quota (in reply to end of DATA command)", "message"),
        (f"SASL authentication failed; server {HOST} said: 454 4.7.0 Too many login attempts", "auth"),
    ],
)
def test_limit_is_told_where_it_was_met(reason: str, step: str) -> None:
    """An account that may send no more has another remedy than a machine that may connect no more."""
    assert explain(reason).step == step


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_explanation_is_two_plain_sentences_about_a_known_step(row: tuple[str, str, str, str]) -> None:
    """The texts are shown as `meaning. remedy.`: neither may bring its own full stop."""
    _, step, meaning, remedy = row
    assert step in STEPS
    assert not meaning.endswith(".")
    assert not remedy.endswith(".")
    assert remedy[0].isupper() or remedy.startswith("'authrelay")


def test_host_is_found_in_the_reasons_that_name_one() -> None:
    """Several upstreams have several troubles."""
    assert find_host(f"connect to {HOST}:587: Connection refused") == "mail.example.com"
    assert find_host(f"host {HOST} said: 550 no") == "mail.example.com"
    assert find_host("Server certificate not verified") is None


def test_queue_counts_each_reason_once_a_message() -> None:
    """A message with a hundred recipients that wait for one thing is one message that waits."""
    reason = f"SASL authentication failed; server {HOST} said: 535 5.7.8 no"
    entry = {
        "queue_name": "deferred",
        "queue_id": "4FABC",
        "arrival_time": 1_000,
        "message_size": 498,
        "sender": "",
        "recipients": [{"address": f"{name}@Example.com", "delay_reason": reason} for name in ("a", "b")],
    }
    message = describe_message(
        entry, now=1_000 + 3 * 3600 + 12 * 60, attempts=Attempts(since=1_000, by_queue_id={"4FABC": 7})
    )
    assert message["recipient_domains"] == {"example.com": 2}
    (described,) = describe_reasons([message], {"mail.example.com": "me@example.com"}, password_age_seconds=3 * 86400)
    assert (described["messages"], described["step"]) == (1, "auth")
    assert described["meaning"] == "the upstream refuses the user name or the password (as 'me@example.com')"
    assert described["remedy"].endswith("the password file last changed 3 d ago")
    assert render_queue([message], [described]).splitlines()[:4] == [
        "QUEUE ID  AGE         ATTEMPTS  BYTES  STATE     FROM  TO",
        "4FABC     3 h 12 min  7         498    deferred  <>    example.com (2 recipients)",
        "",
        "1 message, the oldest for 3 h 12 min",
    ]
    assert render_queue([], []) == "The queue is empty.\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (8, "8 s"), (720, "12 min"), (3661, "1 h 1 min"), (273600, "3 d 4 h")]
)
def test_age_has_its_two_greatest_units(seconds: int, text: str) -> None:
    """Nobody needs the seconds of a day."""
    assert format_age(seconds) == text
