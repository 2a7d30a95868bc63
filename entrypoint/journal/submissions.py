"""What the lines about clients say: who they are, what they did, what was refused. Pure."""

from __future__ import annotations

import re
from typing import Final

from entrypoint.journal.deliveries import is_about_certificate, parse_tls, take_address
from entrypoint.journal.entry import Fields, Found

_PEER: Final = r"([^\s\[]+)\[([^\]]*)\](?::\d+)?"
_CLIENT: Final = re.compile(
    rf"client={_PEER}(?:, sasl_method=([^,]*))?(?:, sasl_username=(.*?))?(?:, sasl_sender=(.*?))?"
    r"(?:, orig_queue_id=(\w+))?(?:, orig_client=(.*))?$"
)
_CONNECTION: Final = re.compile(rf"(?:dis)?connect from {_PEER}((?: \w+=\d+(?:/\d+)?)*)$")
_ENDED: Final = re.compile(
    rf"(lost connection|timeout|too many errors|improper command pipelining) after (.+?) from {_PEER}(?:: (.*))?$"
)
_REJECTION: Final = re.compile(rf"(\S+) from {_PEER}: (?:(\d{{3}}) )?(?:(\d\.\d+\.\d+) )?")
_CONTEXT: Final = re.compile(r"; (?=from=<|to=<|proto=)")
_PROTOCOL: Final = re.compile(r"proto=(\S+)")
_MOST_CONTEXTS: Final = 8
"""Places that may be where what is known of the session begins: a client chooses much of the text before."""
_REMOVED: Final = re.compile(r"removed \((.*)\)")
"""A message that never was one: its client went away, or its content was refused."""
_ACTIONS: Final = frozenset(
    "reject reject_warning warn warning hold discard redirect filter bcc info permit prepend replace strip delay "
    "milter-reject milter-hold milter-discard milter-quarantine".split()
)
_SERVER_REMARKS: Final = (
    "SSL_accept error from ", "SSL_accept:", "setting up TLS connection from ", "discarding EHLO keywords: ",
    "message-id=", "lost connection with proxy ", "timeout talking to proxy ", "null BDAT request from ",
)  # fmt: skip


def _name_client(name: str, address: str) -> Fields:
    """Return who a client is; without a lookup or an answer to it Postfix calls every client `unknown`."""
    return {"client": address} if name == "unknown" else {"client": address, "client_name": name}


def parse_smtpd(queue_id: str, rest: str) -> Found:
    """Read what smtpd(8) says behind a queue id, or without one."""
    if rest.startswith("client=") and (match := _CLIENT.match(rest)):
        keys = ("sasl_method", "sasl_username", "sasl_sender", "orig_queue_id", "orig_client")
        given = {key: value for key, value in zip(keys, match.groups()[2:], strict=True) if value}
        return "client", {**_name_client(match[1], match[2]), **given}
    if rest.startswith(("connect from ", "disconnect from ")):
        return _parse_connection(rest)
    if match := _ENDED.match(rest):
        fields = {"cause": match[1], "stage": match[2], **_name_client(match[3], match[4])}
        return "interrupted", fields | ({"reason": match[5]} if match[5] else {})
    action, is_found, more = rest.partition(": ")
    if is_found and action in _ACTIONS:
        return _parse_rejection(action, more)
    if " TLS connection " in rest and (found := parse_tls(rest)):
        return found
    if queue_id and queue_id != "NOQUEUE":
        return None
    return ("remark", {}) if rest.startswith(_SERVER_REMARKS) or is_about_certificate(rest) else None


def _parse_connection(rest: str) -> Found:
    match = _CONNECTION.match(rest)
    if match is None:
        return None
    fields = _name_client(match[1], match[2])
    if rest[0] == "c":
        return "connect", fields
    counts, failures = {}, {}
    for name, _, count in (word.partition("=") for word in match[3].split()):
        good, _, every = count.partition("/")
        counts[name] = int(every or good)
        if every:
            failures[name] = int(every) - int(good)
    return "disconnect", {**fields, "commands": counts, **({"failures": failures} if failures else {})}


def _parse_rejection(action: str, rest: str) -> Found:
    """Read what smtpd(8), header_checks(5) or a milter decided: `RCPT from name[address]: 554 ...; from=<...>`."""
    match = _REJECTION.match(rest)
    if match is None:
        return "reject", {"action": action, "reason": rest}
    stage, name, address, code, dsn = match.groups()
    reason, context = _split_reason(rest, match.end())
    fields: Fields = {"action": action, "stage": stage, **_name_client(name, address)}
    for key, value in zip(("code", "dsn", "reason"), (code, dsn, reason), strict=True):
        if value:
            fields[key] = value
    return "reject", {**fields, **context}


def _split_reason(text: str, start: int) -> tuple[str, Fields]:
    """Return the reason that begins there, often with an address, and what is known of the session behind it.

    In time that grows with the text and not with its square: the client is a stranger, and the address his.
    """
    at = take_address(text, start + 1)[1] if text.startswith("<", start) else start
    for _ in range(_MOST_CONTEXTS):
        match = _CONTEXT.search(text, at)
        if match is None:
            break
        if (context := _read_context(text, match.end())) is not None:
            return text[start : match.start()], context
        at = match.end()
    return text[start:], {}


def _read_context(text: str, at: int) -> Fields | None:
    """Read `from=<...> to=<...> proto=... helo=<...> sasl_username=<...>`; `None` where that is not the line's end."""
    fields: Fields = {}
    for key in ("from", "to"):
        if text.startswith(f"{key}=<", at):
            fields[key], at = take_address(text, at + len(key) + 2)
            if not text.startswith(" ", at):
                return None
            at += 1
    match = _PROTOCOL.match(text, at)
    if match is None:
        return None
    fields["proto"] = match[1]
    end = text[match.end() :]
    if end.startswith(" helo=<") and end.endswith(">"):
        fields["helo"], is_found, name = end[len(" helo=<") : -1].partition("> sasl_username=<")
        return {**fields, "sasl_username": name} if is_found else fields
    if end.startswith(" sasl_username=<") and end.endswith(">"):
        return {**fields, "sasl_username": end[len(" sasl_username=<") : -1]}
    return None if end else fields


def parse_cleanup(queue_id: str, rest: str) -> Found:
    """Read what cleanup(8) says of a message."""
    if not queue_id:
        return None
    for key in ("message-id=", "resent-message-id="):
        if rest.startswith(key):
            found = rest[len(key) :]
            is_in_brackets = found.startswith("<") and found.endswith(">")
            return key[:-1], {"message_id": found[1:-1] if is_in_brackets else found}
    if match := _REMOVED.fullmatch(rest):
        return "removed", {"reason": match[1]}
    action, is_found, more = rest.partition(": ")
    return _parse_rejection(action, more) if is_found and action in _ACTIONS else None
