"""What clients are asked and shown, right one by one and wrong together: logins, senders, certificates. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from entrypoint.config.key_pairs import check_pair
from entrypoint.config.nexthop import IMPLICIT_TLS_PORT
from entrypoint.config.settings import Settings
from entrypoint.errors import Problem

_PAIR: Final = "SMTPD_TLS_CERT_FILE=/run/secrets/tls.crt and SMTPD_TLS_KEY_FILE=/run/secrets/tls.key"
_TRIAL: Final = (
    "To try it out: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=relay "
    "-addext subjectAltName=DNS:relay -keyout tls.key -out tls.crt, and let clients trust tls.crt"
)


def check_clients(settings: Settings) -> Iterator[Problem]:
    """Yield every problem between the settings for clients that log in or speak TLS."""
    pair = settings.smtpd_tls_cert, settings.smtpd_tls_key
    yield from check_pair("SMTPD_TLS", *pair, files=("tls.crt", "tls.key"), whose="relay")
    if settings.smtpd_tls_cert is None:
        yield from _check_without_certificate(settings)
    elif settings.listen_ports == (IMPLICIT_TLS_PORT,):
        yield Problem(
            setting="LISTEN_PORTS",
            value=str(IMPLICIT_TLS_PORT),
            what="health checks and send-test inside the container need a port that does not begin with TLS",
            remedy="Set LISTEN_PORTS=465 587, and publish 465 alone",
        )
    if settings.sender_login_table is not None and settings.smtpd_users_table is None:
        yield Problem(
            setting="SENDER_LOGIN_TABLE",
            what="nobody can log in without SMTPD_USERS_TABLE, and so nobody could use these senders",
            remedy="Set SMTPD_USERS_TABLE_FILE=/run/secrets/users, or remove it",
        )


def find_client_warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each user or sender that has no use.

    These are no errors: a user who is withdrawn in one file must be out at once, whatever the other says.
    """
    if settings.sender_login_table is None or settings.smtpd_users_table is None:
        return
    known = {user.name.casefold(): user.name for user in settings.smtpd_users_table}
    owners = {user.casefold(): user for line in settings.sender_login_table for user in line.users}
    for key, name in known.items():
        if key not in owners:
            yield f"SENDER_LOGIN_TABLE: the user '{name}' has no line, and so may log in but use no sender"
    for key, name in owners.items():
        if key not in known:
            yield f"SENDER_LOGIN_TABLE: there is no user '{name}' in SMTPD_USERS_TABLE"


def _check_without_certificate(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each setting that works inside TLS alone. A key without a certificate has its own."""
    if settings.smtpd_tls_key is not None:
        return
    if settings.smtpd_users_table is not None:
        yield Problem(
            setting="SMTPD_USERS_TABLE",
            what="there is no SMTPD_TLS_CERT, and a password must not cross the network in the clear",
            remedy=f"Set {_PAIR}. {_TRIAL}",
        )
    if settings.smtpd_client_certs_table is not None:
        yield Problem(
            setting="SMTPD_CLIENT_CERTS_TABLE",
            what="there is no SMTPD_TLS_CERT, and without TLS no client shows a certificate",
            remedy=f"Set {_PAIR}",
        )
    if settings.smtpd_tls_security_level is not None:
        yield Problem(
            setting="SMTPD_TLS_SECURITY_LEVEL",
            value=settings.smtpd_tls_security_level,
            what="there is no SMTPD_TLS_CERT, and so no TLS for clients",
            remedy=f"Set {_PAIR}, or remove it",
        )
    if IMPLICIT_TLS_PORT in settings.listen_ports:
        yield Problem(
            setting="LISTEN_PORTS",
            value=" ".join(map(str, settings.listen_ports)),
            what="port 465 begins with TLS (RFC 8314), and there is no SMTPD_TLS_CERT",
            remedy=f"Set {_PAIR}, or remove 465",
        )
