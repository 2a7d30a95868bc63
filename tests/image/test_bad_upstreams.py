"""An upstream that is broken or not what it claims to be: the mail waits, the password stays, the reason is told."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from entrypoint.reasons import explain
from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.authorities import Authority, make_self_signed_chain
from tests.support.client import Client
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Fault, Upstream, drop, hang, reply
from tests.support.wait import wait_until

TEXT = b"Subject: patience\r\n\r\nIt will arrive.\r\n"
TIMEOUTS = (
    "smtp_connect_timeout smtp_helo_timeout smtp_starttls_timeout smtp_mail_timeout smtp_rcpt_timeout "
    "smtp_data_init_timeout smtp_data_xfer_timeout smtp_data_done_timeout smtp_quit_timeout smtp_rset_timeout"
).split()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of bad upstream: how it is made, and what the queue must say of it."""

    name: str
    break_it: Callable[[Upstream], None]
    step: str
    """Where a person is told that it went wrong (entrypoint.reasons)."""
    reason: str
    """A regular expression that is found in the queue's reason."""
    sees_login: bool = False
    """Whether the upstream is trusted and gets as far as AUTH."""
    port: int = 587


def _behave(**behaviour: object) -> Callable[[Upstream], None]:
    return lambda upstream: upstream.behave(**behaviour)  # type: ignore[arg-type]


def _fault(stage: str, fault: Fault) -> Callable[[Upstream], None]:
    return _behave(faults={stage: fault})


