"""ALLOWED_SENDER_DOMAINS and ALLOWED_RECIPIENT_DOMAINS: who else is refused, in which words, and nothing leaks."""

from __future__ import annotations

from typing import Final

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.relay import Relay
from tests.support.upstream import Upstream

CASES: Final = {
    ("a@example.test", "r@partner.test"): "",
    ("A@EXAMPLE.TEST", "R@PARTNER.TEST"): "",
    ("", "r@partner.test"): "",
    ("a@sub.below.test", "r@partner.test"): "",
    ("a@deep.sub.below.test", "r@deep.all.test"): "",
    ("a@below.test", "r@partner.test"): "sender",
    ("a@sub.example.test", "r@partner.test"): "sender",
    ("a@notexample.test", "r@partner.test"): "sender",
    ("a@elsewhere.test", "r@partner.test"): "sender",
    ("a@elsewhere.test", "r@elsewhere.test"): "sender",
    ('"x@example.test"@elsewhere.test', "r@partner.test"): "sender",
    ("a@example.test", "r@sub.partner.test"): "recipient",
    ("a@example.test", "r@all.test"): "recipient",
    ("a@example.test", "r@elsewhere.test"): "recipient",
    ("", "r@elsewhere.test"): "recipient",
    ("a@example.test", '"r@partner.test"@elsewhere.test'): "recipient",
    ("a@example.test", "@partner.test:r@elsewhere.test"): "recipient",
}


@pytest.fixture(scope="module")
def relay(module_relays: Relays) -> Relay:
    return module_relays.start(
        {
            "ALLOWED_SENDER_DOMAINS": "example.test, .below.test",
            "ALLOWED_RECIPIENT_DOMAINS": "partner.test .all.test",
        }
    )


@pytest.mark.parametrize(("sender", "recipient"), CASES)
def test_only_allowed_domains_pass(
    sender: str, recipient: str, relay: Relay, upstream: Upstream, client: Client
) -> None:
    """Refused at once, with the setting's name: the application's log is where a person will look."""
    expected = CASES[sender, recipient]
    replies, _ = client.converse(relay.container.name, 25, sender, [recipient], b"Subject: x\r\n\r\nx\r\n")
    (reply,) = (reply for reply in replies if reply.command == "RCPT")
    if not expected:
        assert reply.code == 250
        assert [message.is_accepted for message in upstream.wait_messages(1)] == [True]
        return
    assert reply.code == 550
    assert f"none of ALLOWED_{expected.upper()}_DOMAINS" in reply.text
    assert upstream.count() == 0
