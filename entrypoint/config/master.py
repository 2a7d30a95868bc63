"""`POSTFIX_MASTER_<service>__<type>`: a service of the user's in master.cf, column by column (master(5)). Pure.

The value is the whole line, as master.cf has it; in the variable's name every character of the service that is neither
a letter nor a digit is written `_`, since names of variables cannot hold it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from entrypoint.config.declaration import InvalidValue
from entrypoint.config.fragments import Assignment
from entrypoint.config.values import IPAddress

MASTER_PREFIX: Final = "POSTFIX_MASTER_"
INET: Final = "inet"
_TYPES: Final = (INET, "unix", "unix-dgram", "fifo", "pass")
_NAME: Final = re.compile(rf"{MASTER_PREFIX}(?P<service>[\w.:-]+)__(?P<type>{'|'.join(_TYPES)}|unix_dgram)")
_COLUMNS: Final = ("service", "type", "private", "unpriv", "chroot", "wakeup", "maxproc", "command")
_EXAMPLE: Final = "2525 inet n - n - 10 smtpd"
_EXAMPLES: Final = {INET: _EXAMPLE, "unix": "slow unix - - n - 2 smtp", "pass": "smtpd pass - - n - - smtpd"}
_PORTS: Final = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465}
_MOST: Final = 65535
LISTENERS: Final = frozenset({"smtpd", "nice-smtpd"})
PROGRAMS: Final = LISTENERS | frozenset(
    """
    anvil bounce cleanup discard dnsblog error flush lmtp local nice-cleanup pickup pipe proxymap qmgr scache showq smtp
    spawn tlsmgr tlsproxy trivial-rewrite verify virtual
    """.split()
)
"""What of the daemon directory serves here; tests/image/test_postfix.py compares it with the image."""
_WITH_ARGUMENTS: Final = frozenset({"pipe", "spawn"})
_AS_ROOT: Final = frozenset({"local", "pipe", "spawn", "virtual"})
"""They change to the user of each delivery, and say so when they cannot."""
DELIVERS: Final = frozenset({"smtp", "lmtp", "pipe", "local", "virtual", "error"})
"""Whose services have parameters of their own with qmgr(8), as postconf(1) has it."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """What an entry of ours must keep, since other daemons and the stop count on it."""

    programs: tuple[str, ...]
    is_private: bool = True
    processes: str = ""
    """Empty where any number will do."""
    wakes_up: bool = False


OURS: Final = {
    "pickup": Own(programs=("pickup",), is_private=False, processes="1", wakes_up=True),
    "cleanup": Own(programs=("nice-cleanup", "cleanup"), is_private=False, processes="0"),
    "qmgr": Own(programs=("qmgr",), is_private=False, processes="1", wakes_up=True),
    "tlsmgr": Own(programs=("tlsmgr",), processes="1", wakes_up=True),
    "rewrite": Own(programs=("trivial-rewrite",)),
    **{name: Own(programs=("bounce",), processes="0") for name in ("bounce", "defer", "trace")},
    "flush": Own(programs=("flush",), is_private=False, processes="0", wakes_up=True),
    "proxymap": Own(programs=("proxymap",)),
    "smtp": Own(programs=("smtp",)),
    "lmtp": Own(programs=("lmtp",)),
    "showq": Own(programs=("showq",), is_private=False),
    "error": Own(programs=("error",)),
    "retry": Own(programs=("error",)),
    "discard": Own(programs=("discard",)),
    "anvil": Own(programs=("anvil",), processes="1"),
    "scache": Own(programs=("scache",), processes="1"),
    "tlsproxy": Own(programs=("tlsproxy",), processes="0"),
}
"""The entries of master.cf.j2 that are no listeners."""


@dataclass(frozen=True, kw_only=True)
class MasterEntry:
    """One service in master.cf."""

    setting: str
    service: str
    """As master.cf has it; a port is a number."""
    type: str
    private: str
    unprivileged: str
    wakeup: str
    processes: str
    command: str
    options: tuple[tuple[str, str], ...] = ()
    """What `-o` sets, `$` being Postfix's own."""
    arguments: tuple[str, ...] = ()
    """What pipe(8) and spawn(8) are given."""

    @property
    def address(self) -> IPAddress | None:
        """Where a listener listens; `None` for inet_interfaces."""
        host = self.service.rpartition(":")[0].strip("[]")
        return ipaddress.ip_address(host) if host else None

    @property
    def port(self) -> int:
        """Where a listener listens."""
        return int(self.service.rpartition(":")[2])

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """Its options, for the checks that all parameters undergo."""
        return tuple(Assignment(place=self.setting, label="-o ", name=name, value=text) for name, text in self.options)

    def __str__(self) -> str:
        """Return it as one line of master.cf."""
        columns = (self.service, self.type, self.private, self.unprivileged, "n", self.wakeup, self.processes)
        options = (f"-o {{ {name} = {value} }}" for name, value in self.options)
        return " ".join((*columns, self.command, *options, *self.arguments))


