"""From one line of Postfix's log to what it says: who wrote it, of which message, what happened, and its fields. Pure.

The grammar is that of Postfix 3.10's sources (global/log_adhoc.c, smtpd/smtpd.c, qmgr/qmgr_active.c, tls/tls_misc.c and
others). Clients and upstreams choose parts of these lines: each is read from its start, a quoted local part as such. A
line that Postfix cut, after 2000 bytes (util/msg_syslog.c), says what is left of it. What no rule knows is `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from entrypoint.journal.deliveries import is_about_certificate, parse_attempt, parse_tls, take_address
from entrypoint.journal.entry import UNKNOWN, Entry, Found
from entrypoint.journal.submissions import parse_cleanup, parse_smtpd

_TROUBLES: Final = ("warning: ", "error: ", "fatal: ", "panic: ")
_QUEUE_ID: Final = re.compile(r"[0-9A-F]{5,40}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,40}|NOQUEUE")
"""Short and long ones (enable_long_queue_ids), and where there is no message yet."""
_QUEUED: Final = re.compile(r", size=(\d+), nrcpt=(\d+) \(queue active\)$")
_EXPIRED: Final = re.compile(r", status=([a-z-]+), returned to sender$")
_NOTICE: Final = re.compile(r"(sender|postmaster) ([a-z -]+) notification: ([0-9A-Za-z]+)$")
_PICKUP: Final = re.compile(r"uid=(\d+) from=<(.*)>(?: orig_id=(\w+))?$")
_ANY_SERVICE: Final = ("table ", "using backwards-compatible default setting ", "statistics: ")
_CLIENT_REMARKS: Final = (
    "connect to ", "SSL_connect error to ", "SSL_connect:", "setting up TLS connection to ", "Host offered STARTTLS: ",
    "certificate verification failed for ", "server certificate verification failed for ", "host ", "lost connection ",
    "conversation with ", "SASL authentication ", "enabling PIX workarounds", "read from ", "private key ", "TLSRPT: ",
)  # fmt: skip
_PROXY_REMARKS: Final = ("CONNECT to ", "DISCONNECT ", "TLS handshake failed for ")
_MANAGER_REMARKS: Final = ("skipped, still being delivered", "enabling VERP for sender ", "sending defer warning ")
_MASTER_REMARKS: Final = (
    "daemon started -- ",
    "reload -- ",
    "terminating on signal ",
    "reload configuration ",
    "/etc/postfix/",
)
_SCRIPT_REMARKS: Final = ("starting ", "stopping ", "refreshing ", "aborting ", "waiting ", "the Postfix mail system ")
_SCREEN_REMARKS: Final = (
    "CONNECT from ", "DISCONNECT ", "ALLOWLISTED ", "PASS ", "PREGREET ", "HANGUP ", "NOQUEUE: reject: ", "reject: ",
    "COMMAND ", "DENYLISTED ", "cache ", "entering STRESS ", "leaving STRESS ",
)  # fmt: skip
_SUPER_REMARKS: Final = (
    "Deleted: ", "Requeued: ", "Placed on hold: ", "Released from hold: ", "Expired: ", "Released: ",
    "Renamed to match inode number: ",
)  # fmt: skip
_SUPER_VERDICTS: Final = ("requeued", "placed on hold", "released from hold", "expired", "released")


def parse_line(text: str) -> Entry:
    """Return what a line says that begins with `program[pid]: `; no text whatever makes this fail."""
    head, is_found, body = text.partition("]: ")
    program, _, pid = head.partition("[")
    if not is_found or not (pid.isascii() and pid.isdigit()) or len(pid) > 10 or " " in program:
        return Entry("", 0, "", UNKNOWN, {})
    queue_id, rest = "", body
    if body.startswith(_TROUBLES):
        word, _, said = body.partition(": ")
        return Entry(program, int(pid), "", "trouble", {"level": word, "reason": said})
    service = _SERVICES.get(program.rpartition("/")[2])
    if service is None:
        return Entry(program, int(pid), "", UNKNOWN, {})
    first, is_found, more = body.partition(": ")
    if is_found and _QUEUE_ID.fullmatch(first):
        queue_id, rest = first, more
    found = service(queue_id, rest)
    if found is None and queue_id:
        queue_id, found = "", service("", body)
    if found is None and body.startswith(_ANY_SERVICE):
        found = ("statistics" if body[0] == "s" else "remark", {})
    kind, fields = found or (UNKNOWN, {})
    return Entry(program, int(pid), "" if queue_id == "NOQUEUE" else queue_id, kind, fields, rest)


def _parse_smtp(queue_id: str, rest: str) -> Found:
    if queue_id:
        # Beside its deliveries it says only why it passes a server over, in the upstream's words or its own.
        return parse_attempt(rest) if rest.startswith("to=<") else ("remark", {"reason": rest})
    if " TLS connection " in rest and (found := parse_tls(rest)):
        return found
    return ("remark", {}) if rest.startswith(_CLIENT_REMARKS) or is_about_certificate(rest) else None


def _parse_tlsproxy(queue_id: str, rest: str) -> Found:
    """Read what it says of its connections; smtp(8), for which it holds them, logs the verdict on each once more."""
    is_told_twice = " TLS connection established to " in rest
    return ("remark", {}) if is_told_twice or rest.startswith(_PROXY_REMARKS) else _parse_smtp(queue_id, rest)


def _parse_qmgr(queue_id: str, rest: str) -> Found:
    if not queue_id:
        return None
    if rest == "removed":
        return "removed", {}
    if rest.startswith("from=<"):
        sender, at = take_address(rest, 6)
        if match := _QUEUED.match(rest, at):
            return "queued", {"from": sender, "size": int(match[1]), "recipients": int(match[2])}
        if match := _EXPIRED.match(rest, at):
            return "expired", {"from": sender, "status": match[1]}
        return "remark", {"from": sender}
    if rest.startswith("to=<"):
        return parse_attempt(rest)
    return ("remark", {"reason": rest}) if rest.startswith(_MANAGER_REMARKS) else None


def _parse_bounce(queue_id: str, rest: str) -> Found:
    if queue_id and rest.startswith("to=<"):
        return parse_attempt(rest)
    if queue_id and (match := _NOTICE.match(rest)):
        return "notice", {"addressee": match[1], "notice": match[2], "notice_queue_id": match[3]}
    return None


def _parse_pickup(queue_id: str, rest: str) -> Found:
    match = _PICKUP.match(rest)
    if match is None or not queue_id:
        return None
    old = {"orig_queue_id": match[3]} if match[3] else {}
    return "pickup", {"uid": int(match[1]), "from": match[2], **old}


def _parse_postsuper(queue_id: str, rest: str) -> Found:
    if queue_id and rest == "removed":
        return "removed", {}
    if queue_id and rest in _SUPER_VERDICTS:
        return "remark", {"reason": rest}
    return ("remark", {}) if rest.startswith(_SUPER_REMARKS) else None


def _parse_delivery_agent(queue_id: str, rest: str) -> Found:
    return parse_attempt(rest) if queue_id and rest.startswith("to=<") else None


def _expect(*beginnings: str) -> Callable[[str, str], Found]:
    """Return a parser for a service whose lines have no fields; without beginnings it says only what any may."""
    return lambda _, rest: ("remark", {}) if beginnings and rest.startswith(beginnings) else None


_SERVICES: Final[dict[str, Callable[[str, str], Found]]] = {
    "smtpd": parse_smtpd,
    "cleanup": parse_cleanup,
    "qmgr": _parse_qmgr,
    "smtp": _parse_smtp,
    "lmtp": _parse_smtp,
    "tlsproxy": _parse_tlsproxy,
    "bounce": _parse_bounce,
    "pickup": _parse_pickup,
    "postsuper": _parse_postsuper,
    "master": _expect(*_MASTER_REMARKS),
    "postfix-script": _expect(*_SCRIPT_REMARKS),
    "postscreen": _expect(*_SCREEN_REMARKS),
    **dict.fromkeys(("error", "retry", "discard", "local", "virtual", "pipe"), _parse_delivery_agent),
    **dict.fromkeys(("defer", "trace"), _parse_bounce),
    **dict.fromkeys(
        "anvil scache tlsmgr trivial-rewrite proxymap showq flush verify postdrop sendmail postqueue postlog".split(),
        _expect(),
    ),
}
