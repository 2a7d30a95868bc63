"""What each section of the status page shows, computed from what was gathered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from entrypoint.services.status.headline import split_words
from entrypoint.services.status.sparkline import HEIGHT, WIDTH, fill_hour, make_sparkline
from entrypoint.services.status.wording import (
    DAY_SECONDS,
    begin_sentence,
    count_of,
    format_age,
    format_bytes,
    format_count,
    format_day,
    format_minute,
    format_moment,
    format_seconds,
)

_MOST_MESSAGES: Final = 20
_MOST_REASONS: Final = 10
"""Whoever needs more asks `authrelay queue`; a page for a phone stays light."""
_MOST_WORDS: Final = 600
"""An upstream's reply may be as long as it likes (RFC 5321 4.5.3.1.5 sets no limit to the number of lines)."""
_SOON_DAYS: Final = 30
_NOT_TRIED: Final = "it is not tried"
"""How the words of an upstream begin that PROBE=no leaves alone: it is taken to be well."""
_TONES: Final = {"sent": "good", "bounced": "bad", "expired": "bad"}
_COLUMNS: Final = (("accepted", 1), ("sent", 2), ("deferred", 3), ("bounced", 4))
"""What is counted by minute, and where in a row of the report's history."""
_QUANTILES: Final = (("half", 0.5), ("19 of 20", 0.95))


