"""Rewriting: what the upstream is given of a message whose sender, headers or recipients are changed on the way.

Every message of a relay goes through in one batch, each with its case's name in a header of its own.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.relay import Relay
from tests.support.upstream import ACCOUNTS, Message, Upstream, reply
from tests.support.wait import wait_until

_SCRIPT: Final = r"""
import base64, json, smtplib, sys
answers = []
with smtplib.SMTP(sys.argv[1], 25, "client.internal.test") as relay:
    relay.ehlo()
    for sender, recipients, parameters, data in json.load(sys.stdin):
        relay.rset()
        relay.command_encoding = "utf-8"
        code, text = relay.docmd("MAIL", "FROM:<%s> %s" % (sender, parameters))
        for recipient in recipients if code == 250 else ():
            code, text = relay.docmd("RCPT", "TO:<%s>" % recipient)
        if code == 250:
            code, text = relay.data(base64.b64decode(data))
        answers.append([code, text.decode()])
json.dump(answers, sys.stdout)
"""
_COMPLETE: Final = "Date: Sat, 28 Nov 2026 13:00:00 +0000\nMessage-ID: <1@client.test>\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One message, and what the upstream must be given of it."""

    sender: str
    headers: str
    expected_sender: str = ""
    """Empty for the sender itself."""
    expected: str | None = None
    """The headers; None for those that came."""
    recipients: tuple[str, ...] = ("r@partner.test",)
    expected_recipients: tuple[str, ...] | None = None
    parameters: str = ""
    login: str = "relay@example.test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the client was told, and what the upstream has."""

    code: int
    text: str
    message: Message | None

    @property
    def received(self) -> list[bytes]:
        """The Received headers, each on one line."""
        assert self.message is not None
        head = re.sub(rb"\r\n[ \t]+", b" ", self.message.data.partition(b"\r\n\r\n")[0])
        return [line for line in head.split(b"\r\n") if line.startswith(b"Received:")]

    @property
    def rest(self) -> bytes:
        """Everything below the Received header of the relay."""
        assert self.message is not None
        return re.sub(rb"\AReceived:.*\r\n([ \t].*\r\n)*", b"", self.message.data)


def send_all(
    cases: Mapping[str, Case], relay: Relay, upstream: Upstream, client: Client, extra: int = 0
) -> dict[str, Outcome]:
    """Hand all of them in, in one session; `extra` is how many more the upstream is given than were accepted."""
    orders = [
        (case.sender, case.recipients, case.parameters, base64.b64encode(make_data(name, case.headers)).decode())
        for name, case in cases.items()
    ]
    result = client.container.exec(["python", "-c", _SCRIPT, relay.container.name], stdin=json.dumps(orders).encode())
    answers: Sequence[tuple[int, str]] = json.loads(result.stdout)
    assert len(answers) == len(cases)
    upstream.wait_messages(sum(code == 250 for code, _ in answers) + extra)
    wait_until(lambda: not relay.queue(), 10, "the queue should be empty")
    messages = {find_case(message): message for message in upstream.messages()}
    return {
        name: Outcome(code=code, text=text, message=messages.get(name))
        for name, (code, text) in zip(cases, answers, strict=True)
    }


def make_data(name: str, headers: str) -> bytes:
    """The message of a case, byte for byte."""
    return f"{headers}X-Case: {name}\n\nbody of {name}: From: app@example.test\n".replace("\n", "\r\n").encode()


def find_case(message: Message) -> str:
    """The case that a message belongs to; empty for none."""
    match = re.search(rb"(?m)^X-Case: (\S+)\r$", message.data)
    return match[1].decode() if match else ""


def check(name: str, case: Case, outcome: Outcome) -> None:
    """Envelope, login, and every byte below the relay's own Received."""
    assert (outcome.code, outcome.message is not None) == (250, True), outcome.text
    assert outcome.message is not None
    assert outcome.message.mail_from == (case.expected_sender or case.sender)
    expected = case.recipients if case.expected_recipients is None else case.expected_recipients
    assert sorted(outcome.message.rcpt_tos) == sorted(expected)
    assert outcome.message.login == case.login
    assert outcome.rest == make_data(name, case.headers if case.expected is None else case.expected)


