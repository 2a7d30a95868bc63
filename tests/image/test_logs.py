"""The log: every line in fields, one event for each recipient, and nothing of an address where none is wanted.

`make events` sends to 10,000 recipients what the test here sends to some hundreds.
"""

from __future__ import annotations

import collections
import hmac
import html
import json
import os
import pathlib
import random
import signal
import time
from functools import partial
from typing import Any

import pytest

from tests.image.conftest import LOGIN, Relays
from tests.support.client import Client
from tests.support.engine import Engine, Network, run_docker
from tests.support.load import Load, account, count_queue, is_empty_or_late, wait_until_delivered
from tests.support.mailing import Order, Submitted, send_mailing
from tests.support.relay import Relay
from tests.support.schema import find_faults
from tests.support.status import ask
from tests.support.upstream import HOSTNAME, Message, Session, Upstream, reply
from tests.support.wait import wait_until

FORWARDED_LINES = int(os.environ.get("AUTHRELAY_FORWARDED_LINES", "50000"))
RECIPIENTS = int(os.environ.get("AUTHRELAY_RECIPIENTS", "300"))
SEED = int(os.environ.get("AUTHRELAY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "log-schema.json").read_text(encoding="utf-8"))
_LIFETIME_SECONDS = 40 + RECIPIENTS // 40
"""After which what the upstream never takes is returned: longer than it takes to send all and try again."""
_ASK = "import json; from entrypoint.system.observations import ask_observations; print(json.dumps(ask_observations()))"


def observe(relay: Relay, user: str = "authrelay") -> dict[str, Any]:
    """What the forwarder has counted, as the status service asks it."""
    shown = relay.container.exec(["/opt/authrelay/bin/python3", "-I", "-c", _ASK], user=user)
    report: dict[str, Any] = json.loads(shown.text)
    return report


def read_log_and_counts(relay: Relay) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The log in JSON and the forwarder's counts of one moment: sessions that wait for reuse still come to an end."""
    deadline = time.monotonic() + 60
    report: dict[str, Any] = {}
    while time.monotonic() < deadline:
        report, log, after = observe(relay), read_log(relay), observe(relay)
        if report["lines"] == after["lines"]:
            return log, report
    raise AssertionError("the log should have come to rest")


def read_log(relay: Relay) -> list[dict[str, Any]]:
    """Every line of a log in JSON, each as the schema says."""
    lines = [json.loads(line) for line in relay.logs().splitlines()]
    faults = {fault for line in lines for fault in find_faults(line, SCHEMA)}
    assert faults == set()
    return lines


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


def flush_until_empty(relay: Relay) -> bool:
    """Have everything tried again, and say whether nothing is left after some seconds."""
    relay.flush()
    wait_until(partial(is_empty_or_late, relay, time.monotonic() + 3), 30, "time should pass")
    return not count_queue(relay)


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


def count_lines(relay: Relay) -> int:
    """How many lines the forwarder has passed on."""
    return sum(observe(relay)["lines"].values())


def has_lines(relay: Relay, count: int) -> bool:
    """Whether the forwarder has passed on so many."""
    return count_lines(relay) >= count


def has_tried(relay: Relay, before: str) -> bool:
    """Whether there were deliveries since."""
    return json.dumps(observe(relay)["deliveries"]) != before


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


def is_tried(relay: Relay, before: str) -> bool:
    """Whether there were deliveries since, once all that waits was called for."""
    relay.flush()
    time.sleep(0.3)
    return has_tried(relay, before)


def find_forwarder(relay: Relay) -> str:
    """The process of the forwarder on this machine; empty between one and the next."""
    lines = run_docker(["top", relay.container.name, "-eo", "pid,args"]).text.splitlines()
    return next((line.split()[0] for line in lines if "services.forwarder" in line), "")


def measure_forwarder(relay: Relay) -> tuple[str, int]:
    """The process of the forwarder on this machine, and its memory in KiB."""
    pid = find_forwarder(relay)
    rollup = pathlib.Path("/proc", pid, "smaps_rollup").read_text()
    return pid, next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))


