"""What each line of Postfix's log says: every service, and whatever clients and upstreams put into it."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.journal.addresses import Addresses
from entrypoint.journal.forms import VERSION, Form
from entrypoint.journal.lines import parse_line
from entrypoint.journal.messages import Messages
from entrypoint.journal.tally import Tally
from entrypoint.reasons import STEPS
from entrypoint.system.log import clean_text
from tests.support.schema import find_faults

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "log-schema.json").read_text(encoding="utf-8"))
ID = "4jZZZF5twMzGwyZ"
UPSTREAM = "mail.example.test[172.28.0.2]:587"
DELAYS = "delay=0.12, delays=0.01/0/0.04/0.07"
PARSED_DELAYS = {
    "delay": 0.12,
    "delays": {"before_queue": 0.01, "queue": 0.0, "connection": 0.04, "transmission": 0.07},
}
CLIENT = {"client": "172.28.0.3"}

LINES: list[tuple[str, str, dict[str, Any]]] = [
    # (line, kind, fields); most were seen from the real program.
    ("smtpd[9]: connect from unknown[172.28.0.3]", "connect", CLIENT),
    ("smtpd[9]: connect from app.example[fd00::3]:47", "connect", {"client": "fd00::3", "client_name": "app.example"}),
    (
        "smtpd[9]: disconnect from unknown[172.28.0.3] ehlo=1 mail=1 rcpt=1/2 data=1 quit=1 commands=5/6",
        "disconnect",
        {
            **CLIENT,
            "commands": {"ehlo": 1, "mail": 1, "rcpt": 2, "data": 1, "quit": 1, "commands": 6},
            "failures": {"rcpt": 1, "commands": 1},
        },
    ),
    (f"smtpd[9]: {ID}: client=unknown[172.28.0.3]", "client", CLIENT),
    (
        f"smtpd[9]: {ID}: client=unknown[172.28.0.3], sasl_method=PLAIN, sasl_username=app, one",
        "client",
        {**CLIENT, "sasl_method": "PLAIN", "sasl_username": "app, one"},
    ),
    (
        "smtpd[9]: NOQUEUE: reject: RCPT from unknown[172.28.0.3]: 554 5.7.1 <b@example.com>: Relay access denied; "
        "from=<a@example.test> to=<b@example.com> proto=ESMTP helo=<client.example.test>",
        "reject",
        {
            **CLIENT,
            "action": "reject",
            "stage": "RCPT",
            "code": "554",
            "dsn": "5.7.1",
            "reason": "<b@example.com>: Relay access denied",
            "from": "a@example.test",
            "to": "b@example.com",
            "proto": "ESMTP",
            "helo": "client.example.test",
        },
    ),
    (
        "smtpd[9]: NOQUEUE: reject: CONNECT from unknown[172.28.0.3]: 421 4.7.0 too many; proto=SMTP",
        "reject",
        {
            **CLIENT,
            "action": "reject",
            "stage": "CONNECT",
            "code": "421",
            "dsn": "4.7.0",
            "reason": "too many",
            "proto": "SMTP",
        },
    ),
    (
        f"smtpd[9]: {ID}: reject: DATA from unknown[172.28.0.3]: 550 5.5.3 <DATA>: x; from=<> proto=ESMTP helo=<y>",
        "reject",
        {
            **CLIENT,
            "action": "reject",
            "stage": "DATA",
            "code": "550",
            "dsn": "5.5.3",
            "reason": "<DATA>: x",
            "from": "",
            "proto": "ESMTP",
            "helo": "y",
        },
    ),
    (
        "smtpd[9]: lost connection after DATA (12 bytes) from unknown[172.28.0.3]",
        "interrupted",
        {**CLIENT, "cause": "lost connection", "stage": "DATA (12 bytes)"},
    ),
    (
        "smtpd[9]: timeout after END-OF-MESSAGE from unknown[172.28.0.3]",
        "interrupted",
        {**CLIENT, "cause": "timeout", "stage": "END-OF-MESSAGE"},
    ),
    (
        "smtpd[9]: too many errors after AUTH from unknown[172.28.0.3]",
        "interrupted",
        {**CLIENT, "cause": "too many errors", "stage": "AUTH"},
    ),
    (
        "smtpd[9]: improper command pipelining after DATA from unknown[172.28.0.3]: Subject: x\\r\\n",
        "interrupted",
        {**CLIENT, "cause": "improper command pipelining", "stage": "DATA", "reason": "Subject: x\\r\\n"},
    ),
    ("smtpd[9]: warning: non-SMTP command from unknown[172.28.0.3]: GET / HTTP/1.1", "trouble",
     {"level": "warning", "reason": "non-SMTP command from unknown[172.28.0.3]: GET / HTTP/1.1"}),
    ("smtpd[9]: SSL_accept error from unknown[172.28.0.3]: -1", "remark", {}),
    (
        "smtpd[9]: Anonymous TLS connection established from unknown[172.28.0.3]: TLSv1.3 with cipher "
        "TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519",
        "tls",
        {
            "verdict": "anonymous",
            "usage": "established",
            "direction": "from",
            "peer": "unknown[172.28.0.3]",
            "protocol": "TLSv1.3",
            "cipher": "TLS_AES_256_GCM_SHA384",
            "bits": 256,
        },
    ),
    (f"cleanup[9]: {ID}: message-id=<x@client.example>", "message-id", {"message_id": "x@client.example"}),
    (f"cleanup[9]: {ID}: message-id=", "message-id", {"message_id": ""}),
    (f"cleanup[9]: {ID}: removed (canceled)", "removed", {"reason": "canceled"}),
    (f"cleanup[9]: {ID}: resent-message-id=<x@y>", "resent-message-id", {"message_id": "x@y"}),
    (
        f"cleanup[9]: {ID}: reject: header Subject: spam from unknown[172.28.0.3]; from=<a@x> to=<b@y> proto=ESMTP "
        "helo=<z>: 5.7.1 no",
        "reject",
        {"action": "reject", "reason": "header Subject: spam from unknown[172.28.0.3]; from=<a@x> to=<b@y> proto=ESMTP "
         "helo=<z>: 5.7.1 no"},
    ),
    (
        f"qmgr[9]: {ID}: from=<a@example.test>, size=345, nrcpt=2 (queue active)",
        "queued",
        {"from": "a@example.test", "size": 345, "recipients": 2},
    ),
    (f"qmgr[9]: {ID}: from=<>, status=expired, returned to sender", "expired", {"from": "", "status": "expired"}),
    (
        f'qmgr[9]: {ID}: from=<"a>, size=1"@x>, status=force-expired, returned to sender',
        "expired",
        {"from": '"a>, size=1"@x', "status": "force-expired"},
    ),
    (f"qmgr[9]: {ID}: skipped, still being delivered", "remark", {"reason": "skipped, still being delivered"}),
    (f"qmgr[9]: {ID}: removed", "removed", {}),
    (
        f"smtp[9]: {ID}: to=<b@example.com>, relay={UPSTREAM}, {DELAYS}, dsn=2.0.0, status=sent (250 2.0.0 Ok (x) y)",
        "attempt",
        {"to": "b@example.com", "relay": UPSTREAM, **PARSED_DELAYS, "dsn": "2.0.0", "status": "sent",
         "reply": "250 2.0.0 Ok (x) y"},
    ),
    (
        f'smtp[9]: {ID}: to=<"b>, relay=c[1.2.3.4]:25, \\" status=sent (x)"@example.com>, orig_to=<o@x>, '
        f"relay={UPSTREAM}, conn_use=3, {DELAYS}, dsn=4.3.0, status=deferred (host x said: 451 4.3.0 a))",
        "attempt",
        {
            "to": '"b>, relay=c[1.2.3.4]:25, \\" status=sent (x)"@example.com',
            "orig_to": "o@x",
            "relay": UPSTREAM,
            "connection_use": 3,
            **PARSED_DELAYS,
            "dsn": "4.3.0",
            "status": "deferred",
            "reply": "host x said: 451 4.3.0 a)",
        },
    ),
    (
        f"error[9]: {ID}: to=<b@x>, relay=none, {DELAYS}, dsn=4.4.1, status=deferred (delivery suspended: y)",
        "attempt",
        {"to": "b@x", "relay": "none", **PARSED_DELAYS, "dsn": "4.4.1", "status": "deferred",
         "reply": "delivery suspended: y"},
    ),
    # Cut by syslog(3): what is there is read.
    (
        f"smtp[9]: {ID}: to=<b@x>, relay={UPSTREAM}, {DELAYS}, dsn=5.1.1, status=bounced (x said: 550 " + "y" * 1800,
        "attempt",
        {"to": "b@x", "relay": UPSTREAM, **PARSED_DELAYS, "dsn": "5.1.1", "status": "bounced",
         "reply": "x said: 550 " + "y" * 1800},
    ),
    (f"smtp[9]: {ID}: to=<" + "y" * 1990, "attempt", {"to": "y" * 1990}),
    (
        f"smtp[9]: Verified TLS connection established to {UPSTREAM}: TLSv1.2 with cipher ECDHE-AES256-GCM-SHA384 "
        "(256/256 bits)",
        "tls",
        {
            "verdict": "verified",
            "usage": "established",
            "direction": "to",
            "peer": UPSTREAM,
            "protocol": "TLSv1.2",
            "cipher": "ECDHE-AES256-GCM-SHA384",
            "bits": 256,
        },
    ),
    (f"smtp[9]: connect to {UPSTREAM}: Connection refused", "remark", {}),
    (f"smtp[9]: SSL_connect error to {UPSTREAM}: lost connection", "remark", {}),
    (f"smtp[9]: server certificate verification failed for {UPSTREAM}: num=62:hostname mismatch", "remark", {}),
    (f"smtp[9]: {ID}: host x[1.2.3.4] said: 451 later", "remark", {"reason": "host x[1.2.3.4] said: 451 later"}),
    ("smtp[9]: warning: SASL authentication failure: No worthy mechs found", "trouble",
     {"level": "warning", "reason": "SASL authentication failure: No worthy mechs found"}),
    (
        f"bounce[9]: {ID}: sender non-delivery notification: 4jZZZG0000zDDDD",
        "notice",
        {"addressee": "sender", "notice": "non-delivery", "notice_queue_id": "4jZZZG0000zDDDD"},
    ),
    (
        f"bounce[9]: {ID}: sender delivery status notification: 4jZZZG0000zDDDD",
        "notice",
        {"addressee": "sender", "notice": "delivery status", "notice_queue_id": "4jZZZG0000zDDDD"},
    ),
    (f"pickup[9]: {ID}: uid=0 from=<root>", "pickup", {"uid": 0, "from": "root"}),
    (f"pickup[9]: {ID}: uid=100 from=<a@b> orig_id=4jZ1", "pickup",
     {"uid": 100, "from": "a@b", "orig_queue_id": "4jZ1"}),
    ("anvil[9]: statistics: max connection rate 1/60s for (25:172.28.0.3) at Nov 23 00:01:02", "statistics", {}),
    ("scache[9]: statistics: domain lookup hits=0 miss=1 success=0%", "statistics", {}),
    ("master[1]: daemon started -- version 3.10.4, configuration /etc/postfix", "remark", {}),
    ("master[1]: reload -- version 3.10.4, configuration /etc/postfix", "remark", {}),
    ("master[1]: fatal: bind 0.0.0.0 port 25: Address in use", "trouble",
     {"level": "fatal", "reason": "bind 0.0.0.0 port 25: Address in use"}),
    ("postfix-script[1]: refreshing the Postfix mail system", "remark", {}),
    (f"postsuper[9]: {ID}: removed", "removed", {}),
    (f"postsuper[9]: {ID}: requeued", "remark", {"reason": "requeued"}),
    ("postsuper[9]: Deleted: 1 message", "remark", {}),
    ("trivial-rewrite[9]: table lmdb:/etc/postfix/x(0,lock|fold_fix) has changed -- restarting", "remark", {}),
    ("tlsmgr[9]: panic: x", "trouble", {"level": "panic", "reason": "x"}),
    ("smtpd[9]: something new", "unknown", {}),
    (f"qmgr[9]: {ID}: something new", "unknown", {}),
    ("newservice[9]: something new", "unknown", {}),
]  # fmt: skip


_TLS13 = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature RSA-PSS "
_SESSION = {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "bits": 256}
_OLD = "using backwards-compatible default setting "
_TO = {"usage": "established", "direction": "to", "peer": "127.0.0.1[127.0.0.1]:25", **_SESSION}
_SERVED = {"usage": "established", "direction": "from", **_SESSION}
# Every line of Postfix's log that README_FILES of 3.10 shows, and those of postconf(5), anvil(8) and scache(8), as one.
# Of services that this image does not run, no line is known: it is passed on whole.
DOCUMENTED: list[tuple[str, str, dict[str, Any]]] = [
    ("smtp[30840]: 19B6B2900FE: to=<wietse@test.example.com>, orig_to=<wietse@test>, "
     "relay=mail.example.com[1.2.3.4], conn_use=2, delay=0.22, delays=0.04/0.01/0.05/0.1, dsn=2.0.0, "
     "status=sent (250 2.0.0 Ok)", "attempt",
     {"to": "wietse@test.example.com", "orig_to": "wietse@test", "relay": "mail.example.com[1.2.3.4]",
      "connection_use": 2, "delay": 0.22, "dsn": "2.0.0", "status": "sent", "reply": "250 2.0.0 Ok",
      "delays": {"before_queue": 0.04, "queue": 0.01, "connection": 0.05, "transmission": 0.1}}),
    ("qmgr[51999]: 682E8440A4: from=<whatever>, size=12345, nrcpt=1 (queue active)", "queued",
     {"from": "whatever", "size": 12345, "recipients": 1}),
    ('master[28905]: warning: service "smtp" (25) has reached its process limit "30": new clients may experience '
     "noticeable delays", "trouble",
     {"level": "warning", "reason": 'service "smtp" (25) has reached its process limit "30": new clients may '
      "experience noticeable delays"}),
    ("master[28905]: warning: to avoid this condition, increase the process count in master.cf or reduce the service "
     "time per client", "trouble",
     {"level": "warning", "reason": "to avoid this condition, increase the process count in master.cf or reduce the "
      "service time per client"}),
    ("smtpd[58549]: NOQUEUE: reject: RCPT from xxxxxxx[x.x.x.x]: 550 5.1.1 <yyyyyy@your.domain.here>: Recipient "
     "address rejected: User unknown; from=<> to=<yyyyyy@your.domain.here> proto=ESMTP helo=<zzzzzz>", "reject",
     {"action": "reject", "stage": "RCPT", "client": "x.x.x.x", "client_name": "xxxxxxx", "code": "550",
      "dsn": "5.1.1", "reason": "<yyyyyy@your.domain.here>: Recipient address rejected: User unknown", "from": "",
      "to": "yyyyyy@your.domain.here", "proto": "ESMTP", "helo": "zzzzzz"}),
    (f'trivial-rewrite[14777]: {_OLD}append_dot_mydomain=yes to rewrite "localhost" to "localhost.example.com"; please '
     'add "localhost" to mydestination or other address class', "remark", {}),
    ("master[27664]: /etc/postfix/master.cf: line 72: using backwards-compatible default setting chroot=y",
     "remark", {}),
    (f'smtpd[38463]: {_OLD}"smtpd_relay_restrictions = (empty)" to avoid "Relay access denied" error for recipient '
     '"user@example.com" from client "host.example.net[10.0.0.2]"', "remark", {}),
    (f'smtpd[27560]: {_OLD}smtputf8_enable=no to accept non-ASCII sender address "??@example.org" from '
     "localhost[127.0.0.1]", "remark", {}),
    (f'smtpd[17375]: {_OLD}mynetworks_style=subnet to permit request from client "foo.example.com[10.1.1.1]"',
     "remark", {}),
    (f'smtp[13945]: {_OLD}relay_domains=$mydestination to update fast-flush logfile for domain "bar.example.com"',
     "remark", {}),
    (f'postscreen[24982]: {_OLD}mynetworks_style=subnet to permit request from client "10.1.1.1"', "remark", {}),
    ("postscreen[22642]: Using backwards-compatible default setting respectful_logging=no for client [address]:port",
     "unknown", {}),
    ("smtp[1]: Host offered STARTTLS: [hostname.example.com]", "remark", {}),
    (f"smtp[1]: Untrusted TLS connection established to 127.0.0.1[127.0.0.1]:25: {_TLS13}(2048 bits) server-digest "
     "SHA256 client-signature ECDSA (P-256) client-digest SHA256", "tls", {"verdict": "untrusted", **_TO}),
    (f"smtpd[1]: Untrusted TLS connection established from localhost[127.0.0.1]:25: {_TLS13}(2048 bits)", "tls",
     {"verdict": "untrusted", **_SERVED, "peer": "localhost[127.0.0.1]:25"}),
    ("smtpd[1]: Anonymous TLS connection established from localhost[127.0.0.1]: TLSv1.3 with cipher "
     "TLS_AES_256_GCM_SHA384 (256/256 bits) server-signature ED25519", "tls",
     {"verdict": "anonymous", **_SERVED, "peer": "localhost[127.0.0.1]"}),
    (f"smtpd[1]: Untrusted TLS connection established from client.example[192.0.2.1] to server.example: {_TLS13}",
     "tls", {"verdict": "untrusted", **_SERVED, "peer": "client.example[192.0.2.1]"}),
    ("smtp[1]: TLSRPT: status=success, domain=example.com, receiving_mx=mail.example.com[ipaddr]", "remark", {}),
    ("tlsproxy[1]: TLSRPT: status=failure, domain=example.net, receiving_mx=mail.example.net[ipaddr], "
     "failure_type=validation_failure, failure_reason=self-signed_certificate", "remark", {}),
    # Not in the documentation: tlsproxy.c, tlsproxy_state.c.
    ("tlsproxy[1]: CONNECT to [192.0.2.1]:587", "remark", {}),
    ("tlsproxy[1]: DISCONNECT [192.0.2.1]:587", "remark", {}),
    (f"tlsproxy[1]: Verified TLS connection established to mail.example.com[192.0.2.1]:587: {_TLS13}", "remark", {}),
    ("tlsproxy[1]: TLS handshake failed for service=smtp peer=[192.0.2.1]:587", "remark", {}),
    ("smtpd[1]: warning: milter inet:host:port: can't read SMFIC_DATA reply packet header: Success", "trouble",
     {"level": "warning", "reason": "milter inet:host:port: can't read SMFIC_DATA reply packet header: Success"}),
    (f'cleanup[1]: warning: {ID}: cleanup_chg_from: ignoring ESMTP arguments "whatever"', "trouble",
     {"level": "warning", "reason": f'{ID}: cleanup_chg_from: ignoring ESMTP arguments "whatever"'}),
    ("postscreen[1]: CONNECT from [192.0.2.1]:40000 to [172.18.0.2]:25", "remark", {}),
    ("postscreen[1]: PASS NEW [192.0.2.1]:40000", "remark", {}),
    ("postscreen[1]: ALLOWLISTED [172.18.0.3]:40000", "remark", {}),
    ("postscreen[1]: PREGREET 20 after 0.01 from [192.0.2.1]:40000: EHLO x\\r\\n", "remark", {}),
    (
        "postscreen[1]: NOQUEUE: reject: RCPT from [192.0.2.1]:40000: 550 5.5.1 Protocol error; from=<a@example.com>, "
        "to=<b@example.com>, proto=ESMTP, helo=<x>",
        "remark",
        {},
    ),
    ("anvil[1]: statistics: max connection count 1 for (smtp:192.0.2.1) at Dec 20 17:17:50", "statistics", {}),
    ("anvil[1]: statistics: max message rate 14/60s for (smtp:192.0.2.1) at Dec 20 17:17:50", "statistics", {}),
    ("scache[1]: statistics: max simultaneous domains=1 addresses=2 connection=2", "statistics", {}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "kind", "fields"), DOCUMENTED, ids=lambda value: str(value)[:40])
def test_line_of_the_documentation_is_understood(line: str, kind: str, fields: dict[str, Any]) -> None:
    """They are what people meet who search for their trouble."""
    text = f"postfix/{line}"
    entry = parse_line(text)
    assert (entry.kind, entry.fields) == (kind, fields)
    assert json.loads(Form("json").render("T", "INFO", text, entry))["text"] == text


@pytest.mark.parametrize(("line", "kind", "fields"), LINES, ids=lambda value: str(value)[:40])
def test_line_says_what_postfix_meant(line: str, kind: str, fields: dict[str, Any]) -> None:
    """A field that is wrong or lost is a number that is wrong on somebody's dashboard."""
    entry = parse_line(f"postfix/{line}")
    assert (entry.kind, entry.fields) == (kind, fields)
    if kind != "unknown":
        assert (entry.program, entry.pid) == (f"postfix/{line.partition('[')[0]}", int(line[line.find("[") + 1]))
        assert entry.queue_id == (ID if f": {ID}: " in line else "")


