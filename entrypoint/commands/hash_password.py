"""`authrelay hash-password`: reads a password, and prints the hash to write into SMTPD_USERS_TABLE in its place."""

from __future__ import annotations

import getpass
import sys

from entrypoint.errors import UsageError
from entrypoint.system.password_hashes import THOROUGH, make_hash


def main(arguments: list[str]) -> int:
    """Read the password from a terminal, without an echo, or one line of standard input; print its hash."""
    if arguments:
        # Whoever lists the processes of the machine would see it there.
        raise UsageError("it takes no argument: the password comes on standard input. usage: authrelay hash-password")
    try:
        password = _ask() if sys.stdin.isatty() else sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        raise UsageError("the password is not UTF-8 text") from None
    password = password.removesuffix("\n").removesuffix("\r")
    if not password or "\0" in password:
        raise UsageError("there is no password on standard input, or it has a NUL character")
    sys.stdout.write(f"{make_hash(password, parallel=THOROUGH)}\n")
    return 0


def _ask() -> str:
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise UsageError("these are two passwords")
    return password
