"""The hall: from the command line to a command, and from errors to exit statuses.

Imports nothing that the command at hand does not need: a health check runs every few seconds.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

from entrypoint.errors import StartupError

VERBS: Final = {
    "run": "relay mail (the default)",
    "check": "validate the settings and secrets, and say what would run",
    "render": "write the complete configuration into a directory",
    "settings": "list every setting",
    "discover-ca": "show which CA signed a mail server's certificate, and what to set",
    "import": "convert an old main.cf, or another image's variables, to settings",
    "doctor": "walk the way to the upstream, and say what is broken on it",
    "send-test": "send a message through the running relay, and tell what becomes of it",
    "dkim": "show the DNS records of the keys that sign, and whether they are published",
    "queue": "list what is queued, why, and what to do about it",
    "hash-password": "print the hash of a password, for SMTPD_USERS_TABLE",
    "oauth2": "get the settings of OAuth 2.0: a first login, or the certificate to upload",
    "health": "say whether the relay in this container works",
}
OCCASIONAL: Final = frozenset({"upkeep", "probe", "tokens"})
"""What the supervisor runs now and then; nobody types these."""
USAGE_STATUS: Final = 64
_MODULES: Final = {"import": "import_settings"}
"""Where the verb is a word of Python's."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status (sysexits(3))."""
    words = sys.argv[1:] if arguments is None else arguments
    verb, rest = (words[0], words[1:]) if words else ("run", [])
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(_describe_usage())
        return 0
    if verb not in VERBS and verb not in OCCASIONAL:
        sys.stderr.write(f"authrelay: there is no command '{verb}'.\n{_describe_usage()}")
        return USAGE_STATUS
    try:
        module = _MODULES.get(verb, verb.replace("-", "_"))
        status: int = importlib.import_module(f"entrypoint.commands.{module}").main(rest)
    except StartupError as error:
        sys.stderr.write("".join(f"authrelay: {line}\n" for line in str(error).splitlines()))
        return error.exit_status
    except BrokenPipeError:
        return 0
    return status


def _describe_usage() -> str:
    lines = "".join(f"  {verb:<14}{purpose}\n" for verb, purpose in VERBS.items())
    return f"usage: authrelay [COMMAND]\n\n{lines}\nSettings are environment variables: authrelay settings\n"


if __name__ == "__main__":
    sys.exit(main())
