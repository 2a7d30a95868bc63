"""LOG_ADDRESSES: what the log, and all that is made from it, show of a mail address. Pure, but for the one reader.

`full` everything; `domain` `*@example.com`; `hash` a code of 16 digits that is the same for the same address, and
without the deployment's key tells nothing: HMAC-SHA-256 (RFC 2104) of the address in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from entrypoint import paths
from entrypoint.journal.words import leave_out_words

FULL: Final = "full"
DOMAIN: Final = "domain"
HASH: Final = "hash"
_DIGITS: Final = 16
_MOST_KNOWN: Final = 8192
"""Of the addresses of late: each comes by several times."""

# Whatever may stand before an @, read generously: rather a word too much hidden than a part of a name left.
_ADDRESS: Final = re.compile(r'("(?:[^"\\]|\\.)*"|[^\s<>()\[\],;:"@\1\2]+)@(\[[^\]\s]*\]|[\w.-]+)')
_BARE: Final = re.compile(r'(?<!=)<("(?:[^"\\]|\\.)*"|[^<>@\s\1\2]{1,254})>')
"""`<ann>`: an address without its domain."""
_DOMAIN: Final = re.compile(r"\[[^\]\s]*\]|[\w.-]+")
_HELD: Final = re.compile("\1(\\d+)\2")


class Addresses:
    """How addresses are shown in this deployment."""

    def __init__(self, mode: str = FULL, key: bytes = b"") -> None:
        # Without its key a code could be found by trying; then it is better left out.
        self.mode = DOMAIN if mode == HASH and not key else mode
        self._key = key
        self._shown: dict[str, str] = {}

    @property
    def are_full(self) -> bool:
        """Whether nothing is hidden."""
        return self.mode == FULL

    def hide(self, address: str) -> str:
        """Return one address, login or Message-ID (without its brackets) as it is shown; an empty one stays empty."""
        if self.mode == FULL or not address:
            return address
        if (shown := self._shown.get(address)) is not None:
            return shown
        domain = address.rpartition("@")[2]
        has_domain = "@" in address and _DOMAIN.fullmatch(domain)
        shown = f"{self._encode(address)}@{domain}" if has_domain else self._encode(address)
        if len(self._shown) >= _MOST_KNOWN:
            del self._shown[next(iter(self._shown))]
        self._shown[address] = shown
        return shown

    def hide_in(self, text: str, addresses: Iterable[str] = ()) -> str:
        """Return a text in which nothing is left of any address before its @, nor of what others said.

        `addresses`: those that the text is known to be about, which stand there as `<address>` or `name=address`.
        """
        if self.mode == FULL:
            return text
        text = leave_out_words(text)
        held: list[str] = []

        def hold(shown: str) -> str:
            # Neither can be part of a text of one line; what stands between them is not looked at again.
            held.append(shown)
            return f"\1{len(held) - 1}\2"

        for address in addresses:
            if address and address in text:
                shown = hold(self.hide(address))
                text = text.replace(f"<{address}>", f"<{shown}>").replace(f"={address},", f"={shown},")
                if text.endswith(f"={address}"):
                    text = text[: -len(address)] + shown
        if "@" in text:
            text = _ADDRESS.sub(lambda match: hold(self.hide(match[0])), text)
        if "<" in text:
            text = _BARE.sub(lambda match: f"<{hold(self.hide(match[1]))}>", text)
        return _HELD.sub(lambda match: held[int(match[1])], text) if held else text

    def _encode(self, address: str) -> str:
        if self.mode == DOMAIN:
            return "*"
        import hmac  # OpenSSL comes with it: only who wants codes pays for it

        return hmac.digest(self._key, address.lower().encode(errors="backslashreplace"), "sha256").hex()[:_DIGITS]


def load_rules() -> tuple[str, Addresses]:
    """Return LOG_FORMAT, and how addresses are shown, as the start has written it down; before that plain and full."""
    try:
        with open(paths.LOG_RULES, encoding="ascii") as file:
            form, mode = file.read().split()
    except (FileNotFoundError, ValueError):
        return "plain", Addresses()
    key = b""
    if mode == HASH:
        try:
            with open(paths.ADDRESSES_KEY, "rb") as key_file:
                key = key_file.read()
        except OSError:
            key = b""
    return form, Addresses(mode, key)
