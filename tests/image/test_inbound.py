"""Mail for a list server, GNU Mailman 3: who may send what to it, and what everybody else is told."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Final

import pytest

from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.dialogue import Answer, Place, hold_dialogues
from tests.support.engine import Engine, File, Network
from tests.support.list_server import DATA, ListServer, Taken
from tests.support.relay import Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A relay, the list server behind it, and where clients are."""

    relay: Relay
    client: Client
    server: ListServer
    outside: Place
    inside: Place


@pytest.fixture(scope="module")
def stage(engine: Engine, network: Network, module_relays: Relays) -> Stage:
    """One of each, the relay started while Mailman has no lists yet."""
    server = ListServer(engine, network)
    authority = Authority()
    chain = authority.make_chain(OWN)
    # Its names are those of senders, too, which have to exist.
    names = [word for name in (OUTSIDE, LISTS) for word in ("--network-alias", name)]
    client = Client(engine, network, arguments=names)
    relay = module_relays.start(
        {
            "LIST_DOMAINS": f"{LISTS} other.example.test alias.example.test real.example.test",
            "LIST_LMTP": server.address,
            "LIST_MAPS_DIR": "/lists",
            "MYNETWORKS": f"127.0.0.0/8 {server.container.address(network)}",
            "ALIAS_TABLE": f"postmaster@{LISTS}: admin@example.com",
            "SMTPD_TLS_CERT_FILE": "/run/secrets/tls.crt",
            "SMTPD_TLS_KEY_FILE": "/run/secrets/tls.key",
        },
        secrets={"/run/secrets/tls.crt": chain.chain_pem.encode(), "/run/secrets/tls.key": chain.key_pem.encode()},
        volumes={server.volume: "/lists:ro"},
        allowed=("LIST_MAPS_DIR: /lists/postfix_lmtp", "TLS library problem"),
    )
    own = relay.container.address(network)
    client.container.put({"/ca.pem": File(data=authority.pem.encode())})
    return Stage(
        relay=relay,
        client=client,
        server=server,
        outside=Place(host=own, container=client.container),
        inside=Place(host=own, container=server.container, python="python3"),
    )


def write_steps(case: Case) -> list[bytes]:
    """What the client says, up to the content."""
    lines = (f"EHLO {case.helo}", f"MAIL FROM:<{case.mail_from}>", f"RCPT TO:<{case.rcpt_to}>", "DATA")
    return [f"{line}\r\n".encode() for line in lines]


def write_content(name: str) -> bytes:
    return f"From: ann@{OUTSIDE}\r\nMessage-ID: <{name}@{OUTSIDE}>\r\nSubject: x\r\n\r\nhello\r\n.\r\n".encode()


def hand_in(place: Place, cases: Mapping[str, Case]) -> dict[str, Answer]:
    """Send each message in a session of its own; the reply that decided."""
    found = {}
    asked = hold_dialogues(place, [write_steps(case) for case in cases.values()])
    for name, replies in zip(cases, asked, strict=True):
        found[name] = next((one for one in replies[1:-1] if one.code >= 400), replies[-1])
    taken = [name for name in cases if found[name].code == 354]
    again = hold_dialogues(place, [[*write_steps(cases[name]), write_content(name)] for name in taken])
    return {**found, **{name: replies[-1] for name, replies in zip(taken, again, strict=True)}}


def find_taken(server: ListServer, name: str) -> list[Taken]:
    """What Mailman has of a message."""
    return [one for one in server.taken() if f"<{name}@{OUTSIDE}>" in one.text]


def ask(stage: Stage, rcpt_to: str, *, place: Place | None = None) -> int:
    """What a stranger is told about a recipient."""
    steps = [*write_steps(Case(rcpt_to=rcpt_to, code=0))[:3], b"QUIT\r\n"]
    (answers,) = hold_dialogues(place or stage.outside, [steps])
    return answers[3].code


def measure_until(stage: Stage, rcpt_to: str, code: int) -> float:
    """The seconds until strangers are told that about a recipient."""
    began = time.monotonic()
    wait_until(lambda: ask(stage, rcpt_to) == code, 20, f"{rcpt_to} should be answered with {code}")
    return time.monotonic() - began


def find_last_look(stage: Stage) -> str:
    """What changes when the upkeep has planned its next run."""
    return stage.relay.exec(["stat", "-c", "%i %z", "/run/authrelay/upkeep-agenda.json"]).text


