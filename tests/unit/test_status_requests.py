"""HTTP requests from anybody: what is understood, what is refused, and that nothing else happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.services.status.request import MOST_HEAD_BYTES, BadRequest, Request, find_end, parse_request


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Request(path="/")),
        (b"GET /metrics?x=1 HTTP/1.0\n\n", Request(path="/metrics", query="x=1")),
        (
            b"HEAD /healthz HTTP/1.1\r\nACCEPT: text/plain\r\n\r\n",
            Request(path="/healthz", is_head=True, accept="text/plain"),
        ),
        (b"GET / HTTP/1.1\r\naccept: a\r\nAccept: b\r\n\r\n", Request(path="/", accept="a, b")),
    ],
)
def test_request_is_understood(head: bytes, expected: Request) -> None:
    """Prometheus, curl, browsers, probes and a shell write them differently."""
    assert find_end(head) == len(head)
    assert parse_request(head) == expected


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / x HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"EHLO x\r\n\r\n", 400),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_odd_request_is_refused(head: bytes, code: int) -> None:
    """Nothing can be changed here, and what is not understood is not guessed at."""
    with pytest.raises(BadRequest) as refused:
        parse_request(head)
    assert refused.value.code == code


def test_endless_head_is_refused() -> None:
    """A client must not be able to make us keep what it sends."""
    assert find_end(b"GET / HTTP/1.1\r\n") == -1
    assert find_end(b"a" * (MOST_HEAD_BYTES - 1)) == -1
    for data in (b"a" * MOST_HEAD_BYTES, b"a" * MOST_HEAD_BYTES + b"\r\n\r\n"):
        with pytest.raises(BadRequest) as refused:
            find_end(data)
        assert refused.value.code == 431


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"))
def test_any_bytes_are_a_request_or_are_refused(data: bytes) -> None:
    """Whatever a scanner sends, the service goes on."""
    try:
        end = find_end(data)
        request = parse_request(data[:end]) if end >= 0 else Request(path="/")
    except BadRequest as refused:
        code = refused.code
    else:
        code = 200
        assert request.path.isprintable()
    assert code in (200, 400, 405, 414, 431)
