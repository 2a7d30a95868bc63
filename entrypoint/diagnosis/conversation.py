"""The session of a walk, its steps told one by one, and what it means when the server stops answering. Network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from entrypoint.diagnosis.judgement import hide_secrets
from entrypoint.diagnosis.steps import Broken, Step
from entrypoint.errors import quote_value
from entrypoint.system.smtp_session import Reply, SessionError, SmtpSession

_AGAIN = "It is tried again by itself"
_SILENCES = {
    "greeting": (
        "takes the connection and does not greet",
        "It may be overloaded or refuse this address; or check the port in RELAYHOST: 465 is implicit TLS, 587 and 25 "
        "are STARTTLS",
    ),
    "ehlo": ("does not answer our EHLO", f"{_AGAIN}; if it lasts, it may mind our name: MYHOSTNAME"),
    "starttls": ("does not answer STARTTLS", f"{_AGAIN}; if it lasts, use port 465 in RELAYHOST"),
    "handshake": (
        "breaks off in the TLS handshake",
        f"{_AGAIN}; if it lasts, a firewall that looks into TLS may be on the way, or the port speaks no TLS",
    ),
    "ehlo-again": ("does not answer our EHLO inside TLS", _AGAIN),
    "auth": ("stops answering at the login", f"{_AGAIN}; some upstreams do so after too many logins that failed"),
    "sender": ("stops answering when it is told the sender", _AGAIN),
    "recipient": ("stops answering when it is told the recipient", _AGAIN),
}
"""What it means that a server says nothing more, by step; Postfix's own words do not tell them apart."""


class Conversation:
    """One session with the upstream; what the server said comes without the secrets."""

    def __init__(
        self, host: str, address: str, session: SmtpSession, secrets: tuple[str, ...], report: Callable[[Step], None]
    ) -> None:
        self.host = host
        self.address = address
        self.session = session
        self.about_certificate = ""
        """What is to be told of the client certificate when the server has gone on: in TLS 1.3 it judges later."""
        self.is_certificate_asked_for = False
        self._secrets = secrets
        self.report = report

    @property
    def place(self) -> str:
        """The host as Postfix names it."""
        return f"{self.host}[{self.address}]"

    def tell(self, name: str, detail: str, *, is_notable: bool = False) -> None:
        """Report a step that is well."""
        self.report(Step(name=name, is_ok=True, detail=detail, is_notable=is_notable))

    def clean(self, text: str) -> str:
        """Return what a server said without the secrets, which it may echo."""
        return hide_secrets(text, self._secrets)

    def read(self) -> Reply:
        """Return the next reply, or raise SessionError; Broken where the server seems to mind our certificate."""
        return self._take(self.session.read_reply)

    def ask(self, name: str, line: str | bytes) -> Reply:
        """Return the reply to a line; raise Broken where there is none."""
        words = line if isinstance(line, bytes) else line.encode()
        try:
            return self._take(lambda: self.session.ask(words))
        except SessionError as error:
            raise self.explain_silence(name, error) from error

    def _take(self, fetch: Callable[[], Reply]) -> Reply:
        try:
            reply = self._clean_reply(fetch())
        except SessionError as error:
            if self.about_certificate and self.is_certificate_asked_for and error.kind in ("alert", "closed"):
                raise explain_refusal(error) from error
            raise
        if self.about_certificate:
            self.tell("client-certificate", self.about_certificate)
            self.about_certificate = ""
        return reply

    def _clean_reply(self, reply: Reply) -> Reply:
        # A challenge is for the library, byte by byte, and is never shown.
        return reply if reply.code == 334 else replace(reply, lines=tuple(map(self.clean, reply.lines)))

    def explain_silence(self, name: str, error: SessionError) -> Broken:
        """Return what it means that a reply did not come, or was none."""
        what, remedy = _SILENCES[name]
        said = f"'{quote_value(self.clean(str(error)))}'" if error.kind == "odd" else str(error)
        return Broken(name, f"the upstream {what} ({said})", remedy)

    def hang_up(self) -> None:
        """Close the session."""
        self.session.close()


def explain_refusal(error: SessionError) -> Broken:
    """Return what it means that the server ends TLS after the handshake, when it has seen our certificate."""
    return Broken(
        "client-certificate",
        f"the upstream asked for a client certificate, and ended the session when it had seen ours ({error})",
        "Give its operator /var/lib/authrelay/client-certificate.pem, or set CLIENT_CERT_FILE and CLIENT_KEY_FILE to "
        "the pair that it knows",
    )
