"""Visits one address of an upstream as Postfix would, until the first broken step; never sends DATA. Network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from entrypoint.config.nexthop import Nexthop
from entrypoint.config.tls import TlsLevel
from entrypoint.diagnosis.conversation import Conversation, explain_refusal
from entrypoint.diagnosis.judgement import find_offers
from entrypoint.diagnosis.login import Login, log_in
from entrypoint.diagnosis.protection import Protection
from entrypoint.diagnosis.steps import Broken, Step, break_as_postfix
from entrypoint.errors import quote_value
from entrypoint.system.connection import Deadline
from entrypoint.system.handshake import Handshake, speaks_tls_at_once
from entrypoint.system.smtp_session import SessionError, SmtpSession, connect, greets_in_the_clear


@dataclass(frozen=True, kw_only=True)
class Way:
    """Everything that decides how mail goes to one upstream."""

    nexthop: Nexthop
    host: str
    """The host to connect to: another than the nexthop's only with RELAYHOST_MX."""
    protection: Protection
    login: Login | None
    uses_implicit_tls: bool
    helo_name: str
    protocols: str
    """inet_protocols."""
    sender: str
    recipient: str | None
    timeout_seconds: float
    remark_on_name: str = ""
    """What is to be told of the host's name, when it has an address here."""


