"""The milter's side of the protocol: what it asks for, what it answers, and that nothing goes that it cannot sign."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import struct
from collections.abc import Sequence

import pytest

from entrypoint.services.dkim import milter
from entrypoint.services.dkim.keys import Keys
from entrypoint.services.dkim.milter import ProtocolError, Session
from entrypoint.services.dkim.service import Service
from entrypoint.services.dkim.signature import Signer, make_signer
from tests.unit.material import DKIM_KEY, RSA_KEY

_OFFER = struct.pack(">III", 6, 0x1FF, 0x1FFFFF)


def _pack(command: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 1 + len(content)) + command + content


def _write_message(author: bytes, body: bytes = b"x\r\n") -> bytes:
    header = [_pack(b"L", b"From\0 " + author + b"\0"), _pack(b"L", b"Subject\0 x\0")]
    return b"".join((*header, _pack(b"N"), _pack(b"B", body), _pack(b"D", b"E"), _pack(b"E")))


def _read(answers: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while answers:
        (length,) = struct.unpack_from(">I", answers)
        found.append((answers[4:5], answers[5 : 4 + length]))
        answers = answers[4 + length :]
    return found


def _find(domain: str) -> Sequence[Signer]:
    keys = (make_signer("example.com", "r", RSA_KEY), make_signer("example.com", "e", DKIM_KEY))
    return keys if domain in ("example.com", "also.example.com") else ()


@pytest.fixture
def session() -> Session:
    """One in which Postfix's offer was answered."""
    made = Session(_find, lambda: 1.0)
    ((command, content),) = _read(made.receive(_pack(b"O", _OFFER)) or b"")
    version, actions, steps = struct.unpack(">III", content)
    assert (command, version, actions) == (b"O", 6, 1)
    assert steps & 0x1FFFFF == steps
    return made


def test_message_of_ours_is_signed_by_each_key(session: Session) -> None:
    """An answer at the end of the header, the fields to add, and the last word."""
    first = session.receive(_write_message(b"a@example.com")) or b""
    answers = _read(first)
    assert [command for command, _ in answers] == [b"c", b"i", b"i", b"c"]
    assert session.receive(_write_message(b"a@example.com")) == first  # nothing is left of the first one
    for (_, content), kind in zip(answers[1:3], (b"a=rsa-sha256; ", b"a=ed25519-sha256; "), strict=True):
        assert content.startswith(b"\0\0\0\0DKIM-Signature\0 v=1; " + kind)
        assert content.endswith(b"\0")
        assert b"\r" not in content


def test_message_of_others_is_accepted_before_its_body(session: Session) -> None:
    """A relay that signs one domain of many must not hash everybody's attachments."""
    whole = _pack(b"L", b"From\0 a@other.test\0") + _pack(b"N")
    assert _read(session.receive(whole) or b"") == [(b"a", b"")]
    # And the next message of the same connection is a new one.
    message = _write_message(b"a@example.com")
    assert session.receive(message) == Session(_find, lambda: 1.0).receive(message)


def test_one_domain_signs_once(session: Session) -> None:
    """Two authors of a domain, or two patterns with the same domain, are no reason to sign twice."""
    answers = _read(session.receive(_write_message(b"a@example.com, b@example.com, c@also.example.com")) or b"")
    assert [command for command, _ in answers] == [b"c", b"i", b"i", b"c"]


def test_answers_are_the_same_byte_by_byte(session: Session) -> None:
    """A socket gives what it has, and that may end anywhere."""
    data = _write_message(b"a@example.com") + _pack(b"A") + _write_message(b"a@other.test", b"")[:-10]
    whole = Session(_find, lambda: 1.0).receive(data)
    # RSA and Ed25519 signatures are deterministic.
    assert b"".join(session.receive(data[at : at + 1]) or b"" for at in range(len(data))) == whole


def test_aborted_message_leaves_nothing_to_the_next(session: Session) -> None:
    """Otherwise a client that goes away in the middle would add its header to somebody else's message."""
    session.receive(_pack(b"L", b"From\0 evil@example.com\0") + _pack(b"L", b"Subject\0 evil\0") + _pack(b"A"))
    message = _write_message(b"a@example.com")
    assert session.receive(message) == Session(_find, lambda: 1.0).receive(message)


