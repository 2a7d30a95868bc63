"""The certificates in use that will end, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint import paths
from entrypoint.config.certificates import Certificates
from entrypoint.config.settings import Settings
from entrypoint.system.client_certificate import RENEWED_BEFORE_SECONDS, ClientCertificate
from entrypoint.upkeep.expiry import Ending


def list_endings(
    settings: Settings, authorities: Certificates | None, client: ClientCertificate | None
) -> tuple[Ending, ...]:
    """Return each; `authorities` are those that RELAYHOST's certificate is judged by, `client` is one of ours."""
    return (*_list_authorities(settings, authorities), *_list_client(settings, client), *_list_server(settings))


def _list_authorities(settings: Settings, authorities: Certificates | None) -> Iterator[Ending]:
    upstream = "RELAYHOST_CA_URL" if settings.relayhost_ca_url else "RELAYHOST_CA"
    waiting = "If the upstream's certificate still leads to it then, mail will wait"
    ending = "If the syslog server's certificate still leads to it then, no line will go there"
    for role, name, given, effect in (
        ("trusted_ca", upstream, authorities, waiting),
        ("syslog_ca", "SYSLOG_CA", settings.syslog_ca, ending),
        *(("trusted_ca", f"{one.setting} ca", one.ca, waiting) for one in settings.upstreams or ()),
    ):
        for one in given.members if given else ():
            yield Ending(
                role=role,
                what=f"{name}: the CA",
                subject=one.subject,
                sha256=one.sha256,
                not_after=one.not_after,
                remedy=f"{effect}: add the CA that replaces it",
            )


def _list_client(settings: Settings, client: ClientCertificate | None) -> Iterator[Ending]:
    remedy = "Give the certificate that replaces it, and tell the upstream of it if it is pinned there"
    upload = "Upload the certificate that replaces it to the application, and give it here"
    for name, given in (
        ("CLIENT_CERT", settings.client_cert),
        ("OAUTH2_CLIENT_CERT", settings.oauth2_client_cert),
        *((f"{one.setting} client_cert", one.client_cert) for one in settings.upstreams or ()),
    ):
        for one in given.members if given else ():
            yield Ending(
                role="oauth2" if name.startswith("OAUTH2") else "client",
                what=f"{name}: the certificate",
                subject=one.subject,
                sha256=one.sha256,
                not_after=one.not_after,
                remedy=upload if name.startswith("OAUTH2") else remedy,
            )
    if client:
        yield Ending(
            role="client",
            what=f"{paths.CLIENT_CHAIN}: the certificate",
            subject=client.subject,
            sha256=client.sha256,
            not_after=client.not_after,
            remedy=remedy,
            renewed_at=client.not_after - RENEWED_BEFORE_SECONDS if client.is_renewed else None,
        )


def _list_server(settings: Settings) -> Iterator[Ending]:
    given = settings.smtpd_tls_cert
    for one in given.members if given else ():
        yield Ending(
            role="server",
            what="SMTPD_TLS_CERT: the certificate",
            subject=one.subject,
            sha256=one.sha256,
            not_after=one.not_after,
            remedy="Clients that check it will send nothing then: give the certificate that replaces it",
        )