class Visit:
    """One session with one address; each step is told to `report` when it is done."""

    def __init__(self, way: Way, address: str, session: SmtpSession, report: Callable[[Step], None]) -> None:
        self._way = way
        self._protection = replace(way.protection, address=address)
        self._level = way.protection.trust.level
        secrets = way.login.secrets if way.login else ()
        self._conversation = Conversation(way.host, address, session, secrets, report)

    def go(self) -> Step | None:
        """Go to the end; return the broken step, or `None` when all is well."""
        try:
            offers = self._open()
            log_in(self._conversation, self._way.login, offers)
            self._try_envelope()
            self._quit()
        except Broken as broken:
            self._conversation.report(broken.step)
            return broken.step
        finally:
            self._conversation.hang_up()
        return None

    def _open(self) -> tuple[str, ...]:
        """Come to the session in which one logs in; return what it offers."""
        way, conversation = self._way, self._conversation
        if way.uses_implicit_tls:
            self._begin_tls()
            self._greet()
            return self._say_hello("ehlo-again")
        self._greet()
        offers = self._say_hello("ehlo")
        if self._level is TlsLevel.NONE:
            remark = "not asked for at level none: everything is sent IN THE CLEAR"
            conversation.tell("starttls", remark, is_notable=True)
            return offers
        if find_offers(offers, "STARTTLS") is None:
            if self._protection.is_required:
                raise break_as_postfix("starttls", f"TLS is required, but was not offered by host {conversation.place}")
            remark = f"not offered; at level {self._level.value} mail goes on IN THE CLEAR"
            conversation.tell("starttls", remark, is_notable=True)
            return offers
        reply = conversation.ask("starttls", "STARTTLS")
        if reply.code != 220:
            if self._protection.is_required:
                words = f"TLS is required, but host {conversation.place} refused to start TLS: {reply}"
                raise break_as_postfix("starttls", words, quote_value(str(reply)))
            remark = f"refused ({quote_value(str(reply))}); mail goes on IN THE CLEAR"
            conversation.tell("starttls", remark, is_notable=True)
            return offers
        conversation.tell("starttls", "offered")
        self._begin_tls()
        return self._say_hello("ehlo-again")

    def _begin_tls(self) -> None:
        protection, conversation = self._protection, self._conversation
        try:
            handshake = protection.begin(conversation.session)
            if handshake is None:
                # Postfix trusts what we do not: the walk goes on in a new session, unchecked by us.
                self._come_back()
                handshake = protection.begin(conversation.session)
        except SessionError as error:
            if error.kind == "untrusted":
                self._tell_handshake(error.handshake)
                raise protection.explain_untrusted(error) from error
            raise self._explain_handshake(error) from error
        self._tell_handshake(handshake)
        if handshake:
            for step in protection.judge(handshake):
                conversation.report(step)
            conversation.about_certificate = protection.describe_client(handshake)
            conversation.is_certificate_asked_for = handshake.asks_for_certificate

    def _come_back(self) -> None:
        way, conversation = self._way, self._conversation
        conversation.hang_up()
        conversation.session = connect(conversation.address, way.nexthop.port, way.timeout_seconds)
        if not way.uses_implicit_tls:
            conversation.session.read_reply()
            conversation.ask("ehlo", f"EHLO {way.helo_name}")
            conversation.ask("starttls", "STARTTLS")

    def _tell_handshake(self, handshake: Handshake | None) -> None:
        agreed = [text for text in (handshake.protocol, handshake.cipher) if text] if handshake else []
        detail = ", ".join(agreed) or "it came as far as the certificate"
        self._conversation.report(Step(name="handshake", is_ok=True, detail=detail, handshake=handshake))

    def _explain_handshake(self, error: SessionError) -> Broken:
        way, address = self._way, self._conversation.address
        if error.handshake and error.handshake.asks_for_certificate and "ALERT" in str(error):
            return explain_refusal(error)
        if way.uses_implicit_tls and greets_in_the_clear(address, way.nexthop.port, Deadline(way.timeout_seconds)):
            return Broken(
                "handshake",
                f"the upstream greets in the clear on port {way.nexthop.port}, where Postfix begins TLS at once",
                f"If it has STARTTLS, use the port for that: RELAYHOST=[{way.nexthop.host}]:587",
            )
        # RFC 7435; smtp(8) does so only where there is no password to lose and the message has waited before.
        later = "; mail goes IN THE CLEAR when it has waited" if self._level is TlsLevel.MAY and not way.login else ""
        if error.kind in ("silent", "closed") and not later:
            return self._conversation.explain_silence("handshake", error)
        return break_as_postfix("handshake", "Cannot start TLS: handshake failure", f"{error}{later}")

    def _greet(self) -> None:
        way, conversation = self._way, self._conversation
        try:
            reply = conversation.read()
        except SessionError as error:
            raise self._explain_greeting(error) from error
        if reply.code != 220:
            words = f"host {conversation.place} refused to talk to me: {reply}"
            raise break_as_postfix("greeting", words, quote_value(str(reply)))
        conversation.tell("greeting", quote_value(str(reply)) + (" (inside TLS)" if way.uses_implicit_tls else ""))

    def _explain_greeting(self, error: SessionError) -> Broken:
        way, conversation = self._way, self._conversation
        if error.kind == "odd":
            return Broken(
                "greeting",
                f"what answers there is no SMTP server: it says '{quote_value(conversation.clean(str(error)))}'",
                "Check host and port in RELAYHOST: providers use 587, 465 or 25",
            )
        if not way.uses_implicit_tls:
            conversation.hang_up()
            if speaks_tls_at_once(conversation.address, way.nexthop.port, Deadline(way.timeout_seconds)):
                return Broken(
                    "greeting",
                    f"the upstream waits for TLS on port {way.nexthop.port}, where Postfix waits for a greeting",
                    f"If it has implicit TLS on its usual port: RELAYHOST=[{way.nexthop.host}]:465",
                )
        return conversation.explain_silence("greeting", error)

    def _say_hello(self, name: str) -> tuple[str, ...]:
        conversation = self._conversation
        reply = conversation.ask(name, f"EHLO {self._way.helo_name}")
        if reply.code != 250:
            words = f"host {conversation.place} refused to talk to me: {reply}"
            raise break_as_postfix(name, words, quote_value(str(reply)))
        offers = reply.lines[1:]
        conversation.tell(name, f"offers {', '.join(quote_value(line) for line in offers) or 'nothing'}")
        return offers

    def _try_envelope(self) -> None:
        if self._way.recipient is None:
            return
        for name, line, words in (
            ("sender", f"MAIL FROM:<{self._way.sender}>", "MAIL FROM"),
            ("recipient", f"RCPT TO:<{self._way.recipient}>", "RCPT TO"),
        ):
            reply = self._conversation.ask(name, line)
            if reply.code // 100 != 2:
                reason = f"host {self._conversation.place} said: {reply} (in reply to {words} command)"
                broken = break_as_postfix(name, reason, quote_value(str(reply)))
                if self._way.login is None and reply.code // 100 == 5:
                    wants = "no login is configured, and it may want one: RELAYHOST_USERNAME and RELAYHOST_PASSWORD"
                    broken = Broken(name, broken.step.detail, f"{broken.step.remedy}; {wants}")
                raise broken
            self._conversation.tell(name, f"{line.partition(':')[2]}: {quote_value(str(reply))}")

    def _quit(self) -> None:
        try:
            reply = self._conversation.clean(str(self._conversation.session.ask(b"QUIT")))
        except SessionError:
            reply = "it hung up, which does no harm"
        self._conversation.tell("quit", quote_value(reply))
