"""What `discover-ca` says: the settings that follow from a verdict, as text and as JSON. Pure."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.chain import Link, Origin
from entrypoint.config.nexthop import IMPLICIT_TLS_PORT, Nexthop
from entrypoint.config.verdict import Verdict

VERSION: Final = 1
"""Of the JSON; it grows when a field changes its meaning or goes."""
_MOUNTED: Final = "/ca.pem"
_EXAMPLE: Final = "[smtp.example.com]:587"
_OPERATORS: Final = frozenset({"expired", "not-yet-valid", "purpose", "not-a-ca"})
"""The problems that no setting mends, unless the certificate is pinned: then Postfix looks at nothing else of it."""
_SESSIONS: Final = {
    "smtp": "SMTP with STARTTLS",
    "pop3": "POP3 with STLS",
    "imap": "IMAP with STARTTLS",
    "none": "TLS at once",
}


@dataclass(frozen=True, kw_only=True)
class Session:
    """How the chain was got: who was asked, and what was agreed."""

    host: str
    port: int
    mode: str
    address: str
    protocol: str
    cipher: str
    asks_for_certificate: bool = False
    refusal: str = ""
    """With which words the server ended the session for the lack of a client certificate; empty: it did not."""

    @property
    def client_certificate(self) -> str:
        """What the server thinks of client certificates, for a program."""
        if not self.asks_for_certificate:
            return "not-asked"
        return "required" if self.refusal else "asked"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is good to know of the session, for a person."""
        if not self.asks_for_certificate:
            return ()
        if not self.refusal:
            return ("the server asks for a client certificate, and goes on without one",)
        return (
            f"the server asks for a client certificate, and ended the session without one ('{self.refusal}'). A relay "
            "shows the one that it makes: give that to the server's operator, from "
            f"{paths.CLIENT_CERTIFICATE} in the state volume, or set CLIENT_CERT and CLIENT_KEY to what you got from "
            "them",
        )

    @property
    def is_relayhost(self) -> bool:
        """Whether RELAYHOST can be this server: SMTP, and with TLS as authrelay begins it on that port."""
        return (self.mode == "none") == (self.port == IMPLICIT_TLS_PORT) and self.mode in ("smtp", "none")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Where the CA file was written; `is_in_state`: into the state volume, where the relay finds it itself."""

    path: str
    is_in_state: bool


def make_settings(verdict: Verdict, session: Session, saved: Saved | None) -> dict[str, str]:
    """Return the settings with which a relay trusts this server, and no other."""
    settings: dict[str, str] = {}
    nexthop = _EXAMPLE
    if session.is_relayhost:
        nexthop = str(Nexthop(host=_choose_host(verdict), port=session.port, is_bracketed=True))
        settings["RELAYHOST"] = nexthop
    path = saved.path if saved is not None and saved.is_in_state else _MOUNTED
    if verdict.is_nothing_to_set:
        return settings
    if verdict.is_to_be_pinned:
        if session.is_relayhost:
            settings["RELAYHOST_TLS"] = "fingerprint"
            settings["RELAYHOST_FINGERPRINT"] = verdict.path[0].sha256
    elif verdict.is_root_missing:
        # OpenSSL ends a chain at a root only, where smtp_tls_CAfile is concerned; a tafile may hold any CA.
        settings["TLS_POLICY_TABLE"] = f"{nexthop} secure tafile={path}"
    else:
        settings["RELAYHOST_CA_FILE"] = path
    return settings


def render_text(
    verdict: Verdict, session: Session, remarks: tuple[str, ...], saved: Saved | None, save_error: str = ""
) -> str:
    """Return everything for a person."""
    place = f"[{session.host}]" if ":" in session.host else session.host
    agreed = (_SESSIONS[session.mode], session.protocol, session.cipher)
    lines = [f"{place}:{session.port} ({session.address}), {', '.join(one for one in agreed if one)}", ""]
    for number, link in enumerate(verdict.path, start=1):
        lines += [*_render_link(number, link, verdict.moment, is_leaf=number == 1), ""]
    for link in verdict.unused:
        lines += [f"Also sent, and of no use in this chain: {link.subject}", f"   SHA-256   {link.sha256}", ""]
    lines += _render_answers(verdict)
    lines += ["", *(f"PROBLEM: {problem.text}." for problem in verdict.problems)]
    lines += [f"Note: {remark}." for remark in (*session.remarks, *verdict.remarks, *remarks)]
    return "\n".join([*lines, "", *_render_settings(verdict, session, saved, save_error)]) + "\n"


def make_json(
    verdict: Verdict, session: Session, remarks: tuple[str, ...], saved: Saved | None, save_error: str = ""
) -> dict[str, Any]:
    """Return everything for a program; docs/trust.md documents the shape."""
    authority = verdict.authority
    return {
        "version": VERSION,
        "host": session.host,
        "port": session.port,
        "starttls": session.mode,
        "address": session.address,
        "protocol": session.protocol,
        "cipher": session.cipher,
        "client_certificate": session.client_certificate,
        "checked_at": _format_time(verdict.moment),
        "certificates": [_make_link(link, verdict.moment) for link in verdict.path],
        "unused_certificates": [_make_link(link, verdict.moment) for link in verdict.unused],
        "is_name_right": verdict.is_name_right,
        "is_trusted_by_system": verdict.distrust is None,
        "is_nothing_to_set": verdict.is_nothing_to_set,
        "authority": None
        if authority is None
        else {
            "subject": authority.subject,
            "sha256": authority.sha256,
            "is_root": authority.is_self_signed,
            "is_in_system_bundle": verdict.is_authority_in_system,
            "origin": authority.origin.value,
            "pem": verdict.ca_pem,
        },
        "problems": [{"code": problem.code, "text": problem.text} for problem in verdict.problems],
        "remarks": [*session.remarks, *verdict.remarks, *remarks],
        "settings": make_settings(verdict, session, saved),
        "saved": None if saved is None else saved.path,
        "save_error": save_error or None,
    }


def _choose_host(verdict: Verdict) -> str:
    """Return the host for RELAYHOST: the one that was asked, or the first name for which the certificate is good."""
    if verdict.is_name_right and not verdict.is_address:
        return verdict.host
    return next(iter(verdict.server_names), verdict.host)


def _render_link(number: int, link: Link, moment: datetime.datetime, *, is_leaf: bool) -> list[str]:
    kind = "root CA" if link.is_self_signed else "intermediate CA"
    kind = "server" if is_leaf else kind if link.is_ca else "not a CA"
    days = (link.not_after - moment).days
    left = f"{days} days left" if moment <= link.not_after else f"EXPIRED {-days - 1} days ago"
    if moment < link.not_before:
        left = "NOT YET VALID"
    origins = {
        Origin.SENT: "sent by the server",
        Origin.SYSTEM: "the system's bundle",
        Origin.FETCHED: f"left out by the server, fetched from {link.url}",
    }
    rows = [
        ("subject", link.subject),
        ("issuer", "itself" if link.is_self_signed else link.issuer),
        *([("names", ", ".join(link.names) or "none")] if is_leaf else []),
        ("valid", f"{link.not_before:%Y-%m-%d} to {link.not_after:%Y-%m-%d}, {left}"),
        ("key", link.key),
        ("SHA-256", link.sha256),
        ("from", origins[link.origin]),
    ]
    return [f"{number}. {kind}", *(f"   {label:<10}{text}" for label, text in rows)]


def _render_answers(verdict: Verdict) -> list[str]:
    rows = [("name", f"{verdict.host} is {'' if verdict.is_name_right else 'NOT '}one of the certificate's names")]
    authority = verdict.authority
    if authority is None:
        rows.append(("CA", "none can be had from this server"))
    else:
        inside = "is" if verdict.is_authority_in_system else "is not"
        number = verdict.path.index(authority) + 1
        rows.append(("CA", f"certificate {number}, {authority.subject}; it {inside} in the system's bundle"))
    if verdict.distrust is None:
        rows.append(("verified", "by the system's bundle alone"))
    else:
        rows.append(("verified", "not by the system's bundle alone"))
    return [f"{label + ':':<13}{text}" for label, text in rows]


def _render_settings(verdict: Verdict, session: Session, saved: Saved | None, save_error: str) -> list[str]:
    settings = make_settings(verdict, session, saved)
    lines = []
    if verdict.is_nothing_to_set:
        lines.append("There is nothing to set: a relay trusts this server as it is.")
    elif verdict.is_to_be_pinned and not session.is_relayhost:
        return ["Ask the SMTP server itself: another service's certificate cannot be pinned for it."]
    if saved is not None:
        lines.append(f"The CA file was written: {saved.path}")
    elif save_error:
        lines.append(f"The CA file was NOT written: {save_error}")
    elif _is_file_needed(verdict):
        lines.append("The CA file was not written: add --save FILE, or --save alone for the state volume.")
    if not session.is_relayhost:
        too = f", and write it below instead of {_EXAMPLE}" if _EXAMPLE in str(settings) else ""
        lines.append(
            f"This is no server for RELAYHOST: set that to your provider's SMTP server{too}; its CA is often the same."
        )
    if verdict.is_to_be_pinned:
        lines += [
            "A pinned certificate has to be changed here whenever the server's changes. Nobody vouched for it either:",
            "compare its SHA-256 with what the server's operator tells you.",
        ]
    elif _is_file_needed(verdict) and not verdict.is_authority_in_system:
        lines += [
            "",
            "Nobody vouched for what is shown above: whoever is on the way could have put it there. Before you trust",
            "the CA, compare its SHA-256 with what the provider publishes, or tells you by telephone.",
        ]
    if not settings:
        return lines
    is_later = not verdict.is_to_be_pinned and any(problem.code in _OPERATORS for problem in verdict.problems)
    heading = "Settings, which work when the problems above are mended:" if is_later else "Settings:"
    lines += ["", heading, *(f"  {name}={value}" for name, value in settings.items())]
    return [*lines, *_render_docker(verdict, settings, saved)]


def _is_file_needed(verdict: Verdict) -> bool:
    return not verdict.is_nothing_to_set and not verdict.is_to_be_pinned


def _render_docker(verdict: Verdict, settings: dict[str, str], saved: Saved | None) -> list[str]:
    options = [f"--env '{name}={value}'" for name, value in settings.items()]
    heading = "With docker run, beside the login and the volumes:"
    if _is_file_needed(verdict):
        if saved is not None and saved.is_in_state:
            heading = "With docker run, beside the login, and with the state volume that this command had:"
            options.append(f"--volume relay-state:{paths.STATE}")
        else:
            if saved is None:
                # Docker makes a directory of a file that is not there.
                heading = "With docker run, beside the login and the volumes, once ca.pem is in this directory:"
            # Inside double quotes a shell obeys these.
            name = re.sub(r'(["$`\\])', r"\\\1", saved.path.rpartition("/")[2] if saved is not None else "ca.pem")
            options.append(f'--volume "$PWD/{name}:{_MOUNTED}:ro"')
    return ["", heading, *" \\\n".join(f"  {one}" for one in options).split("\n")]


def _make_link(link: Link, moment: datetime.datetime) -> dict[str, Any]:
    return {
        "subject": link.subject,
        "issuer": link.issuer,
        "names": list(link.names),
        "not_before": _format_time(link.not_before),
        "not_after": _format_time(link.not_after),
        "days_left": (link.not_after - moment).days,
        "is_valid_now": link.is_valid_at(moment),
        "key": link.key,
        "sha256": link.sha256,
        "is_ca": link.is_ca,
        "is_self_signed": link.is_self_signed,
        "origin": link.origin.value,
        "url": link.url,
    }


def _format_time(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
