"""DKIM: what the upstream receives verifies, by dkimpy and by OpenDKIM; and nothing leaves unsigned.

One relay with an RSA and an Ed25519 key for each domain serves most tests; its messages are sent and verified at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Final

import pytest

from entrypoint.config.dkim_key import make_dkim_key
from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.dkim import NameServer, Verdict, Verifier, parse_zone, read_records
from tests.support.engine import Engine, Network
from tests.support.load import Load, account
from tests.support.relay import Relay
from tests.support.upstream import Message, Upstream, reply
from tests.support.wait import wait_until

_KILL: Final = """
import os, signal, sys
os.setuid(os.stat("/proc/" + sys.argv[1]).st_uid)
os.kill(int(sys.argv[1]), signal.SIGKILL)
"""
"""The container's root has no CAP_KILL."""
EIGHT_BITS: Final = ("BODY=8BITMIME",)
_ALGORITHMS: Final = ("ed25519-sha256", "rsa-sha256")
_OWN: Final = ("example.test",)


@dataclass(frozen=True)
class Shape:
    """One kind of message; `domains` are those that sign it."""

    name: str
    data: bytes
    domains: tuple[str, ...] = _OWN
    sender: str = "a@example.test"
    parameters: tuple[str, ...] = ()


def _make(header: bytes, body: bytes, sender: bytes = b"a@example.test") -> bytes:
    return b"From: %s\r\nTo: b@example.com\r\n%s\r\n%s" % (sender, header, body)


_FOREIGN: Final = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=elsewhere.test; s=x;\r\n"
    b"\th=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
)
SHAPES: Final = (
    Shape("plain", _make(b"Subject: hello\r\n", b"hello\r\n")),
    Shape("no_body", _make(b"Subject: nothing\r\n", b"")),
    Shape("blank_body", _make(b"Subject: blank\r\n", b"\r\n \t\r\n\r\n")),
    Shape("no_subject_no_to", b"From: a@example.test\r\n\r\nbody\r\n"),
    Shape("dots", _make(b"Subject: dots\r\n", b".\r\n..\r\n.leading\r\nend.\r\n.\r\n")),
    Shape("trailing_blanks", _make(b"Subject: blanks \t \r\n", b"a  b\t\tc \r\n\t\r\n  x\t\r\n \r\n\r\n\r\n")),
    Shape(
        "long_lines",
        _make(
            b"Subject: " + b"s" * 900 + b"\r\n",
            b"x" * 998 + b"\r\n" + b"y z" * 5000 + b"\r\n" + b" " * 3000 + b"\r\n",
        ),
    ),
    Shape(
        "folded_header",
        _make(
            b"Subject: one\r\n two\r\n\t  three\r\nReferences: <1@example.test>\r\n\t<2@example.test>\r\n"
            b"X-Odd:\r\n folded\r\n",
            b"x\r\n",
        ),
    ),
    Shape(
        "odd_header",
        _make(b"SUBJECT:no blank\r\nMessage-ID:   <many@blanks>   \r\nReply-To :c@example.test\r\n", b"x\r\n"),
    ),
    Shape("eight_bits", _make("Subject: grün\r\n".encode(), "grün €\r\n".encode() * 30), parameters=EIGHT_BITS),
    Shape("latin_1", _make(b"Subject: gr\xfcn\r\n", b"gr\xfcn\x80\xff\r\n"), parameters=EIGHT_BITS),
    Shape(
        "smtputf8",
        _make("Subject: ü\r\n".encode(), b"x\r\n", "Jürgen <jürgen@example.test>".encode()),
        sender="jürgen@example.test",
        parameters=("BODY=8BITMIME", "SMTPUTF8"),
    ),
    Shape(
        "attachment",
        _make(
            b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_b"\r\nSubject: two parts\r\n',
            b"preamble\r\n--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ntext \r\n--=_b\r\n"
            b'Content-Type: application/octet-stream; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            + b"QUJD" * 19
            + b"\r\n--=_b--\r\n\r\n\r\n",
        ),
    ),
    Shape("big", _make(b"Subject: 5 MB\r\n", (b"0123456789 abcdefghijk" * 45 + b"  .\r\n") * 5_000)),
    Shape(
        "list",
        _make(
            b"Sender: list-bounces@example.test\r\nList-Id: <l.example.test>\r\n"
            b"List-Unsubscribe: <mailto:u@example.test>,\r\n"
            b" <https://example.test/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
            b"List-Post: <mailto:l@example.test>\r\n"
            b"Precedence: list\r\nErrors-To: list-bounces@example.test\r\n"
            b"Received: from a by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n"
            b"Received: from c by d; Mon, 1 Jan 2026 00:00:00 +0000\r\nSubject: [L] x\r\n",
            b"text\r\n_______________________________________________\r\nL mailing list\r\n",
        ),
    ),
    Shape("null_sender", _make(b"Subject: returned\r\nAuto-Submitted: auto-replied\r\n", b"x\r\n"), sender=""),
    Shape("foreign_signature", _FOREIGN + _make(b"Subject: signed before\r\n", b"x\r\n")),
    Shape(
        "twice_the_subject",
        _make(b"Subject: one\r\nSubject: two\r\nCc: c@example.test\r\nCc: d@example.test\r\n", b"x\r\n"),
    ),
    Shape(
        "case_and_name",
        _make(b"Subject: x\r\n", b"x\r\n", b'"Doe, (x) J. <a@other.test>" (a <b@c> (d)) <A@Example.Test>'),
    ),
    Shape("own_selector", _make(b"Subject: x\r\n", b"x\r\n", b"a@own.test"), domains=("own.test",)),
    Shape("below", _make(b"Subject: x\r\n", b"x\r\n", b"a@deep.down.below.test"), domains=("below.test",)),
    Shape(
        "several_authors",
        _make(b"Subject: x\r\n", b"x\r\n", b"a@own.test,\r\n B <b@example.test>, c@example.test, d@not.test"),
        domains=("own.test", "example.test"),
    ),
    Shape("two_from_fields", b"From: a@not.test\r\n" + _make(b"Subject: x\r\n", b"x\r\n")),
    Shape(
        "idn",
        _make(b"Subject: x\r\n", b"x\r\n", "a@bücher.test".encode()),
        domains=("xn--bcher-kva.test",),
        parameters=("BODY=8BITMIME", "SMTPUTF8"),
    ),
    # Not signed: what is none of ours, however close.
    Shape("other_domain", _make(b"Subject: x\r\n", b"x\r\n", b"a@not.test"), domains=()),
    Shape("above", _make(b"Subject: x\r\n", b"x\r\n", b"a@below.test"), domains=()),
    Shape("inside", _make(b"Subject: x\r\n", b"x\r\n", b"a@x.example.test"), domains=()),
    Shape("name_only", _make(b"Subject: x\r\n", b"x\r\n", b'"a@example.test" <a@not.test>'), domains=()),
    Shape("no_from", b"To: b@example.com\r\nSubject: x\r\n\r\nx\r\n", domains=()),
)