def make_sections(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template's values, but for the headline and the frame."""
    return {
        "notes": list_notes(view),
        "flow": describe_flow(view),
        "queue": describe_queue(view),
        "upstreams": [describe_upstream(one, view["now"]) for one in view["verdict"]["upstreams"]],
        "tried": _tell_tried(view["verdict"]["at"], view["now"]),
        "certificates": [_describe_own_certificate(one, view["now"]) for one in view["certificates"]],
        "deliveries": [describe_delivery(event, view["now"]) for event in _get_report(view)["last"]],
        "redaction": {
            "domain": "Only the domains of addresses are shown.",
            "hash": "Addresses are shown as hashes.",
        }.get(view["log_addresses"], ""),
        "settings": [one for one in view["settings"] if not one["is_default"]],
        "defaults": [{**one, "value": one["value"] or "unset"} for one in view["settings"] if one["is_default"]],
        # What to do is told with the upstream.
        "checks": [{**check, "detail": _shorten(split_words(check["detail"])[0])} for check in view["health"]],
        "facts": list_facts(view),
    }


def list_notes(view: Mapping[str, Any]) -> list[str]:
    """Return what a person should know though it may stop no mail, as sentences."""
    verdict = view["verdict"]
    notes = list(view["troubles"])
    if not view["configuration"]["is_valid"] and view["configuration"]["problem"] not in notes:
        notes.append(view["configuration"]["problem"])
    if verdict["is_well"]:
        # Another upstream takes the mail meanwhile.
        for one in verdict["upstreams"]:
            if not one["is_well"]:
                wrong, remedy = split_words(one["words"])
                notes.append(f"{one['setting']} {one['nexthop']}: {wrong}. {remedy}".strip())
    return notes


def describe_flow(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sparklines of the last hour, and one sentence on all that was counted."""
    report = _get_report(view)
    lines = []
    for noun, column in _COLUMNS:
        hour = fill_hour(report["history"], column, view["now"])
        line = make_sparkline(noun, hour)
        # Nothing bounced is what everyone expects, and no line.
        if line.path or noun != "bounced":
            lines.append({"label": noun.capitalize(), "noun": noun, "line": line})
    return {
        "is_known": view["report"] is not None,
        "lines": lines,
        "width": WIDTH,
        "height": HEIGHT,
        "from": format_minute(hour[0][0]),
        "to": format_minute(hour[-1][0]),
        "sum": _tell_sum(report, view["now"]),
    }


def describe_queue(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return what waits: a sentence, the reasons with what to do, the oldest messages."""
    now, total, entries = view["now"], view["queue_total"], view["queue"]
    if not total:
        words = "Nothing waits."
    else:
        verb = "waits" if total == 1 else "wait"
        words = f"{count_of(total, 'message')} {verb}"
        if view["queue_oldest_at"] is not None:
            words += f", {'' if total == 1 else 'the oldest '}for {format_age(now - view['queue_oldest_at'])}"
        words += "."
        if view["queue_read"] < total:
            words += f" What follows is about {format_count(view['queue_read'])} of them."
    shown = entries[:_MOST_MESSAGES]
    reasons = [_describe_reason(reason) for reason in view["reasons"][:_MOST_REASONS]]
    return {
        "words": words,
        "reasons": reasons,
        "messages": [_describe_message(entry, now) for entry in shown],
        "rest": f"{format_count(total - len(shown))} more: 'authrelay queue' lists them all."
        if total > len(shown)
        else "",
    }


def _describe_reason(reason: Mapping[str, Any]) -> dict[str, str]:
    return {
        "count": count_of(reason["messages"], "message"),
        "meaning": begin_sentence(reason["meaning"]),
        "remedy": begin_sentence(f"{reason['remedy']}."),
        "words": _shorten(reason["reason"]),
    }


def _describe_message(entry: Mapping[str, Any], now: float) -> dict[str, Any]:
    recipients = entry["recipients"]
    addresses = [recipient["address"] for recipient in recipients]
    more = entry.get("recipients_total", len(recipients)) - 1
    return {
        "age": format_age(now - entry["arrival_time"]),
        "since": format_moment(entry["arrival_time"], now),
        "to": addresses[0] if addresses else "",
        "more": f"and {format_count(more)} more" if more > 0 else "",
        "from": entry["sender"] or "<>",
        "queue_id": entry["queue_id"],
        "state": entry["queue_name"],
        "size": format_bytes(entry["message_size"]),
    }


def describe_upstream(one: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return one upstream: does it work, what was agreed, and its certificates from the server's own upwards."""
    wrong, remedy = split_words(one["words"])
    tls = one["tls"] or {}
    return {
        "setting": one["setting"],
        "nexthop": one["nexthop"],
        **_judge(one),
        "words": begin_sentence(_shorten(wrong)),
        "remedy": remedy,
        "tls": _tell_tls(tls, is_told=one["is_well"]),
        "chain": [
            {"what": link["subject"], "detail": f"signed by {link['issuer']}", **_describe_end(link["not_after"], now)}
            for link in tls.get("chain", ())
        ],
    }


def _judge(one: Mapping[str, Any]) -> dict[str, Any]:
    if one["words"].startswith(_NOT_TRIED):
        return {"tone": "quiet", "verdict": "Not tried", "is_tried": False}
    if one["is_well"]:
        return {"tone": "good", "verdict": "Works", "is_tried": True}
    return {"tone": "bad", "verdict": "Does not work", "is_tried": True}


def _tell_tls(tls: Mapping[str, Any], *, is_told: bool) -> str:
    """Return what holds of TLS; protocol and cipher are in the probe's words where all is well, and so `is_told`."""
    if not tls:
        return ""
    verdict = {"verified": "the certificate is verified", "not verified": "the certificate is not verified"}
    told = [*([] if is_told else [tls["protocol"], tls["cipher"]]), f"TLS level {tls['level']}"]
    return ", ".join(part for part in (*told, verdict.get(tls["verdict"], "")) if part)


def _describe_own_certificate(one: Mapping[str, Any], now: float) -> dict[str, Any]:
    end = _describe_end(one["not_after"], now)
    detail = one["subject"]
    if one["renewed_at"] is not None:
        end["is_soon"] = False
        detail += f", renewed by itself on {format_day(one['renewed_at']).text}"
    return {"what": one["what"], "detail": detail, **end}


def _describe_end(not_after: float, now: float) -> dict[str, Any]:
    days = int((not_after - now) // DAY_SECONDS)
    left = "expired" if not_after <= now else f"{count_of(days, 'day')} left" if days else "less than a day left"
    return {"left": left, "day": format_day(not_after), "is_soon": days < _SOON_DAYS}


def _tell_tried(at: float, now: float) -> str:
    return f"Tried {format_age(now - at)} ago." if at else "Not tried yet."


def describe_delivery(event: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return one finished recipient, from its event."""
    attempts = event.get("attempts") or 1
    told = [f"took {format_seconds(event['delay'])}"] if event.get("delay") is not None else []
    if attempts > 1:
        told.append(f"{format_count(attempts)} attempts")
    status = event["status"]
    return {
        "at": format_moment(event["finished_at"], now),
        "status": status,
        "tone": _TONES.get(status, "warning"),
        "told": ", ".join(told),
        "to": event["to"],
        "from": event.get("from") or "<>",
        "queue_id": event["queue_id"],
        "reply": _shorten(event.get("reply") or ""),
    }


def list_facts(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what else is worth a look, as (term, words)."""
    now, space, configuration = view["now"], view["space"], view["configuration"]
    facts = [("authrelay", view["version"])]
    if view["postfix_version"]:
        facts.append(("Postfix", view["postfix_version"]))
    if configuration["loaded_at"]:
        loaded = f"{format_age(now - configuration['loaded_at'])} ago"
        if configuration["reloads"]:
            loaded += f", {count_of(configuration['reloads'], 'reload')} since the start"
        facts.append(("Configuration loaded", loaded))
    facts += [(f"{one['setting']} changed", f"{format_age(now - one['changed_at'])} ago") for one in view["secrets"]]
    if space["free_bytes"]:
        facts.append(("Free for the queue", f"{format_bytes(space['free_bytes'])}{_tell_inodes(space['free_inodes'])}"))
    for name, service in view["services"].items():
        if service["restarts"]:
            facts.append((f"{name} restarted", f"{count_of(service['restarts'], 'time')}"))
    dropped = sum(_get_report(view)["dropped"].values())
    if dropped:
        facts.append(("Log lines dropped", format_count(dropped)))
    return facts


def _tell_inodes(free: int | None) -> str:
    return "" if free is None else f", {format_count(free)} files"


def _tell_sum(report: Mapping[str, Any], now: float) -> str:
    """Return what was counted since the forwarder began, and how long deliveries took."""
    totals = {status: sum(by_reason.values()) for status, by_reason in report["deliveries"].items()}
    if not report["since"] or not (report["accepted"] or any(totals.values())):
        return ""
    told = [f"{count_of(report['accepted'], 'message')} accepted"]
    told += [f"{format_count(totals[status])} {status}" for status in _TONES if totals.get(status)]
    text = f"In the {format_age(now - report['since'])} since the count began: {', '.join(told)}."
    delays = report["delays"].get("total", {"buckets": [], "count": 0})
    spans = [(words, _find_quantile(delays, share)) for words, share in _QUANTILES]
    within = [f"{words} within {format_seconds(span)}" for words, span in spans if span is not None]
    return f"{text} Of what was sent, {', '.join(within)}." if within else text


def _find_quantile(delays: Mapping[str, Any], share: float) -> float | None:
    """Return the end of the bucket in which a share of all delays is reached; `None` for the last, endless one."""
    if not delays["count"]:
        return None
    for end, count in delays["buckets"]:
        if count >= share * delays["count"]:
            return None if end == "+Inf" else float(end)
    return None


_NO_REPORT: Final[Mapping[str, Any]] = {
    "since": 0, "accepted": 0, "deliveries": {}, "delays": {}, "history": (), "last": (), "dropped": {},
}  # fmt: skip


def _get_report(view: Mapping[str, Any]) -> Mapping[str, Any]:
    return view["report"] or _NO_REPORT


def _shorten(words: str) -> str:
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"
