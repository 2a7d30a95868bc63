"""What the programs at both ends wrote down, and a relay's log beside it, line by line and field by field."""

from __future__ import annotations

import collections
import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.support.recorder import Conversation, Sent
from tests.support.upstream import HOSTNAME, Message, Session

_SAID = re.compile(
    r"(?:delivery temporarily suspended: )?(?:TLS is required, but host|host|SASL authentication failed; server) (\S+) "
    r"(said|refused to talk to me|refused to start TLS): (.*?)(?: \(in reply to (.*) command\))?"
)
_VERBS = {"MAIL FROM": "MAIL", "RCPT TO": "RCPT", "DATA": "DATA", "end of DATA": "DATA."}
REFUSED = ("nobody@example.test", '"odd > one; from=<x>"@example.test')
_SLACK_SECONDS = 3.0
"""Between two programs' clocks readings of one event, on a busy machine."""

Line = Mapping[str, Any]


class Witnesses:
    """What the programs at both ends wrote down."""

    def __init__(
        self,
        conversations: Iterable[Conversation],
        sessions: Iterable[Session],
        messages: Iterable[Message],
        addresses: Iterable[str],
    ) -> None:
        """`addresses`: of the upstream."""
        self.conversations = list(conversations)
        self.sent = {sent.queue_id: sent for one in self.conversations for sent in one.messages}
        self.peers = {sent.queue_id: one.peer for one in self.conversations for sent in one.messages}
        self.sessions = list(sessions)
        self.refusals = {refusal for session in self.sessions for refusal in session.refusals}
        self.arrived = {message.id: message for message in messages if message.is_accepted}
        self.by_session = {session.id: session for session in self.sessions}
        self.upstreams = {f"{HOSTNAME}[{address}]" for address in addresses}
        self.requeued: dict[str, str] = {}
        """The queue ids that `postsuper -r` gave, and those of before."""
        self.notices: dict[str, Sent] = {}
        """The message that a notice is about, by the notice's own queue id."""

    def find_sender(self, line: Line) -> str:
        """The sender of a line's message."""
        return "" if line["queue_id"] in self.notices else self.sent[line["queue_id"]].sender

    def find_recipients(self, line: Line) -> tuple[str, ...]:
        """The recipients of a line's message."""
        notice = self.notices.get(line["queue_id"])
        return (notice.sender,) if notice else self.sent[line["queue_id"]].recipients


