"""The keys that are kept, the records that are printed, and what is said of what is published."""

from __future__ import annotations

import base64
import pathlib
import socket
import struct
import threading
from typing import Final

import pytest

from entrypoint import paths
from entrypoint.commands.check import describe_relay
from entrypoint.commands.dkim import judge_records
from entrypoint.commands.prepare import find_dkim_keys
from entrypoint.config.dkim_key import SigningKey, make_dkim_key, name_keys, parse_dkim_keys, render_record
from entrypoint.errors import BadCertificateError
from entrypoint.system import dns_text
from entrypoint.system.dkim_keys import load_or_make_keys
from entrypoint.system.dns_text import DnsError, look_up_texts, make_query, read_answer
from tests.unit.material import DKIM_KEY, RSA_KEY
from tests.unit.reading import plan_for, read

RSA: Final = make_dkim_key("rsa")
SIGNING: Final = SigningKey(domain="example.com", selector="s", key=RSA)
NAME: Final = "s._domainkey.example.com"


@pytest.fixture
def kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A state volume."""
    monkeypatch.setattr(paths, "STATE", str(tmp_path))
    monkeypatch.setattr(paths, "DKIM_KEYS", str(tmp_path / "dkim"))
    return tmp_path / "dkim"


def test_keys_are_made_once_and_for_nobody_else(kept: pathlib.Path) -> None:
    """Another key than the published one makes every signature fail."""
    first = load_or_make_keys("example.com", "s", "both", may_make=True)
    assert [(one.selector, one.key.algorithm) for one in first.made] == [("s", "rsa"), ("s-ed25519", "ed25519")]
    again = load_or_make_keys("example.com", "s", "both", may_make=True)
    assert (again.keys, again.made) == (first.keys, ())
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (kept, kept / "example.com")} == {0o700}


def test_look_makes_nothing(kept: pathlib.Path) -> None:
    """`check` runs anywhere, and must not leave a key behind."""
    found = load_or_make_keys("example.com", "s", "rsa", may_make=False)
    assert (found.keys, found.missing) == ((), (f"{kept}/example.com/s.pem",))
    assert not kept.exists()


def test_kept_key_of_another_kind_stays_and_is_told(kept: pathlib.Path) -> None:
    """Its record is published: to replace it would be worse than not to do what the setting says."""
    made = load_or_make_keys("example.com", "s", "rsa", may_make=True)
    found = load_or_make_keys("example.com", "s", "ed25519", may_make=True)
    assert (found.keys, found.made) == (made.keys, ())
    assert found.warnings == (
        f"DKIM_KEY_TYPE: the kept key {kept}/example.com/s.pem is RSA of 2048 bits, and stays, for its record is "
        "published. To have an ed25519 key made, set another DKIM_SELECTOR",
    )


def test_key_that_somebody_put_there_is_used(kept: pathlib.Path) -> None:
    """The way to have a key for each domain; what is no key is an error that names the file."""
    (kept / "example.com").mkdir(parents=True)
    (kept / "example.com" / "s.pem").write_text(DKIM_KEY)
    assert load_or_make_keys("example.com", "s", "ed25519", may_make=True).keys[0].key.pem.reveal() == DKIM_KEY
    (kept / "example.com" / "s.pem").write_text("nothing")
    with pytest.raises(BadCertificateError, match=r"s\.pem: it is not a private key in PEM\. Remove it to have"):
        load_or_make_keys("example.com", "s", "rsa", may_make=True)
    (kept / "example.com" / "s.pem").write_bytes(b"\xff\xfe")
    with pytest.raises(BadCertificateError, match=r"s\.pem cannot be read"):
        load_or_make_keys("example.com", "s", "rsa", may_make=True)


@pytest.mark.usefixtures("kept")
def test_each_domain_has_its_selector_and_its_key() -> None:
    """One leaked key must not be every domain's; and a name on the command line goes before all of them."""
    environ = {"RELAYHOST": "smtp.example.com", "DKIM_DOMAINS": "a.test .b.test:two", "DKIM_KEY_TYPE": "ed25519"}
    settings, _ = read(environ)
    found = [kept.keys[0] for kept in find_dkim_keys(settings, may_make=True)]
    assert [one.name for one in found] == ["authrelay._domainkey.a.test", "two._domainkey.b.test"]
    assert found[0].key.public != found[1].key.public
    following = [kept.keys[0] for kept in find_dkim_keys(settings, may_make=True, selector="next")]
    assert [one.name for one in following] == ["next._domainkey.a.test", "next._domainkey.b.test"]
    given, _ = read({**environ, "DKIM_KEY": DKIM_KEY + RSA_KEY, "DKIM_KEY_TYPE": ""})
    both = find_dkim_keys(given, may_make=False)[1].keys
    assert [(one.name, one.key.algorithm) for one in both] == [
        ("two._domainkey.b.test", "rsa"),
        ("two-ed25519._domainkey.b.test", "ed25519"),
    ]


