"""Who may send by login or certificate: the tables of users, of senders that are theirs, of certificates. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.password_scheme import Hash, parse_secret
from entrypoint.config.routes import parse_sender_pattern
from entrypoint.config.secret import Secret
from entrypoint.config.tls import parse_fingerprint

_USER_LINE: Final = "'user:password'"
_SENDER_LINE: Final = "'app@example.com user' or '@example.com user, other'"
_CERTIFICATE_LINE: Final = "'AB:CD:... name'"
_MOST_NAME_BYTES: Final = 255
_MOST_PASSWORD_BYTES: Final = 768
"""A line of SMTP is cut at 2048 (postconf(5) line_length_limit): both must fit into AUTH PLAIN's base64."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class User:
    """Who may log in, with a password or the hash of one."""

    line: int
    name: str
    password: Secret | None = None
    hash: Hash | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class SenderOwners:
    """A line: an envelope sender, or `@domain`, and the users who alone may use it."""

    sender: str
    users: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.sender} {', '.join(self.users)}"


@dataclass(frozen=True, kw_only=True)
class KnownCertificate:
    """A line: the SHA-256 fingerprint of a client's certificate or public key, and what it is called here."""

    sha256: str
    name: str

    def __str__(self) -> str:
        return f"{self.sha256} {self.name}"


def _list_lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(), for which a password could have a line's end inside.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _fail(number: int, problem: InvalidValue) -> InvalidValue:
    return InvalidValue(f"line {number}: {problem.what}", problem.remedy, may_hold_secret=True)


def parse_users_table(text: str) -> tuple[User, ...]:
    """Return the users of a table of `user:password` or `user:{SCHEME}hash`, one a line, `#` comments.

    A name ends at the first colon; a password is the rest of its line. With remarks alone it is nobody: the last user,
    too, must be out when his line is removed.
    """
    users: dict[str, User] = {}
    for number, line in _list_lines(text):
        try:
            user = _parse_user(number, line)
            if (other := users.get(user.name.casefold())) is not None:
                # Postfix compares the owner of a sender without regard to case.
                raise InvalidValue(
                    f"the user '{user.name}' is there already, in line {other.line}; upper and lower case are the same",
                    "Keep one line for each user",
                )
        except InvalidValue as problem:
            raise _fail(number, problem) from None
        users[user.name.casefold()] = user
    return tuple(users.values())


def _parse_user(number: int, line: str) -> User:
    name, colon, secret = line.partition(":")
    if not colon:
        raise InvalidValue("it has no colon", f"Write {_USER_LINE}")
    if not name or name != name.strip() or not _is_clean(name):
        raise InvalidValue(
            "the user name is empty, begins or ends with a blank, or has a control character", f"Write {_USER_LINE}"
        )
    if len(name.encode()) > _MOST_NAME_BYTES:
        raise InvalidValue(f"the user name has more than {_MOST_NAME_BYTES} bytes", "Choose a shorter one")
    found = parse_secret(secret)
    if isinstance(found, Hash):
        return User(line=number, name=name, hash=found)
    if not found:
        raise InvalidValue(f"the user '{name}' has no password", f"Write {_USER_LINE}, or remove the line")
    if found != found.strip() or not _is_clean(found):
        raise InvalidValue(
            f"the password of '{name}' begins or ends with a blank, or has a control character",
            "Choose another one, or give its hash: docker run --rm -i authrelay hash-password",
        )
    if len(found.encode()) > _MOST_PASSWORD_BYTES:
        raise InvalidValue(
            f"the password of '{name}' has more than {_MOST_PASSWORD_BYTES} bytes, which no line of SMTP can carry",
            "Choose a shorter one",
        )
    return User(line=number, name=name, password=Secret(found))


def _is_clean(text: str) -> bool:
    return not any(ord(character) < 32 or ord(character) == 127 for character in text)


def parse_sender_login_table(text: str) -> tuple[SenderOwners, ...]:
    """Return the lines of a table of `sender user[, user]`, a sender as `user@example.com` or `@example.com`."""
    lines: dict[str, SenderOwners] = {}
    for number, line in _list_lines(text):
        try:
            words = [word for word in re.split(r"[\s,]+", line) if word]
            if len(words) < 2:
                raise InvalidValue("it has no user", f"Write {_SENDER_LINE}")
            sender = parse_sender_pattern(words[0])
            if sender in lines:
                raise InvalidValue(f"'{sender}' is there already", "Name all its users in one line")
            if not all(map(_is_clean, words)):
                raise InvalidValue("it has a control character", f"Write {_SENDER_LINE}")
        except InvalidValue as problem:
            raise _fail(number, problem) from None
        lines[sender] = SenderOwners(sender=sender, users=tuple(dict.fromkeys(words[1:])))
    if not lines:
        raise InvalidValue("it names no sender", f"Write {_SENDER_LINE}, one a line")
    return tuple(lines.values())


def parse_certificates_table(text: str) -> tuple[KnownCertificate, ...]:
    """Return the lines of a table of `fingerprint name`: SHA-256 of a client's certificate or public key."""
    lines: dict[str, KnownCertificate] = {}
    for number, line in _list_lines(text):
        try:
            words = line.split()
            if len(words) != 2 or not _NAME.fullmatch(words[1]):
                raise InvalidValue("it is not a fingerprint and a name", f"Write {_CERTIFICATE_LINE}")
            sha256 = parse_fingerprint(words[0])
            if sha256 in lines:
                raise InvalidValue(f"the fingerprint of '{words[1]}' is there already", "Keep one line for each")
        except InvalidValue as problem:
            raise _fail(number, problem) from None
        lines[sha256] = KnownCertificate(sha256=sha256, name=words[1])
    if not lines:
        raise InvalidValue("it names no certificate", f"Write {_CERTIFICATE_LINE}, one a line")
    return tuple(lines.values())