@dataclass(frozen=True)
class House:
    """The relay, what it prints, and who verifies."""

    relay: Relay
    records: Mapping[str, str]
    verifier: Verifier
    name_server: NameServer


@dataclass(frozen=True)
class Seen:
    """What the upstream received of each shape, and what the verifiers say."""

    messages: Mapping[str, Message] = field(default_factory=dict)
    verdicts: Mapping[str, list[Verdict]] = field(default_factory=dict)


def _find_milter(relay: Relay) -> tuple[str, str]:
    """Its process and its user."""
    found = relay.exec(["sh", "-c", "grep -l '^dkim$' /proc/[0-9]*/comm"]).text.split("/")[2]
    return found, relay.exec(["stat", "-c", "%u", f"/proc/{found}"]).text.strip()


def _has_another(relay: Relay, pid: str) -> bool:
    found = relay.exec(["sh", "-c", "grep -l '^dkim$' /proc/[0-9]*/comm"], check=False).text
    return bool(found) and f"/{pid}/" not in found


@pytest.fixture(scope="module")
def house(engine: Engine, network: Network, module_relays: Relays) -> House:
    """Two keys for each domain."""
    server = NameServer(engine, network, "test")
    relay = module_relays.start(
        {
            "DKIM_DOMAINS": "example.test own.test:s2 .below.test xn--bcher-kva.test",
            "DKIM_KEY_TYPE": "both",
            "MYHOSTNAME": "relay.below.test",
        },
        volumes={engine.volume(): "/var/lib/authrelay"},
        arguments=("--dns", server.container.address(network)),
        allowed=(
            r"dkim ended \(terminated by SIGKILL\)",
            "milter unix:/run/authrelay/dkim: ",
            # Of sessions that a slow machine's clients have left while they waited for the milter.
            "Connection concurrency limit exceeded",
        ),
    )
    return House(relay, read_records(relay), Verifier(engine, network), server)


@pytest.fixture(scope="module")
def seen(house: House, client: Client, network: Network, the_upstream: Upstream) -> Seen:
    """Every shape once, through relay and upstream."""
    the_upstream.reset()
    address = house.relay.container.address(network)

    def send(shape: Shape) -> None:
        recipients = [f"{shape.name}@example.com"]
        client.send(address, 587, shape.sender, recipients, shape.data, parameters=shape.parameters)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, SHAPES))
    found = {one.rcpt_tos[0].partition("@")[0]: one for one in the_upstream.wait_messages(len(SHAPES))}
    return Seen(found, house.verifier.verify({name: one.data for name, one in found.items()}, house.records))


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_what_the_upstream_receives_verifies(shape: Shape, seen: Seen) -> None:
    """Two verifiers that have nothing in common with the signer, on the bytes that arrived; each key has signed."""
    ours = [one for one in seen.verdicts[shape.name] if one.domain != "elsewhere.test"]
    assert sorted((one.domain, one.algorithm) for one in ours) == sorted(product(shape.domains, _ALGORITHMS))
    assert [one for one in ours if not one.is_good] == []


