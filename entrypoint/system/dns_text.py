"""Asks for a name's TXT records, which getaddrinfo(3) cannot. Network; reads resolv.conf.

Uses `resolver` for the name servers.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from entrypoint.system.resolver import describe_name_servers, list_name_servers

_TXT: Final = 16
_INTERNET: Final = 1
_OPT: Final = 41
_PAYLOAD_BYTES: Final = 1232
"""Of an answer by UDP: what comes through everywhere without fragments (RFC 9715); what has more comes by TCP."""
_RECURSION_DESIRED: Final = 0x0100
_TRUNCATED: Final = 0x0200
_NO_SUCH_NAME: Final = 3
_TRIES: Final = 2
_PORT: Final = 53


class DnsError(Exception):
    """There is no answer, or none that says whether there are records."""


def look_up_texts(name: str, timeout_seconds: float, port: int = _PORT) -> tuple[str, ...]:
    """Return the TXT records of a name, each joined; none where there is no such name. Raise DnsError otherwise."""
    ends_at = time.monotonic() + timeout_seconds
    servers = list_name_servers() * _TRIES
    failure = f"no answer within {timeout_seconds:g} s from {describe_name_servers()}"
    for number, server in enumerate(servers):
        # Each has its share of what time is left.
        patience = (ends_at - time.monotonic()) / (len(servers) - number)
        if patience <= 0:
            break
        try:
            return read_answer(_ask(server, port, make_query(name, os.urandom(2)), patience), name)
        except TimeoutError:
            continue
        except (OSError, DnsError) as error:
            failure = f"name server {server}: {error}"
    raise DnsError(failure)


def make_query(name: str, number: bytes) -> bytes:
    """Return a question for TXT records (RFC 1035 section 4.1), with room for a long answer (RFC 6891)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    question = labels + b"\0" + struct.pack(">HH", _TXT, _INTERNET)
    extension = b"\0" + struct.pack(">HHIH", _OPT, _PAYLOAD_BYTES, 0, 0)
    return number + struct.pack(">HHHHH", _RECURSION_DESIRED, 1, 0, 0, 1) + question + extension


def read_answer(answer: bytes, name: str) -> tuple[str, ...]:
    """Return the texts of an answer; raise DnsError where it says that something failed, or cannot be read."""
    try:
        _, flags, questions, answers, _, _ = struct.unpack_from(">HHHHHH", answer)
        if flags & 0xF == _NO_SUCH_NAME:
            return ()
        if flags & 0xF:
            raise DnsError(f"it could not answer for {name} (response code {flags & 0xF})")
        at = 12
        for _ in range(questions):
            at = _skip_name(answer, at) + 4
        return tuple(_read_records(answer, at, answers))
    except (struct.error, IndexError) as error:
        raise DnsError("its answer cannot be read") from error


def _ask(server: str, port: int, query: bytes, patience: float) -> bytes:
    """Return the answer to a question, by TCP where it is too long for UDP (RFC 7766)."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    ends_at = time.monotonic() + patience
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        # Connected: what comes from anywhere else is no answer.
        datagrams.connect((server, port))
        datagrams.settimeout(patience)
        datagrams.send(query)
        answer = datagrams.recv(65535)
        while answer[:2] != query[:2] or len(answer) < 12:
            datagrams.settimeout(max(0.001, ends_at - time.monotonic()))
            answer = datagrams.recv(65535)
    if not struct.unpack_from(">H", answer, 2)[0] & _TRUNCATED:
        return answer
    with socket.create_connection((server, port), max(0.001, ends_at - time.monotonic())) as stream:
        stream.sendall(struct.pack(">H", len(query)) + query)
        with stream.makefile("rb") as reader:
            (length,) = struct.unpack(">H", reader.read(2))
            return reader.read(length)


def _read_records(answer: bytes, at: int, count: int) -> Iterator[str]:
    """Yield the text of each TXT record; what leads to it, an alias, is left out."""
    for _ in range(count):
        at = _skip_name(answer, at)
        kind, _, _, length = struct.unpack_from(">HHIH", answer, at)
        at += 10
        if at + length > len(answer):
            raise IndexError(at)
        if kind == _TXT:
            yield _join_strings(answer[at : at + length])
        at += length


def _join_strings(data: bytes) -> str:
    parts, at = [], 0
    while at < len(data):
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts).decode("ascii", "replace")


def _skip_name(answer: bytes, at: int) -> int:
    """Return where a name ends: at its empty label, or behind a pointer (RFC 1035 section 4.1.4)."""
    while answer[at]:
        if answer[at] >= 0xC0:
            return at + 2
        at += 1 + answer[at]
    return at + 1
