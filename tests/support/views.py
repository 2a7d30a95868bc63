"""What the status service might have gathered, for tests of its page: fixed, as its pictures are. Pure."""

from __future__ import annotations

import copy
import datetime
from typing import Any, Final

NOW: Final = datetime.datetime(2026, 11, 25, 22, 31, 4, tzinfo=datetime.UTC).timestamp()
_DAY: Final = 86400
_MINUTE: Final = int(NOW) // 60 * 60

_REFUSED: Final = (
    "SASL authentication failed; server smtp.example.com[192.0.2.25] said: 535 5.7.8 Error: authentication failed: "
    "(reason unavailable)"
)
_GREYLISTED: Final = (
    "host smtp.example.com[192.0.2.25] said: 450 4.2.0 <tom@slow.example.net>: Recipient address rejected: Greylisted, "
    "see https://slow.example.net/greylisting (in reply to RCPT TO command)"
)
_SETTINGS: Final = (
    ("RELAYHOST", "[smtp.example.com]:587"),
    ("RELAYHOST_USERNAME", "relay@example.com"),
    ("RELAYHOST_PASSWORD", "(hidden)"),
    ("MYHOSTNAME", "relay.example.com"),
    ("ALLOWED_SENDER_DOMAINS", "example.com, lists.example.com"),
    ("LOG_FORMAT", "json"),
)
_DEFAULTS: Final = (
    ("RELAYHOST_MX", "no"),
    ("RELAYHOST_TLS", "secure"),
    ("RELAYHOST_CA", "system"),
    ("FALLBACK_RELAYHOST", ""),
    ("CLIENT_CERT_DAYS", "10000"),
    ("INET_PROTOCOLS", "all"),
    ("LISTEN_PORTS", "25 587"),
    ("MESSAGE_SIZE_LIMIT", "50 MiB"),
    ("DRAIN_TIMEOUT", "20s"),
    ("LOG_ADDRESSES", "full"),
    ("STATUS_LISTEN", "0.0.0.0:9154"),
    ("TZ", "UTC"),
)
_CHAIN: Final = (
    ("CN=smtp.example.com", "CN=Example Mail CA R3,O=Example Trust", 62),
    ("CN=Example Mail CA R3,O=Example Trust", "CN=Example Root X1,O=Example Trust", 711),
)


def make_empty() -> dict[str, Any]:
    """A relay that started eight seconds ago: all is well, and nothing has happened."""
    queues = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
    return {
        "version": "1.2.3",
        "postfix_version": "3.10.5",
        "now": NOW,
        "hostname": "relay.example.com",
        "log_addresses": "full",
        "report": {
            "version": 1,
            "since": NOW - 8,
            "at": NOW,
            "lines": {"INFO": 4},
            "unknown_lines": 0,
            "dropped": {"stdout": 0, "syslog": 0},
            "connections": 0,
            "rejections": {},
            "accepted": 0,
            "accepted_bytes": 0,
            "accepted_recipients": 0,
            "deliveries": {},
            "delays": {},
            "tls": {"verified": 0, "trusted": 0, "untrusted": 0, "anonymous": 0},
            "login_failures": 0,
            "history": [],
            "last": [],
            "queues": {queue: {"messages": 0, "oldest_at": None} for queue in queues},
        },
        "is_healthy": True,
        "is_ready": True,
        "health": [
            {"name": "log-forwarder", "is_well": True, "detail": "running"},
            {"name": "postfix", "is_well": True, "detail": "running"},
            {"name": "127.0.0.1:25", "is_well": True, "detail": "220 relay.example.com ESMTP"},
            {"name": "127.0.0.1:587", "is_well": True, "detail": "220 relay.example.com ESMTP"},
            {"name": "RELAYHOST [smtp.example.com]:587", "is_well": True, "detail": "TLSv1.3, logged in by PLAIN"},
        ],
        "troubles": [],
        "verdict": {
            "at": NOW - 6,
            "is_well": True,
            "upstreams": [
                {
                    "setting": "RELAYHOST",
                    "nexthop": "[smtp.example.com]:587",
                    "is_well": True,
                    "step": "",
                    "words": "TLSv1.3, TLS_AES_256_GCM_SHA384; 'CN=smtp.example.com' by 'CN=Example Mail CA R3'; "
                    "logged in as <relay@example.com> by PLAIN",
                    "tls": {
                        "level": "secure",
                        "protocol": "TLSv1.3",
                        "cipher": "TLS_AES_256_GCM_SHA384",
                        "verdict": "verified",
                        "chain": [
                            {
                                "subject": subject,
                                "issuer": issuer,
                                "sha256": "AA:BB",
                                "not_before": NOW - 30 * _DAY,
                                "not_after": NOW + days * _DAY + 3600,
                            }
                            for subject, issuer, days in _CHAIN
                        ],
                    },
                }
            ],
        },
        "certificates": [
            {
                "role": "client",
                "what": "CLIENT_CERT: the client certificate",
                "subject": "CN=relay.example.com",
                "sha256": "CC:DD",
                "not_after": NOW + 9999 * _DAY,
                "renewed_at": NOW + 9969 * _DAY,
            }
        ],
        "secrets": [{"setting": "RELAYHOST_PASSWORD", "changed_at": NOW - 51 * _DAY}],
        "configuration": {"is_valid": True, "problem": "", "loaded_at": NOW - 8, "reloads": 0},
        "services": {
            name: {"state": "RUNNING", "pid": pid, "restarts": 0, "since": NOW - 8}
            for pid, name in enumerate(("log-forwarder", "postfix", "status"), 7)
        },
        "space": {"free_bytes": 18_400_000_000, "free_inodes": 4_811_220, "needed_bytes": 78_643_200},
        "queue_total": 0,
        "queue_read": 0,
        "queue_oldest_at": None,
        "queue": [],
        "reasons": [],
        "settings": [
            *({"name": name, "value": value, "is_default": False} for name, value in _SETTINGS),
            *({"name": name, "value": value, "is_default": True} for name, value in _DEFAULTS),
        ],
    }


