"""Who sends what to a relay with a list server behind it, and what each is told. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

LISTS: Final = "lists.example.test"
OWN: Final = "relay.example.test"
# A name that the engine's name server knows: it is the client's.
OUTSIDE: Final = "outside.example.test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One message of a stranger's."""

    rcpt_to: str
    # The reply that decides: to the content where it is 250, to RCPT otherwise.
    code: int
    words: str = ""
    # Where Mailman puts it, and for what: `in`, `command/confirm`.
    lands: str = ""
    mail_from: str = f"ann@{OUTSIDE}"
    helo: str = OUTSIDE


UNKNOWN: Final = "5.1.1"
DENIED: Final = "5.7.1"
STRANGERS: Final[Mapping[str, Case]] = {
    "list": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in"),
    "list-in-capitals": Case(rcpt_to="Ant@LISTS.example.TEST", code=250, lands="in"),
    "list-with-a-dot": Case(rcpt_to=f"dev.team@{LISTS}", code=250, lands="in"),
    "second-domain": Case(rcpt_to="ant@other.example.test", code=250, lands="in"),
    "alias-domain": Case(rcpt_to="bee@alias.example.test", code=250, lands="in"),
    "behind-the-alias-domain": Case(rcpt_to="bee@real.example.test", code=250, lands="in"),
    "request": Case(rcpt_to=f"ant-request@{LISTS}", code=250, lands="command/request"),
    "confirm": Case(rcpt_to=f"ant-confirm+0a1b2c@{LISTS}", code=250, lands="command/confirm"),
    "bounces": Case(rcpt_to=f"ant-bounces@{LISTS}", code=250, lands="bounces/bounces", mail_from=""),
    "verp": Case(rcpt_to=f"ant-bounces+bob=example.com@{LISTS}", code=250, lands="bounces/bounces", mail_from=""),
    "verp-in-capitals": Case(
        rcpt_to=f"ANT-Bounces+Bob+x=Example.com@{LISTS}", code=250, lands="bounces/bounces", mail_from=""
    ),
    "owner": Case(rcpt_to=f"ant-owner@{LISTS}", code=250, lands="in/owner"),
    "join": Case(rcpt_to=f"ant-join@{LISTS}", code=250, lands="command/join"),
    "leave": Case(rcpt_to=f"ant-leave@{LISTS}", code=250, lands="command/leave"),
    "subscribe": Case(rcpt_to=f"ant-subscribe@{LISTS}", code=250, lands="command/join"),
    "null-sender-to-the-list": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in", mail_from=""),
    "odd-but-real-helo": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in", helo="mx_1.outside.example.test"),
    "short-helo": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in", helo="EXCHANGE01"),
    "address-as-helo": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in", helo="[192.0.2.7]"),
    "postmaster-by-alias": Case(rcpt_to=f"postmaster@{LISTS}", code=250, lands="upstream"),
    "source-route-to-a-list": Case(rcpt_to=f"@x.example.test:ant@{LISTS}", code=250, lands="in"),
    "unknown-list": Case(rcpt_to=f"bat@{LISTS}", code=550, words=UNKNOWN),
    "unknown-part": Case(rcpt_to=f"ant-admin@{LISTS}", code=550, words=UNKNOWN),
    "unknown-list-with-extension": Case(rcpt_to=f"bat-bounces+x=example.com@{LISTS}", code=550, words=UNKNOWN),
    "list-of-another-domain": Case(rcpt_to="dev.team@other.example.test", code=550, words=UNKNOWN),
    "no-postmaster": Case(rcpt_to="postmaster@other.example.test", code=550, words=UNKNOWN),
    "quoted-at": Case(rcpt_to=f'"b@example.com"@{LISTS}', code=554, words=DENIED),
    "percent": Case(rcpt_to=f"b%example.com@{LISTS}", code=554, words=DENIED),
    "bang": Case(rcpt_to=f"example.com!b@{LISTS}", code=554, words=DENIED),
    "two-ats": Case(rcpt_to=f"b@example.com@{LISTS}", code=554, words=DENIED),
    "source-route": Case(rcpt_to=f"@{LISTS}:b@example.com", code=554, words=DENIED),
    "subdomain": Case(rcpt_to=f"ant@sub.{LISTS}", code=554, words=DENIED),
    "domain-above": Case(rcpt_to="ant@example.test", code=554, words=DENIED),
    "similar-domain": Case(rcpt_to=f"ant@not{LISTS}", code=554, words=DENIED),
    "other-domain": Case(rcpt_to="b@example.com", code=554, words=DENIED),
    "null-sender-elsewhere": Case(rcpt_to="b@example.com", code=554, words=DENIED, mail_from=""),
    "sender-of-the-list": Case(rcpt_to="b@example.com", code=554, words=DENIED, mail_from=f"ant@{LISTS}"),
    "own-name": Case(rcpt_to=f"root@{OWN}", code=554, words=DENIED),
    "without-domain": Case(rcpt_to="ant", code=554, words=DENIED),
    "own-address": Case(rcpt_to="ant@[127.0.0.1]", code=550, words=UNKNOWN),
    "helo-is-ours": Case(rcpt_to=f"ant@{LISTS}", code=550, words=DENIED, helo=OWN),
    "helo-is-the-lists'": Case(rcpt_to=f"ant@{LISTS}", code=550, words=DENIED, helo=LISTS),
    "helo-is-no-name": Case(rcpt_to=f"ant@{LISTS}", code=501, words="5.5.2", helo="not;a;name"),
    "sender-without-domain": Case(rcpt_to=f"ant@{LISTS}", code=504, words="5.5.2", mail_from="ann@host"),
    "sender-of-no-domain": Case(rcpt_to=f"ant@{LISTS}", code=450, words="4.1.8", mail_from="ann@no-such.invalid"),
}
POSTMASTERS: Final = (
    "<postmaster>", "<PostMaster>", '<"postmaster">', '<"post\\master">', "postmaster", " < postmaster >",
    "<@x.example.test:postmaster>", "<@x.example.test,@[IPv6:::1]:postmaster>", '<@x.example.test:"postmaster">',
    "@x.example.test:postmaster", "<(x)postmaster>", "<postmaster(x)>", "<postmaster.>", "<postmaster> NOTIFY=NEVER",
)  # fmt: skip
INSIDERS: Final[Mapping[str, Case]] = {
    "inside-to-list": Case(rcpt_to=f"ant@{LISTS}", code=250, lands="in", helo="mailman"),
    "inside-verp-sender": Case(
        rcpt_to="bob@example.com", code=250, lands="upstream", mail_from=f"ant-bounces+bob=example.com@{LISTS}"
    ),
    "inside-to-bounces": Case(rcpt_to=f"ant-bounces+bob=example.com@{LISTS}", code=250, lands="bounces/bounces"),
    "inside-from-nowhere": Case(
        rcpt_to="bob@example.com", code=250, lands="upstream", mail_from="x@no-such.invalid", helo=OWN
    ),
    "inside-to-unknown-list": Case(rcpt_to=f"bat@{LISTS}", code=550, words=UNKNOWN),
    "inside-to-own-name": Case(rcpt_to=f"root@{OWN}", code=250, lands="upstream"),
}


def write_steps(case: Case) -> list[bytes]:
    """What the client says, up to the content."""
    lines = (f"EHLO {case.helo}", f"MAIL FROM:<{case.mail_from}>", f"RCPT TO:<{case.rcpt_to}>", "DATA")
    return [f"{line}\r\n".encode() for line in lines]


def write_content(name: str) -> bytes:
    """A message that can be told from the others."""
    return f"From: ann@{OUTSIDE}\r\nMessage-ID: <{name}@{OUTSIDE}>\r\nSubject: x\r\n\r\nhello\r\n.\r\n".encode()
