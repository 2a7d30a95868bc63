"""The upstream's CA from RELAYHOST_CA_URL: fetched, checked, and kept for the day on which it cannot be. Network, disk.

Uses `download` to fetch, `files` to keep and `validity` to see what has expired. Parses with `config.certificates` and
`config.web_url`, which are pure.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.certificates import Certificates, keep_members, parse_authorities
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.web_url import hide_query
from entrypoint.errors import BadCertificateError, CannotWriteError, Problem, UnavailableError, quote_value
from entrypoint.system.download import DownloadError, download
from entrypoint.system.files import read_text, write_file
from entrypoint.system.validity import keep_valid

_SETTING: Final = "RELAYHOST_CA_URL"
_MARK: Final = "# Fetched by authrelay: "
_MOST_NAMED: Final = 3
"""How many certificates a message names: a bundle may have hundreds."""
_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, kw_only=True)
class FetchedAuthorities:
    """The CAs to trust; `is_copy`: they are those of an earlier fetch, and the warning says why."""

    certificates: Certificates
    is_copy: bool = False
    warnings: tuple[str, ...] = ()


def fetch_authorities(url: str, *, sha256s: tuple[str, ...] | None, keeps_copy: bool) -> FetchedAuthorities:
    """Return the CAs at a URL, only those with one of the fingerprints if there are any.

    What is good is kept in the state volume if `keeps_copy`. If it fails, the last good copy of the same URL serves, as
    long as that is valid and has one of the fingerprints; else UnavailableError or BadCertificateError is raised.
    """
    try:
        certificates, left_out = _check(_parse(download(url)), sha256s)
    except DownloadError as problem:
        return _fall_back(url, sha256s, problem)
    warnings = _warn_of(url, left_out) + (_keep(url, certificates) if keeps_copy else ())
    return FetchedAuthorities(certificates=certificates, warnings=warnings)


def load_authorities(url: str, *, sha256s: tuple[str, ...] | None) -> FetchedAuthorities | None:
    """Return the last good copy from a URL, if there is one that may be trusted now; nothing is fetched."""
    copy, _, _ = _load_copy(url, sha256s)
    return FetchedAuthorities(certificates=copy, is_copy=True) if copy else None


def load_installed(*, sha256s: tuple[str, ...] | None) -> FetchedAuthorities | None:
    """Return what the running relay trusts, unless it may not any more."""
    pem = read_text(paths.UPSTREAM_AUTHORITIES)
    found = parse_authorities(pem.encode()) if pem else None
    if found is None or (sha256s is not None and any(one.sha256 not in sha256s for one in found.members)):
        return None
    return FetchedAuthorities(certificates=found, is_copy=True)


def _parse(data: bytes) -> Certificates:
    start = data[:1024].lower()
    if b"<html" in start or b"<!doctype" in start:
        raise DownloadError(
            "it is a web page and not a CA file",
            "Give the address of the file itself, which a browser saves instead of showing",
            is_content=True,
        )
    try:
        return parse_authorities(data)
    except InvalidValue as problem:
        raise DownloadError(problem.what, problem.remedy, is_content=True) from problem
    except Exception as error:  # somebody else's bytes must not end in a traceback
        raise DownloadError(
            "its certificates cannot be read", "Give the CA in RELAYHOST_CA_FILE instead", is_content=True
        ) from error


def _check(found: Certificates, sha256s: tuple[str, ...] | None) -> tuple[Certificates, tuple[str, ...]]:
    """Return what may be trusted now and what is wrong with others, or raise DownloadError where nothing may be."""
    chosen = found if sha256s is None else keep_members(found, lambda one: one.sha256 in sha256s)
    if not chosen.members:
        names = [f"'{one.subject}' with {one.sha256}" for one in found.members[:_MOST_NAMED]]
        if len(found.members) > _MOST_NAMED:
            names.append(f"{len(found.members) - _MOST_NAMED} others")
        raise DownloadError(
            f"RELAYHOST_CA_SHA256 is {', '.join(sha256s or ())}, and none of what is there has it: {', '.join(names)}",
            "Compare them with the fingerprint that the CA's owner publishes, and set RELAYHOST_CA_SHA256 to that",
            is_content=True,
        )
    valid, faults = keep_valid(chosen)
    if not valid.members:
        has_expired = "expired" in faults[0]
        raise DownloadError(
            "; ".join(faults[:_MOST_NAMED]),
            "Have it replaced there, or give the one that replaced it in RELAYHOST_CA_FILE"
            if has_expired
            else "Check this machine's clock, or wait",
            is_content=True,
        )
    return valid, faults


def _warn_of(url: str, left_out: tuple[str, ...]) -> tuple[str, ...]:
    """Return a warning for the CAs there that are not trusted now, if there are any."""
    if not left_out:
        return ()
    named = "; ".join(left_out[:_MOST_NAMED])
    return (f"{_SETTING}={quote_value(hide_query(url))}: {named}; left out, the others are trusted",)


def _fall_back(url: str, sha256s: tuple[str, ...] | None, problem: DownloadError) -> FetchedAuthorities:
    """Return the last good copy with a warning, or raise what the problem is."""
    copy, fetched_at, why_not = _load_copy(url, sha256s)
    if copy is None:
        kind = BadCertificateError if problem.is_content else UnavailableError
        raise kind(str(_describe(url, f"{problem.what}; and {why_not}", problem.remedy))) from problem
    age = _format_age(time.time() - fetched_at)
    moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(fetched_at))
    what = f"{problem.what}; the copy that was fetched {age} ago, on {moment} UTC, is used instead"
    return FetchedAuthorities(
        certificates=copy, is_copy=True, warnings=(str(_describe(url, what, problem.remedy)).removesuffix("."),)
    )


def _load_copy(url: str, sha256s: tuple[str, ...] | None) -> tuple[Certificates | None, int, str]:
    """Return the kept copy and when it was fetched; or `None`, and why there is none that can serve."""
    try:
        text = read_text(paths.FETCHED_AUTHORITIES)
    except (OSError, UnicodeDecodeError):
        return None, 0, "the kept copy cannot be read"
    if text is None:
        return None, 0, "there is no copy of an earlier fetch"
    first, _, pem = text.partition("\n")
    record = _read_record(first)
    try:
        found = parse_authorities(pem.encode())
    except Exception:  # a damaged disk; the fetch's own problem is what the user is told
        found = None
    if record is None or found is None or [one.sha256 for one in found.members] != record["sha256s"]:
        return None, 0, "the kept copy is damaged"
    if record["url"] != url:
        return None, 0, "the kept copy is from another address"
    try:
        return _check(found, sha256s)[0], record["fetched_at"], ""
    except DownloadError as problem:
        return None, 0, f"the kept copy is no good either ({problem.what})"


def _read_record(line: str) -> dict[str, Any] | None:
    if not line.startswith(_MARK):
        return None
    try:
        record = json.loads(line.removeprefix(_MARK))
    except ValueError:
        return None
    kinds = {"url": str, "sha256s": list, "fetched_at": int}
    is_whole = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if is_whole else None


def _keep(url: str, certificates: Certificates) -> tuple[str, ...]:
    """Put the CAs into the state volume; return a warning where that fails, since mail can flow without it."""
    record = {
        "url": url,
        "sha256s": [one.sha256 for one in certificates.members],
        "fetched_at": int(time.time()),
    }
    try:
        # For root alone: the URL may have a token in its query.
        text = f"{_MARK}{json.dumps(record)}\n{certificates.pem}"
        write_file(paths.FETCHED_AUTHORITIES, text, 0o600, is_durable=True)
    except CannotWriteError as error:
        return (f"the CA from {_SETTING} is not kept for when it cannot be fetched: {error}".removesuffix("."),)
    return ()


def _describe(url: str, what: str, remedy: str) -> Problem:
    return Problem(setting=_SETTING, value=hide_query(url), what=what, remedy=remedy)


def _format_age(seconds: float) -> str:
    """Return `3 days`, `1 hour`, `0 seconds`: the largest unit that fits, rounded down."""
    whole = max(0, int(seconds))
    size, unit = next((pair for pair in _UNITS if whole >= pair[0]), _UNITS[-1])
    count = whole // size
    return f"{count} {unit}{'' if count == 1 else 's'}"
