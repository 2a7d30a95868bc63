"""The words between smtpd(8) and us: Dovecot's authentication protocol 1.x, SASL PLAIN and LOGIN. Pure.

Postfix's side is xsasl_dovecot_server.c, the protocol is in Dovecot's documentation ("Dovecot Authentication
Protocol"): lines of fields that are parted by tabs. PLAIN is RFC 4616; LOGIN asks for the name, and then the password.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

MOST_LINE_BYTES: Final = 16384
"""AUTH_CLIENT_MAX_LINE_LENGTH."""
MOST_NAME_CHARACTERS: Final = 255
_MECHANISMS: Final = ("PLAIN", "LOGIN")
_REASON: Final = "wrong user name or password"
_ASK_NAME: Final = binascii.b2a_base64(b"Username:", newline=False).decode()
_ASK_PASSWORD: Final = binascii.b2a_base64(b"Password:", newline=False).decode()


class ProtocolError(Exception):
    """What came is no request: the connection is closed."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a client says: its address is empty where it is not known."""

    address: str
    name: str
    password: str


def make_handshake(pid: int, connection: int) -> bytes:
    """Return what we say first."""
    mechanisms = "".join(f"MECH\t{name}\tplaintext\n" for name in _MECHANISMS)
    # Postfix wants the mechanisms before SPID; the cookie is for processes that neither of us has.
    return f"VERSION\t1\t1\n{mechanisms}SPID\t{pid}\nCUID\t{connection}\nCOOKIE\t{'0' * 32}\nDONE\n".encode()


def make_ok(number: str, name: str) -> bytes:
    """Return that a login is good."""
    return f"OK\t{number}\tuser={name}\n".encode()


def make_failure(number: str, name: str) -> bytes:
    """Return that it is not; Postfix logs the name, and tells the client the reason."""
    shown = "".join(character for character in name if character.isprintable())[:MOST_NAME_CHARACTERS]
    parameter = f"\tuser={shown}" if shown else ""
    return f"FAIL\t{number}{parameter}\treason={_REASON}\n".encode(errors="replace")


class Exchange:
    """One client's login: requests in, until there are credentials or a failure."""

    def __init__(self) -> None:
        self.number = ""
        self._mechanism = ""
        self._address = ""
        self._name: str | None = None

    def take(self, line: str) -> Credentials | bytes | None:
        """Return the credentials, or what is to be answered; `None` for a line that needs no answer."""
        command, *fields = line.split("\t")
        if command == "AUTH" and len(fields) >= 2:
            return self._begin(fields)
        if command == "CONT" and len(fields) == 2 and fields[0] == self.number:
            return self._go_on(fields[1])
        if command == "VERSION" and fields[:1] != ["1"]:
            raise ProtocolError
        if command in ("VERSION", "CPID", "CANCEL"):
            return None
        raise ProtocolError

    def _begin(self, fields: list[str]) -> Credentials | bytes:
        self.number, self._mechanism, self._name = fields[0], fields[1].upper(), None
        if not self.number.isascii() or not self.number.isdigit() or self._mechanism not in _MECHANISMS:
            raise ProtocolError
        parameters = dict(field.partition("=")[::2] for field in fields[2:])
        self._address = parameters.get("rip", "")
        if "secured" not in parameters:
            # smtpd_tls_auth_only refuses that before: this is for a configuration that was changed.
            return make_failure(self.number, "")
        response = parameters.get("resp")
        if response is not None:
            return self._go_on(response)
        return f"CONT\t{self.number}\t{_ASK_NAME if self._mechanism == 'LOGIN' else ''}\n".encode()

    def _go_on(self, response: str) -> Credentials | bytes:
        try:
            said = binascii.a2b_base64(response.encode(), strict_mode=True).decode() if response else ""
        except (binascii.Error, ValueError):
            return make_failure(self.number, "")
        if self._mechanism == "PLAIN":
            identity, separator, rest = said.partition("\0")
            name, other, password = rest.partition("\0")
            if not separator or not other or identity not in ("", name):
                return make_failure(self.number, name)
            return self._finish(name, password)
        if self._name is None:
            self._name = said
            return f"CONT\t{self.number}\t{_ASK_PASSWORD}\n".encode()
        return self._finish(self._name, said)

    def _finish(self, name: str, password: str) -> Credentials | bytes:
        if not name or not password or "\0" in password or not name.isprintable():
            return make_failure(self.number, name)
        return Credentials(address=self._address, name=name, password=password)
