"""What of a message is signed, and in which form; the two verifiers of tests/image/test_dkim.py judge the whole."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypoint.services.dkim.senders import find_domains
from entrypoint.services.dkim.signature import BodyHash, make_signer, relax_field, sign
from tests.unit.material import DKIM_KEY, KEY

# What matters to the relaxed form, and a little of what does not.
_BODIES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r\n", b"a", b".", b"\r", b"\xff"]), max_size=30)


def _relax_whole(body: bytes) -> bytes:
    """RFC 6376 section 3.4.4, written as it is told there, line by line."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        del lines[-1]
    return b"".join(line + b"\r\n" for line in lines)


@given(pieces=st.lists(_BODIES, max_size=6))
@settings(max_examples=300, derandomize=True, database=None)
def test_body_hash_is_the_same_however_the_body_comes(pieces: list[list[bytes]]) -> None:
    """Postfix cuts a body every 64 kB, also between CR and LF, and within blanks."""
    body = BodyHash()
    for piece in pieces:
        body.update(b"".join(piece))
    whole = b"".join(part for piece in pieces for part in piece)
    assert body.finish() == hashlib.sha256(_relax_whole(whole)).digest()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # RFC 6376 section 3.4.5 and 3.4.4; the first is the hash of nothing.
        (b"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (b"\r\n\r\n", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (b" C \r\nD \t E\r\n\r\n\r\n", base64.b64encode(hashlib.sha256(b" C\r\nD E\r\n").digest()).decode()),
        # RFC 8463 appendix A.2.
        (
            b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n",
            "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=",
        ),
    ],
)
def test_body_hash_is_that_of_the_rfcs(body: bytes, expected: str) -> None:
    """Their examples were computed by others."""
    found = BodyHash()
    found.update(body)
    assert base64.b64encode(found.finish()).decode() == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"A", b" X", b"a:X"),
        (b"B ", b" Y\t\r\n\tZ  ", b"b:Y Z"),
        (b"Subject", b"\n one\n\ttwo", b"subject:one two"),
        (b"SUBJect", b"", b"subject:"),
    ],
)
def test_field_is_relaxed(name: bytes, value: bytes, expected: bytes) -> None:
    """RFC 6376 section 3.4.5; milters have LF where a message has CRLF."""
    assert relax_field(name, value) == expected


def test_fields_are_taken_from_the_last_one_upwards() -> None:
    """RFC 6376 section 5.4.2: a server on the way adds above; what it adds must not be taken for what was signed."""
    signer = make_signer("example.com", "s", DKIM_KEY)
    fields = [(b"Subject", b" 1"), (b"From", b" a@example.com"), (b"Subject", b" 2"), (b"X-Other", b" x")]
    value = sign(signer, fields, b"\0" * 32, 1.5)
    head, _, signature = value.partition(b"\tb=")
    tags = dict(part.strip().split(b"=", 1) for part in head.split(b";") if part.strip())
    assert b"".join(tags[b"h"].split()).startswith(b"from:from:reply-to:subject:subject:subject:cc:mime-version:")
    data = b"from:a@example.com\r\nsubject:2\r\nsubject:1\r\n" + relax_field(b"DKIM-Signature", head + b"\tb=")
    key = serialization.load_pem_private_key(DKIM_KEY.encode(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    key.public_key().verify(base64.b64decode(b"".join(signature.split())), hashlib.sha256(data).digest())
    assert (tags[b"t"], tags[b"d"], tags[b"s"]) == (b"1", b"example.com", b"s")


def test_key_of_another_kind_is_refused() -> None:
    """The milter must end, and not answer, when it has a key that it cannot sign with."""
    with pytest.raises(ValueError, match="neither RSA nor Ed25519"):
        make_signer("example.com", "s", KEY)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" a@example.com", ("example.com",)),
        (b" A <A@EXAMPLE.com.>", ("example.com",)),
        (b' "b@evil.test" <a@example.com>', ("example.com",)),
        (b" b@evil.test <a@example.com>", ("example.com",)),
        (b' "a, b <c@evil.test>" <a@example.com>', ("example.com",)),
        (b' "x, b@evil.test, y" <a@example.com>', ("example.com",)),
        (b" a@example.com (b <c@evil.test> (d@evil.test) \\) e)", ("example.com",)),
        (b' "john doe"@example.com', ("example.com",)),
        (b" friends: a@x.test, B <b@y.test>;", ("x.test", "y.test")),
        (b" a@x.test,\n b@x.test", ("x.test",)),
        (b" <@via.test:a@example.com>", ("example.com",)),
        (b" a@[192.0.2.1]", ("[192.0.2.1]",)),
        ("ä@bücher.test".encode(), ("xn--bcher-kva.test",)),
        (b" a@b\xff.test", ()),
        (b" nobody", ()),
        (b" <>", ()),
        (b"", ()),
    ],
)
def test_domains_are_those_of_addresses_and_not_of_names(value: bytes, expected: tuple[str, ...]) -> None:
    """Signing for a domain that only stands in a name would let everybody sign for it."""
    assert find_domains([value]) == expected
