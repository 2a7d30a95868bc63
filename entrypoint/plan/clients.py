"""What clients are shown and asked: TLS, logins, certificates, whose a sender is, and how much each may do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from entrypoint import paths
from entrypoint.config.settings import Settings
from entrypoint.plan.files import Facts, PlannedFile

LOGIN_GROUP: Final = "logins"
"""The user of the login service, and a group that is nobody else's."""
_SERVER_CHAIN: Final = f"{paths.POSTFIX_CONFIG}/server-chain.pem"
_SENDER_LOGINS: Final = f"{paths.POSTFIX_CONFIG}/sender_logins"
_CLIENT_CERTS: Final = f"{paths.POSTFIX_CONFIG}/client_certs"


def plan_clients(settings: Settings, facts: Facts) -> Iterator[PlannedFile]:
    """Yield the files that smtpd(8) and the login service read."""
    if settings.smtpd_tls_cert is not None and settings.smtpd_tls_key is not None:
        chain = settings.smtpd_tls_key.reveal() + settings.smtpd_tls_cert.pem
        yield PlannedFile(path=_SERVER_CHAIN, text=chain, mode=0o600)
    if facts.logins is not None:
        yield PlannedFile(path=paths.LOGINS, text=facts.logins.reveal(), mode=0o640, group=LOGIN_GROUP)
    if lines := settings.sender_login_table:
        # postconf(5) smtpd_sender_login_maps: the users are separated by commas.
        text = "".join(f"{line.sender} {','.join(line.users)}\n" for line in lines)
        yield PlannedFile(path=_SENDER_LOGINS, text=text, is_table=True)
    if certificates := settings.smtpd_client_certs_table:
        text = "".join(f"{one.sha256} {one.name}\n" for one in certificates)
        yield PlannedFile(path=_CLIENT_CERTS, text=text, is_table=True)


def view_clients(settings: Settings, probe_sources: Sequence[str]) -> dict[str, Any]:
    """Return what main.cf has to say of all this, and the parts of its relay restrictions."""
    has_logins = settings.smtpd_users_table is not None
    has_certificates = settings.smtpd_client_certs_table is not None
    limits = {
        f"smtpd_client_{name}_rate_limit": getattr(settings, f"smtpd_client_{name}_rate_limit") or 0
        for name in ("connection", "message", "recipient", "auth")
    }
    asked = [
        *(["log in"] if has_logins else []),
        *(["show a certificate that is known here"] if has_certificates else []),
    ]
    answer = f"check_client_access static:{{REJECT {' or '.join(asked)}, inside TLS, to send from there}}"
    sources = list(dict.fromkeys(probe_sources)) if settings.smtpd_client_connection_rate_limit else []
    # Where strangers send, the limits are for them: a list server sends in bursts.
    known = ["$mynetworks"] if settings.list_domains and any(limits.values()) else []
    return {
        "permits": [
            *(["permit_sasl_authenticated"] if has_logins else []),
            *(["permit_tls_clientcerts"] if has_certificates else []),
        ],
        # Where something is taken from strangers, they are told that it was the recipient.
        "refusals": [
            *([answer] if asked else []),
            *(["reject_unauth_destination"] if settings.list_domains else []),
            "reject",
        ],
        "has_logins": has_logins,
        "login_socket": paths.LOGIN_SOCKET,
        "has_client_tls": settings.smtpd_tls_cert is not None,
        "server_chain": _SERVER_CHAIN,
        "client_tls_level": settings.smtpd_tls_security_level or "may",
        "client_certs": _CLIENT_CERTS if has_certificates else "",
        "sender_logins": _SENDER_LOGINS if settings.sender_login_table else "",
        "client_limits": [(name, value) for name, value in limits.items() if value],
        # The health check comes every few seconds.
        "unlimited": ", ".join([*known, *(f"[{source}]" if ":" in source else source for source in sources)]),
    }