def test_schema_knows_every_kind_of_line_and_every_class_of_reason() -> None:
    """Programs are written by the schema: what it does not name comes as a surprise to them."""
    kinds = SCHEMA["properties"]["event"]["enum"]
    assert {kind for _, kind, _ in LINES} == {*kinds} - {"authrelay", "delivery"}
    assert SCHEMA["properties"]["step"]["enum"] == ["none", *STEPS]
    assert SCHEMA["properties"]["version"]["const"] == VERSION


@pytest.mark.parametrize("text", ["", "x", "x[1]", "x[1]: ", "x[y]: z", "[1]: ", "a b[1]: c", "postfix/smtp[²]: x"])
def test_text_that_is_no_line_of_postfix_is_unknown(text: str) -> None:
    """Whatever may write to /dev/log must not stop the log."""
    assert parse_line(text).kind == "unknown"


_odd = st.text(
    st.one_of(st.sampled_from('<>()[]:;,="\\ @+/{}\n\x00\u2028é'), st.characters(codec="utf-8")), max_size=60
)
_service = st.sampled_from(
    ["smtpd", "cleanup", "qmgr", "smtp", "bounce", "pickup", "postsuper", "error", "master", "x"]
)
_start = st.sampled_from(
    [line.partition(": ")[2].replace(f"{ID}: ", "")[:length] for line, _, _ in LINES for length in (5, 15, 30, 80)]
)