_STEP_OF_STAGE = {
    "connect": "greeting",
    "ehlo": "greeting",
    "starttls": "starttls",
    "handshake": "handshake",
    # Postfix's words stay at the EHLO handshake until the login is done.
    "auth": "greeting",
    "mail": "sender",
    "rcpt": "recipient",
    "data": "message",
    "end-of-data": "message",
}
UNVERIFIED = "Server certificate not verified"
CASES = [
    Case(
        name="no-starttls",
        step="starttls",
        break_it=_behave(starttls_offered=False),
        reason="TLS is required, but was not offered by host",
    ),
    Case(
        name="stripped-starttls-with-auth-in-the-clear",
        step="starttls",
        break_it=_behave(starttls_offered=False, auth_offered="always", require_auth=False),
        reason="TLS is required, but was not offered by host",
    ),
    Case(
        name="starttls-refused-for-now",
        step="starttls",
        break_it=_fault("starttls", reply(454, "4.7.0 TLS not available due to temporary reason")),
        reason="refused to start TLS: 454 4.7.0 TLS not available",
    ),
    Case(
        name="starttls-refused",
        step="starttls",
        break_it=_fault("starttls", reply(501, "5.5.4 no")),
        reason="refused to start TLS: 501",
    ),
    Case(
        name="wrong-name",
        step="certificate",
        break_it=lambda upstream: upstream.serve(upstream.authority.make_chain("other.example.test")),
        reason=UNVERIFIED,
    ),
    Case(
        name="unknown-ca",
        step="certificate",
        break_it=lambda upstream: upstream.serve(Authority().make_chain(HOSTNAME)),
        reason=UNVERIFIED,
    ),
    Case(
        name="expired",
        step="certificate",
        break_it=lambda upstream: upstream.serve(upstream.authority.make_expired_chain(HOSTNAME)),
        reason=UNVERIFIED,
    ),
    Case(
        name="not-yet-valid",
        step="certificate",
        break_it=lambda upstream: upstream.serve(upstream.authority.make_future_chain(HOSTNAME)),
        reason=UNVERIFIED,
    ),
    Case(
        name="self-signed",
        step="certificate",
        break_it=lambda upstream: upstream.serve(make_self_signed_chain(HOSTNAME)),
        reason=UNVERIFIED,
    ),
    Case(
        name="intermediate-missing",
        step="certificate",
        break_it=lambda upstream: upstream.serve(
            upstream.authority.make_intermediate_chain(HOSTNAME, is_complete=False)
        ),
        reason=UNVERIFIED,
    ),
    Case(
        name="weak-protocols",
        step="handshake",
        break_it=lambda upstream: upstream.behave_weak(),
        reason="Cannot start TLS",
    ),
    Case(
        name="auth-not-offered",
        step="auth",
        break_it=_behave(auth_offered="absent"),
        reason="said: 530 5.7.0 .*in reply to MAIL FROM",
    ),
    Case(
        name="auth-535",
        step="auth",
        break_it=_fault("auth", reply(535, "5.7.8 Authentication credentials invalid")),
        reason="SASL authentication failed; server .* said: 535 5.7.8 Authentication credentials invalid",
        sees_login=True,
    ),
    Case(
        name="auth-454",
        step="auth",
        break_it=_fault("auth", reply(454, "4.7.0 Temporary authentication failure")),
        reason="SASL authentication failed; server .* said: 454 4.7.0 Temporary",
        sees_login=True,
    ),
    Case(
        name="auth-534",
        step="auth",
        break_it=_fault("auth", reply(534, "5.7.9 Authentication mechanism is too weak")),
        reason="said: 534 5.7.9",
        sees_login=True,
    ),
    Case(
        name="only-unknown-mechanisms",
        step="mechanisms",
        break_it=_behave(mechanisms=("XOAUTH2", "NTLMV9")),
        reason="no mechanism available",
    ),
    Case(
        name="connect-421",
        step="greeting",
        break_it=_fault("connect", reply(421, "4.3.2 too busy")),
        reason="421 4.3.2 too busy",
    ),
    Case(
        name="connect-554", step="greeting", break_it=_fault("connect", reply(554, "5.3.2 no")), reason="554 5.3.2 no"
    ),
    Case(
        name="ehlo-451",
        step="greeting",
        break_it=_fault("ehlo", reply(451, "4.3.0 later")),
        reason="refused to talk to me: 451",
    ),
    Case(
        name="ehlo-550",
        step="greeting",
        break_it=_fault("ehlo", reply(550, "5.7.1 no")),
        reason="refused to talk to me: 550",
    ),
    Case(
        name="mail-451",
        step="sender",
        break_it=_fault("mail", reply(451, "4.3.0 later")),
        reason="451 4.3.0 later .in reply to MAIL FROM",
        sees_login=True,
    ),
    Case(
        name="mail-530",
        step="auth",
        break_it=_fault("mail", reply(530, "5.7.57 Client not authenticated to send mail")),
        reason="530 5.7.57 Client not authenticated",
        sees_login=True,
    ),
    Case(
        name="rcpt-450",
        step="recipient",
        break_it=_fault("rcpt", reply(450, "4.2.1 greylisted")),
        reason="450 4.2.1 greylisted .in reply to RCPT TO",
        sees_login=True,
    ),
    Case(
        name="data-451",
        step="message",
        break_it=_fault("data", reply(451, "4.3.0 later")),
        reason="451 4.3.0 later .in reply to DATA",
        sees_login=True,
    ),
    Case(
        name="end-of-data-452",
        step="message",
        break_it=_fault("end-of-data", reply(452, "4.3.1 full")),
        reason="452 4.3.1 full .in reply to end of DATA",
        sees_login=True,
    ),
    *(
        Case(
            name=f"hang-{stage}",
            break_it=_fault(stage, hang()),
            step=_STEP_OF_STAGE[stage],
            reason="timed out|Cannot start TLS",
            sees_login=stage in ("auth", "mail", "rcpt", "data", "end-of-data"),
        )
        for stage in ("connect", "ehlo", "starttls", "handshake", "auth", "mail", "rcpt", "data", "end-of-data")
    ),
    *(
        Case(
            name=f"drop-{stage}",
            break_it=_fault(stage, drop()),
            step=_STEP_OF_STAGE[stage],
            reason="lost connection|Cannot start TLS|refused to talk",
            sees_login=stage in ("auth", "mail", "rcpt", "data", "end-of-data"),
        )
        for stage in ("connect", "ehlo", "starttls", "handshake", "auth", "mail", "rcpt", "data", "end-of-data")
    ),
]


@pytest.fixture(scope="module")
def relay(module_relays: Relays) -> Relay:
    """One relay for all cases, its patience shortened from minutes to two seconds."""
    return module_relays.start(
        {f"POSTFIX_{name}": "2s" for name in TIMEOUTS},
        allowed=[
            "SASL authentication failure: No worthy mechs found",
            "tlsv1 alert protocol version",
            "ciphertext .* timeout",
        ],
    )


