"""Logs in as Postfix would: its library, its options, its filter, its choice of mechanism. Network, by `system`."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from entrypoint.config.upstreams import TOKEN_AUTHS
from entrypoint.diagnosis.conversation import Conversation
from entrypoint.diagnosis.judgement import filter_mechanisms, find_offers, list_forms
from entrypoint.diagnosis.steps import Broken, break_as_postfix
from entrypoint.diagnosis.tokens import (
    Refusal,
    explain_missing_mechanism,
    explain_refused_token,
    is_about_token,
    parse_refusal,
)
from entrypoint.errors import quote_value
from entrypoint.system.sasl import SaslClient, SaslError, list_installed

_MOST_ROUNDS = 10
"""A login has at most four; a server that asks on and on is broken."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who logs in, and what keeps the password from being readable (postconf(5) smtp_sasl_security_options)."""

    username: str
    password: str
    """Or the access token, for the mechanisms that have one."""
    auth: str
    """One of AUTHS."""
    options: tuple[str, ...]
    options_inside_tls: tuple[str, ...]
    mechanism_filter: str
    is_fetched: bool = False
    """Whether the token comes from OAuth 2.0's endpoint, and not from the user."""

    def __repr__(self) -> str:
        return "Login(hidden)"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return list_forms(self.username, self.password)

    @property
    def has_token(self) -> bool:
        """Whether the password is an access token."""
        return self.auth in TOKEN_AUTHS


def log_in(conversation: Conversation, login: Login | None, offers: tuple[str, ...]) -> None:
    """Do the steps `mechanisms` and `auth`, or raise Broken; `offers` are the lines of the last EHLO's reply."""
    if login is None:
        conversation.tell("mechanisms", "no login is configured, so that none is tried")
        return
    offered = find_offers(offers, "AUTH")
    is_inside_tls = conversation.session.is_inside_tls
    if offered is None and not is_inside_tls:
        raise Broken(
            "mechanisms",
            "the upstream offers no login in the clear",
            "Most offer it inside TLS only: RELAYHOST_TLS=secure, and port 587 or 465 in RELAYHOST",
        )
    if offered is None:
        raise Broken(
            "mechanisms",
            "the upstream offers no login here; Postfix goes on without one, and most upstreams refuse that",
            "Use its port for submission in RELAYHOST, 587 or 465; if it wants no login, set RELAYHOST_AUTH=none and "
            "remove RELAYHOST_USERNAME and RELAYHOST_PASSWORD",
        )
    # The same rule as Postfix's: whatever the level, a session in the clear has the options for the clear.
    options = login.options_inside_tls if is_inside_tls else login.options
    allowed = filter_mechanisms(offered, login.mechanism_filter)
    client = None
    try:
        client = SaslClient(
            server_name=conversation.host, username=login.username, password=login.password, options=options
        )
        mechanism, first = client.start(allowed)
        conversation.tell("mechanisms", f"{mechanism}, chosen of {', '.join(map(quote_value, offered))}")
        _exchange(conversation, client, login, mechanism, first)
        conversation.tell("auth", f"logged in as {show_login(login.username)} by {mechanism}")
    except SaslError as error:
        raise _explain(error, login, offered, allowed, options) from error
    finally:
        if client:
            client.close()


def show_login(name: str) -> str:
    """Return a login in the brackets that LOG_ADDRESSES looks for: it need not look like an address."""
    shown = quote_value(name)
    return f"<{shown}>" if re.fullmatch(r"[^\s<>\"\\]+", shown) else '<"' + re.sub(r'(["\\])', r"\\\1", shown) + '">'


def _exchange(
    conversation: Conversation, client: SaslClient, login: Login, mechanism: str, first: bytes | None
) -> None:
    words = [b"AUTH", mechanism.encode(), *([base64.b64encode(first)] if first else [])]
    reply = conversation.ask("auth", b" ".join(words))
    refusal = Refusal()
    for _ in range(_MOST_ROUNDS):
        if reply.code != 334:
            break
        try:
            challenge = base64.b64decode(reply.lines[0])
        except (binascii.Error, ValueError) as error:
            raise SaslError("the upstream's challenge is not base64") from error
        if login.has_token and challenge:
            refusal = parse_refusal(conversation.clean(challenge.decode("utf-8", "replace")))
        reply = conversation.ask("auth", base64.b64encode(client.answer(challenge)))
    if reply.code != 235:
        if login.has_token and is_about_token(refusal, reply.code):
            raise explain_refused_token(refusal, str(reply), is_fetched=login.is_fetched)
        words_of_postfix = f"SASL authentication failed; server {conversation.place} said: {reply}"
        raise break_as_postfix("auth", words_of_postfix, quote_value(str(reply)))


def _explain(
    error: SaslError, login: Login, offered: tuple[str, ...], allowed: tuple[str, ...], options: tuple[str, ...]
) -> Broken:
    if not error.has_no_mechanism:
        return Broken("auth", f"the login cannot go on: {error}", "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD")
    installed = list_installed()
    known = [name for name in offered if name in installed and name != "ANONYMOUS"]
    fitting = {login.auth.upper()} if login.has_token else set(known) - {name.upper() for name in TOKEN_AUTHS}
    usable = [name for name in known if name in fitting]
    shown = ", ".join(map(quote_value, offered)) or "none"
    detail = f"offered: {shown}; installed: {', '.join(installed)}"
    if known and not usable:
        return explain_missing_mechanism(login.auth, known, detail)
    if usable and not set(usable) & set(allowed):
        return Broken(
            "mechanisms",
            f"SMTP_SASL_MECHANISM_FILTER lets nothing through of what is offered; {detail}",
            f"Set SMTP_SASL_MECHANISM_FILTER={','.join(usable).lower()}",
        )
    if usable and "noplaintext" in options:
        return Broken(
            "mechanisms",
            f"this session is in the clear, where no password is sent that could be read; {detail}",
            "Use TLS (RELAYHOST_TLS=secure), or RELAYHOST_CLEARTEXT_AUTH=yes",
        )
    return break_as_postfix("mechanisms", "no mechanism available", detail)