def simple(sender: str, after: str = "", **others: object) -> Case:
    """The same address in envelope and From."""
    return Case(
        sender=sender,
        headers=f"From: {sender}\n{_COMPLETE}",
        expected_sender=after,
        expected=f"From: {after or sender}\n{_COMPLETE}",
        **others,  # type: ignore[arg-type]
    )


TABLE: Final = """
# the application's own account
app@example.test      noreply@relayed.test
@old.test             @new.test
first@old.test        second@old.test
second@old.test       third@final.test
kept@old.test         kept@old.test
o'b+r/i^e$n~@old.test cash$1@final.test
"""
ODD: Final = (
    'DKIM-Signature: v=1; a=rsa-sha256;  h=from:to ;\n bh=AAAA=; \n\tb=BBBB==\nfrom:  "A  B"\n'
    "  (odd (nested)  comment)  <User.Name@Other.test>\nSENDER:<x@other.test>\nReply-To: Group:  app@example.test ,\n"
    "\tb@c.test;\nTo: undisclosed-recipients:;\nCc: app@example.test, =?utf-8?q?J=C3=B6?= <kept@old.test>\n"
    "Subject: =?iso-8859-1?q?=F6?=  app@example.test\n" + _COMPLETE + f"X-Long: {'x' * 2500}\nX-Raw: Jö\nX-Empty:\n"
)
TO_THE_TABLE: Final[Mapping[str, Case]] = {
    "exact": simple("app@example.test", "noreply@relayed.test", login="other"),
    "case": simple("APP@Example.TEST", "noreply@relayed.test", login="other"),
    "domain": simple("Some.One@OLD.test", "Some.One@new.test"),
    "chain": simple("first@old.test", "third@final.test"),
    "exception": simple("kept@old.test", login="other"),
    "odd-characters": simple("o'b+r/i^e$n~@old.test", "cash$1@final.test"),
    "prefix": simple("xapp@example.test"),
    "subdomain": simple("a@sub.old.test"),
    "sibling": simple("a@notold.test"),
    "quoted": simple('"a b"@old.test', '"a b"@new.test'),
    "quoted-at": simple('"app@example.test"@elsewhere.test'),
    "plain-text-of-a-pattern": simple("appxexample@example.test"),
    "null-sender": Case(
        sender="",
        headers=f"From: Mailer <app@example.test>\n{_COMPLETE}",
        expected=f"From: Mailer <noreply@relayed.test>\n{_COMPLETE}",
    ),
    "envelope-only": Case(
        sender="app@example.test",
        expected_sender="noreply@relayed.test",
        login="other",
        headers=f"From: Bob <bob@elsewhere.test>\n{_COMPLETE}",
    ),
    "header-only": Case(
        sender="bounces+1@elsewhere.test",
        headers=f"From: Bob <app@example.test>\n{_COMPLETE}",
        expected=f"From: Bob <noreply@relayed.test>\n{_COMPLETE}",
    ),
    "display-names": Case(
        sender="a@elsewhere.test",
        headers=f'From: =?utf-8?B?SsO2cmc=?= (x) <app@example.test>,\n  "Doe, J. \\"J\\"" <j@old.test>\n{_COMPLETE}',
        expected=(
            'From: =?utf-8?B?SsO2cmc=?= (x) <noreply@relayed.test>,\n\t"Doe, J. \\"J\\"" <j@new.test>\n' + _COMPLETE
        ),
    ),
    "address-in-a-name": Case(
        sender="a@elsewhere.test",
        headers=f'From: "app@example.test via x" (app@example.test) <x@elsewhere.test>\n{_COMPLETE}',
    ),
    "folded": Case(
        sender="a@elsewhere.test",
        headers=f"From:\n App\n\t<app@example.test>\n{_COMPLETE}",
        expected=f"From: App <noreply@relayed.test>\n{_COMPLETE}",
    ),
    "group": Case(
        sender="a@elsewhere.test",
        headers=f"From: Team: app@example.test, x@elsewhere.test;\n{_COMPLETE}",
        expected=f"From: Team: noreply@relayed.test, x@elsewhere.test;\n{_COMPLETE}",
    ),
    "empty-group": Case(sender="a@elsewhere.test", headers=f"From: Nobody:;\n{_COMPLETE}"),
    "comment": Case(
        sender="a@elsewhere.test",
        headers=f"From: app@example.test (The App)\n{_COMPLETE}",
        expected=f"From: noreply@relayed.test (The App)\n{_COMPLETE}",
    ),
    "sender-header": Case(
        sender="a@elsewhere.test",
        headers=f"From: x@elsewhere.test\nSender: App <app@example.test>\n{_COMPLETE}",
        expected=f"From: x@elsewhere.test\nSender: App <noreply@relayed.test>\n{_COMPLETE}",
    ),
    "answers": Case(
        sender="a@elsewhere.test",
        headers=(
            'From: app@example.test\nReply-To: "A  B" <app@example.test>,\n  <x@old.test>\n'
            "Errors-To: app@example.test\nMail-Followup-To: app@example.test\n"
            "Disposition-Notification-To: app@example.test\n"
            f"Return-Receipt-To: app@example.test\n{_COMPLETE}"
        ),
        expected=(
            'From: noreply@relayed.test\nReply-To: "A  B" <app@example.test>,\n  <x@old.test>\n'
            "Errors-To: app@example.test\nMail-Followup-To: app@example.test\n"
            "Disposition-Notification-To: app@example.test\nReturn-Receipt-To: app@example.test\n"
            f"{_COMPLETE}"
        ),
    ),
    "resent": Case(
        sender="a@elsewhere.test",
        headers=(
            "Resent-From: app@example.test\nResent-Sender: x@old.test\nResent-To: x@old.test\n"
            "resent-reply-to: app@example.test\n"
            "Resent-Date: Sat, 28 Nov 2026 13:00:00 +0000\nResent-Message-ID: <2@client.test>\n"
            f"From: x@elsewhere.test\n{_COMPLETE}"
        ),
        expected=(
            "Resent-From: noreply@relayed.test\nResent-Sender: x@new.test\nResent-To: x@old.test\n"
            "resent-reply-to: app@example.test\n"
            "Resent-Date: Sat, 28 Nov 2026 13:00:00 +0000\nResent-Message-ID: <2@client.test>\n"
            f"From: x@elsewhere.test\n{_COMPLETE}"
        ),
    ),
    "recipients": Case(
        sender="a@elsewhere.test",
        recipients=("app@partner.test",),
        headers=f"From: x@elsewhere.test\nTo: app@example.test\nCc: x@old.test\n{_COMPLETE}",
    ),
    "nothing-matches": Case(sender="User.Name@Other.test", headers=ODD, parameters="BODY=8BITMIME"),
    "utf8": simple("jörg@old.test", "jörg@new.test", parameters="SMTPUTF8 BODY=8BITMIME"),
    "attached": Case(
        sender="a@elsewhere.test",
        headers=f"From: x@elsewhere.test\n{_COMPLETE}Content-Type: message/rfc822\n",
    ),
    "incomplete": Case(
        sender="root",
        expected_sender="root@relay.example.test",
        headers=f"From: root\nTo: root\n{_COMPLETE}",
        expected=f"From: root@relay.example.test\nTo: root@relay.example.test\n{_COMPLETE}",
    ),
    "dsn": simple("app@example.test", "noreply@relayed.test", login="other", parameters="RET=HDRS ENVID=QQ314159"),
    "masqueraded": Case(
        sender="u@deep.host.masq.test",
        expected_sender="u@masq.test",
        headers=f"From: U <u@host.masq.test>\nTo: u@host.masq.test\n{_COMPLETE}",
        expected=f"From: U <u@masq.test>\nTo: u@host.masq.test\n{_COMPLETE}",
    ),
    "masquerade-root": simple("root@web1.masq.test", "root@masq.test"),
    "masquerade-exception": simple("u@keep.masq.test"),
    "masquerade-itself": simple("u@masq.test"),
    "masquerade-sibling": simple("u@notmasq.test"),
    "alias": simple(
        "a@elsewhere.test",
        recipients=("root",),
        expected_recipients=("person@partner.test", "second@partner.test"),
    ),
    "alias-case": simple(
        "a@elsewhere.test",
        recipients=("Root@Relay.Example.Test",),
        expected_recipients=("person@partner.test", "second@partner.test"),
    ),
    "alias-localhost": simple(
        "a@elsewhere.test",
        recipients=("ROOT@localhost",),
        expected_recipients=("person@partner.test", "second@partner.test"),
    ),
    "alias-nested": simple(
        "a@elsewhere.test",
        recipients=("postmaster",),
        expected_recipients=("person@partner.test", "second@partner.test"),
    ),
    "alias-address": simple(
        "a@elsewhere.test",
        recipients=("cron@web1.partner.test",),
        expected_recipients=("person@partner.test", "second@partner.test"),
    ),
    "alias-every-other": simple(
        "a@elsewhere.test",
        recipients=("www-data@localhost.localdomain",),
        expected_recipients=("rest@partner.test",),
    ),
    "alias-elsewhere": simple("a@elsewhere.test", recipients=("root@partner.test",)),
    "cron": Case(
        sender="root@web1.masq.test",
        expected_sender="root@masq.test",
        recipients=("root",),
        expected_recipients=("person@partner.test", "second@partner.test"),
        headers=f"From: root (Cron Daemon)\nTo: root\n{_COMPLETE}",
        expected=f"From: root@relay.example.test (Cron Daemon)\nTo: root@relay.example.test\n{_COMPLETE}",
    ),
}


