"""From a user's text to a value, for the kinds of value that several settings share. Pure.

Each parser takes the text of a setting that is set (never empty) and raises `InvalidValue`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.secret import Secret

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

ALL_INTERFACES: Final = "all"
LOOPBACK_ONLY: Final = "loopback-only"
_MECHANISM_LENGTH: Final = 21  # RFC 4422 section 3.1 allows 20; Postfix adds a ! for "not"
_YES: Final = ("yes", "true", "on", "1")
_NO: Final = ("no", "false", "off", "0")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LEAST_REFRESH_SECONDS: Final = 10
_LEAST_KEY_LENGTH: Final = 16
_YEAR_SECONDS: Final = 366 * 86400
_MOST_BYTES: Final = 2**40
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_boolean(text: str) -> bool:
    """Return the truth of yes/no, true/false, on/off or 1/0, in any case."""
    word = text.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise InvalidValue("it is neither yes nor no", "Write yes or no")


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of the given lower-case words, in any case."""

    def parse(text: str) -> str:
        if text.lower() in choices:
            return text.lower()
        raise InvalidValue("it is not one of the words that this setting knows", f"Write {join_or(choices)}")

    return parse


def parse_integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser for a whole number of plain digits within a range, both ends included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not lowest <= int(text) <= highest:
            raise InvalidValue(
                f"'{text}' is not a whole number from {lowest} to {highest}", f"Write, for example, {lowest}"
            )
        return int(text)

    return parse


def parse_duration_seconds(text: str) -> int:
    """Return seconds, at most a year, from `20s`, `5m`, `1h`, `5d`, `1w` or a bare number, as postconf(5) has them."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.lower())
    if not match:
        raise InvalidValue("it is not a duration", "Write a number with s, m, h or d, for example 20s")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _YEAR_SECONDS:
        raise InvalidValue("it is longer than a year", "Write a number with s, m, h or d, for example 20s")
    return seconds


def parse_refresh_seconds(text: str) -> int:
    """Return seconds as `parse_duration_seconds` does, but at least ten: less would be hammering."""
    seconds = parse_duration_seconds(text)
    if seconds < _LEAST_REFRESH_SECONDS:
        raise InvalidValue("it is less than 10 seconds", "Write a number with m, h or d, for example 6h")
    return seconds


def parse_size_bytes(text: str) -> int:
    """Return bytes, at most 1 TiB, from a number, or a number with k, M or G (powers of 1024)."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(i?b)?", text.lower())
    if not match or (match[3] and not match[2]):
        raise InvalidValue("it is not a size", "Write bytes, or a number with k, M or G, for example 25M")
    size = int(match[1]) * _SIZES[match[2]]
    if size > _MOST_BYTES:
        raise InvalidValue("it is larger than 1024G", "Write bytes, or a number with k, M or G, for example 25M")
    return size


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of a list that is separated by blanks, commas or newlines."""
    return tuple(item for item in re.split(r"[\s,]+", text) if item)


def parse_list(parse_item: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Return a parser for a list of at least one item; an item that is there twice counts once."""

    def parse(text: str) -> tuple[T, ...]:
        items = tuple(dict.fromkeys(parse_item(item) for item in split_list(text)))
        if not items:
            raise InvalidValue("the list has no items", "Leave it unset, or name at least one")
        return items

    return parse


def parse_host_name(text: str) -> str:
    """Return a host name in lower case (RFC 1123 section 2.1; underscores as container names have them)."""
    if not text.isascii():
        raise InvalidValue(
            f"'{text}' is not an ASCII host name", "Write its A-label, for example xn--bcher-kva.example"
        )
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidValue(f"'{text}' is not a host name", "Write a name such as smtp.example.com")
    if labels[-1].isdigit():
        raise InvalidValue(f"'{text}' is neither a host name nor an address", "Write a name such as smtp.example.com")
    return name


def parse_address(text: str) -> IPAddress:
    """Return an IPv4 or IPv6 address; brackets around an IPv6 address are taken off."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise InvalidValue(
            f"'{text}' is not an IP address", "Write an address such as 192.0.2.10 or 2001:db8::10"
        ) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise InvalidValue(f"'{text}' has a zone", "Write the address without what follows the % sign")
    return address


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An address of this container and a port on it."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint of `192.0.2.10:9154` or `[2001:db8::10]:9154`."""
    example = "Write an address of this container and a port, for example 0.0.0.0:9154 or [::]:9154, or none"
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise InvalidValue(f"'{text}' is not an address and a port", example)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise InvalidValue(f"'{port}' is not a port from 1 to 65535", example)
    try:
        address = parse_address(host)
    except InvalidValue as invalid:
        raise InvalidValue(invalid.what, example) from None
    return Endpoint(address=address, port=int(port))


