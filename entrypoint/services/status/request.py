"""HTTP requests, as far as a page that nobody can change needs them (RFC 9110, RFC 9112). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MOST_HEAD_BYTES: Final = 8192
"""Far more than a browser sends to a host that sets no cookies."""
_MOST_TARGET_BYTES: Final = 1024
_METHODS: Final = ("GET", "HEAD")
_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.[01]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([^\0\r\n]*)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for: the path, its query, and what the client would like to get."""

    path: str
    query: str = ""
    is_head: bool = False
    accept: str = ""


class BadRequest(Exception):
    """A request that is not answered with what it asks for; `code` is the status (RFC 9110 section 15)."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def find_end(data: bytes | bytearray) -> int:
    """Return where the head of a request ends, or -1 while it does not; raise BadRequest when it is too long."""
    found = re.search(rb"\r?\n\r?\n", data)
    if found is None and len(data) < MOST_HEAD_BYTES:
        return -1
    if found is None or found.end() > MOST_HEAD_BYTES:
        raise BadRequest(431)
    return found.end()


def parse_request(head: bytes) -> Request:
    """Return the request of a whole head; raise BadRequest."""
    first, *lines = re.split(rb"\r?\n", head.strip(b"\r\n"))
    match = _LINE.fullmatch(first)
    if match is None:
        raise BadRequest(400)
    method, target = match[1].decode(), match[2].decode()
    if method not in _METHODS:
        raise BadRequest(405)
    if len(target) > _MOST_TARGET_BYTES:
        raise BadRequest(414)
    accept = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadRequest(400)
        if header[1].lower() == b"accept":
            accept.append(header[2].decode("ascii", "replace"))
    path, _, query = target.partition("?")
    return Request(path=path, query=query, is_head=method == "HEAD", accept=", ".join(accept))
