"""Every line of a bad day's log, field by field, beside what the client and the upstream wrote down meanwhile.

`make events` makes 100,000 lines of what here is each fault once.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
import time
from functools import partial

from tests.image.conftest import Relays
from tests.image.test_bad_upstreams import CASES, TIMEOUTS
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.observing import count_lines, flush_until_empty, has_tried, observe, read_log
from tests.support.recorder import Conversation, Sent, record_mailing
from tests.support.relay import Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until
from tests.support.witnesses import CHECKS, REFUSED, Witnesses, check_sums

LINES = int(os.environ.get("AUTHRELAY_LINES", "0"))
"""Of a bad day's log; 0 is each fault once."""
SEED = int(os.environ.get("AUTHRELAY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
_ACCESS = "check_recipient_access inline:{{refused.example=REJECT not: you}}"


def be_odd(client: Client, relay: Relay) -> str:
    """Do what clients do that are none, or bad ones; what the relay said to them."""
    name = relay.container.name
    heard = ""
    for said in (
        "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
        "EHLO x\\r\\nMAIL FROM:<a@example.test>\\r\\nRCPT TO:<b@example.com>\\r\\nDATA\\r\\nSubject: early\\r\\n",
        "EHLO x\\r\\nMAIL FROM:<a b@@>\\r\\nRCPT TO:<<>\\r\\nVRFY x\\r\\nNONSENSE\\r\\nAUTH PLAIN x\\r\\n",
        "EHLO \\xff\\xfe\\r\\nMAIL FROM:<a@example.test> SIZE=99999999999\\r\\nQUIT\\r\\n",
        "\\r\\n" * 30 + "X\\r\\n" * 30,
        "EHLO x\\r\\n",
    ):
        talk = f"exec 3<>/dev/tcp/{name}/25; printf '{said}' >&3; timeout 2 cat <&3; exec 3>&-; true"
        heard += client.container.exec(["bash", "-c", talk], check=False).text
    for refused in REFUSED:
        replies, _ = client.converse(name, 25, refused, ["b@refused.example"], b"")
        heard += "".join(f"{one.code} {one.text}\n" for one in replies)
    return heard


def be_busy(relay: Relay) -> None:
    """What operators do."""
    relay.exec(["postfix", "reload"])
    for option in ("-h", "-H", "-r", "-s"):
        relay.exec(["postsuper", *((option, "ALL") if option != "-s" else (option,))])


def test_every_line_of_a_bad_day_is_understood(
    relays: Relays, upstream: Upstream, client: Client, engine: Engine, network: Network
) -> None:
    """A line that is only passed through is one that no count and no event knows of; one misread is a lie."""
    env = {"LOG_FORMAT": "json", "POSTFIX_smtpd_sender_restrictions": _ACCESS}
    relay = relays.start({**env, **{f"POSTFIX_{name}": "1s" for name in TIMEOUTS}}, allowed=["."])
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    transcripts = be_odd(client, relay)
    conversations: list[Conversation] = []
    for number, case in enumerate(CASES):
        case.break_it(upstream)
        before = json.dumps(observe(relay)["deliveries"])
        conversations.append(send_alone(client, network, relay, number))
        wait_until(partial(has_tried, relay, before), 30, f"{case.name}: it should be tried")
        mend(upstream)
    be_busy(relay)
    mailings = 0
    while not mailings or count_lines(relay) < LINES:
        mailings += 1
        chance.choice(CASES).break_it(upstream)
        host = relay.container.name
        conversations += record_mailing(engine, network, host, prefix=f"m{mailings}", messages=100)
        mend(upstream)
        relay.flush()
    upstream.behave(faults={"rcpt": reply(550, "5.1.1 <x> nobody (of that name)", containing="r7-")})
    conversations += record_mailing(engine, network, relay.container.name, prefix="last", messages=20, sessions=1)
    wait_until(lambda: flush_until_empty(relay), 120, "everything should go out")
    log = read_log(relay)
    unknown = {line["text"] for line in log if line["event"] == "unknown"}
    assert unknown == set()
    assert observe(relay)["unknown_lines"] == 0
    addresses = (upstream.container.address(network), upstream.container.address6(network))
    known = Witnesses(conversations, upstream.sessions(), upstream.messages(), addresses)
    known.notices = {line["notice_queue_id"]: known.sent[line["queue_id"]] for line in log if line["event"] == "notice"}
    for line in log:
        if line["event"] == "pickup":
            old, new = line["orig_queue_id"], line["queue_id"]
            known.requeued[new] = old
            known.sent[new], known.peers[new] = known.sent[old], known.peers[old]
    checked = collections.Counter[str]()
    for line in log:
        if check := CHECKS.get(line["event"]):
            check(line, known)
            checked[line["event"]] += 1
    check_sums(log, known, transcripts, client.container.address6(network))
    kinds = collections.Counter(line["event"] for line in log)
    print(f"AUTHRELAY_SEED={SEED}: {len(log)} lines: {dict(kinds)}; one by one: {dict(checked)}")
    wanted = (
        "attempt client connect delivery disconnect interrupted message-id queued reject remark removed tls trouble"
    )
    assert set(wanted.split()) <= set(kinds)


def send_alone(client: Client, network: Network, relay: Relay, number: int) -> Conversation:
    """Send one message, and return what was said."""
    sender, recipient = f"case-{number}@example.test", f"case-{number}@example.com"
    message_id = f"case.{number}@client.example.test"
    content = f"Subject: x\r\nMessage-ID: <{message_id}>\r\n\r\nhello\r\n".encode()
    began_at = time.time()
    replies = client.send(relay.container.name, 25, sender, [recipient], content)
    sent = Sent(
        queue_id=next(one.text for one in replies if one.command == ".").rpartition(" ")[2],
        sender=sender,
        recipients=(recipient,),
        message_id=message_id,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        began_at=began_at,
        accepted_at=time.time(),
    )
    commands = tuple((one.command.lower(), one.code) for one in replies if one.command not in ("connect", "."))
    return Conversation(peer=client.container.address6(network), commands=commands, messages=(sent,), has_left=0)


def mend(upstream: Upstream) -> None:
    """Let it be good again."""
    upstream.mend()
    upstream.serve(upstream.good_chain)
