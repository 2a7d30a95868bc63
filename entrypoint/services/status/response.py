"""HTTP responses: each ends its connection, is kept by nobody, and may run and load nothing but itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy: what holds for every answer."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer before it is written."""

    code: int
    body: bytes
    content_type: str = TEXT
    policy: str = _POLICY


def refuse(code: int) -> Response:
    """Return an answer that has nothing but its status to say."""
    return Response(code=code, body=f"{_REASONS[code]}\n".encode())


def make_page(result: bytes) -> Response:
    """Return a page from the first line, its policy, and the HTML below it."""
    policy, _, html = result.partition(b"\n")
    return Response(code=200, body=html, content_type=HTML, policy=policy.decode())


def render_response(response: Response, *, is_head: bool) -> bytes:
    """Return the bytes to be sent."""
    head = (
        f"HTTP/1.1 {response.code} {_REASONS[response.code]}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Connection: close\r\n"
        "Cache-Control: no-store\r\n"
        f"Content-Security-Policy: {response.policy}\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\n"
        "Referrer-Policy: no-referrer\r\n"
        "X-Content-Type-Options: nosniff\r\n"
    )
    if response.code == 405:
        head += "Allow: GET, HEAD\r\n"
    return head.encode() + b"\r\n" + (b"" if is_head else response.body)
