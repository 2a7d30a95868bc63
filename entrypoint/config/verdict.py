"""What a server's chain means for the settings: which CA file, and what is wrong. Pure; in `config`, as they are."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrypoint.config.chain import Link, Origin, build_path, find_distrust, is_signed_by, matches_name
from entrypoint.config.declaration import InvalidValue
from entrypoint.config.values import parse_host_name

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that stands in the way, with a word for programs."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Everything that can be said of a chain at a moment."""

    host: str
    moment: datetime.datetime
    path: tuple[Link, ...]
    """The server's certificate first, as far as signatures lead."""
    unused: tuple[Link, ...]
    """What the server sent beside it."""
    is_name_right: bool
    distrust: str | None
    """Why the system's bundle alone does not verify it; `None`: it does, and nothing has to be set."""
    authority: Link | None
    """The CA that a CA file needs, where there is one."""
    missing: tuple[Link, ...]
    """Intermediates that the server leaves out: Postfix never fetches them, so that the CA file must have them."""
    problems: tuple[Finding, ...]
    remarks: tuple[str, ...]

    @property
    def is_nothing_to_set(self) -> bool:
        """Whether a relay without any CA setting verifies this server."""
        in_system = self.is_authority_in_system and not self.missing
        return not self.problems and (self.distrust is None or in_system)

    @property
    def is_address(self) -> bool:
        """Whether the server was asked by an address: Postfix compares names only."""
        return is_address(self.host)

    @property
    def server_names(self) -> tuple[str, ...]:
        """The names for which the server's certificate is good: host names alone, which are safe in a shell's line."""
        return tuple(name for name in self.path[0].names if _is_host_name(name))

    @property
    def is_to_be_pinned(self) -> bool:
        """Whether the fingerprint is the one way to verify it: it has no CA, or no name to compare."""
        return self.authority is None or not _list_names(self.path[0])

    @property
    def is_root_missing(self) -> bool:
        """Whether the topmost CA that could be had is not a root: Postfix takes such a one as a trust anchor only."""
        return self.authority is not None and not self.authority.is_self_signed and not self.is_authority_in_system

    @property
    def is_authority_in_system(self) -> bool:
        """Whether the CA is one of the system's bundle."""
        return self.authority is not None and self.authority.origin is Origin.SYSTEM

    @property
    def ca_pem(self) -> str:
        """The text of the CA file: the CA, then what the server leaves out."""
        return "" if self.authority is None else "".join(one.pem for one in (self.authority, *self.missing))


def judge(
    sent: list[Link],
    fetched: list[Link],
    system: list[x509.Certificate],
    host: str,
    moment: datetime.datetime,
) -> Verdict:
    """Return the verdict on what a server for `host` sent, with what was fetched since, at a moment."""
    path = build_path(sent, fetched, system, moment)
    top = path[-1]
    if any(top.certificate == one for one in system):
        # The server sends its root itself, and the system has the same.
        top = path[-1] = dataclasses.replace(top, origin=Origin.SYSTEM)
    authority = top if len(path) > 1 and top.is_ca and top.is_valid_at(moment) else None
    missing = tuple(one for one in path[1:-1] if one.origin is Origin.FETCHED)
    is_name_right = matches_name(path[0], host)
    problems = tuple(_find_problems(path, sent, host, moment, is_name_right=is_name_right))
    remarks: tuple[str, ...] = ()
    if top.origin is Origin.FETCHED:
        remarks += (
            f"certificate {len(path)} came over plain http, which proves nothing: its SHA-256 must be compared",
        )
    if authority is not None and not authority.is_self_signed and authority.origin is not Origin.SYSTEM:
        remarks += (
            f"the server leaves out its root, '{authority.issuer}'. A CA file would need that one; until you have it "
            "from the provider, TLS_POLICY_TABLE with tafile trusts the CA below it",
        )
    if authority is not None and not problems:
        strict = find_distrust([*sent, *missing], [authority.certificate], host, moment)
        if strict is not None:
            remarks += (f"a strict check, which Postfix does not make, finds fault with this chain: {strict}",)
    return Verdict(
        host=host,
        moment=moment,
        path=tuple(path),
        unused=tuple(one for one in sent if one.sha256 not in {link.sha256 for link in path}),
        is_name_right=is_name_right,
        distrust=find_distrust(sent, system, host, moment),
        authority=authority,
        missing=missing,
        problems=problems,
        remarks=remarks,
    )


def _is_host_name(name: str) -> bool:
    try:
        parse_host_name(name)
    except InvalidValue:
        return False
    return True


def _find_problems(
    path: list[Link], sent: list[Link], host: str, moment: datetime.datetime, *, is_name_right: bool
) -> list[Finding]:
    leaf, top = path[0], path[-1]
    found = [_describe_time(one, moment) for one in path if not one.is_valid_at(moment)]
    if is_address(host) or not is_name_right:
        found.append(Finding(code="name", text=_describe_names(leaf, host)))
    if not leaf.is_for_servers:
        text = "the server's certificate is not meant for servers: its operator must have it issued for serverAuth"
        found.append(Finding(code="purpose", text=text))
    if leaf.is_self_signed:
        found.append(
            Finding(
                code="self-signed",
                text="the server's certificate was signed by nobody but itself: there is no CA, and its fingerprint "
                "must be pinned instead",
            )
        )
    elif len(path) == 1:
        forged = [
            one
            for one in sent[1:]
            if one.subject == leaf.issuer and not is_signed_by(leaf.certificate, one.certificate)
        ]
        if forged:
            text = f"the server sends '{forged[0].subject}', but its key did not sign the server's certificate"
            found.append(Finding(code="bad-signature", text=f"{text}: its operator must send the right one"))
        else:
            where = "nor says where it is"
            if leaf.issuer_urls:
                where = "and it could not be had from where the server's certificate says that it is (see the notes)"
            text = f"the server does not send the certificate of its CA, '{leaf.issuer}', {where}"
            found.append(Finding(code="no-authority", text=f"{text}: ask its operator for it"))
    elif not top.is_ca:
        text = f"'{top.subject}' signed another certificate, but is not a CA: Postfix refuses that"
        found.append(Finding(code="not-a-ca", text=f"{text}, and its operator must have a certificate from a CA"))
    return found


def is_address(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _describe_time(link: Link, moment: datetime.datetime) -> Finding:
    who = f"'{link.subject}'"
    if moment > link.not_after:
        return Finding(
            code="expired",
            text=f"{who} expired on {link.not_after:%Y-%m-%d}: until its operator renews it Postfix refuses it, unless "
            "the server's own certificate is pinned",
        )
    return Finding(
        code="not-yet-valid",
        text=f"{who} is not valid before {link.not_before:%Y-%m-%d}: is the clock of this machine right? "
        f"It says {moment:%Y-%m-%d}",
    )


def _list_names(leaf: Link) -> list[str]:
    return [name for name in leaf.names if not is_address(name)]


def _describe_names(leaf: Link, host: str) -> str:
    names = _list_names(leaf)
    if is_address(host):
        text = f"you asked for an address, {host}, and Postfix compares names only"
    else:
        text = f"the certificate is not for {host}"
    if not names:
        return f"{text}. It has no name at all: pin its fingerprint instead"
    # A star stands for a name, and is none that RELAYHOST could be.
    which = "such a name" if "*" in names[0] else "that name" if len(names) == 1 else "one of them"
    return f"{text}. It is for {', '.join(names)}: set RELAYHOST to {which}, if it leads to the same server"
