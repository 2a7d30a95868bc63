"""What is wrong between the OAUTH2_ settings, and between them and other ways to log in. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.oauth2 import find_faults
from entrypoint.config.settings import Settings
from entrypoint.errors import Problem


def check_oauth2(settings: Settings) -> Iterator[Problem]:
    """Yield every problem."""
    given = settings.given_oauth2
    if not given:
        return
    for key, what, remedy in find_faults(given, lambda key: f"OAUTH2_{key.upper()}"):
        yield Problem(setting=f"OAUTH2_{key.upper()}", what=what, remedy=remedy)
    first = f"OAUTH2_{next(iter(given)).upper()}"
    if settings.relayhost_username is None:
        yield Problem(
            setting="RELAYHOST_USERNAME",
            what="it is not set, and OAuth 2.0 gives access to a mailbox",
            remedy="Set RELAYHOST_USERNAME=relay@example.com, the mailbox that mail is sent as",
        )
    if settings.relayhost_password is not None:
        yield Problem(
            setting="RELAYHOST_PASSWORD",
            what=f"there is {first} as well, and an access token takes the place of a password",
            remedy="Remove RELAYHOST_PASSWORD, or what begins with OAUTH2_",
        )
    if settings.relayhost_auth in ("password", "none"):
        yield Problem(
            setting="RELAYHOST_AUTH",
            value=settings.relayhost_auth,
            what=f"it never uses {first}",
            remedy="Remove it: with OAUTH2_ settings it is xoauth2",
        )
    if settings.fallback_relayhost_username is not None:
        yield Problem(
            setting="FALLBACK_RELAYHOST_USERNAME",
            what="RELAYHOST is logged in to by OAuth 2.0, and FALLBACK_RELAYHOST shares its way to log in",
            remedy="Remove it; an account of another kind can be one of UPSTREAMS: docs/upstreams.md",
        )