def make_busy() -> dict[str, Any]:
    """A relay in a good hour: mail flows, and one recipient is greylisted."""
    view = make_empty()
    _age(view, since=2 * _DAY + 3 * 3600, tried=840)
    view["report"] |= {
        "accepted": 48_211,
        "deliveries": {"sent": {"none": 48_190}, "deferred": {"recipient": 64}, "bounced": {"recipient": 17}},
        "delays": {
            "total": {"buckets": [[0.1, 1200], [0.25, 30_100], [0.5, 44_000], [1, 46_700], ["+Inf", 48_190]],
                      "sum": 16_000.0, "count": 48_190},
        },
        # A quiet beginning, a newsletter at 22:05, then what applications send.
        "history": [
            [_MINUTE - 60 * ago, accepted, accepted, 1 if ago in (4, 9, 20) else 0, 1 if ago == 13 else 0]
            for ago in range(59, -1, -1)
            if (accepted := _count(ago))
        ],
        "last": [
            _make_event(3, "ann@example.org", "250 2.0.0 Ok: queued as 4f2Bq81Zz"),
            _make_event(9, "kim@example.net", "250 2.0.0 Ok: queued as 4f2Bq77Qa"),
            _make_event(61, "li@sub.example.org", "250 2.0.0 Ok: queued as 4f2Bq1xT3", attempts=3, delay=904.2),
            _make_event(790, "nobody@example.org", "550 5.1.1 <nobody@example.org>: Recipient address rejected: User "
                        "unknown", status="bounced"),
            _make_event(822, "max@example.org", "250 2.0.0 Ok: queued as 4f2Bpz9Rb"),
        ],
    }  # fmt: skip
    view |= {"queue_total": 1, "queue_read": 1, "queue_oldest_at": NOW - 1210}
    view["queue"] = [_make_entry("4gB0Yd2nPzx", 1210, "tom@slow.example.net", _GREYLISTED)]
    view["reasons"] = [
        {
            "reason": _GREYLISTED,
            "messages": 1,
            "step": "recipient",
            "meaning": "the upstream does not take mail for this recipient just now",
            "remedy": "It is tried again by itself; greylisting ends after some minutes",
        }
    ]
    return view