def test_before_mailman_has_told_its_lists_mail_is_to_come_again(stage: Stage) -> None:
    """Nobody's mail is refused for good because Mailman starts after the relay; what is not for it is, as always."""
    # The upkeep's look finds nothing either.
    before = find_last_look(stage)
    stage.server.container.exec(["touch", f"{DATA}/postfix_vmap"])
    wait_until(lambda: find_last_look(stage) != before, 15, "the upkeep should have run")
    assert ask(stage, f"ant@{LISTS}") == 450
    assert ask(stage, f"ant@{LISTS}", place=stage.inside) == 450
    assert ask(stage, "b@example.com") == 554
    assert ask(stage, "b@example.com", place=stage.inside) == 250


def test_lists_that_are_made_and_removed_are_followed_within_seconds(stage: Stage) -> None:
    """No restart, and no person: Mailman writes its files, and the relay has seen it."""
    stage.server.make_lists(
        f"ant@{LISTS}", f"dev.team@{LISTS}", f"old@{LISTS}", "ant@other.example.test", "bee@real.example.test",
        aliases={"real.example.test": "alias.example.test"},
    )  # fmt: skip
    made = measure_until(stage, f"old@{LISTS}", 250)
    stage.server.run(["remove", f"old@{LISTS}"])
    removed = measure_until(stage, f"old@{LISTS}", 550)
    print(f"known after {made:.1f} s, gone after {removed:.1f} s")
    assert max(made, removed) < 10


@pytest.fixture(scope="module")
def answers(stage: Stage) -> dict[str, Answer]:
    """What strangers were told."""
    return hand_in(stage.outside, STRANGERS)


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_reach_lists_and_nothing_else(
    name: str, stage: Stage, answers: Mapping[str, Answer], the_upstream: Upstream
) -> None:
    """The code tells the sender's server what to do: 4xx to come again, 5xx to tell its user."""
    case, answer = STRANGERS[name], answers[name]
    assert answer.code == case.code, answer.text
    assert case.words in answer.text
    if case.lands == "upstream":
        wait_until(lambda: the_upstream.messages(), 20, "the alias's mail should reach the upstream")
        assert {message.rcpt_tos for message in the_upstream.messages()} == {("admin@example.com",)}
        return
    if not case.lands:
        return
    wait_until(lambda: find_taken(stage.server, name), 20, "Mailman should have taken the message")
    (taken,) = find_taken(stage.server, name)
    assert f"{taken.queue}/{taken.part}".rstrip("/") == case.lands


def test_nobody_gets_mail_to_the_postmaster_through_a_list(stage: Stage, the_upstream: Upstream) -> None:
    """smtpd(8) takes `<postmaster>` from everyone, without a question; here it would be mail for the upstream."""
    the_upstream.reset()
    dialogues = [
        [
            f"EHLO {OUTSIDE}\r\n".encode(), f"MAIL FROM:<ann@{OUTSIDE}>\r\n".encode(),
            f"RCPT TO:<ant@{LISTS}>\r\n".encode(), f"RCPT TO:{spelling}\r\n".encode(), b"DATA\r\n",
            write_content(f"postmaster-{number}"),
        ]
        for number, spelling in enumerate(POSTMASTERS)
    ]  # fmt: skip
    answers = hold_dialogues(stage.outside, dialogues)
    assert {
        spelling: one[4].code for spelling, one in zip(POSTMASTERS, answers, strict=True) if one[4].code < 500
    } == {}
    # The list gets its mail.
    assert {one[-1].code for one in answers} == {250}
    wait_until(lambda: len(find_taken(stage.server, f"postmaster-{len(POSTMASTERS) - 1}")) == 1, 20, "it should arrive")
    stage.relay.wait_queue(0)
    assert the_upstream.messages() == []


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


def test_who_may_send_reaches_lists_and_everybody_else(stage: Stage, the_upstream: Upstream) -> None:
    """Mailman's own mail goes to the upstream; to a list, also to its own, it goes by LMTP. No check delays it."""
    the_upstream.reset()
    answers = hand_in(stage.inside, INSIDERS)
    assert {name: answer.code for name, answer in answers.items()} == {name: one.code for name, one in INSIDERS.items()}
    elsewhere = sorted((one.mail_from, one.rcpt_to) for one in INSIDERS.values() if one.lands == "upstream")
    wait_until(lambda: the_upstream.count() == len(elsewhere), 20, "the upstream should have the rest")
    assert sorted((one.mail_from, *one.rcpt_tos) for one in the_upstream.messages()) == elsewhere
    stage.relay.wait_queue(0)
    for name, case in INSIDERS.items():
        places = [f"{one.queue}/{one.part}".rstrip("/") for one in find_taken(stage.server, name)]
        assert places == ([case.lands] if case.lands not in ("", "upstream") else [])


