"""Numbers and times as a person reads them. Pure, but for the zone that TZ names."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 86400


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A time twice: for a person, with its zone, and for HTML's `datetime`."""

    text: str
    iso: str


def format_age(seconds: float) -> str:
    """Return an age in its two greatest units: `3 d 4 h`, `12 min`, `8 s`."""
    days, rest = divmod(max(0, int(seconds)), DAY_SECONDS)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if minutes >= 10 and not days and not hours:
        rest = 0  # seconds beside so many minutes would only be noise
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"


def format_moment(at: float, now: float) -> Moment:
    """Return `22:31:04 UTC` for today, `24 Nov 22:31 UTC` for another day of the year around, `3 Feb 2027` beyond."""
    then, today = _localize(at), _localize(now)
    if then.date() == today.date():
        text = f"{then:%H:%M:%S %Z}"
    elif abs(at - now) < 180 * DAY_SECONDS:
        text = f"{then.day} {then:%b %H:%M %Z}"
    else:
        text = f"{then.day} {then:%b %Y}"
    return Moment(text=text, iso=then.isoformat(timespec="seconds"))


def format_day(at: float) -> Moment:
    """Return `3 Feb 2027`."""
    then = _localize(at)
    return Moment(text=f"{then.day} {then:%b %Y}", iso=f"{then:%Y-%m-%d}")


def format_whole_moment(at: float) -> Moment:
    """Return `25 Nov 2026, 22:31:04 UTC`."""
    then = _localize(at)
    return Moment(text=f"{then.day} {then:%b %Y, %H:%M:%S %Z}", iso=then.isoformat(timespec="seconds"))


def format_minute(at: float) -> str:
    """Return `22:31 UTC`."""
    return f"{_localize(at):%H:%M %Z}"


def format_seconds(seconds: float) -> str:
    """Return a duration that is mostly short: `0.25 s`, `2.5 s`, `40 s`, `5 min`."""
    if seconds >= 60:
        return format_age(seconds)
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def format_bytes(count: float) -> str:
    """Return `812 bytes`, `4.2 kB`, `31 MB`; a kB is 1000 bytes."""
    if count < 1000:
        return count_of(int(count), "byte")
    units = ["kB", "MB", "GB", "TB"]
    count /= 1000
    # What would be rounded to 1000 is one of the next.
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.1f} {units[0]}" if count < 9.95 else f"{count:.0f} {units[0]}"


def format_count(count: float) -> str:
    """Return `1,234`."""
    return f"{int(count):,}"


def count_of(count: float, noun: str) -> str:
    """Return `1 message`, `2,000 messages`; `noun` takes an s."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


def begin_sentence(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _localize(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).astimezone()
