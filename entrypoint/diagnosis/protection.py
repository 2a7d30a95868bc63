"""TLS as the level in force demands it: our own verdict first, then Postfix's, which wins. Network, by `system`."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from entrypoint.config.chain import Link, load_sent
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.dane import judge_dane
from entrypoint.diagnosis.judgement import Trust, judge_chain, judge_fingerprint, judge_name
from entrypoint.diagnosis.steps import Broken, Step
from entrypoint.errors import quote_value
from entrypoint.system.finger import Opinion
from entrypoint.system.handshake import Handshake, TlsOrder
from entrypoint.system.smtp_session import SessionError, SmtpSession

_DANE = frozenset({TlsLevel.DANE, TlsLevel.DANE_ONLY})


@dataclass(kw_only=True)
class Protection:
    """How TLS begins on one way, and what is demanded of it."""

    trust: Trust
    authorities: str
    """The CA file that Postfix has."""
    authorities_in_words: str
    server_name: str | None
    versions: tuple[str, ...]
    ciphers: str
    client_chain: str | None
    client_in_words: str
    """What is shown to an upstream that asks for a certificate."""
    resolver: str
    """What resolv.conf says, in a few words."""
    ask_postfix: Callable[[str], Opinion]
    """Gives Postfix's opinion of an address."""
    address: str = ""
    """The address of this session."""
    _opinion: Opinion | None = field(default=None, init=False)
    _overruled: str = field(default="", init=False)

    @property
    def is_required(self) -> bool:
        """Whether mail waits rather than go without TLS. At `dane` only where there are TLSA records (RFC 7672)."""
        if self.trust.level is TlsLevel.DANE:
            return self._ask().about_dane in ("", "unusable", "lookup-error")
        return not self.trust.level.may_send_in_the_clear

    def begin(self, session: SmtpSession) -> Handshake | None:
        """Begin TLS and return what was agreed; `None`: start again, for Postfix trusts what OpenSSL here did not."""
        is_checked = self.trust.level.checks_the_authority and not self._overruled and not self.trust.anchors
        order = TlsOrder(
            authorities=self.authorities if is_checked else None,
            server_name=self.server_name,
            client_chain=self.client_chain,
            versions=self.versions,
            ciphers=self.ciphers,
        )
        try:
            return session.start_tls(order)
        except SessionError as error:
            if error.kind != "untrusted" or self._ask().trust != "Verified":
                raise
            self._overruled = str(error)
            return None

    def explain_untrusted(self, error: SessionError) -> Broken:
        """Return why a chain is not trusted."""
        now = datetime.datetime.now(datetime.UTC)
        return judge_chain(
            error.code, str(error), self.trust, load_links(error.handshake), self.authorities_in_words, now
        )

    def judge(self, handshake: Handshake) -> Iterator[Step]:
        """Give the steps that the certificate passes; raise Broken at the one that it does not pass."""
        level, links = self.trust.level, load_links(handshake)
        if not links:
            raise Broken("certificate", "the upstream shows no certificate that can be read", "Ask its operator")
        leaf = links[0]
        who = f"'{quote_value(leaf.subject)}' by '{quote_value(leaf.issuer)}', until {leaf.not_after:%Y-%m-%d}"
        if level in _DANE:
            found, is_checked = judge_dane(self._ask(), level, self.resolver)
            self._refuse_another(leaf, is_checked=is_checked)
            yield _pass("certificate", f"{who}; {found}", is_notable=not is_checked)
        elif level is TlsLevel.FINGERPRINT:
            found, is_sure = self._compare(leaf, judge_fingerprint)
            yield _pass("certificate", f"{who}; {found}", is_notable=not is_sure)
        elif level.checks_the_authority:
            yield _pass("certificate", f"{who}; {self._describe_trust()}", is_notable=bool(self._overruled))
            found, is_sure = self._compare(leaf, judge_name)
            yield _pass("name", found, is_notable=not is_sure)
        else:
            yield _pass("certificate", f"{who}; at level {level.value} it is NOT CHECKED", is_notable=True)

    def _describe_trust(self) -> str:
        """Return by whom the chain is trusted; where only Postfix can read that, raise Broken if it does not say so."""
        if self._overruled:
            return f"Postfix trusts it, though OpenSSL says '{self._overruled}'"
        if not self.trust.anchors:
            return f"trusted by {self.authorities_in_words}"
        opinion = self._ask()
        if opinion.trust != "Verified":
            words = quote_value(opinion.words) or "posttls-finger got no verdict"
            raise Broken(
                "certificate",
                f"only Postfix can judge by the trust anchors in {self.trust.anchors}, and it does not verify this: "
                f"{words}",
                f"Put the CA of the upstream, PEM, into {self.trust.anchors}, or remove tafile= from "
                f"{self.trust.table} and use RELAYHOST_CA_FILE",
            )
        return f"Postfix trusts it by the trust anchors in {self.trust.anchors}"

    def _compare(self, leaf: Link, judge: Callable[[Link, Trust], str]) -> tuple[str, bool]:
        """Return what was found right, and whether Postfix and we agree; where it says no, Postfix wins."""
        opinion = self._ask()
        try:
            found = judge(leaf, self.trust)
        except Broken as broken:
            if opinion.trust != "Verified":
                raise
            return f"Postfix accepts it, though {broken.step.detail}", False
        if not opinion.trust:
            words = quote_value(opinion.words) or "silence"
            return f"{found}; posttls-finger gave no verdict of Postfix's ({words})", False
        if opinion.trust != "Verified":
            raise Broken(
                "certificate",
                f"we find nothing wrong ({found}), but Postfix does not verify it, and Postfix's verdict counts: "
                f"{quote_value(opinion.words)}",
                f"Compare with 'authrelay discover-ca', and look at POSTFIX_smtp_tls_... and {self.trust.table}",
            )
        return f"{found}; Postfix says Verified, too", True

    def _refuse_another(self, leaf: Link, *, is_checked: bool) -> None:
        """Raise Broken where Postfix judged another certificate than the one at this address."""
        seen = self._ask().fingerprint
        if is_checked and seen and seen != leaf.sha256:
            raise Broken(
                "certificate",
                f"Postfix verified a certificate of another address than {self.address}, and this one is not the same",
                "Try again; if it lasts, its operator must show the same certificate at every address",
            )

    def describe_client(self, handshake: Handshake) -> str:
        """Return what became of the client certificate when the server goes on."""
        return f"asked for; {self.client_in_words}" if handshake.asks_for_certificate else "not asked for"

    def _ask(self) -> Opinion:
        if self._opinion is None:
            self._opinion = self.ask_postfix(self.address)
        return self._opinion


def load_links(handshake: Handshake | None) -> list[Link]:
    """Return the certificates that the server sent, its own first; none where that cannot be read."""
    try:
        return load_sent(handshake.chain) if handshake else []
    except ValueError:
        return []


def _pass(name: str, detail: str, *, is_notable: bool = False) -> Step:
    return Step(name=name, is_ok=True, detail=detail, is_notable=is_notable)