def test_bounce_that_the_relay_makes_itself_goes_to_mailman_and_not_to_the_upstream(
    stage: Stage, the_upstream: Upstream
) -> None:
    """By its VERP address Mailman knows whose mail it was (RFC 3464 says the rest)."""
    the_upstream.reset()
    the_upstream.behave(faults={"rcpt": reply(550, "5.1.1 no such user", containing="gone@")})
    sender = f"ant-bounces+gone=example.com@{LISTS}"
    answer = hand_in(stage.inside, {"refused": Case(rcpt_to="gone@example.com", code=250, mail_from=sender)})["refused"]
    assert answer.code == 250

    def find() -> list[Taken]:
        return [one for one in stage.server.taken() if "gone@example.com" in one.text and one.queue == "bounces"]

    wait_until(lambda: len(find()) == 1, 20, "the bounce should reach Mailman")
    assert f"To: {sender}" in find()[0].text
    stage.relay.wait_queue(0)
    assert the_upstream.messages() == []
    the_upstream.reset()


def test_mail_waits_while_mailman_is_away_and_that_is_no_fault_of_the_upstream(stage: Stage) -> None:
    """Nothing is bounced; health, and what is said of the upstream, stay as they are; then everything arrives once."""
    stage.server.container.stop()
    try:
        names = [f"away-{number}" for number in range(5)]
        case = STRANGERS["list"]
        answers = hand_in(stage.outside, dict.fromkeys(names, case))
        assert {answer.code for answer in answers.values()} == {250}
        waiting = stage.relay.wait_queue(len(names))
        wait_until(lambda: all("delay_reason" in one["recipients"][0] for one in stage.relay.queue()), 20, "all tried")
        assert hand_in(stage.outside, {"away-late": case})["away-late"].code == 250
        wait_until(lambda: all("delay_reason" in one["recipients"][0] for one in stage.relay.queue()), 20, "all tried")
        waiting = stage.relay.queue()
        assert {one["recipients"][0]["delay_reason"].partition(": ")[0] for one in waiting} == {"list server"}
        told = stage.relay.exec(["authrelay", "queue"]).text
        assert "upstream" not in told.lower()
        assert "LIST_LMTP" in told
        assert stage.relay.exec(["sh", "-c", "ls /run/authrelay/trouble 2>/dev/null || echo none"]).text == "none\n"
    finally:
        stage.server.container.start()
    stage.server.wait_listening()
    began = time.monotonic()
    # Nobody flushes: the relay looks for it.
    stage.relay.wait_queue(0, 60)
    print(f"delivered {time.monotonic() - began:.1f} s after Mailman took connections again")
    for name in (*names, "away-late"):
        assert len(find_taken(stage.server, name)) == 1


