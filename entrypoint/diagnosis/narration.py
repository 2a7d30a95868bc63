"""Tells what became of a test message, for a terminal and for programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from entrypoint.diagnosis.judgement import hide_secrets
from entrypoint.diagnosis.trace import Delivery, Event, Trace
from entrypoint.reasons import explain

_TRUST: Final = {
    "Verified": "the upstream proved who it is: its certificate is the one that RELAYHOST_TLS demands",
    "Trusted": "encrypted; the certificate is from a trusted CA, but its name does not fit or was not compared",
    "Untrusted": "encrypted; the certificate is not from a trusted CA, so that this may be anybody",
    "Anonymous": "encrypted; the upstream showed no certificate, so that this may be anybody",
}
_DELAYS: Final = ("before the queue manager", "in it", "to connect and log in", "to hand it over")
_WIDTH: Final = 11
_HOST: Final = re.compile(r"(.*)\[.*\]:(\d+)")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that happened, so many seconds after the beginning."""

    seconds: float
    name: str
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What has to be known of the relay to understand its log."""

    tls_level: str
    """smtp_tls_security_level, or the level of a rule for RELAYHOST."""
    others: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """By host and port: the setting that names another upstream, and its level."""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def find_upstream(self, relay: str) -> tuple[str, str]:
        """Return which setting names `host[address]:port`, and its level."""
        match = _HOST.fullmatch(relay)
        default = ("RELAYHOST", self.tls_level)
        return self.others.get((match[1].lower(), int(match[2])), default) if match else default


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it ended; the status is one of sysexits(3)."""

    result: str
    """`sent`, `deferred`, `bounced`, `undecided`, `lost`, `refused` or `no-relay`."""
    exit_status: int
    text: str


def tell_event(event: Event, began_at: float, facts: Facts) -> Step | None:
    """Return the step for an event, or `None` for one that a person need not see."""
    seconds = max(0.0, event.at - began_at)
    if event.kind == "active":
        return Step(seconds=seconds, name="queue", text="the queue manager hands it to a delivery process")
    if event.kind == "tls":
        return Step(seconds=seconds, name="tls", text=event.text, more=(_TRUST[event.trust],))
    if event.kind == "remark":
        return Step(seconds=seconds, name="remark", text=event.text)
    if event.kind == "notice":
        return Step(seconds=seconds, name="notice", text=f"the sender is told by a bounce message, {event.text}")
    if event.kind == "gap":
        return Step(seconds=seconds, name="log", text=f"{event.text}; following again, a line may be missing")
    if event.delivery is not None:
        return tell_delivery(event.delivery, seconds, facts)
    return None


def tell_delivery(delivery: Delivery, seconds: float, facts: Facts) -> Step:
    """Return the step for what became of a recipient: where, in whose words, and what to do."""
    via = "" if delivery.relay == "none" else f" by {delivery.relay}"
    more = []
    setting, _ = facts.find_upstream(delivery.relay)
    if setting != "RELAYHOST":
        reason = ": RELAYHOST did not take it" if setting == "FALLBACK_RELAYHOST" else ""
        more.append(f"this is {setting}{reason}")
    if delivery.status == "sent":
        more.append(f"the upstream said: {delivery.words}")
    else:
        advice = explain(delivery.words)
        more += [f"Postfix says: {delivery.words}", f"{advice.meaning}", f"-> {advice.remedy}"]
    if not delivery.trust and delivery.relay != "none":
        more.append(explain_no_verdict(delivery, facts))
    times = ", ".join(f"{delay:g} s {what}" for delay, what in zip(delivery.delays, _DELAYS, strict=True))
    more.append(f"it took {times}")
    return Step(seconds=seconds, name=delivery.status, text=f"<{delivery.recipient}>{via}", more=tuple(more))