@pytest.fixture(scope="module")
def table(module_relays: Relays, the_upstream: Upstream, client: Client) -> dict[str, Outcome]:
    the_upstream.reset()
    the_upstream.set_accounts({**ACCOUNTS, "other": "its own"})
    relay = module_relays.start(
        {
            "SENDER_REWRITE_TABLE": TABLE,
            "SENDER_RELAY_TABLE": (
                "noreply@relayed.test mail.example.test:587 other its own\n"
                "kept@old.test mail.example.test:587 other its own"
            ),
            "MASQUERADE_DOMAINS": "!keep.masq.test masq.test",
            "ALIAS_TABLE": (
                "# as in /etc/aliases\nPostmaster: root\nroot: person@partner.test, second@partner.test\n"
                "cron@web1.partner.test root\n*: rest@partner.test"
            ),
            "ALLOWED_RECIPIENT_DOMAINS": "partner.test",
        }
    )
    return send_all(TO_THE_TABLE, relay, the_upstream, client)


@pytest.mark.parametrize("name", TO_THE_TABLE)
def test_only_what_the_tables_name_is_rewritten(name: str, table: dict[str, Outcome]) -> None:
    """Envelope, recipients, upstream and every other byte."""
    check(name, TO_THE_TABLE[name], table[name])
    (received,) = table[name].received
    assert b"from client.internal.test" in received


