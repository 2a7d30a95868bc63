"""The one sentence that a person on call reads first: does mail flow, and if not, what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from entrypoint.services.status.wording import begin_sentence, count_of

GOOD: Final = "good"
QUIET: Final = "quiet"
WARNING: Final = "warning"
BAD: Final = "bad"

_ON_THE_WAY: Final = frozenset(
    ("resolve", "connect", "greeting", "ehlo", "starttls", "handshake", "certificate", "name", "mechanisms", "auth")
)
"""Steps that every message has to take: broken there, nothing goes out. Beyond it is about one message."""
_RECENT_SECONDS: Final = 900
_SILENCE_SECONDS: Final = 120
"""So long only deferrals since the last message that was sent: then it no longer flows."""
_ALSO_SAID: Final = ". Mail is accepted, and waits"
"""Ends the probe's words in the log; here the headline says it."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What is the matter; `text` has no full stop, `remedy` is empty or whole sentences."""

    tone: str
    text: str
    remedy: str = ""


def choose_headline(view: Mapping[str, Any]) -> Headline:
    """Return the headline for what was found: the first rule that has something to say, the worst trouble first."""
    rules = (_tell_broken, _tell_full, _tell_unreachable, _tell_unready, _tell_waiting, _tell_unknown, _tell_bounced)
    return next((found for rule in rules if (found := rule(view))), None) or _tell_flow(view)


def split_words(words: str) -> tuple[str, str]:
    """Return a probe's words as what is wrong and what to do, the latter as a sentence."""
    wrong, _, remedy = words.removesuffix(_ALSO_SAID).partition(" -> ")
    return wrong, f"{remedy}." if remedy else ""


def _tell_broken(view: Mapping[str, Any]) -> Headline | None:
    if view["is_healthy"]:
        return None
    name, detail = _find_failure(view)
    return Headline(tone=BAD, text=f"The relay does not work: {name}: {detail}", remedy="Its log says why.")


def _tell_full(view: Mapping[str, Any]) -> Headline | None:
    space = view["space"]
    if space["free_bytes"] >= space["needed_bytes"] and space["free_inodes"] != 0:
        return None
    return Headline(
        tone=BAD,
        text="No mail is accepted: the queue's disk is full",
        remedy="Make room on the volume of /var/spool/postfix; applications get a temporary error until then.",
    )


def _tell_unreachable(view: Mapping[str, Any]) -> Headline | None:
    """Tell what the probe found, in the words of the mail that waits for the same reason, if there is any."""
    verdict = view["verdict"]
    broken = [upstream for upstream in verdict["upstreams"] if not upstream["is_well"]]
    if view["is_ready"] or verdict["is_well"] or not broken:
        return None
    step = broken[0]["step"]
    wrong, remedy = split_words(broken[0]["words"])
    for reason in view["reasons"]:
        if reason["step"] == step:
            wrong, remedy = reason["meaning"], f"{reason['remedy']}."
            break
    verb = "waits" if view["queue_total"] else "would wait"
    # The upstream's own words stand in parentheses; they are told with the upstream.
    return Headline(tone=BAD, text=f"Mail {verb}: {wrong.partition(' (')[0]}", remedy=remedy)


def _tell_unready(view: Mapping[str, Any]) -> Headline | None:
    if view["is_ready"]:
        return None
    if not view["verdict"]["at"]:
        return Headline(tone=QUIET, text="Starting: the upstream has not been tried yet")
    name, detail = _find_failure(view)
    return Headline(tone=BAD, text=f"The relay is not ready: {name}: {detail}")


def _tell_waiting(view: Mapping[str, Any]) -> Headline | None:
    if not view["reasons"]:
        return None
    top = view["reasons"][0]
    remedy = f"{top['remedy']}."
    is_on_the_way = top["step"] in _ON_THE_WAY
    if not _is_flowing(view):
        return Headline(tone=BAD if is_on_the_way else WARNING, text=f"Mail waits: {top['meaning']}", remedy=remedy)
    waiting = f"{count_of(view['queue_total'], 'message')} {'waits' if view['queue_total'] == 1 else 'wait'}"
    why = begin_sentence(f"{top['meaning']}. {remedy}")
    if is_on_the_way:
        return Headline(tone=WARNING, text=f"Mail is flowing, but {waiting}", remedy=why)
    # Somebody's greylisting or full mailbox is every day's; an alarm that is always there is none.
    return Headline(tone=GOOD, text=f"Mail is flowing; {waiting}", remedy=why)


def _tell_unknown(view: Mapping[str, Any]) -> Headline | None:
    if view["report"] is not None:
        return None
    return Headline(
        tone=WARNING,
        text="Whether mail is flowing is not known: the log forwarder does not answer",
        remedy="It is started again by itself; mail does not need it.",
    )


def _tell_bounced(view: Mapping[str, Any]) -> Headline | None:
    history = view["report"]["history"]
    bounced = _sum(history, 4)
    if _sum(history, 2) or not bounced:
        return None
    whom = "the only recipient" if bounced == 1 else f"all {count_of(bounced, 'recipient')}"
    return Headline(
        tone=WARNING,
        text=f"Mail bounces: {whom} of the last hour could not be delivered to",
        remedy="The last deliveries below have the upstream's words for each.",
    )


def _tell_flow(view: Mapping[str, Any]) -> Headline:
    report = view["report"]
    if _sum(report["history"], 2):
        return Headline(tone=GOOD, text="Mail is flowing")
    if view["queue_total"]:
        return Headline(tone=GOOD, text="Mail is on its way")
    if report["accepted"] or report["deliveries"].get("sent"):
        return Headline(tone=QUIET, text="All is well; no mail in the last hour")
    return Headline(
        tone=QUIET,
        text="Ready; no mail has come yet",
        remedy="'authrelay send-test' in the container sends a first message and shows its way.",
    )


def _is_flowing(view: Mapping[str, Any]) -> bool:
    """Return whether mail was sent just now, and not only deferred since."""
    history = view["report"]["history"] if view["report"] else []
    sent_at = max((row[0] for row in history if row[2]), default=0)
    deferred_at = max((row[0] for row in history if row[3]), default=0)
    return view["now"] - sent_at < _RECENT_SECONDS and deferred_at - sent_at < _SILENCE_SECONDS


def _find_failure(view: Mapping[str, Any]) -> tuple[str, str]:
    failures = [(check["name"], check["detail"]) for check in view["health"] if not check["is_well"]]
    return failures[0] if failures else ("health", "not told")


def _sum(history: Sequence[Sequence[int]], column: int) -> int:
    return sum(row[column] for row in history)
