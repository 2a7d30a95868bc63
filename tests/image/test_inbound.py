"""Mail for a list server, GNU Mailman 3: who may send what to it, and what everybody else is told.

One relay and one Mailman serve all of it. What needs Mailman to be away comes late: while it starts again, what needs
none is tried.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from entrypoint.paths import PYTHON
from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.dialogue import Answer, Place, hold_dialogues
from tests.support.engine import Engine, File, Network
from tests.support.inbound_cases import (
    INSIDERS,
    LISTS,
    OUTSIDE,
    OWN,
    POSTMASTERS,
    STRANGERS,
    Case,
    write_content,
    write_steps,
)
from tests.support.inbound_programs import AT_ONCE, EARLY, LARGE, TLS
from tests.support.list_server import DATA, ListServer, Taken
from tests.support.relay import Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

PUBLIC: Final = "public.example.test"
"""The dynamic name of the address under which the world reaches the relay."""
BESIDE: Final = "beside.example.test"
"""A domain that TRANSPORT_TABLE sends by LMTP."""
RECIPIENTS_A_MINUTE: Final = 200
CONNECTIONS_A_MINUTE: Final = 250
LMTP_FILE: Final = f"{DATA}/postfix_lmtp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A relay, the list server behind it, and where clients are."""

    relay: Relay
    client: Client
    server: ListServer
    outside: Place
    inside: Place
    # Another stranger.
    newcomer: Place
    public_address: str


@pytest.fixture(scope="module")
def stage(engine: Engine, network: Network, client: Client, the_upstream: Upstream, module_relays: Relays) -> Stage:
    """One of each, the relay started while Mailman has no lists yet."""
    the_upstream.reset()
    server = ListServer(engine, network)
    authority = Authority()
    chain = authority.make_chain(OWN)
    # Its names are those of senders, too, which have to exist.
    names = [word for name in (OUTSIDE, LISTS, PUBLIC) for word in ("--network-alias", name)]
    stranger = Client(engine, network, arguments=names)
    relay = module_relays.start(
        {
            "LIST_DOMAINS": f"{LISTS} other.example.test alias.example.test real.example.test",
            "LIST_LMTP": server.address,
            "LIST_MAPS_DIR": "/lists",
            "MYNETWORKS": f"127.0.0.0/8 {server.container.address(network)}",
            "PROXY_INTERFACES": PUBLIC,
            "ALIAS_TABLE": f"postmaster@{LISTS}: admin@example.com",
            "TRANSPORT_TABLE": f"{BESIDE} lmtp:{server.address}",
            "SENDER_RELAY_TABLE": "@moved.example.test no-such-host.invalid:587",
            "DKIM_DOMAINS": OUTSIDE,
            "SMTPD_TLS_CERT_FILE": "/run/secrets/tls.crt",
            "SMTPD_TLS_KEY_FILE": "/run/secrets/tls.key",
            "SMTPD_CLIENT_RECIPIENT_RATE_LIMIT": str(RECIPIENTS_A_MINUTE),
            "SMTPD_CLIENT_CONNECTION_RATE_LIMIT": str(CONNECTIONS_A_MINUTE),
        },
        secrets={"/run/secrets/tls.crt": chain.chain_pem.encode(), "/run/secrets/tls.key": chain.key_pem.encode()},
        volumes={server.volume: "/lists:ro", engine.volume(): "/var/lib/authrelay"},
        allowed=(
            "LIST_MAPS_DIR: /lists/postfix_lmtp",
            f"LIST_DOMAINS: Mailman has lists at {BESIDE}",
            "TLS library problem",
            "postfix/(smtpd|postscreen).*rate limit exceeded",
            "concurrency limit exceeded",
        ),
    )
    own = relay.container.address(network)
    stranger.container.put({"/ca.pem": File(data=authority.pem.encode())})
    return Stage(
        relay=relay,
        client=stranger,
        server=server,
        outside=Place(host=own, container=stranger.container),
        inside=Place(host=own, container=server.container, python="python3"),
        newcomer=Place(host=own, container=client.container),
        public_address=stranger.container.address(network),
    )