def fold_name(service: str, kind: str) -> str:
    """Return the name of the variable for a service."""
    return f"{MASTER_PREFIX}{re.sub(r'[^A-Za-z0-9]', '_', service)}__{kind.replace('-', '_')}"


def parse_entry(setting: str, text: str) -> MasterEntry:
    """Return the entry that a variable holds; raise InvalidValue for the first column that is wrong."""
    name = _NAME.fullmatch(setting)
    if not name:
        raise InvalidValue(
            "a service's name, two underscores and its type must follow the prefix",
            f'Write, for example, {fold_name("2525", INET)}="{_EXAMPLE}"',
        )
    if any(character != "\t" and (ord(character) < 32 or ord(character) == 127) for character in text):
        raise InvalidValue("it contains a line break or another control character", "Write it on one line")
    kind = "unix-dgram" if name["type"] == "unix_dgram" else name["type"]
    if text.strip().lower() == "none":
        raise InvalidValue(
            "no service can be taken away: each of ours is needed, and listeners come from LISTEN_PORTS",
            "Remove the variable",
        )
    words = list(_split(text))
    if len(words) < len(_COLUMNS):
        raise InvalidValue(
            f"it has {len(words)} columns, and a line of master.cf has {len(_COLUMNS)}: {', '.join(_COLUMNS)}",
            f'Write, for example, {setting}="{_EXAMPLES.get(kind, _EXAMPLES["unix"])}"',
        )
    service, its_kind, private, unprivileged, chroot, wakeup, processes, command = words[: len(_COLUMNS)]
    if fold_name(service, its_kind) != fold_name(name["service"], kind):
        raise InvalidValue(
            f"the line is for the service {service} of type {its_kind}",
            f"Name the variable {fold_name(service, its_kind)}"
            if its_kind in _TYPES
            else f"Types are {', '.join(_TYPES)}",
        )
    for column, word, form, words_for_it in (
        ("private", private, "[yn-]", "y, n or -"),
        ("unpriv", unprivileged, "[yn-]", "y, n or -"),
        ("chroot", chroot, "[yn-]", "n or -"),
        ("wakeup", wakeup, r"-|\d{1,7}\??", "seconds, or -"),
        ("maxproc", processes, r"-|\d{1,5}", "a number, or -"),
    ):
        if not re.fullmatch(form, word):
            raise InvalidValue(f"the column {column} is '{word}'", f"Write {words_for_it}")
    if chroot == "y":
        raise InvalidValue(
            "the column chroot is y: the container is the isolation, and a chroot has neither resolv.conf nor CAs",
            "Write n",
        )
    _check_command(command, unprivileged)
    options, arguments = _parse_arguments(command, words[len(_COLUMNS) :])
    entry = MasterEntry(
        setting=setting,
        service=_parse_listener(service) if kind == INET else service,
        type=kind,
        private=private,
        unprivileged=unprivileged,
        wakeup=wakeup,
        processes=processes,
        command=command,
        options=options,
        arguments=arguments,
    )
    _check_kind(entry)
    return entry


