"""What Postfix's verdict on DANE means: whether mail goes, and whether the certificate was checked. Pure."""

from __future__ import annotations

from typing import Final

from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.steps import Broken
from entrypoint.errors import quote_value
from entrypoint.system.finger import Opinion

_OTHER: Final = "or set RELAYHOST_TLS=secure, which trusts CAs and needs no DNSSEC"
_REASONS: Final = {
    "not-validated": (
        "there is no resolver here that validates DNSSEC, without which TLSA records say nothing",
        "Give the container a name server that validates, such as unbound: docker run --dns 192.0.2.53; " + _OTHER,
    ),
    "no-records": (
        "the upstream has no TLSA records that DNSSEC vouches for",
        f"Its operator must publish them for that host and port; {_OTHER}",
    ),
    "unusable": (
        "the upstream has TLSA records, but none of a kind that mail servers use",
        f"Its operator must publish records '3 1 1' or '2 1 1' (RFC 7672); {_OTHER}",
    ),
}
"""Why nothing decides, and what mends it. At level dane mail goes all the same."""


def judge_dane(opinion: Opinion, level: TlsLevel, resolver: str) -> tuple[str, bool]:
    """Return what was found and whether the certificate was checked; raise Broken where mail does not go."""
    if opinion.trust == "Verified" and not opinion.about_dane:
        return "Postfix says that it is the one of the TLSA records", True
    if opinion.about_dane == "no-address":
        raise Broken(
            "resolve",
            f"at level {level.value} Postfix asks name servers only, not /etc/hosts, and finds nothing: "
            f"{quote_value(opinion.words)}; {resolver}",
            f"Check the spelling of RELAYHOST and the container's DNS; for a name of extra_hosts, {_OTHER}",
        )
    if opinion.about_dane in _REASONS:
        why, remedy = _REASONS[opinion.about_dane]
        shown = f"{why} ({resolver})" if opinion.about_dane == "not-validated" else why
        if level is TlsLevel.DANE_ONLY:
            raise Broken("certificate", f"{shown}; at level dane-only no mail goes then", remedy)
        return f"{shown}, so that at level dane it is NOT CHECKED", False
    if opinion.about_dane:
        raise Broken(
            "certificate",
            f"Postfix gets no answer about TLSA records, and waits: {quote_value(opinion.words)}; {resolver}",
            f"It is tried again by itself; if it lasts, check the upstream's name servers and your own, {_OTHER}",
        )
    words = quote_value(opinion.words) or "silence"
    if not opinion.trust:
        raise Broken(
            "certificate",
            f"only Postfix can judge DANE, and posttls-finger got no verdict: {words}",
            "Try again in a minute",
        )
    raise Broken(
        "certificate",
        f"the upstream has TLSA records, and its certificate is not the one that they name: {words}",
        f"Its operator must mend certificate or records; nothing secret was sent; {_OTHER}",
    )
