"""What Postfix's words for a delivery that failed mean, and what to do about each. Pure.

The words are those of smtp(8) in Postfix 3.10, as `postqueue -j` and the log have them; most rows were seen from the
real program against an upstream that is broken in that way (tests/image/test_bad_upstreams.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What a reason means to a person."""

    step: str
    """Where on the way to the upstream it went wrong: one of STEPS."""
    meaning: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.meaning}. {self.remedy}."


STEPS: Final = (
    "resolve", "connect", "greeting", "ehlo", "starttls", "handshake", "certificate", "mechanisms", "auth",
    "sender", "recipient", "message", "lists", "other",
)  # fmt: skip
"""The way that mail goes, in its order; `lists` is another one, to LIST_LMTP, and no upstream's trouble."""

_SUSPENDED: Final = re.compile(r"^delivery temporarily suspended: ")
_HOST: Final = re.compile(r"(?:host |server |connect to |conversation with |lost connection with )([^ \[]+)\[")

_RATE: Final = (
    r"(?i:too many|rate limit|ratelimit|throttl|try again later.*connections|exceeded.*(limit|quota)|limit exceeded"
    r"|concurrent)"
)
_LIMITS: Final = "the upstream limits how much it takes at a time"
_SLOW_DOWN: Final = (
    "It is tried again by itself; set RELAYHOST_CONCURRENCY or RELAYHOST_RATE_DELAY to what the provider allows"
)

_USED_UP: Final = (
    r"(?i:credits exceeded|exceeded.*messaging limits|SubmissionQuotaExceeded"
    r"|daily [^()]*(limit|quota)[^()]* exceeded|exceeded [^()]*daily [^()]*(limit|quota))"
)
"""A day's or a plan's worth of mail: no slower pace helps. In the words of Google, Apple, Microsoft, Amazon, Twilio."""
_ALLOWANCE: Final = "the account at the upstream has sent all that it may for now"
_WAIT: Final = (
    "Look at the account's quota there; what was deferred is tried again by itself, what bounced has to be sent again"
)
_OTHERS_ADDRESS: Final = (
    r"(?i:SendAsDenied|permissions to send as|not allowed to send as|verified sender identity"
    r"|not authori[sz]ed to send from|not one of your addresses|sender address rejected: not owned"
    r"|(address|domain|identity) (is )?not verified|unconfigured sending domain)"
)
"""What providers say of an address in From that the account has not shown to be its own; most after the message."""

