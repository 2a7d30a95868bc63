"""What a queue id tells. Pure."""

from __future__ import annotations

from typing import Final

_ALPHABET: Final = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_TIME_LENGTH: Final = 10
_MICROSECONDS_LENGTH: Final = 4


def parse_arrival(queue_id: str) -> float | None:
    """Return when the message arrived, in seconds since the epoch; `None` for a short id, which does not tell.

    A long one is seconds and, in four digits, microseconds, in base 52; a `z`; and an inode number without any `z`
    (global/mail_queue.h).
    """
    digits = queue_id.rpartition("z")[0]
    if len(digits) < _TIME_LENGTH:
        return None
    seconds = _parse_number(digits[:-_MICROSECONDS_LENGTH])
    microseconds = _parse_number(digits[-_MICROSECONDS_LENGTH:])
    return None if seconds is None or microseconds is None else seconds + microseconds / 1e6


def _parse_number(digits: str) -> int | None:
    number = 0
    for digit in digits:
        if (value := _VALUES.get(digit)) is None:
            return None
        number = number * len(_ALPHABET) + value
    return number