def hand_in(place: Place, cases: Mapping[str, Case]) -> dict[str, Answer]:
    """Send each message in a session of its own; the reply that decided."""
    found = {}
    asked = hold_dialogues(place, [write_steps(case) for case in cases.values()])
    for name, replies in zip(cases, asked, strict=True):
        found[name] = next((one for one in replies[1:4] if one.code >= 400), replies[-1])
        if len(replies) == 5 and found[name] is replies[4] and found[name].code >= 400:
            # That is the second lock; the first must hold by itself.
            found[name] = Answer(code=0, text=f"refused only at DATA: {replies[4]}")
    taken = [name for name in cases if found[name].code == 354]
    again = hold_dialogues(place, [[*write_steps(cases[name]), write_content(name)] for name in taken])
    return {**found, **{name: replies[-1] for name, replies in zip(taken, again, strict=True)}}


def sort_taken(server: ListServer) -> dict[str, list[Taken]]:
    """What Mailman has, by the name of the message."""
    found: dict[str, list[Taken]] = {}
    for one in server.taken():
        found.setdefault(one.message_id.strip("<>").removesuffix(f"@{OUTSIDE}"), []).append(one)
    return found


def wait_taken(stage: Stage, *names: str) -> dict[str, list[Taken]]:
    """Wait until Mailman has each of these messages; all that it has."""
    missing = set(names)

    def has_all() -> bool:
        missing.difference_update(sort_taken(stage.server))
        return not missing

    wait_until(has_all, 30, f"Mailman should have taken {len(names)} messages")
    return sort_taken(stage.server)


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
    return stage.relay.container.exec(["stat", "-c", "%i %z", "/run/authrelay/upkeep-agenda.json"]).text


def test_before_mailman_has_told_its_lists_mail_is_to_come_again(stage: Stage) -> None:
    """Nobody's mail is refused for good because Mailman starts after the relay; what is not for it is, as always."""
    before = find_last_look(stage)
    with ThreadPoolExecutor() as pool:
        # Both wait for their first greeting.
        codes = [pool.submit(ask, stage, f"ant@{LISTS}", place=place) for place in (stage.outside, stage.newcomer)]
        touch = functools.partial(stage.server.container.exec, ["touch", f"{DATA}/postfix_vmap"], check=False)
        wait_until(lambda: touch().status == 0, 15, "Mailman should have its directory")
        assert [code.result() for code in codes] == [450, 450]
    # The upkeep's look finds nothing either.
    wait_until(lambda: find_last_look(stage) != before, 15, "the upkeep should have run")
    assert ask(stage, f"ant@{LISTS}") == 450
    assert ask(stage, f"ant@{LISTS}", place=stage.inside) == 450
    assert ask(stage, "b@example.com") == 554
    assert ask(stage, "b@example.com", place=stage.inside) == 250


def test_lists_that_are_made_and_removed_are_followed_within_seconds(stage: Stage) -> None:
    """No restart, and no person: Mailman writes its files, and the relay has seen it."""
    names = (f"ant@{LISTS}", f"dev.team@{LISTS}", "ant@other.example.test", "bee@real.example.test", f"cat@{BESIDE}")
    old, aliases = f"old@{LISTS}", {"real.example.test": "alias.example.test"}
    with ThreadPoolExecutor() as pool:
        making = pool.submit(stage.server.make_lists, *names, old, aliases=aliases, removed=[old])
        try:
            stage.server.wait_written(old)
            made = measure_until(stage, old, 250)
        finally:
            stage.server.go_on()
        making.result()
    removed = measure_until(stage, old, 550)
    print(f"known after {made:.1f} s, gone after {removed:.1f} s")
    assert max(made, removed) < 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the strangers' messages."""

    answers: Mapping[str, Answer]
    taken: Mapping[str, list[Taken]]


@pytest.fixture(scope="module")
def outcome(stage: Stage) -> Outcome:
    """All of them, handed in at once."""
    answers = hand_in(stage.outside, STRANGERS)
    landed = [name for name, case in STRANGERS.items() if case.lands not in ("", "upstream")]
    return Outcome(answers=answers, taken=wait_taken(stage, *(name for name in landed if answers[name].code == 250)))


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_reach_lists_and_nothing_else(name: str, outcome: Outcome, the_upstream: Upstream) -> None:
    """The code tells the sender's server what to do: 4xx to come again, 5xx to tell its user."""
    case, answer = STRANGERS[name], outcome.answers[name]
    assert answer.code == case.code, answer.text
    assert case.words in answer.text
    if case.lands == "upstream":
        (message,) = the_upstream.wait_messages(1)
        assert message.rcpt_tos == ("admin@example.com",)
        # He says that he is of a domain that we sign for, as anyone may.
        assert b"DKIM-Signature" not in message.data
    elif case.lands:
        (taken,) = outcome.taken[name]
        assert f"{taken.queue}/{taken.part}".rstrip("/") == case.lands
        assert "DKIM-Signature" not in taken.text
    else:
        assert name not in outcome.taken