def _split(text: str) -> Iterator[str]:
    """Yield the words of a line; what stands in braces is one (master(5))."""
    rest = text.strip()
    while rest:
        if not rest.startswith("{"):
            word, *others = rest.split(None, 1)
            rest = others[0] if others else ""
            yield word
            continue
        depth = end = 0
        while end < len(rest):
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            if not depth:
                break
            end += 1
        else:
            raise InvalidValue("a brace is not closed", "Write, for example, -o { smtpd_banner = hello }")
        yield rest[: end + 1]
        rest = rest[end + 1 :].strip()


def _check_command(command: str, unprivileged: str) -> None:
    if command not in PROGRAMS:
        raise InvalidValue(
            f"there is no program '{command}' that could serve", f"Use one of {', '.join(sorted(PROGRAMS))}"
        )
    if (command in _AS_ROOT) != (unprivileged == "n"):
        who = "changes to other users and needs n" if command in _AS_ROOT else "must not run as root"
        raise InvalidValue(
            f"the column unpriv is '{unprivileged}', and {command}(8) {who}",
            f"Write {'n' if command in _AS_ROOT else '-'}",
        )


def _parse_arguments(command: str, words: list[str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return what `-o` sets, and the rest."""
    options: dict[str, str] = {}
    while words and words[0].startswith("-o"):
        text = words.pop(0).removeprefix("-o") or (words.pop(0) if words else "")
        inner = text[1:-1] if text.startswith("{") else text
        name, equals, value = inner.partition("=")
        if not equals or not name.strip() or (value.count("{") != value.count("}")):
            raise InvalidValue(f"after -o there is '{inner.strip()}'", "Write -o name=value, or -o { name = value }")
        options[name.strip()] = value.strip()
    if words and command not in _WITH_ARGUMENTS:
        if words[0] in ("-v", "-D"):
            raise InvalidValue(f"{words[0]} would fill the log, and show passwords in it", "Remove it")
        raise InvalidValue(
            f"'{words[0]}' is no option of {command}(8)",
            "Write -o name=value; in braces where a value has blanks: -o { smtpd_banner = hello you }",
        )
    return tuple(options.items()), tuple(words)


def _parse_listener(service: str) -> str:
    """Return `port` or `address:port`, the port as a number."""
    host, _, port = service.rpartition(":")
    number = _PORTS.get(port) or (int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0)
    if not 1 <= number <= _MOST:
        raise InvalidValue(f"'{port}' is no port", f"Write a number from 1 to {_MOST}")
    if not host:
        return str(number)
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise InvalidValue(f"'{host}' is no IP address", "Write, for example, 127.0.0.1:2525") from None
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


def _check_kind(entry: MasterEntry) -> None:
    if entry.type == INET:
        if entry.command not in LISTENERS:
            raise InvalidValue(f"{entry.command}(8) serves no port here", "Use smtpd, or the type unix")
        if entry.private != "n":
            raise InvalidValue(f"the column private is '{entry.private}', and a port is open to others", "Write n")
        if entry.processes == "0":
            raise InvalidValue("the column maxproc is 0, with which sessions take all memory", "Write - or a number")
        if dict(entry.options).get("smtpd_tls_wrappermode", "no") != "no":
            raise InvalidValue(
                "a port on which TLS comes before the greeting cannot be watched by the health check",
                "Remove smtpd_tls_wrappermode; STARTTLS does the same",
            )
        return
    if not re.fullmatch(r"\w[\w.-]*", entry.service):
        raise InvalidValue(f"'{entry.service}' is no name of a socket", "Use letters, digits and dashes")
    ours = OURS.get(entry.service)
    if ours is None:
        return
    for column, is_kept, wanted in (
        ("type", entry.type == "unix", "unix"),
        ("private", (entry.private == "n") != ours.is_private, "-" if ours.is_private else "n"),
        ("wakeup", not ours.wakes_up or entry.wakeup.rstrip("?").strip("0-") != "", "60"),
        ("maxproc", ours.processes in ("", entry.processes), ours.processes),
        ("command", entry.command in ours.programs, ours.programs[0]),
    ):
        if not is_kept:
            raise InvalidValue(
                f"{entry.service} is one of the services that the relay and its stop need: its {column} must stay",
                f"Write {wanted}; maxproc where it is not fixed, and options, may be others",
            )