def explain_no_verdict(delivery: Delivery, facts: Facts) -> str:
    """Return why there is no line about TLS for this delivery."""
    _, level = facts.find_upstream(delivery.relay)
    if level == "none":
        return "TLS: none was used, because RELAYHOST_TLS (or TLS_POLICY_TABLE) says none"
    if delivery.uses > 1:
        return f"TLS: the verdict was logged when this connection began; it has carried {delivery.uses} messages"
    if level == "may" and delivery.status == "sent":
        return "TLS: none was used: the upstream offered none, and RELAYHOST_TLS=may goes on without"
    if delivery.status == "sent":
        return f"TLS: its line was not seen; the level is {level}, without which nothing is sent"
    return "TLS: the connection ended before it"


def judge(trace: Trace, refused: Sequence[str], seconds: float, *, has_lost_it: bool) -> Outcome:
    """Return how it ended: the worst of its recipients decides."""
    found = {delivery.status for delivery in trace.deliveries.values()}
    removal = f"to remove it: docker exec relay postsuper -d {trace.queue_id}"
    queued = f"it stays queued as {trace.queue_id}, and is tried again by itself; {removal}"
    if not trace.is_decided and (has_lost_it or trace.is_removed):
        text = "It has left the queue, but the line that says how was not seen here; the container's log may have it: "
        return Outcome(result="lost", exit_status=75, text=f"{text}docker logs relay | grep {trace.queue_id}")
    if not trace.is_decided:
        text = f"Not decided within {seconds:g} s: 'authrelay doctor' walks the same way, and {queued}"
        return Outcome(result="undecided", exit_status=75, text=text)
    if found - {"sent", "deferred"}:
        rest = f". For others: {queued}" if "deferred" in found else ""
        told = f"; the sender is told by {trace.notice}" if trace.notice else ""
        return Outcome(result="bounced", exit_status=69, text=f"Refused for good, and not tried again{told}{rest}")
    if "deferred" in found:
        return Outcome(result="deferred", exit_status=75, text=f"Not taken yet: {queued}")
    if refused:
        text = f"Sent, but the relay itself did not take {', '.join(f'<{name}>' for name in refused)}"
        return Outcome(result="refused", exit_status=69, text=text)
    return Outcome(result="sent", exit_status=0, text="The upstream has it; what it does with it is in its own log")


def render_step(step: Step) -> str:
    """Return a step's lines for a terminal."""
    indent = " " * (12 + _WIDTH)
    more = "".join(f"{indent}{line}\n" for line in step.more)
    return f"{step.seconds:8.3f} s  {step.name:<{_WIDTH}} {step.text}\n{more}"


def hide(step: Step, secrets: Sequence[str]) -> Step:
    """Return a step without the secrets that an upstream may have echoed."""
    return Step(
        seconds=step.seconds,
        name=step.name,
        text=hide_secrets(step.text, secrets),
        more=tuple(hide_secrets(line, secrets) for line in step.more),
    )


def make_json(steps: Sequence[Step], outcome: Outcome, trace: Trace | None, secrets: Sequence[str]) -> dict[str, Any]:
    """Return the same for programs."""
    deliveries = trace.deliveries.values() if trace else ()
    return {
        "version": 1,
        "result": outcome.result,
        "exit_status": outcome.exit_status,
        "text": hide_secrets(outcome.text, secrets),
        "queue_id": trace.queue_id if trace else None,
        "bounce_queue_id": (trace.notice or None) if trace else None,
        "recipients": [
            {
                "recipient": delivery.recipient,
                "status": delivery.status,
                "relay": None if delivery.relay == "none" else delivery.relay,
                "tls": delivery.trust or None,
                "dsn": delivery.dsn,
                "reply": hide_secrets(delivery.words, secrets),
                "delays_seconds": list(delivery.delays),
            }
            for delivery in deliveries
        ],
        "steps": [
            {"seconds": round(step.seconds, 3), "name": step.name, "text": step.text, "more": list(step.more)}
            for step in steps
        ],
    }