def test_signature_covers_what_it_should(seen: Seen) -> None:
    """RFC 6376: no l=, and no second From, Subject or Content-Type can be added without breaking it (section 8.15)."""
    value = re.search(rb"DKIM-Signature: (.*?)\r\n(?![ \t])", seen.messages["list"].data, flags=re.DOTALL)
    assert value
    tags = dict(re.findall(r"(\w+)=([^;]*)", re.sub(r"\s", "", value[1].decode())))
    names = tags["h"].split(":")
    assert "l" not in tags
    assert tags["c"] == "relaxed/relaxed"
    assert [names.count(name) for name in ("from", "subject", "to", "content-type", "list-id")] == [2, 2, 2, 1, 1]
    assert not {"received", "return-path", "dkim-signature", "message-id", "bcc", "x-odd"} & set(names)
    assert max(map(len, seen.messages["list"].data.split(b"\r\n"))) <= 100


def test_signatures_and_content_of_others_stay(seen: Seen) -> None:
    """A signature that came with the message is somebody else's statement; ours stands above it."""
    data = seen.messages["foreign_signature"].data
    assert data.endswith(_FOREIGN + _make(b"Subject: signed before\r\n", b"x\r\n"))
    assert [one.domain for one in seen.verdicts["foreign_signature"]] == [
        "example.test",
        "example.test",
        "elsewhere.test",
    ]


@pytest.mark.parametrize("change", ["body", "subject", "second_from"])
def test_verifiers_notice_a_change(house: House, seen: Seen, change: str) -> None:
    """If these passed, all that passes above would mean nothing."""
    data = seen.messages["plain"].data
    changed = {
        "body": data.replace(b"\r\n\r\nhello", b"\r\n\r\nHello"),
        "subject": data.replace(b"Subject: hello", b"Subject: hullo"),
        "second_from": b"From: evil@other.test\r\n" + data,
    }[change]
    assert changed != data
    verdicts = house.verifier.verify({"x": changed}, house.records)["x"]
    assert [(one.dkimpy is True, one.is_good) for one in verdicts] == [(False, False)] * 2


def test_server_without_8bitmime_gets_what_was_signed(
    house: House, client: Client, network: Network, upstream: Upstream
) -> None:
    """smtp(8) would make quoted-printable of the body, after it was signed."""
    upstream.behave(extensions=("PIPELINING", "ENHANCEDSTATUSCODES"))
    data = _make(b"Subject: x\r\nContent-Transfer-Encoding: 8bit\r\n", "grün\r\n".encode())
    address = house.relay.container.address(network)
    client.send(address, 25, "a@example.test", ["b@example.com"], data, parameters=EIGHT_BITS)
    (message,) = upstream.wait_messages(1)
    assert message.data.endswith("grün\r\n".encode())
    verdicts = house.verifier.verify({"x": message.data}, house.records)["x"]
    assert [one.is_good for one in verdicts] == [True, True]


def test_bounces_and_local_mail_are_signed(house: House, client: Client, network: Network, upstream: Upstream) -> None:
    """A bounce has no sender, so that a signature is all that it can show (RFC 7489 section 3.1)."""
    upstream.behave(faults={"rcpt": reply(550, "5.1.1 no such user", containing="nobody@")})
    address = house.relay.container.address(network)
    client.send(address, 25, "a@example.test", ["nobody@example.com"], _make(b"Subject: x\r\n", b"x\r\n"))
    house.relay.exec(
        ["sendmail", "-f", "a@example.test", "b@example.com"], stdin=b"From: a@example.test\nSubject: y\n\ny\n"
    )
    messages = upstream.wait_messages(2)
    bounce = next(one for one in messages if not one.mail_from)
    local = next(one for one in messages if one.mail_from)
    assert bounce.rcpt_tos == ("a@example.test",)
    verdicts = house.verifier.verify({"bounce": bounce.data, "local": local.data}, house.records)
    assert {(name, one.domain, one.is_good) for name, found in verdicts.items() for one in found} == {
        ("bounce", "below.test", True),
        ("local", "example.test", True),
    }