RULES: Final = r"""
/^Subject:.*\[SPAM\]/ REJECT no spam, please
/^X-Mailer:/ IGNORE
if /^X-Internal-/
!/^X-Internal-Keep:/ REPLACE X-Was: internal
endif
/^Subject: copy/ BCC archive@partner.test
/^Subject: (old) (name)/ PREPEND X-Name:
 $2 $1
"""
TO_EVERYONE: Final[Mapping[str, Case]] = {
    "fixed": Case(
        sender="bob@elsewhere.test",
        expected_sender="relay@fixed.test",
        headers=f"From: Bob B. <bob@elsewhere.test>\nReply-To: list@elsewhere.test\n{_COMPLETE}",
        expected=f"From: Bob B. <relay@fixed.test>\nReply-To: list@elsewhere.test\n{_COMPLETE}",
    ),
    "no-reply-to": simple("bob@elsewhere.test", "relay@fixed.test"),
    "several": Case(
        sender="",
        headers=f"From: A <a@elsewhere.test>, B <b@good.test>\nSender: a@elsewhere.test\n{_COMPLETE}",
        expected=f"From: A <relay@fixed.test>, B <b@good.test>\nSender: relay@fixed.test\n{_COMPLETE}",
    ),
    "itself": simple("Relay@Fixed.test", "relay@fixed.test"),
    "good-domain": simple("any@good.test"),
    "written-domain": simple("any@new.test"),
    "to-a-domain": simple("any@old.test", "any@new.test"),
    "exact-before-domain": simple("boss@old.test", "ceo@fixed.test"),
    "without-domain": Case(
        sender="root",
        expected_sender="relay@fixed.test",
        headers=f"From: root (Cron Daemon)\n{_COMPLETE}",
        expected=f"From: relay@fixed.test (Cron Daemon)\n{_COMPLETE}",
    ),
    "ignore": Case(
        sender="any@good.test",
        headers=f"From: any@good.test\nX-Mailer: x\n  on host7\nX-Internal-Host: a\nX-Internal-Keep: b\n{_COMPLETE}",
        expected=f"From: any@good.test\nX-Was: internal\nX-Internal-Keep: b\n{_COMPLETE}",
    ),
    "bcc": Case(
        sender="any@good.test",
        expected_recipients=("r@partner.test", "archive@partner.test"),
        headers=f"From: any@good.test\nSubject: copy\n{_COMPLETE}",
    ),
    "prepend": Case(
        sender="any@good.test",
        headers=f"From: any@good.test\nSubject: OLD name\n{_COMPLETE}",
        expected=f"From: any@good.test\nX-Name: name OLD\nSubject: OLD name\n{_COMPLETE}",
    ),
    "reply-to-of-an-attachment": Case(
        sender="any@good.test",
        headers=(
            f"From: any@good.test\n{_COMPLETE}Content-Type: multipart/mixed; boundary=b\n"
            "X-Case: reply-to-of-an-attachment\n\n--b\nContent-Type: message/rfc822\n\n"
            "Received: from inner by host; Sat, 28 Nov 2026 12:00:00 +0000\n"
            "From: bob@elsewhere.test\nReply-To: x@elsewhere.test\n\nhi\n--b--\n"
        ),
    ),
}


