"""Leaves out the words of others: what an upstream answers, or a client sends, may name anybody, in any way. Pure.

Where they stand is from Postfix 3.10's sources (smtp/smtp_proto.c, smtp_chat.c, smtp_sasl_glue.c, smtpd/smtpd.c,
cleanup/cleanup_message.c); and our own lines quote a reply in brackets, behind what it means.
"""

from __future__ import annotations

import re
from typing import Final

LEFT_OUT: Final = "(left out)"
_CODE: Final = r"[2-5]\d\d(?:[ -]\d\.\d{1,3}\.\d{1,3})?"
_REQUEST: Final = "(?:XFORWARD [a-z/]+|MAIL FROM|RCPT TO|DATA|end of DATA|final RSET|QUIT) command|RSET probe"
_QUEUED: Final = re.compile(r"\bqueued as ((?=[A-Za-z]*\d)[0-9A-Za-z]{1,32})\b")
"""What the upstream's operator finds the message by. A queue id has a digit."""
_REPLY: Final = re.compile(rf"({_CODE})(?:[ -].*)?", re.DOTALL)
_LEADS: Final = (" said: ", " to me: ", " to start TLS: ")
_SAID: Final = re.compile(
    rf"({'|'.join(_LEADS)})(?:({_CODE})(?:[ -]|$))?(.*?)( \(in reply to (?:{_REQUEST})\))?(\)?)$", re.DOTALL
)
_ANSWERED: Final = re.compile(r"(non-empty initial \S+ challenge from server \S+: )[^)]*")
_QUOTED_REPLY: Final = re.compile(rf"\(({_CODE})[ -](.*)\)", re.DOTALL)
_QUOTED_NONSENSE: Final = re.compile(r"\('.*'\)", re.DOTALL)
_OTHERS: Final = tuple(
    (mark, re.compile(pattern, re.DOTALL))
    for mark, pattern in (
        (" from ", r"((?:non-SMTP command|address syntax|BDAT command syntax) from \S+\](?: in \w+ command)?: ).*()"),
        (" pipelining ", r"(improper command pipelining after .+? from \S+\]: ).*()"),
        (" ETRN ", r"((?:bad|reject:) ETRN ).*( from \S+\])"),
        (" response ", r"(response (?:longer than \d+:?|from \S+:) ).*()"),
        (" offered ", r"(offered no supported AUTH mechanisms: ).*()"),
        ("bad size ", r'(bad size limit ").*(" in EHLO reply from )'),
        (", sasl_", r"(, sasl_username=).*()"),
        ("; from=<", r"((?:^|: )(?:header|body) ).*( from (?:local|\S+\]); from=<)"),
    )
)


def leave_out_login(text: str) -> str:
    """Return a line without the login and the password, which smtp(8) has in it when a server's challenge is odd."""
    return _ANSWERED.sub(rf"\1{LEFT_OUT}", text) if "non-empty initial " in text else text


def leave_out_words(text: str) -> str:
    """Return a line, or a part of one, without what others said; reply codes, stages and the upstream's id stay."""
    if any(lead in text for lead in _LEADS):
        text = _SAID.sub(_shorten_said, text)
    elif "(" in text:
        text = _QUOTED_REPLY.sub(lambda match: f"({leave_out_of_reply(f'{match[1]} {match[2]}')})", text)
        text = _QUOTED_NONSENSE.sub(LEFT_OUT, text)
    for mark, pattern in _OTHERS:
        if mark in text:
            text = pattern.sub(rf"\1{LEFT_OUT}\2", text)
    return text


def leave_out_of_reply(reply: str) -> str:
    """Return a whole reply of an upstream, or what Postfix says of one, without its words."""
    match = _REPLY.fullmatch(reply)
    if match is None:
        return leave_out_words(reply)
    queued = _QUEUED.search(reply)
    return f"{match[1]} {LEFT_OUT}{f', queued as {queued[1]}' if queued else ''}"


def _shorten_said(match: re.Match[str]) -> str:
    lead, code, _, request, end = match.groups()
    return f"{lead}{f'{code} ' if code else ''}{LEFT_OUT}{request or ''}{end}"