def parse_address_or_name(text: str) -> IPAddress | str:
    """Return an address, or the host name that stands for one."""
    try:
        return parse_address(text)
    except InvalidValue:
        return parse_host_name(text)


def parse_network(text: str) -> IPNetwork:
    """Return a network in CIDR form that is narrow enough to be trusted: at least /8 (IPv4) or /16 (IPv6).

    An address without a prefix length is itself. `[2001:db8::]/32`, as Postfix writes it, is understood.
    """
    bare = text.replace("[", "").replace("]", "")
    if "%" in bare:
        raise InvalidValue(f"'{text}' has a zone", "Write the network without what follows the % sign")
    try:
        network = ipaddress.ip_network(bare, strict=False)
        is_exact = "/" not in bare or ipaddress.ip_interface(bare).ip == network.network_address
    except ValueError:
        raise InvalidValue(
            f"'{text}' is not a network", "Write networks in CIDR form, for example 192.0.2.0/24 or [2001:db8::]/32"
        ) from None
    if not is_exact:
        raise InvalidValue(
            f"'{text}' has bits set beyond its prefix length",
            f"Write {network} for the network, or {bare.split('/')[0]} for the one address",
        )
    narrowest, example = (8, "10.0.0.0/8") if network.version == 4 else (16, "2001:db8::/32")
    if network.prefixlen < narrowest:
        raise InvalidValue(
            f"'{text}' trusts more of the Internet than any site owns and would make this an open relay",
            f"Name your own networks, each /{narrowest} or narrower, for example {example}",
        )
    return network


def parse_mechanism(text: str) -> str:
    """Return a SASL mechanism name in lower case, `!name` meaning not that one (RFC 4422 section 3.1)."""
    name = text.lower()
    if not 0 < len(name) <= _MECHANISM_LENGTH or not name.removeprefix("!").replace("-", "").replace("_", "").isalnum():
        raise InvalidValue(f"'{text}' is not a SASL mechanism", "Write, for example, 'plain, login' or '!plain'")
    if not name.isascii():
        raise InvalidValue(f"'{text}' is not a SASL mechanism", "Write, for example, 'plain, login' or '!plain'")
    return name


def parse_interfaces(text: str) -> tuple[IPAddress, ...] | str:
    """Return `all`, `loopback-only` or the addresses to listen on (postconf(5) inet_interfaces)."""
    if text.strip().lower() in (ALL_INTERFACES, LOOPBACK_ONLY):
        return text.strip().lower()
    words = split_list(text)
    if any(word.lower() in (ALL_INTERFACES, LOOPBACK_ONLY) for word in words):
        raise InvalidValue("a word and addresses are mixed", "Write all, loopback-only, or addresses of this container")
    return parse_list(parse_address)(text)


def parse_time_zone(text: str) -> str:
    """Return a name of the IANA time zone database."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except Exception:  # the module raises a different kind for each way in which a name can be odd
        raise InvalidValue("it is not a time zone", "Write a name such as Europe/Berlin or UTC") from None
    return text


def parse_carriable_text(text: str) -> str:
    """Return a text that a Postfix table carries unchanged (postmap(1): a value is one line, trimmed at its ends)."""
    for character, name in (("\r", "a carriage return"), ("\n", "a line break"), ("\0", "a NUL character")):
        if character in text:
            raise InvalidValue(
                f"it contains {name}, which a Postfix table cannot carry",
                "Remove it; a file may end with one line break, which is not counted",
            )
    if text != text.strip(" \t\v\f"):
        raise InvalidValue(
            "it begins or ends with a blank, which a Postfix table would drop",
            "Remove the blank, or choose another value at the upstream",
        )
    if not text.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InvalidValue("it contains a control character", "Remove it, or choose another value at the upstream")
    return text


def parse_password(text: str) -> Secret:
    """Return a password that survives a Postfix table and SASL unchanged."""
    return Secret(parse_carriable_text(text))


def parse_key(text: str) -> Secret:
    """Return a key that nobody finds by trying."""
    if len(text) < _LEAST_KEY_LENGTH:
        raise InvalidValue(
            f"it has fewer than {_LEAST_KEY_LENGTH} characters, and a short key is found by trying",
            "Make one: openssl rand -hex 32",
        )
    return Secret(text)


def parse_username(text: str) -> str:
    """Return a SASL user name. A colon cannot be carried: Postfix splits `user:password` at the first one."""
    name = parse_carriable_text(text)
    if ":" in name:
        raise InvalidValue(
            "it contains a colon, and Postfix would take what follows for the password",
            "Use a user name without a colon, for example user@example.com",
            may_hold_secret=True,
        )
    return name


def join_or(words: tuple[str, ...]) -> str:
    """Return `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