def test_message_that_cannot_be_signed_is_for_later(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """451, and not unsigned; and the connection is good for the next one."""

    def fail(*_: object) -> bytes:
        raise RuntimeError("no entropy")

    with monkeypatch.context() as patch:
        patch.setattr(milter, "sign", fail)
        answers = _read(session.receive(_write_message(b"a@example.com")) or b"")
    assert [command for command, _ in answers] == [b"c", b"t"]
    assert str(session.failure) == "no entropy"
    message = _write_message(b"a@example.com")
    assert session.receive(message) == Session(_find, lambda: 1.0).receive(message)


@pytest.mark.parametrize(
    ("recipients", "is_signed"),
    [
        ((b"<ant@lists.example.test>",), False),
        ((b"<Ant+x@LISTS.example.TEST.>", b"<@x.example.test:ant@lists.example.test>"), False),
        ((b"<ant@lists.example.test(b@example.com)>",), False),
        ((b"<ant@lists.example.test (b@example.com)>", b"ant@lists.example.test"), False),
        ((), False),
        ((b"<b@example.com>",), True),
        ((b"b@[192.0.2.1]",), True),
        ((b"<ant@lists.example.test>", b"<b@example.com>", b"<ant@lists.example.test>"), True),
        ((b'<"b@lists.example.test"@example.com>',), True),
        ((b"<ant@sub.lists.example.test>",), True),
    ],
)
def test_what_a_stranger_may_have_sent_is_not_signed(recipients: Sequence[bytes], is_signed: bool) -> None:
    """He may send to lists alone, and claims to be whom he likes: our signature would prove it."""
    session = Session(_find, lambda: 1.0, frozenset({"lists.example.test"}))
    ((_, content),) = _read(session.receive(_pack(b"O", _OFFER)) or b"")
    assert struct.unpack(">III", content)[2] & 0x08 == 0  # recipients are sent
    for _ in range(2):  # nothing is left for the next message
        told = b"".join(_pack(b"R", recipient + b"\0ORCPT=rfc822;x@example.com\0") for recipient in recipients)
        assert [command for command, _ in _read(session.receive(told) or b"")] == [b"c"] * len(recipients)
        message = _write_message(b"a@example.com")
        # What is accepted at once has no body.
        answers = _read(
            session.receive(message if is_signed else message.partition(_pack(b"N"))[0] + _pack(b"N")) or b""
        )
        assert [command for command, _ in answers] == ([b"c", b"i", b"i", b"c"] if is_signed else [b"a"])
        session.receive(_pack(b"A"))


@pytest.mark.parametrize(
    "data",
    [
        _pack(b"O", struct.pack(">III", 2, 0x1FF, 0x1FFFFF)),
        _pack(b"O", struct.pack(">III", 6, 0, 0x1FFFFF)),
        _pack(b"O", struct.pack(">III", 6, 0x1FF, 0)),
        _pack(b"O", b"x"),
        _pack(b"?"),
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_who_speaks_otherwise_is_not_answered(data: bytes) -> None:
    """An agreement on less would be a message without a signature."""
    with pytest.raises(ProtocolError):
        Session(_find, lambda: 1.0).receive(data)


def test_quit_ends_the_connection(session: Session) -> None:
    """Postfix waits for no answer to it."""
    assert session.receive(_pack(b"Q")) is None


def _write_signers(path: pathlib.Path, domains: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    signers = {
        pattern: [{"domain": pattern.removeprefix("."), "selector": selector, "key": DKIM_KEY}] if selector else []
        for pattern, selector in domains.items()
    }
    new.write_text(json.dumps({"keys": signers, "lists": []}))
    os.replace(new, path)


def test_closest_line_signs(tmp_path: pathlib.Path) -> None:
    """`.example.com` is all below it and not itself, as everywhere here."""
    _write_signers(tmp_path / "s", {"example.com": "1", ".example.com": "2", ".b.example.com": "3", ".org": "4"})
    keys = Keys(str(tmp_path / "s"))
    found = {name: [one.selector for one in keys.find(name)] for name in ("example.com", "a.example.com", "com", "")}
    assert found == {"example.com": ["1"], "a.example.com": ["2"], "com": [], "": []}
    assert [keys.find(name)[0].selector for name in ("a.b.example.com", "b.example.com", "x.y.org")] == ["3", "2", "4"]
    assert not keys.find("badexample.com")


def test_keys_follow_their_file(tmp_path: pathlib.Path) -> None:
    """What cannot be read is told once, and those from before go on signing."""
    path = tmp_path / "s"
    _write_signers(path, {"example.com": "1"})
    keys = Keys(str(path))
    assert keys.refresh() is None
    _write_signers(path, {"example.com": "2"})
    assert keys.refresh() is None
    assert keys.find("example.com")[0].selector == "2"
    _write_signers(path, {"example.com": ""})
    assert "a domain without a key" in (keys.refresh() or "")
    assert keys.refresh() is None
    assert keys.find("example.com")[0].selector == "2"


def test_service_answers_several_at_once_and_survives_those_who_leave(tmp_path: pathlib.Path) -> None:
    """One loop for all: a session in its middle, one that breaks off, one that talks nonsense, and one that works."""
    _write_signers(tmp_path / "s", {"example.com": "1"})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        service = Service(listener, Keys(str(tmp_path / "s")))
        peers = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for peer in peers:
            peer.settimeout(5)
            peer.connect(str(tmp_path / "socket"))
            service.turn(1)
        half, gone, odd, good = peers
        half.sendall(_pack(b"O", _OFFER)[:7])
        gone.sendall(_pack(b"O", _OFFER) + _pack(b"L", b"From\0 a@example.com\0"))
        gone.close()
        odd.sendall(b"\xff" * 8)
        good.sendall(_pack(b"O", _OFFER) + _write_message(b"a@example.com"))
        for _ in range(6):
            service.turn(0.05)
        assert odd.recv(10) == b""
        assert [command for command, _ in _read(good.recv(65536))] == [b"O", b"c", b"i", b"c"]
        half.sendall(_pack(b"O", _OFFER)[7:])
        service.turn(1)
        assert half.recv(100) == _pack(b"O", struct.pack(">III", 6, 1, milter._WANTED))
        for peer in peers:
            peer.close()
        for _ in range(3):
            service.turn(0.05)
