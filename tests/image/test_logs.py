"""The log: every line in fields, one event for each recipient, and nothing of an address where none is wanted.

`make events` sends to 10,000 recipients what the test here sends to some hundreds.
"""

from __future__ import annotations

import collections
import hmac
import html
import json
import os
import random
from functools import partial
from typing import Any

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.support.client import Client
from tests.support.engine import Network
from tests.support.load import count_queue
from tests.support.mailing import Order, Submitted, send_mailing
from tests.support.observing import flush_until_empty, is_tried, observe, read_log_and_counts
from tests.support.relay import Relay
from tests.support.status import ask
from tests.support.upstream import HOSTNAME, Message, Session, Upstream, reply
from tests.support.wait import wait_until

RECIPIENTS = int(os.environ.get("AUTHRELAY_RECIPIENTS", "120"))
SEED = int(os.environ.get("AUTHRELAY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
_LIFETIME_SECONDS = 40 + RECIPIENTS // 40
"""After which what the upstream never takes is returned: longer than it takes to send all and try again."""


def write_orders(chance: random.Random, recipients: int) -> list[Order]:
    """Messages to so many recipients: most of them simply sent, some refused, some later, some never taken."""
    orders: list[Order] = []
    count = 0
    while count < recipients:
        number = len(orders)
        fate = chance.choices(("good", "later", "never"), (8, 1, 1))[0]
        several = chance.choice((1, 1, 1, 2, 3, 5))
        names = [f"{'refused' if chance.random() < 0.15 else 'taken'}-{number}-{one}" for one in range(several)]
        orders.append(
            Order(
                sender=f"from-{number}-{fate}@example.test",
                recipients=tuple(f"{name}@example.com" for name in names),
                message_id=f"{fate}.{number}@client.example.test",
                subject=f"fate-{fate}",
            )
        )
        count += several
    return orders


def expect_status(submitted: Submitted, recipient: str) -> str:
    """What a recipient's fate is."""
    if "-never@" in submitted.order.sender:
        return "expired"
    return "bounced" if recipient.startswith("refused") else "sent"


def test_events_account_for_every_recipient_as_client_and_upstream_saw_it(
    relays: Relays, upstream: Upstream, client: Client, network: Network
) -> None:
    """Who asks what became of a message must be told by one line, and the lines together must be the truth."""
    print(f"AUTHRELAY_SEED={SEED}")
    orders = write_orders(random.Random(SEED), RECIPIENTS)  # noqa: S311 - nothing secret
    lifetime = f"{_LIFETIME_SECONDS}s"
    relay = relays.start(
        {
            "LOG_FORMAT": "json",
            "POSTFIX_maximal_queue_lifetime": lifetime,
            "POSTFIX_bounce_queue_lifetime": lifetime,
            "POSTFIX_minimal_backoff_time": "5s",
            "POSTFIX_maximal_backoff_time": "60s",
            "POSTFIX_queue_run_delay": "5s",
        }
    )
    refusal = reply(550, "5.1.1 <x@example.com>: nobody (of that name) here", containing="refused-")
    never = reply(451, "4.1.8 who (is that)?", containing="-never@")
    later = reply(451, "4.3.0 not (now)", containing="fate-later")
    upstream.behave(faults={"mail": never, "rcpt": refusal, "end-of-data": later}, tls_maximum="TLSv1.2")
    begun = [order for order in orders if "good" not in order.subject]
    sent = send_mailing(client, relay.container.name, begun)
    wait_until(
        lambda: relay.logs().count('"event":"attempt"') >= sum(len(order.recipients) for order in begun),
        120,
        "all of them should be tried",
    )
    upstream.behave(faults={"mail": never, "rcpt": refusal})
    relay.flush()
    sent += send_mailing(client, relay.container.name, [order for order in orders if "good" in order.subject])
    wait_until(lambda: flush_until_empty(relay), _LIFETIME_SECONDS * 2 + 60, "everything should come to an end")
    ours, theirs = (
        (container.address(network), container.address6(network))
        for container in (client.container, upstream.container)
    )
    check_events(relay, sent, upstream, ours, theirs)


def check_events(
    relay: Relay, sent: list[Submitted], upstream: Upstream, client: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    """Compare the events with the client's record and the upstream's, field by field."""
    log, report = read_log_and_counts(relay)
    events = [line for line in log if line["event"] == "delivery"]
    fates = collections.Counter(
        (one.queue_id, recipient, expect_status(one, recipient)) for one in sent for recipient in one.order.recipients
    )
    notices = [event for event in events if not event["from"]]
    told = collections.Counter((event["queue_id"], event["to"], event["status"]) for event in events if event["from"])
    assert told == fates
    arrived = {message.id: message for message in upstream.messages() if message.is_accepted}
    sessions = {session.id: session for session in upstream.sessions()}
    taken = collections.Counter((m.mail_from, to) for m in arrived.values() for to in m.rcpt_tos)
    assert taken == collections.Counter((event["from"], event["to"]) for event in events if event["status"] == "sent")
    attempts = collections.Counter((line["queue_id"], line["to"]) for line in log if line["event"] == "attempt")
    relay_names = [f"{HOSTNAME}[{address}]:587" for address in addresses]
    by_queue_id = {one.queue_id: one.order for one in sent}
    for event in events:
        order = by_queue_id.get(event["queue_id"])
        assert event["relay"] in relay_names
        assert event["accepted_at"] <= event["finished_at"]
        if order is not None:
            assert (event["from"], event["message_id"]) == (order.sender, order.message_id)
            assert event["client"] in client
            assert event["recipients"] == len(order.recipients)
            assert "sasl_username" not in event
        assert attempts[event["queue_id"], event["to"]] <= event["attempts"]
        if event["status"] == "sent":
            message = arrived[int(event["reply"].rpartition(" ")[2])]
            check_sent(event, message, sessions[message.session_id])
        elif event["status"] == "bounced":
            assert "said: 550 5.1.1 <x@example.com>: nobody (of that name) here (in reply to RCPT" in event["reply"]
            assert (event["dsn"], event["step"]) == ("5.1.1", "recipient")
        else:
            assert "said: 451 4.1.8 who (is that)? (in reply to MAIL FROM command)" in event["reply"]
            assert (event["dsn"], event["step"]) == ("4.1.8", "sender")
            assert event["finished_at"] - event["accepted_at"] >= _LIFETIME_SECONDS - 1
    check_counts(report, log, events, sent, upstream)
    statuses = collections.Counter(event["status"] for event in events)
    print(
        f"{len(sent)} messages, {sum(fates.values())} recipients, {len(notices)} notices; events: {dict(statuses)}; "
        f"{sum(line['event'] == 'attempt' for line in log)} attempts, {len(log)} lines"
    )
    assert set(statuses) == {"sent", "bounced", "expired"}


def check_sent(event: dict[str, Any], message: Message, session: Session) -> None:
    """Compare the event of a delivery with the message that the upstream has."""
    assert (event["from"], event["to"] in message.rcpt_tos) == (message.mail_from, True)
    assert message.login == LOGIN
    assert event["tls"]["verdict"] == "verified"
    assert (event["tls"]["protocol"], event["tls"]["cipher"]) == (session.tls_version, session.tls_cipher)
    assert event["size"] == len(message.data)
    assert not event["from"] or f"Message-ID: <{event['message_id']}>".encode() in message.data
    assert (event["dsn"], event["step"]) == ("2.0.0", "none")
    assert message.final_reply_at is not None
    assert abs(event["finished_at"] - message.final_reply_at) < 5
    # Each has two digits that count.
    parts = sum(event["delays"].values())
    assert abs(parts - event["delay"]) < 0.05 * (parts + event["delay"]) + 0.05


def check_counts(
    report: dict[str, Any],
    log: list[dict[str, Any]],
    events: list[dict[str, Any]],
    sent: list[Submitted],
    upstream: Upstream,
) -> None:
    """Compare the forwarder's counts with the lines that it wrote, and with the client's record."""
    kinds = collections.Counter(line["event"] for line in log)
    assert (report["unknown_lines"], kinds["unknown"]) == (0, 0)
    assert report["dropped"] == {"stdout": 0, "syslog": 0}
    assert sum(report["lines"].values()) == sum(kinds.values()) - kinds["delivery"] - kinds["authrelay"]
    assert report["accepted"] == len(sent)
    assert report["accepted_recipients"] == sum(len(one.order.recipients) for one in sent)
    assert report["accepted_bytes"] >= sum(len(one.order.text) for one in sent)
    counted = {status: sum(steps.values()) for status, steps in report["deliveries"].items()}
    lines = collections.Counter(line["status"] for line in log if line["event"] == "attempt")
    expired = sum(event["status"] == "expired" for event in events)
    assert counted == {**{status: lines[status] for status in ("sent", "deferred", "bounced")}, "expired": expired}
    assert report["delays"]["total"]["count"] == counted["sent"]
    assert report["tls"]["verified"] == sum(session.tls_version is not None for session in upstream.sessions())
    assert report["connections"] == kinds["connect"]
    assert report["login_failures"] == 0
    assert [event["queue_id"] for event in report["last"]] == [event["queue_id"] for event in events[:-21:-1]]
    assert {name: queue["messages"] for name, queue in report["queues"].items() if queue["messages"]} == {}


TEXT = b"Subject: x\r\n\r\nhello\r\n"


HIDDEN = (
    "vera.echo", "otto.plain", "odd, one", "jürgen.müller", "nora.no", "list-bounces", "m.e.s.s.a.g.e", "wanda wrong",
    "pia.pipe", "relay", "zoe.unheard",
)  # fmt: skip
UNHEARD = "zoe.unheard, (ZOE.UNHEARD) or <zoe.unheard>"
"""Whom no line and no command has named before the upstream does."""


@pytest.mark.parametrize(("form", "mode"), [("plain", "hash"), ("json", "domain"), ("json", "hash")])
def test_no_local_part_is_found_where_addresses_are_hidden(
    form: str, mode: str, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Whoever sets it has promised somebody that no name stands in a log."""
    access = "check_sender_access inline:{{nora.no@example.test=REJECT not nora.no@example.test}}"
    relay = relays.start(
        {
            "LOG_FORMAT": form,
            "LOG_ADDRESSES": mode,
            "POSTFIX_smtpd_sender_restrictions": access,
            "PROBE": "yes",
            "RELAYHOST_PASSWORD_FILE": "/run/secrets/wrong",
        },
        secrets={"/run/secrets/wrong": b"wrong"},
        allowed=["."],
    )
    upstream.set_accounts({LOGIN: "wrong"})
    words = f"5.1.1 <vera.echo@example.com>: vera.echo unknown, mail otto.plain, {UNHEARD}"
    taken = reply(250, f"2.0.0 {UNHEARD}: queued as 7F2B")
    upstream.behave(faults={"rcpt": reply(550, words, containing="vera.echo@"), "end-of-data": taken})
    verp = "list-bounces+vera.echo=example.com@example.test"
    recipients = (("otto.plain@example.com", "vera.echo@example.com"), ("vera.echo@example.com",))
    orders = [
        Order(sender=sender, recipients=both, message_id=f"m.e.s.s.a.g.e.{number}.{one}@x", subject="x", is_utf8=True)
        for number, sender in enumerate(('"odd, one"@example.test', verp, "jürgen.müller@example.test"))
        for one, both in enumerate(recipients)
    ]
    name = relay.container.name
    client.send(name, 25, "otto.plain@example.test", ["otto.plain@example.com"], TEXT)
    upstream.wait_messages(1)
    send_mailing(client, name, orders)
    client.converse(name, 25, "nora.no@example.test", ["vera.echo@example.com"], TEXT)
    client.converse(name, 25, "wanda wrong@example.test", ["otto.plain@example.com"], TEXT)
    early = "EHLO x\\r\\nMAIL FROM:<pia.pipe@x.example>\\r\\nRCPT TO:<pia.pipe@x.example>\\r\\nDATA\\r\\npia.pipe\\r\\n"
    talk = f"exec 3<>/dev/tcp/{name}/25; printf '{early}' >&3; timeout 2 cat <&3; exec 3>&-; true"
    client.container.exec(["bash", "-c", talk], check=False)
    wait_until(lambda: not count_queue(relay), 60, "everything should end")
    assert "(left out), queued as 7F2B" in relay.logs()
    for stage in ("connect", "ehlo", "starttls", "auth", "mail", "end-of-data", "rcpt"):
        before = json.dumps(observe(relay)["deliveries"])
        upstream.behave(faults={stage: reply(421 if stage == "connect" else 451, words)})
        if stage == "connect":
            client.send(name, 25, verp, ["vera.echo@example.com"], TEXT)
        wait_until(partial(is_tried, relay, before), 20, f"{stage}: it should be tried, and wait")
    pages = [ask(relay, path).text for path in ("/", "/metrics", "/readyz")]
    assert "451" in pages[0]
    shown = "\n".join([relay.logs(), json.dumps(observe(relay), ensure_ascii=False), *map(html.unescape, pages)])
    for local in HIDDEN:
        found = [line for line in shown.splitlines() if f"{local}@" in line or (local in line and local != "relay")]
        assert not found, f"{local}: {found}"
    assert shown.count("example.test") > 10
    if mode == "hash":
        key = relay.exec(["cat", "/var/lib/authrelay/addresses.key"]).text.strip()
        code = hmac.digest(key.encode(), b"vera.echo@example.com", "sha256").hex()[:16]
        assert f"to=<{code}@example.com>" in shown
