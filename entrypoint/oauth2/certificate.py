"""The certificate by which an application proves who it is: given, or made once and kept. Disk, by `system`."""

from __future__ import annotations

from typing import Final

from entrypoint import paths
from entrypoint.config.oauth2 import OAuth2
from entrypoint.oauth2.request import ClientKey
from entrypoint.system.client_certificate import ClientCertificate, Place, load_or_make_client_certificate

_PLACE: Final = Place(chain=paths.TOKEN_CHAIN, certificate=paths.TOKEN_CERTIFICATE, setting="OAUTH2_CLIENT_CERT_FILE")
_SUBJECT: Final = "CN=authrelay"
_DAYS: Final = 10000
"""As the client certificate's: its end would be a day on which mail stops until somebody uploads another."""


def load_or_make_certificate() -> ClientCertificate:
    """Return the certificate that is made here, RSA as Entra ID wants it. It is never replaced by itself."""
    return load_or_make_client_certificate(
        subject=_SUBJECT, wanted_subject=None, days=_DAYS, key_type="rsa", place=_PLACE, is_renewed=False
    )


def find_key(oauth2: OAuth2) -> tuple[ClientKey | None, str]:
    """Return what the application signs with, if it does, and what is to be said of a certificate that is new."""
    if not oauth2.shows_certificate:
        return None, ""
    if oauth2.client_key is not None and oauth2.client_cert is not None:
        return ClientKey(key_pem=oauth2.client_key.reveal(), certificate_pem=oauth2.client_cert.pem), ""
    made = load_or_make_certificate()
    key, mark, certificate = made.chain.partition("-----BEGIN CERTIFICATE")
    remark = describe_upload(made) if made.is_new else ""
    return ClientKey(key_pem=key[key.index("-----BEGIN") :], certificate_pem=mark + certificate), remark


def describe_upload(made: ClientCertificate) -> str:
    """Return what a person has to do with it."""
    return (
        f"a certificate for OAuth 2.0 was made: upload {paths.TOKEN_CERTIFICATE} to the application at the provider "
        f"(Entra: App registrations, Certificates & secrets), `authrelay oauth2 certificate` prints it. SHA-256 "
        f"{made.sha256}, thumbprint {made.sha1.replace(':', '')}"
    )