def test_keys_are_root_s_and_in_no_log(house: House) -> None:
    """Whoever has a private key can sign in the name of the domain."""
    listed = house.relay.exec(["find", "/var/lib/authrelay/dkim", "-name", "*.pem", "-printf", "%m %u %p\n"]).text
    paths = [line.split()[2] for line in listed.splitlines()]
    assert len(paths) == 8
    assert {tuple(line.split()[:2]) for line in listed.splitlines()} == {("600", "root")}
    in_force = house.relay.exec(["stat", "-c", "%a %U", "/run/authrelay/dkim-signers.json"]).text
    assert in_force.split() == ["600", "dkim"]
    secrets = [line for line in house.relay.exec(["cat", *paths]).text.splitlines() if "-----" not in line]
    shown = "".join(
        (house.relay.logs(), house.relay.exec(["authrelay", "dkim", "--no-dns"]).text, house.relay.postconf())
    )
    assert not [line for line in secrets if line in shown]
    told = [line for line in house.relay.logs().splitlines() if "Publish its record" in line]
    assert parse_zone("\n".join(line.partition("record: ")[2] for line in told)) == house.records


def test_milter_has_a_user_of_its_own(house: House) -> None:
    """Neither root, whom a broken message could then reach, nor the user of the status service, who has the network."""
    assert _find_milter(house.relay)[1] == house.relay.exec(["id", "-u", "dkim"]).text.strip()


def test_killed_milter_lets_nothing_out_unsigned_and_loses_nothing(
    house: House, engine: Engine, network: Network, upstream: Upstream
) -> None:
    """kill -9, again and again, under load: who connects meanwhile waits, and whose message it broke tries again."""
    address = house.relay.container.address(network)
    with Load(engine, network, address, prefix="kill", sessions=3) as load:
        for count in range(1, 3):
            load.wait_accepted(60 * count)
            pid = _find_milter(house.relay)[0]
            house.relay.exec(["python3", "-c", _KILL, pid])
            wait_until(partial(_has_another, house.relay, pid), 20, "the milter should be started again")
        load.wait_accepted(len(load.accepted()) + 60)
        accepted = load.end()
    arrived = upstream.wait_messages(len(accepted), 60)
    assert account(accepted, arrived) == ([], [])
    assert [one.data for one in arrived if one.data.count(b"DKIM-Signature:") != 2] == []


def test_record_is_checked_where_it_is_published(house: House) -> None:
    """What is printed is a zone file as it stands; and the most frequent fault, an old record, is named."""
    printed = house.relay.exec(["authrelay", "dkim", "--no-dns"]).text
    _, record = next(iter(house.records.items()))
    for published, status, words in (
        ("", 69, ["NOT PUBLISHED"] * 8),
        (printed, 0, ["published"] * 8),
        (printed.replace(record[40:80], record[40:80].swapcase()), 69, ["ANOTHER KEY", *["published"] * 7]),
    ):
        house.name_server.publish(published)
        told = house.relay.exec(["authrelay", "dkim"], check=False)
        assert (told.status, re.findall(r"(?m)^; .*?: (published|[A-Z ]+[A-Z])", told.text)) == (status, words)
        assert parse_zone(told.text) == house.records


def test_changed_key_file_is_taken_up_while_the_relay_runs(
    relays: Relays, client: Client, network: Network, upstream: Upstream, house: House
) -> None:
    """A key is rotated as every secret is, without a restart; and what is rewritten is signed as it leaves."""
    first, second = make_dkim_key("rsa"), make_dkim_key("ed25519")
    relay = relays.create(
        {
            "DKIM_DOMAINS": "example.test",
            "DKIM_KEY_FILE": "/run/keys/dkim.pem",
            "POSTFIX_remote_header_rewrite_domain": "domain.invalid",
            "POSTFIX_canonical_maps": "inline:{ a@old.test=a@example.test }",
        },
        secrets={"/run/keys/dkim.pem": first.pem.reveal().encode()},
    )
    relay.start()
    relay.wait_ready()
    address = relay.container.address(network)
    client.send(address, 25, "a@example.test", ["b@example.com"], SHAPES[0].data)
    relay.set_secret("/run/keys/dkim.pem", second.pem.reveal().encode())
    wait_until(lambda: "changed: the DKIM keys" in relay.logs(), 20, "the new key should be taken")
    client.send(address, 25, "a@example.test", ["b@example.com"], SHAPES[0].data)
    upstream.wait_messages(2)
    client.send(address, 25, "a@old.test", ["b@example.com"], _make(b"Subject: x\r\n", b"x\r\n", b"A <a@old.test>"))
    before, after, rewritten = upstream.wait_messages(3)
    assert b"From: A <a@example.test>\r\n" in rewritten.data
    for message, key in ((before, first), (after, second), (rewritten, second)):
        (verdict,) = house.verifier.verify({"x": message.data}, {"authrelay._domainkey.example.test": key.record})["x"]
        assert verdict.is_good
    assert relay.stop() == 0
