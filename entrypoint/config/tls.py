"""How much of the upstream's TLS is checked: Postfix's levels, the old words, and the table by destination. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import SETTING, InvalidValue
from entrypoint.config.nexthop import Nexthop, parse_nexthop
from entrypoint.config.values import join_or, parse_host_name


class TlsLevel(enum.Enum):
    """A level of smtp_tls_security_level (postconf(5), TLS_README)."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    DANE = "dane"
    DANE_ONLY = "dane-only"
    FINGERPRINT = "fingerprint"
    VERIFY = "verify"
    SECURE = "secure"

    @property
    def may_send_in_the_clear(self) -> bool:
        """Whether a session at this level can end up without TLS. `dane` can: without TLSA records it is `may`."""
        return self in (TlsLevel.NONE, TlsLevel.MAY, TlsLevel.DANE)

    @property
    def checks_the_authority(self) -> bool:
        """Whether the CA bundle decides anything at this level."""
        return self in (TlsLevel.VERIFY, TlsLevel.SECURE)


OLD_WORDS: Final = {
    "MUST": TlsLevel.VERIFY,
    "MUST_NOPEERMATCH": TlsLevel.ENCRYPT,
    "MAY": TlsLevel.MAY,
    "NONE": TlsLevel.NONE,
}
"""The words of smtp_tls_per_site (deprecated since Postfix 3.9) and the level that each stands for."""

_LEVELS: Final = tuple(level.value for level in reversed(TlsLevel))
_ATTRIBUTES: Final = ("ciphers", "exclude", "match", "protocols", "servername", "tafile")


@dataclass(frozen=True, kw_only=True)
class TlsRule:
    """One line of TLS_POLICY_TABLE."""

    destination: Nexthop | str
    """A nexthop if the user wrote brackets or a port, a bare host name, or a `.domain` with all below it."""
    level: TlsLevel
    attributes: tuple[tuple[str, str], ...]

    def applies_to(self, nexthop: Nexthop) -> bool:
        """Return whether this line is about the nexthop. A bare host name is about every port of the host."""
        if isinstance(self.destination, Nexthop):
            return (self.destination.host, self.destination.port) == (nexthop.host, nexthop.port)
        if self.destination.startswith("."):
            return nexthop.host.endswith(self.destination)
        return nexthop.host == self.destination


def parse_level(text: str) -> TlsLevel:
    """Return the level for one of Postfix's words or one of the old words."""
    if text.upper() in OLD_WORDS:
        return OLD_WORDS[text.upper()]
    try:
        return TlsLevel(text.lower())
    except ValueError:
        raise InvalidValue(f"'{text}' is not a TLS level", f"Write {join_or(_LEVELS)}") from None


def parse_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as Postfix writes it, `AB:CD:...`, from 64 digits with or without colons."""
    digits = text.removeprefix("sha256:").removeprefix("SHA256:").replace(":", "").upper()
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        raise InvalidValue(
            f"'{text}' is not a SHA-256 fingerprint",
            "Write 64 hexadecimal digits as 'openssl x509 -noout -fingerprint -sha256' prints them",
        )
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


def parse_policy_table(text: str) -> tuple[TlsRule, ...]:
    """Return the rules of a table of `destination LEVEL [attribute=value ...]`, one a line, `#` comments."""
    rules: dict[str, TlsRule] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2:
            raise InvalidValue(
                f"line {number} names '{words[0]}' but no level", f"Write, for example, '{words[0]} secure'"
            )
        try:
            rule = _parse_rule(words)
        except InvalidValue as problem:
            # What stands for the setting in a nexthop's remedy would be the whole table here.
            raise InvalidValue(f"line {number}: {problem.what}", problem.remedy.replace(f"{SETTING}=", "")) from None
        if str(rule.destination) in rules:
            raise InvalidValue(f"line {number} names '{words[0]}' a second time", "Keep one line for each destination")
        rules[str(rule.destination)] = rule
    return tuple(rules.values())


def _parse_rule(words: list[str]) -> TlsRule:
    level = parse_level(words[1])
    attributes = tuple(_parse_attribute(word) for word in words[2:])
    if level is TlsLevel.FINGERPRINT and not any(name == "match" for name, _ in attributes):
        raise InvalidValue(
            "the level fingerprint has no fingerprint to match", f"Write '{words[0]} fingerprint match=AB:CD:...'"
        )
    return TlsRule(destination=_parse_destination(words[0]), level=level, attributes=attributes)


def _parse_destination(word: str) -> Nexthop | str:
    if word.startswith("."):
        return "." + parse_host_name(word[1:])
    nexthop = parse_nexthop(word)
    return nexthop if nexthop.is_bracketed or ":" in word else nexthop.host


def _parse_attribute(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or name not in _ATTRIBUTES or not value:
        raise InvalidValue(
            f"'{word}' is not an attribute of a TLS policy",
            f"Write name=value, the name being {join_or(_ATTRIBUTES)} (postconf(5) smtp_tls_policy_maps)",
        )
    if not value.isprintable():
        raise InvalidValue(f"'{word}' contains a control character", "Remove it")
    return name, value