@given(_service, st.booleans(), _start, _odd)
def test_any_line_is_read_and_stays_one_line(service: str, has_id: bool, start: str, rest: str) -> None:
    """Half of a line's text is chosen by strangers: it may be nonsense, and must stay one line with its own words."""
    text = clean_text(f"postfix/{service}[7]: {f'{ID}: ' if has_id else ''}{start}{rest}")
    entry = parse_line(text)
    line = Form("json").render("T", "INFO", text, entry)
    assert line.count("\n") == 1
    assert len(line.splitlines()) == 1
    record = json.loads(line)
    assert record["text"] == text
    assert {key: record[key] for key in entry.fields} == entry.fields
    assert find_faults({**record, "time": "2026-11-23T00:01:02.000+00:00"}, SCHEMA) == []
    Messages(0).note(entry, 0)
    Tally(0).note(entry, 0)


_HOSTILE = "; from=<> to=<> proto=x helo=<> sasl_username=<> "
_REJECT = "smtpd[7]: NOQUEUE: reject: RCPT from unknown[1.2.3.4]: 554 5.7.1 "


def test_strangers_address_is_not_what_is_known_of_the_session() -> None:
    """Quoted, it may hold what looks like the end of the line."""
    entry = parse_line(f'{_REJECT}<"{_HOSTILE}"@x.example>: no; from=<a@x> to=<"{_HOSTILE}"@x.example> proto=SMTP')
    assert entry.fields == {
        "action": "reject",
        "stage": "RCPT",
        "client": "1.2.3.4",
        "code": "554",
        "dsn": "5.7.1",
        "reason": f'<"{_HOSTILE}"@x.example>: no',
        "from": "a@x",
        "to": f'"{_HOSTILE}"@x.example',
        "proto": "SMTP",
    }


