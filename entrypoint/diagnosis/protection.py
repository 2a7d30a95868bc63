"""TLS as the level in force demands it: our own verdict first, then Postfix's, which wins. Network, by `system`."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from entrypoint.config.chain import Link, load_sent
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.judgement import Trust, judge_chain, judge_fingerprint, judge_name
from entrypoint.diagnosis.steps import Broken, Step
from entrypoint.errors import quote_value
from entrypoint.system.finger import Opinion
from entrypoint.system.smtp_session import Handshake, SessionError, SmtpSession, TlsOrder

_MUST_BE_VERIFIED = frozenset({TlsLevel.SECURE, TlsLevel.VERIFY, TlsLevel.FINGERPRINT, TlsLevel.DANE_ONLY})


@dataclass(kw_only=True)
class Protection:
    """How TLS begins on one way, and what is demanded of it."""

    trust: Trust
    authorities: str
    """The CA file that Postfix has."""
    authorities_in_words: str
    server_name: str | None
    client_chain: str | None
    client_in_words: str
    """What is shown to an upstream that asks for a certificate."""
    ask_postfix: Callable[[], Opinion]
    _opinion: Opinion | None = field(default=None, init=False)
    _overruled: str = field(default="", init=False)

    @property
    def is_required(self) -> bool:
        """Whether mail waits rather than go without TLS. At `dane` only where there are TLSA records."""
        return not self.trust.level.may_send_in_the_clear

    def begin(self, session: SmtpSession) -> Handshake | None:
        """Begin TLS and return what was agreed; `None`: start again, for Postfix trusts what OpenSSL here did not."""
        is_checked = self.trust.level.checks_the_authority and not self._overruled
        order = TlsOrder(
            authorities=self.authorities if is_checked else None,
            server_name=self.trust.attributes.get("servername", self.server_name),
            client_chain=self.client_chain,
            is_version_3_least="TLSv1.2" not in self.trust.attributes.get("protocols", "TLSv1.2"),
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
        leaf = load_leaf(error.handshake)
        now = datetime.datetime.now(datetime.UTC)
        return judge_chain(error.code, str(error), self.trust, leaf, self.authorities_in_words, now)

    def judge(self, handshake: Handshake) -> Iterator[Step]:
        """Give the steps that the certificate passes; raise Broken at the one that it does not pass."""
        level, leaf = self.trust.level, load_leaf(handshake)
        if leaf is None:
            raise Broken("certificate", "the upstream shows no certificate that can be read", "Ask its operator")
        who = f"'{quote_value(leaf.subject)}' by '{quote_value(leaf.issuer)}', until {leaf.not_after:%Y-%m-%d}"
        if level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
            yield Step(name="certificate", is_ok=True, detail=f"{who}; {self._judge_dane()}")
        elif level is TlsLevel.FINGERPRINT:
            yield Step(name="certificate", is_ok=True, detail=f"{who}; {self._compare(leaf, judge_fingerprint)}")
        elif level.checks_the_authority:
            led = f"Postfix trusts it, though OpenSSL says '{self._overruled}'" if self._overruled else "trusted by "
            yield Step(
                name="certificate",
                is_ok=True,
                detail=f"{who}; {led if self._overruled else led + self.authorities_in_words}",
            )
            yield Step(name="name", is_ok=True, detail=self._compare(leaf, judge_name))
        else:
            yield Step(name="certificate", is_ok=True, detail=f"{who}; at level {level.value} it is NOT CHECKED")

    def _compare(self, leaf: Link, judge: Callable[[Link, Trust], str]) -> str:
        """Return what was found right, and that Postfix agrees; where it does not, Postfix wins."""
        opinion = self._ask()
        try:
            found = judge(leaf, self.trust)
        except Broken as broken:
            if opinion.trust != "Verified":
                raise
            return f"Postfix accepts it, though {broken.step.detail}"
        if not opinion.trust:
            return f"{found}; posttls-finger gave no verdict of Postfix's ({quote_value(opinion.words) or 'silence'})"
        if opinion.trust != "Verified":
            raise Broken(
                "certificate",
                f"we find nothing wrong ({found}), but Postfix does not verify it, and Postfix's verdict counts: "
                f"{quote_value(opinion.words)}",
                "Compare with 'authrelay discover-ca', and look at POSTFIX_smtp_tls_... and TLS_POLICY_TABLE",
            )
        return f"{found}; Postfix says Verified, too"

    def _judge_dane(self) -> str:
        """Return Postfix's verdict, for only Postfix looks up TLSA records."""
        opinion = self._ask()
        # Without TLSA records posttls-finger judges by CAs instead, and smtp(8) does not.
        has_records = "no TLSA records" not in opinion.words
        if opinion.trust == "Verified" and has_records:
            return "DANE is Postfix's to judge, and it says Verified"
        if self.trust.level in _MUST_BE_VERIFIED:
            raise Broken(
                "certificate",
                f"DANE is Postfix's to judge, and it does not verify this: {quote_value(opinion.words)}",
                "The upstream needs TLSA records, and this container a resolver that validates DNSSEC; else "
                "RELAYHOST_TLS=secure",
            )
        why = f"it says {opinion.trust or 'no'}" if has_records else "it finds no TLSA records"
        return f"DANE is Postfix's to judge: {why}, so that the certificate is NOT CHECKED"

    def describe_client(self, handshake: Handshake) -> str:
        """Return what became of the client certificate when the server goes on."""
        return f"asked for; {self.client_in_words}" if handshake.asks_for_certificate else "not asked for"

    def _ask(self) -> Opinion:
        if self._opinion is None:
            self._opinion = self.ask_postfix()
        return self._opinion


def load_leaf(handshake: Handshake | None) -> Link | None:
    """Return the server's own certificate."""
    try:
        return load_sent(handshake.chain[:1])[0] if handshake else None
    except (ValueError, IndexError):
        return None