def read_time(line: Line) -> float:
    """When a line was read, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(line["time"]).timestamp()


def check_client(line: Line, known: Witnesses) -> None:
    if line["queue_id"] in known.sent:
        assert line["client"] == known.peers[line["queue_id"]]
        assert "sasl_username" not in line


def check_pickup(line: Line, known: Witnesses) -> None:
    assert line["from"] == known.sent[line["orig_queue_id"]].sender


def check_message_id(line: Line, known: Witnesses) -> None:
    if line["queue_id"] in known.notices:
        assert line["message_id"] == f"{line['queue_id']}@relay.example.test"
    else:
        sent = known.sent.get(line["queue_id"])
        assert line["message_id"] == (sent.message_id if sent else "")


def check_queued(line: Line, known: Witnesses) -> None:
    assert line["from"] == known.find_sender(line)
    assert line["recipients"] == len(known.find_recipients(line))
    if sent := known.sent.get(line["queue_id"]):
        assert abs(line["size"] - sent.size) < 400  # the Received field
        assert sent.began_at - _SLACK_SECONDS <= read_time(line)


def check_attempt(line: Line, known: Witnesses) -> None:
    assert line["to"] in known.find_recipients(line)
    host, _, port = line["relay"].rpartition(":")
    assert line["relay"] == "none" or (host in known.upstreams and port == "587")
    if sent := known.sent.get(line["queue_id"]):
        began_at = read_time(line) - line["delay"]
        assert abs(began_at - sent.began_at) < _SLACK_SECONDS + 0.05 * line["delay"]
    parts = sum(line["delays"].values())
    assert abs(parts - line["delay"]) <= 0.05 * (parts + line["delay"]) + 0.05
    if line["status"] == "sent":
        check_sent(line, known)
    elif match := _SAID.fullmatch(line["reply"]):
        check_refusal(line, match, known)
    else:
        assert line["status"] == "deferred"
        named = re.findall(rf"{re.escape(HOSTNAME)}\[[^\]]*\]", line["reply"])
        assert set(named) <= known.upstreams


def check_sent(line: Line, known: Witnesses) -> None:
    """Compare with the message and the session that the upstream recorded."""
    match = re.fullmatch(r"250 2\.0\.0 Ok: queued as (\d+)", line["reply"])
    assert match
    message = known.arrived[int(match[1])]
    session = known.by_session[message.session_id]
    assert line["dsn"] == "2.0.0"
    assert line["to"] in message.rcpt_tos
    assert message.mail_from == known.find_sender(line)
    assert message.final_reply_at is not None
    assert abs(read_time(line) - message.final_reply_at) < _SLACK_SECONDS
    took = line["delays"]["connection"] + line["delays"]["transmission"]
    assert took < message.final_reply_at - session.started_at + _SLACK_SECONDS + 0.05 * took
    # Deliveries that were refused before the content count, too.
    if line["event"] == "attempt":
        assert line.get("connection_use", 1) > [one.id for one in session.messages].index(message.id)
    if sent := known.sent.get(line["queue_id"]):
        assert hashlib.sha256(message.data[-sent.size :]).hexdigest() == sent.sha256


def check_refusal(line: Line, match: re.Match[str], known: Witnesses) -> None:
    """Compare with what the upstream said at that stage."""
    host, how, words, request = match.groups()
    assert host.partition(":")[0] in known.upstreams or host in known.upstreams
    verbs = {"refused to talk to me": {"", "EHLO", "HELO"}, "refused to start TLS": {"STARTTLS"}, "said": {"AUTH"}}
    assert any((verb, words) in known.refusals for verb in ({_VERBS[request]} if request else verbs[how]))
    if request:
        # 530: what is wrong with the login is no verdict on the message, and DESIGN.md lets it wait.
        assert line["status"] == ("deferred" if words.startswith(("4", "530")) else "bounced")
        assert line["dsn"][1:] == words.split()[1][1:]


def check_removed(line: Line, known: Witnesses) -> None:
    is_known = line["queue_id"] in known.sent or line["queue_id"] in known.notices
    assert is_known == ("reason" not in line)


def check_notice(line: Line, known: Witnesses) -> None:
    assert (line["addressee"], line["notice"]) == ("sender", "non-delivery")
    assert line["queue_id"] in known.sent
    assert line["notice_queue_id"] in known.notices


def check_delivery(line: Line, known: Witnesses) -> None:
    """The event has what its lines have, and what they do not."""
    assert line["from"] == known.find_sender(line)
    assert line["recipients"] == len(known.find_recipients(line))
    assert line["attempts"] >= 1
    check_attempt({**line, "time": line["time"]}, known)
    if sent := known.sent.get(line["queue_id"]):
        assert (line["client"], line["message_id"]) == (known.peers[line["queue_id"]], sent.message_id)
        assert line["queue_id"] in known.requeued or abs(line["accepted_at"] - sent.began_at) < _SLACK_SECONDS
    if line["status"] == "sent":
        message = known.arrived[int(line["reply"].rpartition(" ")[2])]
        session = known.by_session[message.session_id]
        assert line["size"] == len(message.data)
        assert line["tls"]["verdict"] == "verified"
        assert (line["tls"]["protocol"], line["tls"]["cipher"]) == (session.tls_version, session.tls_cipher)


def check_trouble(line: Line, known: Witnesses) -> None:
    del known
    assert line["text"].partition("]: ")[2] == f"{line['level']}: {line['reason']}"


CHECKS: Mapping[str, Callable[[Line, Witnesses], None]] = {
    "client": check_client,
    "pickup": check_pickup,
    "message-id": check_message_id,
    "queued": check_queued,
    "attempt": check_attempt,
    "removed": check_removed,
    "notice": check_notice,
    "delivery": check_delivery,
    "trouble": check_trouble,
}


def check_sums(log: list[dict[str, Any]], known: Witnesses, transcripts: str, odd: str) -> None:
    """Compare what is one of many: sessions of clients and with the upstream, and refusals.

    `odd`: the address from which `transcripts`, what the relay said to odd clients, and single messages came.
    """
    by_kind: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for line in log:
        by_kind[line["event"]].append(line)

    def count(kind: str, *keys: str, is_odd: bool = False) -> collections.Counter[str]:
        lines = (line for line in by_kind[kind] if line.get("client", odd) != "127.0.0.1")
        return collections.Counter(
            json.dumps([line.get(key) for key in keys], sort_keys=True)
            for line in lines
            if (line.get("client") == odd) == is_odd
        )

    mailings = [one for one in known.conversations if one.peer != odd]
    assert count("connect", "client") == collections.Counter(json.dumps([one.peer]) for one in mailings)
    ends: collections.Counter[str] = collections.Counter()
    for one in mailings:
        commands = collections.Counter(verb for verb, _ in one.commands)
        failures = collections.Counter(verb for verb, code in one.commands if not 0 < code < 400)
        commands["commands"], failures["commands"] = commands.total(), failures.total()
        ends[json.dumps([one.peer, dict(commands), dict(+failures) or None], sort_keys=True)] += 1
    assert count("disconnect", "client", "commands", "failures") == ends
    bad = "Illegal address syntax from unknown[{}] in RCPT command: <not an address@>"
    refused = [bad.format(one.peer) for one in mailings for _, code in one.commands if code == 501]
    assert sorted(line["reason"] for line in by_kind["trouble"] if "not an address" in line["reason"]) == sorted(
        refused
    )
    left = [one for one in mailings if one.has_left]
    assert count("interrupted", "cause", "stage") == collections.Counter(
        json.dumps(["lost connection", f"DATA ({one.has_left} bytes)"]) for one in left
    )
    assert sum("reason" in line for line in by_kind["removed"] if line["program"] == "postfix/cleanup") >= len(left)
    handed_in = known.sent.keys() - known.requeued.keys()
    last = known.sent.keys() - set(known.requeued.values())
    for kind, wanted in (("client", handed_in), ("removed", last)):
        ids = collections.Counter(line["queue_id"] for line in by_kind[kind] if "reason" not in line)
        assert {queue_id: ids[queue_id] for queue_id in wanted} == dict.fromkeys(wanted, 1)
    taken = collections.Counter((one.mail_from, to) for one in known.arrived.values() for to in one.rcpt_tos)
    told = collections.Counter((line["from"], line["to"]) for line in by_kind["delivery"] if line["status"] == "sent")
    assert told == taken
    finished = collections.Counter((line["queue_id"], line["to"]) for line in by_kind["delivery"])
    pairs = {(queue_id, to) for queue_id in last for to in known.sent[queue_id].recipients}
    assert {pair: finished[pair] for pair in pairs} == dict.fromkeys(pairs, 1)
    sessions = [one for one in known.sessions if one.tls_version is not None]
    established = [line for line in by_kind["tls"] if line["usage"] == "established"]
    agreed = collections.Counter((line["protocol"], line["cipher"]) for line in established)
    assert agreed == collections.Counter((one.tls_version, one.tls_cipher) for one in sessions)
    assert {line["bits"] for line in by_kind["tls"]} == {256}
    verified = sum(line["verdict"] == "verified" for line in established)
    # Whoever cannot be verified is told nothing but QUIT.
    assert verified == sum(b"EHLO" in one.inside_tls for one in sessions)
    for line in by_kind["reject"]:
        assert f"{line['code']} {line['dsn']} {line['reason']}" in transcripts
        assert (line["client"], line["action"]) == (odd, "reject")
    # Whoever says MAIL before the greeting is mostly refused for that already; seldom he is too slow for it.
    early = [line for line in by_kind["reject"] if line["stage"] == "MAIL"]
    assert {(line["from"], line["proto"], line.get("helo")) for line in early} <= {("a@example.test", "SMTP", None)}
    rejects = [line for line in by_kind["reject"] if line["stage"] == "RCPT"]
    assert {(line["proto"], line["helo"], line["to"]) for line in rejects} == {
        ("ESMTP", "client.example.test", "b@refused.example")
    }
    assert sorted(line["from"] for line in rejects) == sorted(REFUSED)
    assert len(early) + len(rejects) == len(by_kind["reject"])
