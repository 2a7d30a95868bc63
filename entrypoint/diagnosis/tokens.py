"""What an upstream says of an access token that it refuses, and what to do about it. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from entrypoint.config.upstreams import TOKEN_AUTHS
from entrypoint.diagnosis.steps import Broken
from entrypoint.errors import quote_value


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What the challenge of RFC 7628 section 3.2.2 says, which Google's XOAUTH2 has, too; empty where it does not."""

    status: str = ""
    scope: str = ""

    def __str__(self) -> str:
        words = (("status", self.status), ("scope", self.scope))
        return ", ".join(f"{name} {quote_value(value)}" for name, value in words if value)


def parse_refusal(text: str) -> Refusal:
    """Return what a challenge says; one that is no such JSON says nothing."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return Refusal()
    if not isinstance(said, dict):
        return Refusal()
    status, scope = said.get("status", ""), said.get("scope", "")
    return Refusal(
        status=str(status) if isinstance(status, str | int) else "", scope=scope if isinstance(scope, str) else ""
    )


def is_about_token(refusal: Refusal, code: int) -> bool:
    """Return whether the last reply is a judgement on the token: 500 to 504 are about the command (RFC 5321 4.2.3)."""
    return code >= 500 and (refusal != Refusal() or 530 <= code <= 539)


def explain_refused_token(refusal: Refusal, reply: str, *, is_fetched: bool = False) -> Broken:
    """Return what it means that a token is refused; `reply` is the server's last, which ends the login.

    One that was fetched is replaced by itself.
    """
    wanted = f" for the scope {quote_value(refusal.scope)}" if refusal.scope else ""
    remedies = {
        # RFC 6750 section 3.1 and RFC 7628 section 3.2.2.
        "insufficient_scope": f"The token is good, but not for mail: get one{wanted}",
        "invalid_request": "The upstream does not understand this login: check RELAYHOST_USERNAME and RELAYHOST_AUTH",
    }
    usual = (
        "It has ended, is not for the account in RELAYHOST_USERNAME, or not for mail; or that account may not use SMTP "
        f"AUTH: put a new token{wanted} into RELAYHOST_PASSWORD_FILE"
    )
    if is_fetched:
        usual = (
            "Allow the application to send as the mailbox in RELAYHOST_USERNAME (docs/oauth2.md), and check that the "
            f"mailbox may use SMTP AUTH, and OAUTH2_SCOPE{wanted and f', which must be good{wanted}'}"
        )
    said = "; ".join(word for word in (str(refusal), quote_value(reply)) if word)
    return Broken("auth", f"the upstream refuses the access token ({said})", remedies.get(refusal.status, usual))


def explain_missing_mechanism(auth: str, offered: Sequence[str], detail: str) -> Broken:
    """Return what it means that nothing of what is offered fits the kind of login."""
    others = [name.lower() for name in offered if name.lower() in TOKEN_AUTHS]
    if auth not in TOKEN_AUTHS:
        return Broken(
            "mechanisms",
            f"the upstream takes access tokens alone, and there is a password; {detail}",
            f"Set RELAYHOST_AUTH={others[0]}, and give the access token in RELAYHOST_PASSWORD_FILE",
        )
    other = (
        f"Set RELAYHOST_AUTH={others[0]}, which it offers"
        if others
        else "Set RELAYHOST_AUTH=password, and give a password, if the account has one"
    )
    return Broken("mechanisms", f"the upstream does not offer {auth.upper()}; {detail}", other)