@pytest.fixture(scope="module")
def everyone(module_relays: Relays, the_upstream: Upstream, client: Client) -> tuple[Relay, dict[str, Outcome]]:
    the_upstream.reset()
    relay = module_relays.start(
        {
            "SENDER_REWRITE_TABLE": (
                "* relay@fixed.test\n@good.test @good.test\n@old.test @new.test\nboss@old.test ceo@fixed.test"
            ),
            "HEADER_CHECKS_TABLE": RULES.strip("\n"),
            "HIDE_RECEIVED": "yes",
            "ALLOWED_SENDER_DOMAINS": ("elsewhere.test good.test old.test new.test fixed.test relay.example.test"),
            "LOG_ADDRESSES": "domain",
        },
        # The second is what the test of patterns asks for, by hand.
        allowed=["message rejected: hopcount exceeded", "regexp map /tmp/"],
    )
    return relay, send_all({**TO_EVERYONE, **HOPS, **REFUSED}, relay, the_upstream, client)


def make_hops(count: int) -> str:
    """Headers of a message that has come so far."""
    hop = (
        "Received: from inner%d.internal.test (inner [10.1.2.3])\n\tby web.internal.test with SMTP;"
        " Sat, 28 Nov 2026 12:00:00 +0000\n"
    )
    return "".join(hop % number for number in range(count)) + f"From: a@good.test\n{_COMPLETE}"