def make_broken() -> dict[str, Any]:
    """A relay whose password was changed at the upstream 25 minutes ago, with two more troubles."""
    view = make_busy()
    _age(view, since=2 * _DAY + 3 * 3600, tried=1500)
    view["report"]["history"] = [
        [_MINUTE - 60 * ago, 3 + ago % 4, 3 + ago % 4 if ago > 25 else 0, 0 if ago > 25 else 2 + ago % 3, 0]
        for ago in range(59, -1, -1)
    ]
    view["report"]["last"] = [
        _make_event(1560 + 31 * number, f"person{number}@example.org", "250 2.0.0 Ok") for number in range(6)
    ]
    told = (
        "the upstream refuses the user name or the password",
        "Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD; many providers want a password made for applications; the "
        "password file last changed 51 d ago",
    )
    words = f"{told[0]} (535 5.7.8 Error: authentication failed) -> {told[1]}. Mail is accepted, and waits"
    view["verdict"] |= {"is_well": False}
    view["verdict"]["upstreams"][0] |= {"is_well": False, "step": "auth", "words": words}
    view["verdict"]["upstreams"][0]["tls"]["chain"][0]["not_after"] = NOW + 6 * _DAY + 7200
    view["is_ready"] = False
    view["health"][-1] |= {"is_well": False, "detail": words}
    view["troubles"] = [
        "RELAYHOST_CA_URL: the CA could not be fetched from https://ca.example.com/ca.pem (connection refused). The "
        "copy of 2026-11-20 is used. Check the address, or set RELAYHOST_CA_FILE",
        "CLIENT_CERT: the certificate 'CN=relay' expires in 6 days, on 2026-12-01 08:00 UTC. Give the certificate that "
        "replaces it in CLIENT_CERT and CLIENT_KEY",
    ]
    view |= {"queue_total": 87, "queue_read": 87, "queue_oldest_at": NOW - 1500}
    view["queue"] = [
        _make_entry(f"4gB0Yd2n{number:03d}x", 1500 - 17 * number, f"person{number}@example.org", _REFUSED)
        for number in range(86)
    ]
    view["reasons"].insert(
        0, {"reason": _REFUSED, "messages": 86, "step": "auth", "meaning": told[0], "remedy": told[1]}
    )
    return view


def _age(view: dict[str, Any], *, since: float, tried: float) -> None:
    view["report"]["since"] = view["configuration"]["loaded_at"] = NOW - since
    view["verdict"]["at"] = NOW - tried


def _count(ago: int) -> int:
    """Return how many messages came in a minute: few, then a newsletter, then what applications send."""
    if 22 <= ago <= 26:
        return (38, 61, 57, 44, 29)[26 - ago]
    return (ago * 7 + 3) % 11 + (ago * 5) % 7 if ago < 45 else (ago % 4) // 3


def _make_event(
    ago: float, to: str, reply: str, *, status: str = "sent", attempts: int = 1, delay: float = 0.31
) -> dict[str, Any]:
    return {
        "queue_id": f"4gB1{int(ago):04d}xyz",
        "client": "172.18.0.5",
        "from": "app@example.com",
        "to": to,
        "size": 4312,
        "status": status,
        "relay": "smtp.example.com[192.0.2.25]:587",
        "reply": reply,
        "step": "none" if status == "sent" else "recipient",
        "attempts": attempts,
        "delay": delay,
        "accepted_at": NOW - ago - delay,
        "finished_at": NOW - ago,
    }


def _make_entry(queue_id: str, age: float, to: str, reason: str) -> dict[str, Any]:
    return {
        "queue_name": "deferred",
        "queue_id": queue_id,
        "arrival_time": int(NOW - age),
        "message_size": 4312,
        "sender": "app@example.com",
        "recipients": [{"address": to, "delay_reason": reason}],
        "recipients_total": 1,
    }


def make_hostile(text: str) -> dict[str, Any]:
    """The broken relay with a text in every place that another can fill: addresses, replies, names, settings."""
    view = copy.deepcopy(make_broken())

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poison(one, name) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [poison(one, key) for one in value]
        # What the page decides by stays what it is; all other words are the stranger's.
        if isinstance(value, str) and key not in ("step", "status", "log_addresses", "state"):
            return text
        return value

    poisoned: dict[str, Any] = poison(view)
    return poisoned