def test_largest_message_goes_through_and_a_larger_one_is_refused_at_once(stage: Stage) -> None:
    """What Mailman refuses would go back to whom it claims to be from; so nothing that it refuses is taken."""
    limit = int(stage.relay.postconf("message_size_limit"))
    line = b"x" * 998 + b"\r\n"
    head = write_content("large").removesuffix(b"hello\r\n.\r\n")
    # Postfix counts what a line takes in its queue file.
    content = head + line * (limit * 99 // 100 // len(line)) + b".\r\n"
    (answers,) = hold_dialogues(stage.outside, [[*write_steps(STRANGERS["list"]), content]], timeout_seconds=60)
    assert answers[-1].code == 250, answers[-1].text
    wait_until(lambda: find_taken(stage.server, "large"), 60, "Mailman should have taken it")
    (taken,) = find_taken(stage.server, "large")
    assert taken.size > limit * 98 // 100
    steps = write_steps(dataclasses.replace(STRANGERS["list"]))
    steps[1] = steps[1].replace(b">\r\n", f"> SIZE={limit + 1}\r\n".encode())
    (answers,) = hold_dialogues(stage.outside, [steps])
    assert answers[2].code == 552


def test_who_talks_before_the_greeting_is_refused_and_nobody_else_waits_twice(
    stage: Stage, client: Client, network: Network
) -> None:
    """postscreen(8): what sends spam does not wait. Here the engine's other client comes for the first time."""
    early = "\r\n".join(
        (f"EHLO {OUTSIDE}", f"MAIL FROM:<ann@{OUTSIDE}>", f"RCPT TO:<ant@{LISTS}>", "QUIT", "")
    )  # fmt: skip
    script = (
        "import socket, sys; c = socket.create_connection((sys.argv[1], 25), 20); c.sendall(sys.argv[2].encode());"
        "print(c.makefile('rb').read().decode())"
    )
    own = stage.relay.container.address(network)
    said = client.container.exec(["python", "-c", script, own, early]).text
    assert "550 5.5.1 Protocol error" in said
    began = time.monotonic()
    assert ask(stage, f"ant@{LISTS}") == 250
    assert ask(stage, f"ant@{LISTS}", place=stage.inside) == 250
    assert time.monotonic() - began < 2
    # The one that was refused may come again, and wait this time.
    assert ask(stage, f"ant@{LISTS}", place=Place(host=own, container=client.container)) == 250


def test_tls_is_there_for_who_wants_it_and_nobody_has_to(stage: Stage) -> None:
    """Mail of an old server in the clear is better than none (RFC 3207 section 4); a new one finds our name."""
    arguments = ["--server", stage.relay.container.name, "--to", f"ant@{LISTS}", "--from", f"ann@{OUTSIDE}"]
    verified = ["--tls", "--tls-verify", "--tls-ca-path", "/ca.pem", "--tls-verify-target", OWN, "--tls-sni", OWN]
    assert stage.client.swaks([*arguments, "--helo", OUTSIDE, *verified]).status == 0
    assert stage.client.swaks(
        [*arguments, "--helo", OUTSIDE, "--tls", "--tls-protocol", "no_tlsv1_2,no_tlsv1_3"]
    ).status
    assert stage.client.swaks([*arguments, "--helo", OUTSIDE]).status == 0


def test_strangers_start_nothing_and_learn_nothing(stage: Stage) -> None:
    """With relay_domains Postfix would let everyone have the queue tried (ETRN)."""
    commands = (f"ETRN {LISTS}", f"ETRN @{LISTS}", f"VRFY ant@{LISTS}", "EXPN ant", "AUTH PLAIN AGEAYg==")
    steps = [f"EHLO {OUTSIDE}\r\n".encode(), *(f"{command}\r\n".encode() for command in commands)]
    ((_, _, *replies),) = hold_dialogues(stage.outside, [steps])
    assert [reply.code for reply in replies] == [554, 459, 502, 500, 503]


LMTP_FILE: Final = f"{DATA}/postfix_lmtp"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (f"mv {LMTP_FILE} {LMTP_FILE}.away", "is not there. The lists that were there before are known still"),
        (f"cp {LMTP_FILE} {LMTP_FILE}.away; : > {LMTP_FILE}", "is empty, or its last line has no end"),
        (f"cp {LMTP_FILE} {LMTP_FILE}.away; truncate --size=-40 {LMTP_FILE}", "is empty, or its last line has no end"),
        (f"cp {LMTP_FILE} {LMTP_FILE}.away; echo '/./ lmtp:x' >> {LMTP_FILE}", "has a line that is none of Mailman's"),
    ],
    ids=["gone", "empty", "cut", "odd"],
)
def test_damaged_maps_take_no_list_away_and_open_nothing(damage: str, words: str, stage: Stage) -> None:
    """Somebody moves a volume, or a copy of the file is under way: the lists live on, and a person is told."""
    stage.server.container.exec(["sh", "-c", damage])
    try:
        wait_until(lambda: words in stage.relay.logs(), 15, "the relay should say what it found")
        assert ask(stage, f"ant@{LISTS}") == 250
        assert ask(stage, f"bat@{LISTS}") == 550
        assert words in stage.relay.exec(["authrelay", "health"], check=False).text
    finally:
        stage.server.container.exec(["mv", f"{LMTP_FILE}.away", LMTP_FILE])
    wait_until(lambda: words not in stage.relay.exec(["authrelay", "health"], check=False).text, 15, "it is mended")


def test_list_that_goes_while_its_mail_waits_is_told_to_the_sender(stage: Stage, the_upstream: Upstream) -> None:
    """What was accepted is not lost: it is one of the two cases in which the relay must send a bounce."""
    the_upstream.reset()
    lines = stage.server.container.exec(["cat", LMTP_FILE]).text
    added = f"{lines}ghost@{LISTS}  lmtp:[x]:8024\n"
    stage.server.container.exec(["sh", "-c", f"cat > {LMTP_FILE}"], stdin=added.encode())
    measure_until(stage, f"ghost@{LISTS}", 250)
    case = Case(rcpt_to=f"ghost@{LISTS}", code=250)
    assert hand_in(stage.outside, {"ghost": case})["ghost"].code == 250
    wait_until(lambda: the_upstream.count() == 1, 20, "the sender should be told")
    (bounce,) = the_upstream.messages()
    assert (bounce.mail_from, bounce.rcpt_tos) == ("", (f"ann@{OUTSIDE}",))
    assert b"list server: host mailman.example.test" in bounce.data