HOPS: Final[Mapping[str, Case]] = {
    "two-hops": Case(sender="a@good.test", headers=make_hops(2)),
    "odd-hop": Case(sender="a@good.test", headers=f"Received: somehow\nFrom: a@good.test\n{_COMPLETE}"),
}
REFUSED: Final[Mapping[str, Case]] = {
    "rejected": Case(sender="a@good.test", headers=f"From: a@good.test\nSubject: x [SPAM]\n{_COMPLETE}"),
    "not-allowed": Case(sender="a@notallowed.test", headers=f"From: a@good.test\n{_COMPLETE}"),
    "loop": Case(sender="a@good.test", headers=make_hops(60)),
}


@pytest.mark.parametrize("name", TO_EVERYONE)
def test_every_sender_becomes_the_one_that_the_provider_takes(
    name: str, everyone: tuple[Relay, dict[str, Outcome]]
) -> None:
    """Names, Reply-To and bounces stay; what a line writes, or leaves as it is, stays too."""
    case = TO_EVERYONE[name]
    check(name, case, everyone[1][name])


def test_received_says_nothing_of_the_client_and_still_counts_hops(
    everyone: tuple[Relay, dict[str, Outcome]],
) -> None:
    """Neither name nor address of a host inside leaves; without a trace a loop through the upstream would not end."""
    outcomes = everyone[1]
    for name in (*TO_EVERYONE, *HOPS):
        message = outcomes[name].message
        assert message is not None
        head = message.data.partition(b"\r\n\r\n")[0]
        assert b"internal.test" not in head
        assert b"10.1.2.3" not in head
        assert b"for <" not in head
        own, *others = outcomes[name].received
        date = rb"; \w{3}, \d\d? \w{3} 2026 \d\d:\d\d:\d\d [+]0000"
        assert re.fullmatch(rb"Received: by relay[.]example[.]test with ESMTP id \w+" + date + rb" \(UTC\)", own)
        expected = {
            "two-hops": [b"Received: by relay.example.test (hidden); Sat, 28 Nov 2026 12:00:00 +0000"] * 2,
            "odd-hop": [b"Received: by relay.example.test (hidden)"],
        }.get(name, [])
        assert others == expected
    assert outcomes["loop"].code == 554
    assert "too many hops" in outcomes["loop"].text


def test_a_rule_refuses_and_allowed_domains_ask_for_the_sender_that_came(
    everyone: tuple[Relay, dict[str, Outcome]],
) -> None:
    """The domain that a client gives decides whether it may send, not the one that the relay makes of it."""
    outcomes = everyone[1]
    assert (outcomes["rejected"].code, outcomes["rejected"].message) == (550, None)
    assert "no spam, please" in outcomes["rejected"].text
    assert (outcomes["not-allowed"].code, outcomes["not-allowed"].message) == (550, None)
    assert "none of ALLOWED_SENDER_DOMAINS" in outcomes["not-allowed"].text


def test_the_log_of_rewriting_shows_no_address_that_is_hidden(everyone: tuple[Relay, dict[str, Outcome]]) -> None:
    """Postfix logs each header that a rule changes, whole."""
    log = everyone[0].logs()
    assert "Reply-To" in log
    assert not re.search(r"\b(bob|list|any|boss|ceo)@", log)


def test_a_pattern_that_postfix_cannot_read_is_named_before_the_start(
    everyone: tuple[Relay, dict[str, Outcome]],
) -> None:
    """Postfix leaves such a rule out with a warning, and mail that it should have stopped goes out."""
    rules = "HEADER_CHECKS_TABLE=/^A:/ IGNORE\n/^(B:/ IGNORE\n# x\n/^C:/ REPLACE X: $1\n/^D:[[:bad:]]/\n  IGNORE"
    result = everyone[0].exec(["env", rules, "authrelay", "check"], check=False)
    lines = [line for line in result.stderr.decode().splitlines() if "HEADER_CHECKS_TABLE: line" in line]
    assert result.status == 78
    assert [re.search(r"line (\d+): Postfix cannot read it", line)[1] for line in lines] == ["2", "4", "5"], lines  # type: ignore[index]


