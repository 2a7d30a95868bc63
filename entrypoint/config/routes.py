"""Which mail goes where: SENDER_RELAY_TABLE by its envelope sender, TRANSPORT_TABLE by its recipient's domain. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.secret import Secret
from entrypoint.config.values import parse_host_name, parse_password, parse_username

_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
"""RFC 5321 section 4.1.2 Dot-string; a quoted one cannot be the key of a Postfix table."""
_REPLY: Final = re.compile(r"[45]\.\d{1,3}\.\d{1,3} [ -~]{1,200}")
_SENDER_LINE: Final = "'@example.com [smtp.example.com]:587 user password'"
_TRANSPORT_LINE: Final = "'example.com [mail.example.com]:25'"


@dataclass(frozen=True, kw_only=True)
class Route:
    """One line: mail of this kind goes to a nexthop, to an upstream of UPSTREAMS, or to a service of Postfix."""

    line: int
    pattern: str
    """An address or `@domain` of senders; a domain, or `.domain` with all below it, of recipients."""
    nexthop: Nexthop | None = None
    upstream: str = ""
    """The name of an upstream."""
    service: str = ""
    """A whole value for transport(5): `discard:`, `error:5.1.2 text` or `lmtp:inet:host:port`."""
    username: str | None = None
    password: Secret | None = None

    def __str__(self) -> str:
        """Return the line as a user could have written it, without its account."""
        return f"{self.pattern} {self.nexthop or self.upstream or self.service.rstrip(':').replace('error:', 'error ')}"


class _Record(Protocol):
    """One line of any table."""

    @property
    def pattern(self) -> str: ...


Line = TypeVar("Line", bound=_Record)


def parse_sender_pattern(text: str) -> str:
    """Return `user@example.com` or `@example.com` in lower case, as Postfix looks a sender up."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise InvalidValue(f"'{text}' is no address", f"Write user@example.com, or @{text} for the whole domain")
    if local and not _LOCAL_PART.fullmatch(local):
        raise InvalidValue(f"'{text}' has a local part that no table can hold", "Write user@example.com")
    return f"{local.lower()}@{parse_host_name(domain)}"


def parse_recipient_pattern(text: str) -> str:
    """Return `example.com`, or `.example.com` for all below it, in lower case (transport(5))."""
    if "@" in text:
        raise InvalidValue(f"'{text}' is an address", f"Write the domain alone: {text.rpartition('@')[2]}")
    return "." + parse_host_name(text[1:]) if text.startswith(".") else parse_host_name(text)


def parse_sender_table(text: str) -> tuple[Route, ...]:
    """Return the routes of a table of `sender nexthop [username [password]]`, one a line, `#` comments.

    In place of a nexthop the name of an upstream may stand. A password is the rest of its line.
    """
    return tuple(read_lines(text, _parse_sender_line))


def parse_transport_table(text: str) -> tuple[Route, ...]:
    """Return the routes of a table of `domain nexthop`, one a line, `#` comments.

    In place of a nexthop an upstream's name may stand, or `discard`, `error CODE TEXT`, `lmtp:host:port`.
    """
    return tuple(read_lines(text, _parse_transport_line))


def read_lines(text: str, parse: Callable[[int, str], Line]) -> Iterator[Line]:
    """Yield what each line of a table is, without `#` comments; raise InvalidValue for a wrong or a second one."""
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            record = parse(number, line.strip())
        except InvalidValue as problem:
            remedy = problem.remedy.replace(f"{SETTING}=", "")
            raise InvalidValue(f"line {number}: {problem.what}", remedy, may_hold_secret=True) from None
        if record.pattern in seen:
            raise InvalidValue(
                f"line {number} names '{record.pattern}' a second time, after line {seen[record.pattern]}",
                "Keep one line for each",
            )
        seen[record.pattern] = number
        yield record


def _parse_sender_line(number: int, line: str) -> Route:
    words = line.split(maxsplit=3)
    if len(words) < 2:
        raise InvalidValue("it has no nexthop", f"Write {_SENDER_LINE}")
    pattern = parse_sender_pattern(words[0])
    target = _parse_target(words[1])
    username = parse_username(words[2]) if len(words) > 2 else None
    password = parse_password(words[3]) if len(words) > 3 else None
    if isinstance(target, str) and username is not None:
        raise InvalidValue(f"the upstream '{target}' has an account of its own", f"Write '{words[0]} {target}' alone")
    if username is not None and password is None:
        raise InvalidValue(f"there is a user name, '{username}', but no password", f"Write {_SENDER_LINE}")
    if isinstance(target, str):
        return Route(line=number, pattern=pattern, upstream=target)
    return Route(line=number, pattern=pattern, nexthop=target, username=username, password=password)


def _parse_transport_line(number: int, line: str) -> Route:
    word, _, rest = line.partition(" ")
    pattern, rest = parse_recipient_pattern(word), rest.strip()
    if not rest:
        raise InvalidValue("it has no nexthop", f"Write {_TRANSPORT_LINE}")
    kind, _, more = rest.partition(" ")
    if kind in ("discard", "error"):
        return Route(line=number, pattern=pattern, service=_parse_end(kind, more.strip()))
    if more:
        raise InvalidValue(
            f"something follows '{kind}'",
            f"Write {_TRANSPORT_LINE}; an account belongs into UPSTREAMS, whose name can stand here",
        )
    if kind.startswith("lmtp:"):
        nexthop = parse_nexthop(kind.removeprefix("lmtp:").removeprefix("inet:"))
        return Route(line=number, pattern=pattern, service=f"lmtp:inet:[{nexthop.host}]:{nexthop.port}")
    target = _parse_target(kind)
    if isinstance(target, str):
        return Route(line=number, pattern=pattern, upstream=target)
    return Route(line=number, pattern=pattern, nexthop=target)


def _parse_end(kind: str, text: str) -> str:
    """Return the transport that ends a message's way: error(8) with its reply, or discard(8)."""
    if kind == "discard":
        if text:
            raise InvalidValue("something follows 'discard'", "Write 'example.com discard'")
        return "discard:"
    text = text or "5.1.2 mail to this domain is not relayed here"
    if not _REPLY.fullmatch(text):
        raise InvalidValue(f"'{text}' is no reply", "Write a code and a text: 'example.com error 5.1.2 no such domain'")
    return f"error:{text}"


def _parse_target(word: str) -> Nexthop | str:
    """Return the nexthop, or the name of an upstream: a word without a dot, a port or brackets."""
    return word if re.fullmatch(r"[a-z0-9-]+", word) else parse_nexthop(word)
