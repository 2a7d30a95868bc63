"""What a handshake, a certificate, a list of mechanisms mean at the level in force, by Postfix's rules. Pure."""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from entrypoint.config.chain import Link, matches_name
from entrypoint.config.tls import TlsLevel, TlsRule
from entrypoint.diagnosis.steps import Broken
from entrypoint.errors import quote_value

_DISCOVER = "'authrelay discover-ca {host}:{port}' shows and saves the right one"


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What is demanded of a certificate: the level, and what it is compared with."""

    level: TlsLevel
    rule: TlsRule | None
    nexthop: str
    """The host or domain of RELAYHOST."""
    host: str
    """The host that was connected to: another than `nexthop` only with RELAYHOST_MX."""
    port: int
    secure_match: str
    """smtp_tls_secure_cert_match (postconf(5))."""
    verify_match: str
    fingerprints: tuple[str, ...]
    table: str = "TLS_POLICY_TABLE"
    """Which setting the rule is from."""
    main_anchors: str = ""
    """smtp_tls_trust_anchor_file (postconf(5))."""

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the rule; each `match` adds to the one before (postconf(5) smtp_tls_policy_maps)."""
        found: dict[str, str] = {}
        between = "|" if self.level is TlsLevel.FINGERPRINT else ":"
        for name, value in self.rule.attributes if self.rule else ():
            found[name] = f"{found[name]}{between}{value}" if name == "match" and name in found else value
        return found

    @property
    def anchors(self) -> str:
        """The file of trust anchors that Postfix has in place of the CA file, if there is one."""
        return self.attributes.get("tafile", self.main_anchors) if self.level.checks_the_authority else ""

    @property
    def accepted_names(self) -> tuple[str, ...]:
        """The names that a certificate may have, `.domain` for every name below (TLS_README)."""
        words = self.secure_match if self.level is TlsLevel.SECURE else self.verify_match
        words = self.attributes.get("match", words)
        known = {"nexthop": self.nexthop, "dot-nexthop": f".{self.nexthop}", "hostname": self.host}
        return tuple(dict.fromkeys(known.get(word, word).lower() for word in re.split(r"[\s,:]+", words) if word))

    @property
    def accepted_fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of which one must be right: a `match` is separated by `|`, for `:` is part of them."""
        match = self.attributes.get("match")
        return tuple(match.upper().split("|")) if match else self.fingerprints


def judge_chain(code: int, words: str, trust: Trust, sent: Sequence[Link], own: str, now: datetime.datetime) -> Broken:
    """Return why OpenSSL does not trust a chain; `code` is one of X509_V_ERR_*, `own` what is trusted, in words."""
    leaf = sent[0] if sent else None
    discover = _DISCOVER.format(host=trust.host, port=trust.port)
    issuer = f"'{quote_value(leaf.issuer)}'" if leaf else "its CA"
    if leaf and now > leaf.not_after:
        detail = f"the upstream's certificate expired on {leaf.not_after:%Y-%m-%d}"
        return Broken("certificate", detail, "Its operator must renew it; the mail waits and goes out then")
    if leaf and now < leaf.not_before:
        detail = f"the upstream's certificate is valid only from {leaf.not_before:%Y-%m-%d}, and it is {now:%Y-%m-%d}"
        return Broken("certificate", detail, "Check this machine's clock, or wait")
    if code == 10:  # a CA's, since the leaf's own time is right
        return _explain_expired_authority(sent[1:], now, discover)
    if leaf and leaf.is_self_signed:
        return Broken(
            "certificate",
            "the upstream's certificate is signed by nobody but itself",
            f"If it is the right one: RELAYHOST_TLS=fingerprint and RELAYHOST_FINGERPRINT={leaf.sha256}",
        )
    if code in (2, 18, 19, 20, 21):
        return Broken(
            "certificate",
            f"the upstream's certificate is signed by {issuer}, and that does not lead to {own}; "
            "the CA is another one, or the upstream leaves an intermediate certificate out",
            f"Put its CA, and the intermediate, into RELAYHOST_CA_FILE: {discover}",
        )
    return Broken("certificate", f"OpenSSL does not trust the upstream's certificate: {words}", f"Ask it: {discover}")


def _explain_expired_authority(sent: Sequence[Link], now: datetime.datetime, discover: str) -> Broken:
    for link in sent:
        if now > link.not_after:
            return Broken(
                "certificate",
                f"a CA certificate that the upstream sends with its own, '{quote_value(link.subject)}', expired on "
                f"{link.not_after:%Y-%m-%d}",
                f"Its operator must send the one that replaced it; until then it may help to put that into "
                f"RELAYHOST_CA_FILE: {discover}",
            )
    detail = "a CA certificate above the upstream's has expired"
    return Broken("certificate", detail, f"Put the CA that replaced it into RELAYHOST_CA_FILE: {discover}")


def judge_name(leaf: Link, trust: Trust) -> str:
    """Return the name that is right, or raise Broken."""
    for accepted in trust.accepted_names:
        if accepted.startswith("."):
            if any(name.lower().removeprefix("*").endswith(accepted) for name in leaf.names):
                return f"*{accepted}"
        elif matches_name(leaf, accepted):
            return accepted
    names = ", ".join(quote_value(name) for name in leaf.names) or "no name at all"
    host = leaf.names[0].replace("*.", "smtp.") if leaf.names else "smtp.example.com"
    raise Broken(
        "name",
        f"the upstream's certificate is for {names}, and not for {' or '.join(trust.accepted_names)}",
        f"If it is the right server, name it so: RELAYHOST=[{quote_value(host)}]:{trust.port}",
    )


def judge_fingerprint(leaf: Link, trust: Trust) -> str:
    """Return which fingerprint is right, or raise Broken (postconf(5) smtp_tls_fingerprint_cert_match)."""
    found = {leaf.sha256: "certificate", measure_key(leaf): "public key"}
    for one in trust.accepted_fingerprints:
        if one in found:
            return f"the fingerprint of its {found[one]} is the pinned one"
    setting = f"match= in {trust.table}" if trust.rule else "RELAYHOST_FINGERPRINT"
    raise Broken(
        "certificate",
        f"the upstream's certificate has SHA-256 {leaf.sha256}, its key {measure_key(leaf)}; pinned is "
        f"{' or '.join(trust.accepted_fingerprints)}",
        f"Ask its operator whether the certificate was replaced, then set {setting} to the new one",
    )


def measure_key(leaf: Link) -> str:
    """Return the SHA-256 of a certificate's public key as Postfix writes it (TLS_README: public key fingerprints)."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = leaf.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).digest().hex(":").upper()


