"""What the milter that signs has to know, and how Postfix reaches it. Pure."""

from __future__ import annotations

import json

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import Facts, PlannedFile

_USER = "dkim"
"""The user that the milter runs as, which is nobody else's."""


def describe_milter() -> str:
    """Return the milter as an element of smtpd_milters, and what is done without it (MILTER_README)."""
    return f"{{ unix:{paths.DKIM_SOCKET}, default_action=tempfail }}"


def plan_dkim(settings: Settings, facts: Facts) -> list[PlannedFile]:
    """Return the file of who signs for which domain, if anything is signed."""
    if not settings.signs:
        return []
    keys = {
        pattern: [{"domain": one.domain, "selector": one.selector, "key": one.key.pem.reveal()} for one in keys]
        for pattern, keys in facts.dkim_keys.items()
    }
    signers = {"keys": keys, "lists": settings.list_domains or ()}
    return [PlannedFile(path=paths.DKIM_SIGNERS, text=json.dumps(signers) + "\n", mode=0o600, user=_USER)]