@pytest.mark.parametrize("part", [_HOSTILE, "; from=<", '; from=<"', "> sasl_username=<", " from a[b]: ", '"'])
@pytest.mark.parametrize("head", ['<"', "<", ""])
def test_line_of_a_stranger_takes_no_time(head: str, part: str) -> None:
    """Who reads it for a second makes every daemon wait that logs meanwhile. It takes some 0.1 ms; once it was 1000."""
    line = (_REJECT + head + part * 2000)[:2000]
    began = time.process_time()
    assert parse_line(line).kind == "reject"
    assert time.process_time() - began < 0.1


_atom = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+_=-%!#$&'*/?^`{|}~üλ", min_size=4, max_size=12).map("q".__add__)
_quoted = st.text("abcxyz ,;:<>()[]@.", min_size=4, max_size=12).map(lambda text: f'"Q{text}"')
_TEMPLATES = [
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=5.1.1, status=bounced "
    "(host r.example[1.2.3.4] said: 550 5.1.1 <{a}>: {local}, {c}) (in reply to {c}) (in reply to RCPT TO command))",
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=5.5.0, status=bounced "
    "(Protocol error: host r.example[1.2.3.4] said: {c} (in reply to end of DATA command))",
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=2.0.0, status=sent (250-{c} 250 {c})",
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=4.7.8, status=deferred "
    "(delivery temporarily suspended: SASL authentication failed; server r.example[1.2.3.4] said: 535 5.7.8 {c})",
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=4.0.0, status=deferred "
    "(host r.example[1.2.3.4] refused to talk to me: 421 {c})",
    "smtp[7]: {id}: to=<{a}>, relay=r.example[1.2.3.4]:25, " + DELAYS + ", dsn=4.7.4, status=deferred "
    "(TLS is required, but host r.example[1.2.3.4] refused to start TLS: 454 4.7.0 {c})",
    "smtp[7]: warning: r.example[1.2.3.4]:25: response longer than 2048: {c}...",
    "smtp[7]: warning: 3F: non-ESMTP response from r.example[1.2.3.4]:25: {c}",
    "smtp[7]: warning: r.example[1.2.3.4]:25 offered no supported AUTH mechanisms: '{c}'",
    "smtpd[7]: warning: non-SMTP command from unknown[2001:db8::1]: {c}",
    "smtpd[7]: improper command pipelining after end of DATA from unknown[2001:db8::1]: {c}",
    "smtpd[7]: warning: bad ETRN {c}... from unknown[1.2.3.4]",
    "smtpd[7]: warning: {id}: malformed BDAT command syntax from unknown[1.2.3.4]: {c}",
    "cleanup[7]: {id}: reject: header Subject: {c} from x[1.2.3.4]; from=<{a}> to=<{b}> proto=SMTP helo=<x>: 5.7.1 no",
    "cleanup[7]: {id}: warning: body {c}; {c} from local; from=<{a}> to=<{b}>: no",
    "something[7]: {c}",
    "{c}",
    "smtp[7]: {id}: to=<{a}>, orig_to=<{b}>, relay=none, " + DELAYS + ", dsn=4.0.0, status=deferred (about {b})",
    "smtpd[7]: NOQUEUE: reject: RCPT from unknown[1.2.3.4]: 554 5.7.1 <{a}>: no; from=<{b}> to=<{a}> proto=SMTP",
    "smtpd[7]: {id}: client=unknown[1.2.3.4], sasl_method=PLAIN, sasl_username={a}",
    "smtpd[7]: {id}: client=unknown[1.2.3.4], sasl_method=PLAIN, sasl_username={local}",
    "smtpd[7]: warning: Illegal address syntax from unknown[1.2.3.4] in RCPT command: <{local}>",
    "smtpd[7]: warning: non-SMTP command from unknown[1.2.3.4]: {local}",
    "smtpd[7]: improper command pipelining after DATA from unknown[1.2.3.4]: {local} {a}",
    "cleanup[7]: {id}: message-id=<{a}>",
    "cleanup[7]: {id}: message-id={local}",
    "qmgr[7]: {id}: from=<{a}>, size=3, nrcpt=1 (queue active)",
    "qmgr[7]: {id}: from=<{local}>, status=expired, returned to sender",
    "pickup[7]: {id}: uid=0 from=<{a}>",
    "smtp[7]: {id}: host r.example[1.2.3.4] said: 450 4.2.0 {local} is away (in reply to RCPT TO command)",
    "something[7]: of {a} and <{local}> {c}",
]


@given(
    st.sampled_from(_TEMPLATES),
    st.one_of(_atom, _quoted),
    st.one_of(_atom, _quoted),
    st.sampled_from(["example.com", "sub.example.com", "[192.0.2.1]", "bücher.example"]),
    st.sampled_from(["domain", "hash"]),
)
def test_nothing_before_an_at_is_left(template: str, one: str, other: str, domain: str, mode: str) -> None:
    """Who asks for no addresses in the log has promised it to somebody."""
    unheard = "zoe.unheard"
    text = template.format(id=ID, a=f"{one}@{domain}", b=f"{other}@{domain}", local=one, c=unheard)
    form = Form("json", Addresses(mode, b"k" * 32))
    entry = parse_line(f"postfix/{text}")
    line = form.render("T", "INFO", f"postfix/{text}", entry)
    plain = Form("plain", Addresses(mode, b"k" * 32)).render("T", "INFO", f"postfix/{text}", entry)
    for shown in (json.dumps(json.loads(line), ensure_ascii=False), plain):
        for local in (one, other, unheard):
            assert local not in shown
            assert local.strip('"') not in shown
    if "@" in template or "{a}" in template:
        assert domain in plain or "left out" in plain