AUTHORED: Final[Mapping[str, Case]] = {
    "author": Case(
        sender="bob@elsewhere.test",
        expected_sender="relay@fixed.test",
        headers=f"From: =?utf-8?q?B=C3=B6b?=\n <bob@elsewhere.test>\n{_COMPLETE}",
        expected=(
            "Reply-To: =?utf-8?q?B=C3=B6b?=\n <bob@elsewhere.test>\n"
            f"From: =?utf-8?q?B=C3=B6b?= <relay@fixed.test>\n{_COMPLETE}"
        ),
    ),
    "author-replaces": Case(
        sender="bob@elsewhere.test",
        expected_sender="relay@fixed.test",
        headers=f"Reply-To: x@elsewhere.test\nFrom: bob@elsewhere.test\nReply-To: y@elsewhere.test\n{_COMPLETE}",
        expected=f"Reply-To: bob@elsewhere.test\nFrom: relay@fixed.test\n{_COMPLETE}",
    ),
    "nothing-there": Case(
        sender="bob@elsewhere.test", expected_sender="relay@fixed.test", headers="Subject: x\n", expected=""
    ),
}


@pytest.fixture(scope="module")
def authored(module_relays: Relays, the_upstream: Upstream, client: Client) -> tuple[Relay, dict[str, Outcome]]:
    the_upstream.reset()
    relay = module_relays.start(
        {
            "SENDER_REWRITE_TABLE": "* relay@fixed.test",
            "SENDER_REWRITE_REPLY_TO": "author",
            "MASQUERADE_DOMAINS": "a.test",
        }
    )
    return relay, send_all(AUTHORED, relay, the_upstream, client)


@pytest.mark.parametrize("name", ["author", "author-replaces"])
def test_answers_go_to_the_author(name: str, authored: tuple[Relay, dict[str, Outcome]]) -> None:
    """One Reply-To, as RFC 5322 section 3.6 allows, with the From as it was."""
    check(name, AUTHORED[name], authored[1][name])


def test_a_real_client_is_answered_at_its_own_address(
    authored: tuple[Relay, dict[str, Outcome]], upstream: Upstream, client: Client
) -> None:
    """swaks writes its headers in its own way."""
    addresses = ["--from", "app@elsewhere.test", "--to", "r@partner.test"]
    name = ["--h-From", '"The App" <app@elsewhere.test>']
    sent = client.swaks(["--server", authored[0].container.name, *addresses, *name])
    assert sent.status == 0, sent.text
    (message,) = upstream.wait_messages(1)
    assert message.mail_from == "relay@fixed.test"
    assert b'\r\nReply-To: "The App" <app@elsewhere.test>\r\nFrom: "The App" <relay@fixed.test>\r\n' in message.data


def test_missing_headers_are_added_only_where_senders_are_rewritten(
    authored: tuple[Relay, dict[str, Outcome]],
) -> None:
    """Postfix does not separate the two; what it adds is what a provider adds otherwise."""
    rest = authored[1]["nothing-there"].rest.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert [line.partition(b":")[0] for line in rest] == [b"Subject", b"X-Case", b"Message-Id", b"Date", b"From"]
    assert rest[-1] == b"From: relay@fixed.test"


def test_a_bounce_goes_back_to_the_new_sender_as_a_bounce(
    authored: tuple[Relay, dict[str, Outcome]], upstream: Upstream, client: Client
) -> None:
    """The account at the provider is who can read it; its own sender stays empty, or bounces would bounce."""
    upstream.behave(faults={"rcpt": reply(550, "5.1.1 no such user", containing="gone@")})
    client.send(
        authored[0].container.name,
        25,
        "bob@elsewhere.test",
        ["gone@partner.test"],
        b"From: bob@elsewhere.test\r\n\r\nx\r\n",
    )
    (bounce,) = upstream.wait_messages(1)
    assert (bounce.mail_from, bounce.rcpt_tos) == ("", ("relay@fixed.test",))
    assert re.search(rb"(?m)^From: .*<?relay@fixed.test>?", bounce.data)
