"""Which certificates hold now: neither expired nor not yet valid (RFC 5280 section 4.1.2.5). Clock.

Takes apart what `config.certificates`, which is pure, has read.
"""

from __future__ import annotations

import time

from entrypoint.config.certificates import Certificate, Certificates, keep_members
from entrypoint.errors import BadCertificateError


def check_authorities(name: str, given: Certificates) -> tuple[Certificates, tuple[str, ...]]:
    """Return the CAs that hold now, and a warning about each other; raise BadCertificateError where none holds.

    One that has expired is refused, but beside a good one it must not stop the mail: so a rollover ends.
    """
    valid, faults = keep_valid(given)
    if not valid.members:
        raise BadCertificateError(f"{name}: {'; '.join(faults)}. Give the CA that replaced it.")
    return valid, tuple(f"{name}: {fault}, and is left out" for fault in faults)


def check_certificates(name: str, given: Certificates) -> None:
    """Raise BadCertificateError for a certificate that does not hold now, or has an intermediate that does not."""
    _, faults = keep_valid(given)
    if faults:
        remedy = "Give the certificate that replaced it" if "expired" in faults[0] else "Check this machine's clock"
        raise BadCertificateError(f"{name}: {'; '.join(faults)}. {remedy}.")


def keep_valid(certificates: Certificates) -> tuple[Certificates, tuple[str, ...]]:
    """Return those that hold now, and of each other what is wrong with it."""
    now = time.time()
    faults = tuple(fault for one in certificates.members if (fault := _find_fault(one, now)))
    return keep_members(certificates, lambda one: not _find_fault(one, now)), faults


def format_day(seconds: float) -> str:
    """Return a day in UTC: `2026-11-23`."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _find_fault(one: Certificate, now: float) -> str:
    if now > one.not_after:
        return f"'{one.subject}' expired on {format_day(one.not_after)}"
    if now < one.not_before:
        return f"'{one.subject}' is valid only from {format_day(one.not_before)}"
    return ""