def test_nobody_gets_mail_to_the_postmaster_through_a_list(
    stage: Stage, outcome: Outcome, the_upstream: Upstream
) -> None:
    """smtpd(8) takes `<postmaster>` from everyone, without a question; here it would be mail for the upstream."""
    assert outcome
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
    wait_taken(stage, *(f"postmaster-{number}" for number in range(len(POSTMASTERS))))
    stage.relay.wait_queue(0)
    assert the_upstream.messages() == []


def test_who_may_send_reaches_lists_and_everybody_else(stage: Stage, the_upstream: Upstream) -> None:
    """Mailman's own mail goes to the upstream; to a list, also to its own, it goes by LMTP. No check delays it."""
    the_upstream.reset()
    answers = hand_in(stage.inside, INSIDERS)
    assert {name: answer.code for name, answer in answers.items()} == {name: one.code for name, one in INSIDERS.items()}
    elsewhere = sorted((one.mail_from, one.rcpt_to) for one in INSIDERS.values() if one.lands == "upstream")
    messages = the_upstream.wait_messages(len(elsewhere))
    assert sorted((one.mail_from, *one.rcpt_tos) for one in messages) == elsewhere
    assert all(b"DKIM-Signature" in one.data for one in messages)
    landed = {name: one.lands for name, one in INSIDERS.items() if one.lands not in ("", "upstream")}
    taken = wait_taken(stage, *landed)
    stage.relay.wait_queue(0)
    for name in INSIDERS:
        places = [f"{one.queue}/{one.part}".rstrip("/") for one in taken.get(name, [])]
        assert places == ([landed[name]] if name in landed else [])


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


def test_address_outside_the_nat_is_our_own(stage: Stage) -> None:
    """PROXY_INTERFACES, by a dynamic name: mail to our public address is for a name that we have, or have not."""
    assert ask(stage, f"ant@[{stage.public_address}]") == 550
    assert ask(stage, "ant@[192.0.2.1]") == 554


def test_list_that_goes_while_its_mail_waits_is_told_to_the_sender(stage: Stage, the_upstream: Upstream) -> None:
    """What was accepted is not lost: it is one of the two cases in which the relay must send a bounce."""
    the_upstream.reset()
    lines = stage.server.container.exec(["cat", LMTP_FILE]).text
    added = f"{lines}ghost@{LISTS}  lmtp:[x]:8024\n"
    stage.server.container.exec(["sh", "-c", f"cat > {LMTP_FILE}"], stdin=added.encode())
    measure_until(stage, f"ghost@{LISTS}", 250)
    case = Case(rcpt_to=f"ghost@{LISTS}", code=250)
    assert hand_in(stage.outside, {"ghost": case})["ghost"].code == 250
    (bounce,) = the_upstream.wait_messages(1)
    assert (bounce.mail_from, bounce.rcpt_tos) == ("", (f"ann@{OUTSIDE}",))
    # Its lines are broken anywhere.
    assert b"list server: host mailman.example.test" in b" ".join(bounce.data.split())


AWAY: Final = tuple(f"away-{number}" for number in range(5))


