"""What LOG_ADDRESSES says of addresses, for what the page shows besides the forwarder's report. Pure.

This is the one place through which all such texts go, each of them once: a code of a code is another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from entrypoint.journal.addresses import Addresses
from entrypoint.journal.words import leave_out_login

_LOGIN_REPLY: Final = re.compile(r"(said: \d{3}(?:[ -]\d\.\d{1,3}\.\d{1,3})?).*", re.DOTALL)


def hide_in_texts(value: Any, addresses: Addresses) -> Any:
    """Return the same values with the addresses in every text as they may be shown."""
    if addresses.are_full:
        return value
    if isinstance(value, str):
        return addresses.hide_in(value)
    if isinstance(value, dict):
        return {key: hide_in_texts(one, addresses) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in_texts(one, addresses) for one in value]
    return value


def hide_in_queue(queue: Iterable[Mapping[str, Any]], addresses: Addresses) -> list[dict[str, Any]]:
    """Return the messages of a queue (postqueue(1) -j) with all that tells who writes to whom as it may be shown."""
    return [
        {
            **entry,
            "sender": addresses.hide(entry["sender"]),
            "recipients": [_hide_in_recipient(recipient, addresses) for recipient in entry["recipients"]],
        }
        for entry in queue
    ]


def _hide_in_recipient(recipient: Mapping[str, Any], addresses: Addresses) -> dict[str, Any]:
    shown = {**recipient, "address": addresses.hide(recipient["address"])}
    if "delay_reason" in shown:
        shown["delay_reason"] = addresses.hide_in(shown["delay_reason"])
    return shown


def hide_in_settings(settings: Iterable[dict[str, Any]], addresses: Addresses) -> list[dict[str, Any]]:
    """Return the settings in force as they may be shown; a login need not look like an address."""
    return [
        {**row, "value": addresses.hide(row["value"])}
        if row["name"].endswith("_USERNAME")
        else hide_in_texts(row, addresses)
        for row in settings
    ]


def hide_login_reply(reason: str) -> str:
    """Return why a login failed without the upstream's own words: some echo what they were sent.

    The service cannot know the password, so that it cannot look for it.
    """
    is_about_login = "authentication failed" in reason or "AUTH" in reason
    return _LOGIN_REPLY.sub(r"\1", leave_out_login(reason)) if is_about_login else reason