def test_check_says_what_is_signed() -> None:
    """Before anything is published or sent."""
    environ = {"RELAYHOST": "smtp.example.com", "DKIM_DOMAINS": "a.test .b.test:two", "DKIM_SELECTOR": "one"}
    lines = describe_relay(read(environ)[0], plan_for(environ)).splitlines()
    signs = [line for line in lines if line.startswith("signs:")]
    assert signs == ["signs:              a.test, selector one", "signs:              .b.test, selector two"]


def test_single_key_has_the_selector_itself() -> None:
    """Whoever brings a key has published it under the name that they say."""
    keys = name_keys("example.com", "mail", parse_dkim_keys(DKIM_KEY))
    assert [one.name for one in keys] == ["mail._domainkey.example.com"]
    assert len(base64.b64decode(keys[0].key.public)) == 32


def test_record_is_split_into_strings_that_a_zone_file_takes() -> None:
    """RFC 1035 section 3.3: a string has at most 255 bytes, and one of 400 is refused or cut by DNS providers."""
    line = render_record(SIGNING)
    strings = line.partition("IN TXT ( ")[2].removesuffix(" )").split(" ", 3)
    assert line.startswith('s._domainkey.example.com. IN TXT ( "v=DKIM1; k=rsa; p=MII')
    assert "".join(line.split('"')[1::2]) == RSA.record
    assert all(len(part) <= 255 for part in line.split('"')[1::2])
    assert len(strings) > 1


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([RSA.record], "published"),
        ([f"p={RSA.public}"], "published"),
        ([f"v=DKIM1;h=sha256;p={RSA.public[:50]} {RSA.public[50:]};"], "published"),
        ([], "NOT PUBLISHED: there is no such TXT record yet"),
        ([RSA.record, RSA.record], "NOT USABLE: there are 2 TXT records of this name, and there may be one"),
        (["v=spf1 -all"], "NOT USABLE: what is published is no DKIM record"),
        (["v=DKIM2; p=x"], "NOT USABLE: what is published is no DKIM record"),
        (["v=DKIM1; p="], "REVOKED: what is published has an empty p="),
        ([make_dkim_key("rsa").record], "ANOTHER KEY is published, and what is signed with this one fails"),
        ([f"k=ed25519; p={RSA.public}"], "ANOTHER KEY is published, and what is signed with this one fails"),
        (
            [f"{RSA.record}; t=s:y"],
            "published for testing (t=y): receivers treat a failure as if there were no signature",
        ),
    ],
)
def test_published_record_is_judged(texts: list[str], words: str) -> None:
    """Each of these is what people find when mail fails, and a name for it saves them a day."""
    assert judge_records(SIGNING, texts) == words


def _write_answer(query: bytes, texts: list[list[bytes]], *, flags: int = 0x8180) -> bytes:
    """An answer as a resolver gives it: an alias before the records, names as pointers."""
    question = query[12 : query.index(b"\0", 12) + 5]
    records = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, 2) + b"\xc0\x0c"
    for strings in texts:
        data = b"".join(bytes([len(string)]) + string for string in strings)
        records += b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, len(data)) + data
    return query[:2] + struct.pack(">HHHHH", flags, 1, len(texts) + 1, 0, 0) + question + records


def test_answer_is_read_and_what_is_none_is_an_error() -> None:
    """Bytes from the network: they may be anything."""
    query = make_query(NAME, b"id")
    good = _write_answer(query, [[b"v=DKIM1; p=", b"abc"], [b""]])
    assert read_answer(good, NAME) == ("v=DKIM1; p=abc", "")
    assert read_answer(query[:2] + struct.pack(">HHHHH", 0x8183, 0, 0, 0, 0), NAME) == ()
    with pytest.raises(DnsError, match="could not answer"):
        read_answer(query[:2] + struct.pack(">HHHHH", 0x8182, 0, 0, 0, 0), NAME)
    for length in range(len(good)):
        with pytest.raises(DnsError):
            read_answer(good[:length], NAME)


def test_long_answer_is_asked_for_again_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RSA record of 4096 bits does not fit where UDP is cut at 512 bytes; what is foreign is passed over."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = listener.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))

        def answer() -> None:
            query, peer = datagrams.recvfrom(512)
            datagrams.sendto(b"??" + query[2:], peer)
            datagrams.sendto(_write_answer(query, [], flags=0x8380), peer)
            stream, _ = listener.accept()
            with stream:
                whole = _write_answer(stream.recv(512)[2:], [[b"x" * 250] * 20])
                stream.sendall(struct.pack(">H", len(whole)) + whole)

        monkeypatch.setattr(dns_text, "list_name_servers", lambda: ["127.0.0.1"])
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert look_up_texts(NAME, 5, port) == ("x" * 5000,)
        thread.join()


def test_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that hangs helps nobody; the message says who was asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(dns_text, "list_name_servers", lambda: ["127.0.0.1"])
        with pytest.raises(DnsError, match=r"no answer within 0\.2 s from name server"):
            look_up_texts(NAME, 0.2, silent.getsockname()[1])
