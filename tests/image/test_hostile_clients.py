"""Clients that lie, flood and stall: nothing that they send becomes another message, line or recipient."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.dialogue import Answer, Place, hold_dialogues
from tests.support.relay import parse_log
from tests.support.upstream import HOSTNAME, Upstream
from tests.support.wait import wait_until

NO_TLS: Final = {
    "RELAYHOST": f"{HOSTNAME}:25",
    "RELAYHOST_TLS": "none",
    "RELAYHOST_USERNAME": "",
    "RELAYHOST_PASSWORD_FILE": "",
    "RELAYHOST_CA_FILE": "",
}
"""So that the bytes on the wire can be seen; the defaults of the tests otherwise."""

# Everything that some server took for the end of a message, or sent on so that another did (CVE-2023-51764 to 51766 and
# the tools that were made for them).
ENDS: Final = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr": b"\r\n.\r",
    "cr-dot-lf": b"\r.\n",
    "lf-dot-cr": b"\n.\r",
    "lf-lf-dot-crlf": b"\n\n.\r\n",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
    "crlf-dot-crcrlf": b"\r\n.\r\r\n",
    "nul-before-dot": b"\r\n\0.\r\n",
    "nul-behind-dot": b"\r\n.\0\r\n",
    "nul-within-crlf": b"\r\0\n.\r\0\n",
    "line-separator": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "next-line": b"\xc2\x85.\xc2\x85",
    "vertical-tab": b"\x0b.\x0b",
}
SMUGGLED: Final = b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: evil\r\n\r\nx"


def write_envelope(sender: str) -> list[bytes]:
    return [b"EHLO x\r\n", f"MAIL FROM:<{sender}>\r\n".encode(), b"RCPT TO:<b@example.com>\r\n"]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["data", "bdat"])
def test_nothing_in_a_message_becomes_a_second_one(
    is_chunked: bool, relays: Relays, client: Client, upstream: Upstream
) -> None:
    """Neither here nor, by what is sent on, in an upstream that is less strict: the bytes on the wire have one end."""
    upstream.behave(require_auth=False)
    relay = relays.start(NO_TLS)
    dialogues = []
    for name, end in ENDS.items():
        content = b"Subject: x\r\n\r\nhello" + end + SMUGGLED
        ending = [b"BDAT %d LAST\r\n" % len(content) + content] if is_chunked else [b"DATA\r\n", content + b"\r\n.\r\n"]
        dialogues.append([*write_envelope(f"{name}@example.test"), *ending, b"QUIT\r\n"])
    replies_to_all = hold_dialogues(Place(host=relay.container.name, container=client.container), dialogues)
    # With a second message there would be more replies than these to fewer commands.
    for name, replies in zip(ENDS, replies_to_all, strict=True):
        expected = 550 if "nul" in name else 250
        assert [reply.code for reply in replies[-2:]] == [expected, 221], f"{name}: {replies}"
    taken = sorted(f"{name}@example.test" for name in ENDS if "nul" not in name)
    upstream.wait_messages(len(taken))
    assert sorted(message.mail_from for message in upstream.messages()) == taken
    for session in upstream.sessions():
        contents = re.split(rb"DATA\r\n(?=Received:)", session.plain)[1:]
        for content in contents:
            assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", content), content
            # Of the lines that begin with one dot there is one, the end.
            assert re.findall(rb"(?m)^\.(?!\.).*", content) == [b".\r"]


def test_program_that_writes_bare_line_feeds_gets_its_mail_through(
    relays: Relays, client: Client, upstream: Upstream
) -> None:
    """Many hand-written scripts do; the line ends are put right, and the message ends where it should."""
    relay = relays.start()
    content = b"Subject: x\nX-Y: z\n\nfirst\n.second\n\nlast\r\n.\r\n"
    steps = [*write_envelope("a@example.test"), b"DATA\r\n", content, b"QUIT\r\n"]
    hold_dialogues(Place(host=relay.container.name, container=client.container), [steps])
    message = upstream.wait_messages(1)[0]
    assert message.data.endswith(b"Subject: x\r\nX-Y: z\r\n\r\nfirst\r\nsecond\r\n\r\nlast\r\n")


CONTROLS: Final = {
    "line-feed": b"\n",
    "carriage-return": b"\r",
    "nul": b"\0",
    "escape": b"\x1b[2J\x1b]0;x\x07",
    "backspace": b"\x08" * 40,
    "next-line": b"\xc2\x85",
    "line-separator": b"\xe2\x80\xa8",
    "not-utf-8": b"\xff\xfe",
    "right-to-left": b"\xe2\x80\xae",
}
FORGED: Final = b"2026-01-01T00:00:00.000+00:00 INFO postfix/smtp[1]: 0123456789: to=<forged@example.test>, status=sent"


def test_nothing_that_a_client_says_forges_a_line_of_the_log_or_a_header(
    relays: Relays, client: Client, upstream: Upstream
) -> None:
    """Whoever reads the log, a person or a program, must be able to believe each of its lines."""
    relay = relays.start(allowed=["warning: (?:Illegal|.*non-SMTP|.*bare)", "improper command pipelining"])
    dialogues = []
    for control in CONTROLS.values():
        evil = control + FORGED
        dialogues += [
            [b"EHLO x" + evil + b"\r\n", b"MAIL FROM:<a@example.test>\r\n", b"RCPT TO:<b@example.com>\r\n"],
            [b"EHLO x\r\n", b"MAIL FROM:<a" + evil + b"@example.test>\r\n"],
            [b"EHLO x\r\n", b"MAIL FROM:<a@example.test> SIZE=1" + evil + b"\r\n"],
            [b"EHLO x\r\n", b'MAIL FROM:<"a' + evil + b'"@example.test>\r\n', b"RCPT TO:<b@example.com>\r\n"],
            [b"EHLO x\r\n", b"MAIL FROM:<a@example.test>\r\n", b'RCPT TO:<"b' + evil + b'"@example.com>\r\n'],
            [
                *write_envelope("a@example.test"),
                b"DATA\r\n",
                b"Message-ID: <x" + evil + b"@example.test>\r\nSubject: y" + evil + b"\r\n\r\nhello\r\n.\r\n",
            ],
            [b"XCLIENT NAME=" + evil + b"\r\n"],
            [b"XFORWARD NAME=" + evil + b"\r\n"],
        ]
    hold_dialogues(Place(host=relay.container.name, container=client.container), dialogues, timeout_seconds=2)
    wait_until(lambda: relay.queue() == [], 30, "what was taken should go out")
    for line in relay.logs().splitlines():
        assert line.isprintable(), repr(line)
    lines = parse_log(relay.logs())
    assert [line for line in lines if line.source == "postfix/smtp[1]"] == []
    assert [line for line in lines if not line.source] == []
    for message in upstream.messages():
        head = message.data.split(b"\r\n\r\n")[0]
        names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
        assert set(names) <= {b"Received", b"Message-ID", b"Subject"} or FORGED[:4] in names[-1], head
        assert message.rcpt_tos != ("forged@example.test",)


def test_client_that_talks_before_it_is_asked_is_cut_off(relays: Relays, client: Client, upstream: Upstream) -> None:
    """Programs that speak another protocol, or an attacker who has a browser do so, put SMTP into it."""
    relay = relays.start(allowed=["warning: non-SMTP command"])
    place = Place(host=relay.container.name, container=client.container)
    whole = b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
    early = [
        whole,
        b"POST / HTTP/1.1\r\nHost: relay\r\n\r\n" + whole,
        b"GET / HTTP/1.1\r\n" + whole,
        b"CONNECT relay:25 HTTP/1.1\r\n\r\n" + whole,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + whole,
    ]
    for sent, answers in zip(early, hold_dialogues(place, [[one, b"NOOP\r\n"] for one in early]), strict=True):
        assert answers[-1].code in (0, 221, 554), f"{sent!r}: {answers}"
    (answers,) = hold_dialogues(place, [[*write_envelope("a@example.test"), b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"]])
    assert answers[-1].code == 554, answers
    assert upstream.messages() == []
    assert relay.queue() == []


def test_lines_without_end_are_bounded(relays: Relays, client: Client, upstream: Upstream) -> None:
    """A command line is short (RFC 5321 section 4.5.3.1); a line of a message may be long, and yet bounded."""
    relay = relays.start(
        {"MESSAGE_SIZE_LIMIT": "2M"},
        allowed=["disabling input from|request longer than|queue file size limit exceeded"],
    )
    place = Place(host=relay.container.name, container=client.container)
    endless = b"x" * 3_000_000
    many = [f"RCPT TO:<{number}@example.com>\r\n".encode() for number in range(1005)]
    dialogues: list[list[bytes]] = [
        [b"EHLO " + endless + b"\r\n", b"QUIT\r\n"],
        [b"EHLO x\r\n", b"MAIL FROM:<" + endless + b"@example.test>\r\n"],
        [*write_envelope("long-header@example.test"), b"DATA\r\n", b"Subject: " + endless + b"\r\n\r\nx\r\n.\r\n"],
        [*write_envelope("long-line@example.test"), b"DATA\r\n", b"Subject: x\r\n\r\n" + endless + b"\r\n.\r\n"],
        [b"EHLO x\r\n", b"MAIL FROM:<declared@example.test> SIZE=3000000\r\n"],
        [b"EHLO x\r\n", b"MAIL FROM:<many@example.test>\r\n", *many],
        [b"EHLO x\r\n", *[b"NONSENSE\r\n"] * 30],
    ]
    answers = hold_dialogues(place, dialogues)
    assert answers[0][-1].code in (221, 500, 0)
    assert answers[1][-1].code in (500, 501, 553, 0)
    for answer in answers[2:4]:
        assert answer[-1] == Answer(code=552, text="5.3.4 Error: message file too big"), answer[-1]
    assert answers[4][-1].code == 552
    assert [answer.code for answer in answers[5][3:]] == [250] * 1000 + [452] * 5
    assert answers[6][-1].code in (0, 421)
    assert len(answers[6]) < 25
    assert upstream.messages() == []