@pytest.fixture(scope="module")
def absence(stage: Stage, the_upstream: Upstream) -> str:
    """What `authrelay queue` says while Mailman's container is away, and with it its name; mail for it was accepted."""
    the_upstream.reset()
    stage.server.container.kill()
    stage.server.container.wait_exit()
    try:
        answers = hand_in(stage.outside, dict.fromkeys(AWAY, STRANGERS["list"]))
        others = {
            "away-beside": Case(rcpt_to=f"cat@{BESIDE}", code=250),
            "moved": Case(rcpt_to="b@example.com", code=250, mail_from="x@moved.example.test"),
        }
        # The relay itself may send, too.
        local = Place(host="127.0.0.1", container=stage.relay.container, python=PYTHON)
        answers |= hand_in(local, others)
        assert {answer.code for answer in answers.values()} == {250}
        stage.relay.wait_queue(len(answers))
        wait_until(lambda: all("delay_reason" in one["recipients"][0] for one in stage.relay.queue()), 20, "all tried")
        # The way is known to be broken, and it is taken all the same.
        assert hand_in(stage.outside, {"away-late": STRANGERS["list"]})["away-late"].code == 250
        wait_until(lambda: all("delay_reason" in one["recipients"][0] for one in stage.relay.queue()), 20, "all tried")
        reasons = {one["recipients"][0]["address"]: one["recipients"][0]["delay_reason"] for one in stage.relay.queue()}
        assert reasons[f"ant@{LISTS}"].startswith("list server: ")
        assert reasons[f"cat@{BESIDE}"].startswith("unable to look up host ")
        assert reasons["b@example.com"].startswith("unable to look up host ")
        told = stage.relay.exec(["authrelay", "queue"]).text
    finally:
        stage.server.container.start()
    # As a person would: no such host will come.
    moved = next(one["queue_id"] for one in stage.relay.queue() if one["sender"] == "x@moved.example.test")
    stage.relay.container.exec(["postsuper", "-d", moved])
    return told


def test_mail_waits_while_mailman_is_away_and_that_is_no_fault_of_the_upstream(absence: str) -> None:
    """Neither is anything bounced, nor is the upstream looked for."""
    assert "LIST_LMTP" in absence
    assert "the list server" in absence


def test_who_talks_before_the_greeting_is_refused_and_nobody_else_waits_twice(
    absence: str, stage: Stage, network: Network
) -> None:
    """postscreen(8): what sends spam does not wait. Here the newcomer comes from an address that is not known yet."""
    assert absence
    early = "\r\n".join(
        (f"EHLO {OUTSIDE}", f"MAIL FROM:<ann@{OUTSIDE}>", f"RCPT TO:<ant@{LISTS}>", "QUIT", "")
    )  # fmt: skip
    newcomer = stage.newcomer
    assert newcomer.container is not None
    said = newcomer.container.exec(["python", "-c", EARLY, stage.relay.container.address6(network), early]).text
    assert "550 5.5.1 Protocol error" in said
    began = time.monotonic()
    for place in (stage.outside, newcomer, stage.inside):
        assert ask(stage, f"ant@{LISTS}", place=place) == 250
    assert time.monotonic() - began < 2