def find_offers(lines: Sequence[str], word: str) -> tuple[str, ...] | None:
    """Return what follows an EHLO keyword, in capitals, or `None` where it is not offered (RFC 5321 4.1.1.1).

    Some old servers write `AUTH=PLAIN` for `AUTH PLAIN`; Postfix takes both.
    """
    found: list[str] | None = None
    for line in lines:
        words = line.upper().replace("=", " ").split() if word == "AUTH" else line.upper().split()
        if words[:1] == [word]:
            found = [*(found or []), *words[1:]]
    return None if found is None else tuple(dict.fromkeys(found))


def filter_mechanisms(offered: Iterable[str], patterns: str) -> tuple[str, ...]:
    """Return what smtp_sasl_mechanism_filter lets through: the first pattern that matches counts (postconf(5))."""
    words = [word.lower() for word in re.split(r"[\s,]+", patterns) if word]
    if not words:
        return tuple(offered)
    return tuple(name for name in offered if _is_let_through(name.lower(), words))


def _is_let_through(name: str, words: Sequence[str]) -> bool:
    for word in words:
        bare = word.removeprefix("!")
        if bare == name or bare.startswith("static:"):
            return bare == word
    return False


def list_forms(username: str, password: str) -> tuple[str, ...]:
    """Return what of a login must never be shown: the password or token, and each message that carries it whole."""
    return (
        f"\0{username}\0{password}",
        f"user={username}\1auth=Bearer {password}\1\1",
        f"n,a={username.replace('=', '=3D').replace(',', '=2C')},\1auth=Bearer {password}\1\1",
        # The last: in base64 it may be a part of another.
        password,
    )


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets, in the clear or in base64, which a server may echo."""
    for secret in secrets:
        encoded = base64.b64encode(secret.encode()).decode()
        for form in (secret, encoded, encoded.rstrip("="), secret.encode().hex()):
            if form:
                text = text.replace(form, "(hidden)")
    return text