ROWS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # (regular expression, step, meaning, remedy); the first that is found counts.
    (r"^list server: .*(said: 5|size limit)",
     "lists", "the list server refuses the message", "Its words say why"),
    (r"^list server: unable to look up host",
     "lists", "there is no host of the list server's name just now",
     "Mail for the lists waits until it runs; if it does, check LIST_LMTP and that both are on one network"),
    (r"^list server: ",
     "lists", "the list server cannot be reached, or does not answer",
     "Mail for the lists waits until it does; if it runs, check LIST_LMTP, and lmtp_host and lmtp_port in mailman.cfg"),
    (r"unable to look up host (\S+): Name or service not known|Name service error for name=(\S+) .*Host not found$",
     "resolve", "no such name exists for the upstream", "Check the spelling of RELAYHOST"),
    (r"unable to look up host|Name service error|Temporary failure in name resolution",
     "resolve", "the name server does not answer",
     "Check the container's DNS: 'docker exec relay cat /etc/resolv.conf'; the mail goes out when it answers again"),
    (r"^connect to \S+: Connection refused",
     "connect", "the upstream's machine is there, but nothing listens on that port",
     "Check the port in RELAYHOST: 587 and 25 are STARTTLS, 465 is implicit TLS"),
    (r"^connect to \S+: Connection timed out|^connect to \S+: .*timed out",
     "connect", "nothing comes back from that address and port",
     "A firewall, or a hosting provider that blocks outgoing port 25: try port 587 in RELAYHOST"),
    (r"^connect to \S+: (No route to host|Network is unreachable)",
     "connect", "this container has no way to that address",
     "Check its network; for an IPv6 address without IPv6 set INET_PROTOCOLS=ipv4"),
    (r"loops back to myself",
     "connect", "RELAYHOST is this relay itself", "Name the upstream in RELAYHOST"),
    (r"TLS is required, but was not offered",
     "starttls", "the upstream offers no STARTTLS, or somebody on the way removes it; nothing secret was sent",
     "Use port 587 or 465 in RELAYHOST; if the upstream really has no TLS: RELAYHOST_TLS=none, without a password"),
    (r"TLS is required, but .* refused to start TLS",
     "starttls", "the upstream offers STARTTLS but refuses it; nothing secret was sent",
     "This is the upstream's trouble; if it lasts, ask its operator or use port 465"),
    (r"Cannot start TLS: handshake failure|TLS handshake failed",
     "handshake", "there is no TLS version or cipher that both sides accept, or the port speaks no TLS",
     "Only TLS 1.2 and newer is used; check that the port in RELAYHOST fits: 465 is implicit TLS, 587 and 25 STARTTLS"),
    (r"Server certificate not (trusted|verified)|certificate verification failed|fingerprint mismatch",
     "certificate", "the upstream's certificate is not signed by a trusted CA, or not for its name, or it has ended; "
     "nothing secret was sent",
     "'authrelay discover-ca' shows which: then set RELAYHOST_CA_FILE, or write the name that the certificate has"),
    (r"^no TLSA records found|non DNSSEC destination|TLSA records unusable",
     "certificate", "at level dane-only no mail goes without TLSA records that a resolver here has validated; nothing "
     "was sent",
     "'authrelay doctor' tells whether the upstream has none or this container's resolver validates nothing; or set "
     "RELAYHOST_TLS=secure"),
    (r"^TLSA lookup error",
     "certificate", "no name server answers whether the upstream has TLSA records; nothing was sent",
     "Check the container's DNS: 'docker exec relay cat /etc/resolv.conf'; the mail goes out when it answers again"),
    (r"client TLS configuration problem|TLS policy table lookup error",
     "handshake", "Postfix cannot use the TLS policy for the upstream; nothing was sent",
     "The log says why; check POSTFIX_smtp_tls_policy_maps and the other POSTFIX_smtp_tls_ parameters"),
    (r"no mechanism available|No worthy mechs|offered no compatible authentication mechanisms",
     "mechanisms", "the upstream offers no login mechanism that this relay has or may use",
     "Check SMTP_SASL_MECHANISM_FILTER; an upstream that takes only access tokens needs RELAYHOST_AUTH=xoauth2"),
    (r"said: 5.*(5\.7\.139|5\.7\.30\b|SmtpClientAuthentication is disabled|[Bb]asic authentication is)",
     "auth", "the upstream does not let this account log in with a password, whether it is right or not",
     "Its administrator must allow it: for Microsoft 365 'Authenticated SMTP' of the mailbox, which policies may "
     "forbid nevertheless; else OAuth 2.0 or another way is needed"),
    (r"said: [45].*(?i:unauthori[sz]ed IP|IP address is not allowed|invalid credentials for relay)",
     "auth", "the upstream takes no mail from the public address that this relay has",
     "Allow that address in the account there, or its check of addresses off; a login may do in its place"),
    (r"said: [45].*(?i:not yet activated|please activate your|is not allowed to send: )",
     "auth", "the account at the upstream may not send, or not yet",
     "Activate it there; its words say what is missing"),
    (r"SASL authentication failed; .*said: [45].*" + _USED_UP, "auth", _ALLOWANCE, _WAIT),
    (r"SASL authentication failed; .*said: (535|4\d\d[ -]4\.7\.8)",
     "auth", "the upstream refuses the user name or the password",
     "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD; many providers want a password made for applications, and an "
     "access token lasts about an hour"),
    (r"SASL authentication failed; .*said: 534",
     "auth", "the upstream wants another kind of login for this account",
     "Make a password for applications there, or allow SMTP AUTH for the account"),
    (r"SASL authentication failed; .*said: 4",
     "auth", "the upstream cannot check the login just now",
     "It is tried again by itself; too many tries may have locked the account for a while"),
    (r"SASL authentication failed; cannot authenticate to server \S+: invalid parameter",
     "auth", "there is no access token yet, or none any more",
     "'authrelay health --ready' says why; when it comes, what waits is tried by itself"),
    (r"SASL authentication failed",
     "auth", "the login failed", "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD"),
    (r"said: 530|said: 5.*5\.7\.57|said: 5.*(?i:authenticat.*required|unauthenticated senders|not logged in"
     r"|please authenticate)",
     "auth", "the upstream wants a login before it takes mail, and offered none or was given none",
     "Set RELAYHOST_USERNAME and RELAYHOST_PASSWORD, and use the port for submission: 587 or 465"),
    (r"said: 5.*(?i:relay(ing)? (access )?denied)",
     "auth", "the upstream relays nothing without a login, or not for this account",
     "Set RELAYHOST_USERNAME and RELAYHOST_PASSWORD; if they are set, look what the account there may do"),
    (r"said: 5.*(?i:blank sender)",
     "sender", "the upstream takes no mail without a sender, which every bounce is", "Allow it in the account there"),
    (r"said: [45]\d\d.*" + _OTHERS_ADDRESS,
     "sender", "the upstream does not let this account send from that address",
     "Send from an address or domain that is verified there, in the envelope and in From; its words may say which it "
     "minds"),
    (r"said: [45]\d\d.*" + _USED_UP, "message", _ALLOWANCE, _WAIT),
    (r"refused to talk to me: 421.*closing connection\. \(EHLO\)",
     "greeting", "the upstream minds the name that this relay gives itself",
     "Set MYHOSTNAME to a name in your domain"),
    (r"refused to talk to me: 421.*" + _RATE, "greeting", _LIMITS, _SLOW_DOWN),
    (r"said: (421|432|45\d).*" + _RATE + r".*in reply to MAIL FROM", "sender", _LIMITS, _SLOW_DOWN),
    (r"said: (421|432|45\d).*" + _RATE + r".*in reply to RCPT TO", "recipient", _LIMITS, _SLOW_DOWN),
    (r"said: (421|432|45\d).*" + _RATE, "message", _LIMITS, _SLOW_DOWN),
    (r"refused to talk to me: 4",
     "greeting", "the upstream does not want to talk just now", "It is tried again by itself"),
    (r"refused to talk to me: 5",
     "greeting", "the upstream does not want to talk to this relay",
     "Its words say why; it may want another port, a login, or another MYHOSTNAME"),
    (r"timed out while (receiving the initial server greeting|performing the (EHLO|LHLO|HELO) handshake)",
     # Postfix's words stay at the EHLO handshake until the login is done.
     "greeting", "the upstream accepted the connection and says nothing, or nothing any more at the login",
     "If the port is 465 in RELAYHOST the upstream may speak STARTTLS there, and the reverse; or it is overloaded"),
    (r"lost connection with .* while (receiving the initial server greeting|performing the (EHLO|LHLO|HELO) handshake)",
     "greeting", "the upstream closed the connection at the beginning or during the login",
     "Check the port in RELAYHOST: 465 is implicit TLS, 587 and 25 are STARTTLS; or it refuses this address"),
    (r"(timed out|lost connection) .*while (performing the )?.*STARTTLS",
     "starttls", "the upstream stopped answering at STARTTLS",
     "It is tried again by itself; if it lasts, use port 465"),
    (r"(timed out|lost connection).* while sending MAIL FROM",
     "sender", "the upstream stopped answering when it was told the sender", "It is tried again by itself"),
    (r"(timed out|lost connection).* while sending RCPT TO",
     "recipient", "the upstream stopped answering when it was told the recipient", "It is tried again by itself"),
    (r"said: 5\d\d.*in reply to MAIL FROM|said: 4\d\d.*in reply to MAIL FROM",
     "sender", "the upstream does not take mail from this sender",
     "Send from an address that the account may use; the upstream's words say which"),
    (r"said: 4\d\d.*in reply to RCPT TO",
     "recipient", "the upstream does not take mail for this recipient just now",
     "It is tried again by itself; greylisting ends after some minutes"),
    (r"said: 5\d\d.*in reply to RCPT TO",
     "recipient", "the upstream does not take mail for this recipient", "Check the address"),
    (r"message size .* exceeds size limit|said: 552",
     "message", "the message is larger than the upstream takes",
     "Send less at once, and set MESSAGE_SIZE_LIMIT to the upstream's limit so that applications learn at once"),
    (r"(timed out|lost connection).* while sending DATA command",
     "message", "the upstream stopped answering before it took the message", "It is tried again by itself"),
    (r"(timed out|lost connection).* while sending (end of data|message body)",
     "message", "the connection ended before the upstream confirmed the message; it may arrive twice",
     "It is tried again by itself"),
    (r"said: 4\d\d", "message", "the upstream does not take the message just now", "It is tried again by itself"),
    (r"said: 5\d\d", "message", "the upstream refuses the message", "Its words say why"),
    (r"timed out|lost connection",
     "other", "the upstream stopped answering in the middle", "It is tried again by itself"),
)  # fmt: skip


def explain(reason: str) -> Advice:
    """Return what a reason of Postfix's means. An unknown one is said to be unknown, and stands for itself."""
    words = _SUSPENDED.sub("", reason)
    for pattern, step, meaning, remedy in ROWS:
        if re.search(pattern, words):
            return Advice(step=step, meaning=meaning, remedy=remedy)
    return Advice(step="other", meaning="there is no explanation for these words yet", remedy="They are Postfix's own")


def find_host(reason: str) -> str | None:
    """Return the host that a reason is about, if it names one."""
    match = _HOST.search(reason)
    return match[1] if match else None