# Arguments: how many lines. Messages of a usual day; the client of each twentieth leaves, seldom without a word of it.
_WRITER = r"""
import socket, sys
server = "r.example[192.0.2.25]:587"
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log")
count, number = int(sys.argv[1]), 0
DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy"
while count > 0:
    number += 1
    rest, name = number, ""
    for _ in range(6):
        rest, digit = divmod(rest, 51)
        name = DIGITS[digit] + name
    name = "4jZZ" + name + "z" + "BCD"
    lines = [
        "smtpd[7]: connect from unknown[192.0.2.7]",
        "smtpd[7]: %s: client=unknown[192.0.2.7]" % name,
        "cleanup[8]: %s: message-id=<%d@app.example>" % (name, number),
        "qmgr[9]: %s: from=<from-%d@example.test>, size=345, nrcpt=1 (queue active)" % (name, number),
        "smtp[%d]: Verified TLS connection established to %s: TLSv1.3 with cipher X (256/256 bits)"
        % (number % 30000, server),
        "smtp[%d]: %s: to=<to-%d@example.com>, relay=%s, delay=0.1, delays=0/0/0.1/0, dsn=2.0.0, "
        "status=sent (250 2.0.0 Ok: queued as %d)" % (number % 30000, name, number, server, number),
        "qmgr[9]: %s: removed" % name,
        "smtpd[7]: disconnect from unknown[192.0.2.7] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
    ]
    if number % 20 == 0:
        lines[3:] = ["cleanup[8]: %s: removed (canceled)" % name] if number % 200 else []
    for line in lines:
        log.send(b"<22>Nov 23 00:01:02 postfix/" + line.encode())
        count -= 1
"""


def test_memory_of_the_forwarder_stays_flat(relays: Relays) -> None:
    """It lives as long as the container: what grows with every line ends in the engine's killing something."""
    options = ["--log-opt", "max-size=10m", "--log-opt", "max-file=2"]
    relay = relays.start({"LOG_FORMAT": "json", "LOG_ADDRESSES": "hash"}, arguments=options)
    python = ["/opt/authrelay/bin/python3", "-I", "-c", _WRITER]
    began, sizes = time.monotonic(), []
    for part in range(1, 6):
        relay.container.exec([*python, str(FORWARDED_LINES // 5)], timeout_seconds=3600)
        wait_until(partial(has_lines, relay, FORWARDED_LINES // 5 * part), 60, "all should be counted")
        sizes.append(measure_forwarder(relay)[1])
    seconds = time.monotonic() - began
    report = observe(relay)
    print(f"{FORWARDED_LINES} lines in {seconds:.0f} s: PSS in KiB {sizes}; {report['dropped']}")
    assert report["unknown_lines"] == 0
    # The first ones fill the tables, and once the buffer.
    assert sizes[-1] < sizes[1] + 3000


def test_postfix_goes_on_while_the_forwarder_stands_still(
    relays: Relays, upstream: Upstream, engine: Engine, network: Network
) -> None:
    """The lines wait in the socket (net.unix.max_dgram_qlen of compose/relay.yaml), and none of them is lost.

    After some seconds the supervisor ends it; only what it had read and not yet written is gone then.
    """
    relay = relays.start({"LOG_FORMAT": "json"}, allowed=["log-forwarder"])
    with Load(engine, network, relay.container.name, prefix="still", sessions=4, pause_seconds=0.5) as load:
        load.wait_accepted(20)
        pid = find_forwarder(relay)
        os.kill(int(pid), signal.SIGSTOP)
        before = upstream.count()
        time.sleep(5)
        during = upstream.count() - before
        wait_until(lambda: find_forwarder(relay) not in ("", pid), 10, "the supervisor should have ended it")
        load.wait_accepted(len(load.accepted()) + 20)
        accepted = load.end()
    wait_until_delivered(relay)
    lost, repeated = account(accepted, upstream.messages())
    assert (lost, repeated) == ([], [])
    wait_until(lambda: count_sent_lines(relay) >= len(accepted) - _AT_HAND, 10, "every line should be there")
    dropped = observe(relay)["dropped"]
    print(
        f"{during} delivered while it stood still, {len(accepted)} accepted, {count_sent_lines(relay)} told; {dropped}"
    )
    assert during >= 15
    assert dropped["stdout"] == 0


_AT_HAND = 3
"""Deliveries whose lines the forwarder may have had at hand in the moment in which it was stopped."""


def count_sent_lines(relay: Relay) -> int:
    """How many lines tell that the upstream took a message."""
    return sum(line["event"] == "attempt" and line["status"] == "sent" for line in read_log(relay))