def find_reason(relay: Relay, queue_id: str) -> str:
    """Why a queued message waits; empty while nothing has been tried."""
    for entry in relay.queue():
        if entry["queue_id"] == queue_id and entry["queue_name"] == "deferred":
            return str(entry["recipients"][0].get("delay_reason", ""))
    return ""


def assert_no_credential(recorded: bytes) -> None:
    """Fail if bytes hold the password, or the login's initial response, in any encoding that AUTH has."""
    both = f"\0{LOGIN}\0{PASSWORD}".encode()
    wanted = {PASSWORD.encode(), base64.b64encode(PASSWORD.encode()).rstrip(b"="), base64.b64encode(both).rstrip(b"=")}
    for offset in range(3):
        # The password inside a longer text: base64 has three alignments, the first and last characters may differ.
        wanted.add(base64.b64encode(b"x" * offset + PASSWORD.encode())[4 if offset else 0 : -4])
    wanted |= {PASSWORD.encode().hex().encode()}
    found = [text for text in wanted if text and text.lower() in recorded.lower()]
    assert not found, f"{found} in {recorded[:500]!r}"
    assert b"AUTH" not in recorded.upper().replace(b"250-AUTH", b"").replace(b"250 AUTH", b"")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mail_waits_for_a_bad_upstream_and_the_password_stays(
    case: Case, relay: Relay, upstream: Upstream, client: Client
) -> None:
    """The sender gets 250, the queue says why the mail waits, no secret leaks, and mending the upstream is enough."""
    case.break_it(upstream)
    replies = client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    queue_id = re.findall(r"queued as (\w+)", replies[-2].text)[0]
    reason = wait_until(
        lambda: find_reason(relay, queue_id), 20, f"the message should wait, with a reason that matches '{case.reason}'"
    )
    assert re.search(case.reason, reason), reason
    assert explain(reason).step == case.step, f"{reason}: {explain(reason)}"

    for session in upstream.sessions():
        assert_no_credential(session.plain)
        if not case.sees_login:
            assert_no_credential(session.inside_tls)
            assert session.logins == ()

    before = upstream.count()
    upstream.mend()
    upstream.serve(upstream.good_chain)

    def is_delivered() -> bool:
        relay.flush()
        return upstream.count() > before and not relay.queue()

    wait_until(is_delivered, 30, "mending the upstream should be enough to get the mail out")
    accepted = [message for message in upstream.messages() if message.is_accepted]
    assert accepted[-1].data.endswith(TEXT)
    assert len(accepted) == 1


def test_mail_arrives_once_from_an_upstream_that_is_late(relay: Relay, upstream: Upstream, client: Client) -> None:
    """A final 250 that takes a second is still the end of the matter."""
    upstream.behave(final_reply_delay_seconds=1.0)
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    relay.wait_queue(0)
    assert len(upstream.messages()) == 1


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "end-of-data"])
def test_upstreams_final_refusal_is_returned_with_its_words(
    stage: str, relay: Relay, upstream: Upstream, client: Client
) -> None:
    """A 5xx about the message is an answer, not a fault (RFC 5321 section 4.2.1): the sender must learn of it."""
    upstream.behave(faults={stage: reply(550, "5.7.1 we do not like this", times=1)})
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    messages = upstream.wait_messages(1)
    report = next(message for message in messages if message.is_accepted)
    assert (report.mail_from, report.rcpt_tos) == ("", ("a@example.test",))
    assert b"550 5.7.1 we do not like this" in report.data
    assert b"It will arrive." in report.data
    relay.wait_queue(0)


@pytest.mark.parametrize("env", [{}, {"RELAYHOST": f"{HOSTNAME}:465"}], ids=["starttls", "implicit"])
def test_mail_waits_for_an_upstream_that_does_not_exist(
    env: dict[str, str], relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A misspelt host or a machine that is down is not the message's fault: nothing bounces."""
    host = "nowhere.example.test" if not env else "down.example.test"
    relay = relays.start(
        {**env, "RELAYHOST": f"[{host}]:{'465' if env else '587'}"},
        arguments=["--add-host", "down.example.test:127.0.0.3"],
        allowed=["configuration problem"],
    )
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: relay.queue() and relay.queue()[0]["queue_name"] == "deferred", 30, "the message should wait")
    reason = relay.queue()[0]["recipients"][0]["delay_reason"]
    assert re.search("Connection refused|unable to look up host nowhere", reason), reason
    assert upstream.messages() == []