def test_strangers_are_bounded_and_mailman_is_not(absence: str, stage: Stage) -> None:
    """A stranger's burst is told to come again; a post to a list of a thousand is Mailman's burst."""
    assert absence
    count = RECIPIENTS_A_MINUTE + 1
    begin = [f"EHLO {OUTSIDE}\r\n".encode(), f"MAIL FROM:<ann@{OUTSIDE}>\r\n".encode()]
    many = [*begin, *[f"RCPT TO:<ant@{LISTS}>\r\n".encode()] * count, b"QUIT\r\n"]
    for place, last in ((stage.newcomer, 450), (stage.inside, 250)):
        (answers,) = hold_dialogues(place, [many])
        codes = [answer.code for answer in answers[3:-1]]
        assert set(codes[: count // 2]) == {250}
        assert codes[-1] == last
    most = int(stage.relay.container.exec(["postconf", "-h", "smtpd_client_connection_count_limit"]).text)
    assert stage.newcomer.container is not None
    at_once = stage.newcomer.container.exec(["python", "-c", AT_ONCE, stage.outside.host, str(most + 1)]).text.split()
    assert (at_once.count("220"), at_once.count("421")) == (most, 1)
    for place, last in ((stage.newcomer, 421), (stage.inside, 220)):
        greetings = hold_dialogues(place, [[b"QUIT\r\n"]] * (CONNECTIONS_A_MINUTE + 1))
        assert greetings[0][0].code == 220
        assert greetings[-1][0].code == last


def test_strangers_start_nothing_and_learn_nothing(absence: str, stage: Stage) -> None:
    """With relay_domains Postfix would let everyone have the queue tried (ETRN)."""
    assert absence
    commands = (f"ETRN {LISTS}", f"ETRN @{LISTS}", f"VRFY ant@{LISTS}", "EXPN ant", "AUTH PLAIN AGEAYg==")
    steps = [f"EHLO {OUTSIDE}\r\n".encode(), *(f"{command}\r\n".encode() for command in commands)]
    nameless = [f"MAIL FROM:<ann@{OUTSIDE}>\r\n".encode()]
    (_, _, *replies), (_, unnamed) = hold_dialogues(stage.outside, [steps, nameless])
    assert [reply.code for reply in replies] == [554, 554, 502, 500, 503]
    assert unnamed.code == 503


def test_tls_is_there_for_who_wants_it_and_nobody_has_to(absence: str, stage: Stage) -> None:
    """Mail of an old server in the clear is better than none (RFC 3207 section 4); a new one finds our name.

    Whoever cannot do it well is let go, and harms nobody.
    """
    assert absence
    said = stage.client.container.exec(["python", "-c", TLS, stage.outside.host, OWN], timeout_seconds=60).text
    plain, good, old, garbage, injected, replies, again = said.split()
    assert (plain, good) == ("250", "250")
    assert old == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert garbage == "ended"
    assert injected == "220"
    assert replies in ("ended", "1")
    assert again == "250"


def is_logged(relay: Relay, words: str) -> bool:
    return words in relay.logs()


def test_damaged_maps_take_no_list_away_and_open_nothing(absence: str, stage: Stage) -> None:
    """Somebody moves a volume, or writes into the file: the lists live on, and a person is told."""
    assert absence
    away = f"{LMTP_FILE}.away"
    stage.server.container.exec(["cp", "--preserve", LMTP_FILE, away])
    for damage, words in (
        (f"rm {LMTP_FILE}", "is not there. The lists that were there before are known still"),
        (f"(cat {away}; echo '/./ lmtp:x') > {LMTP_FILE}", "has a line that is none of Mailman's"),
    ):
        stage.server.container.exec(["sh", "-c", damage])
        wait_until(functools.partial(is_logged, stage.relay, words), 15, "the relay should say what it found")
        assert ask(stage, f"ant@{LISTS}") == 250
        assert ask(stage, f"bat@{LISTS}") == 550
    assert words in stage.relay.exec(["authrelay", "health"], check=False).text
    before = find_last_look(stage)
    stage.server.container.exec(["mv", away, LMTP_FILE])
    wait_until(lambda: find_last_look(stage) != before, 15, "the upkeep should have run")
    assert words not in stage.relay.exec(["authrelay", "health"], check=False).text


def test_everything_arrives_once_when_mailman_is_back(absence: str, stage: Stage, the_upstream: Upstream) -> None:
    """Nobody flushes: the relay looks for it, and has what waits for its lists tried."""
    assert absence
    stage.server.wait_listening()
    began = time.monotonic()
    beside = 1
    stage.relay.wait_queue(beside, 60)
    print(f"delivered {time.monotonic() - began:.1f} s after Mailman took connections again")
    # What TRANSPORT_TABLE sends waits as for any upstream.
    stage.relay.flush()
    stage.relay.wait_queue(0)
    taken = sort_taken(stage.server)
    assert {name: len(taken[name]) for name in (*AWAY, "away-late", "away-beside")} == dict.fromkeys(
        (*AWAY, "away-late", "away-beside"), 1
    )
    assert the_upstream.messages() == []
    trouble = stage.relay.container.exec(["cat", "/run/authrelay/trouble"], check=False).text
    assert "mailman" not in trouble


def test_largest_message_goes_through_and_a_larger_one_is_refused_at_once(stage: Stage) -> None:
    """What Mailman refuses would go back to whom it claims to be from; so nothing that it refuses is taken."""
    limit = int(stage.relay.container.exec(["postconf", "-h", "message_size_limit"]).text)
    steps = write_steps(STRANGERS["list"])
    head = write_content("large").removesuffix(b"hello\r\n.\r\n")
    # Postfix counts what a line takes in its queue file.
    order = json.dumps([step.decode() for step in (*steps, head)])
    arguments = [stage.outside.host, order, str(limit * 99 // 100 // 1000)]
    said = stage.client.container.exec(["python", "-c", LARGE, *arguments]).text
    assert said.startswith("250 "), said
    (taken,) = wait_taken(stage, "large")["large"]
    assert taken.size > limit * 98 // 100
    steps[1] = steps[1].replace(b">\r\n", f"> SIZE={limit + 1}\r\n".encode())
    (answers,) = hold_dialogues(stage.outside, [steps])
    assert answers[2].code == 552
