"""What a token endpoint is asked with: the form of each grant, and the signed assertions in it. Clock.

Uses oauthlib for the forms and PyJWT for the signatures. Whoever imports this has OAuth 2.0 configured.
"""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from oauthlib.oauth2.rfc6749.parameters import prepare_token_request

from entrypoint.config.oauth2 import CLIENT_CREDENTIALS, REFRESH_TOKEN, OAuth2, ServiceAccount

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523 section 2.1."""
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""
_ASSERTION_SECONDS: Final = 300
"""Entra ID wants 5 to 10 minutes at most, Google an hour."""


@dataclass(frozen=True, kw_only=True)
class ClientKey:
    """What an application signs with: PEM of the key, and the certificate that the provider knows."""

    key_pem: str = field(repr=False)
    certificate_pem: str


def make_form(oauth2: OAuth2, username: str, refresh_token: str, key: ClientKey | None) -> str:
    """Return the encoded form; `refresh_token` is the latest, `key` what an application with a certificate has."""
    fields: dict[str, Any] = {"client_id": oauth2.client_id, "include_client_id": bool(oauth2.client_id)}
    if oauth2.scope:
        fields["scope"] = oauth2.scope
    if oauth2.service_account:
        assertion = make_account_assertion(oauth2.service_account, oauth2, username)
        # The scope is a claim there, and the account its own client.
        return _encode(_JWT_BEARER, {"include_client_id": False, "assertion": assertion})
    if key:
        fields |= {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": make_client_assertion(oauth2, key)}
    elif oauth2.client_secret:
        fields["client_secret"] = oauth2.client_secret.reveal()
    if oauth2.grant == REFRESH_TOKEN:
        return _encode(REFRESH_TOKEN, {**fields, "refresh_token": refresh_token})
    return _encode(CLIENT_CREDENTIALS, fields)


def _encode(grant: str, fields: dict[str, Any]) -> str:
    return str(prepare_token_request(grant, **fields))


def make_account_assertion(account: ServiceAccount, oauth2: OAuth2, username: str) -> str:
    """Return a service account's assertion that it acts for a mailbox (RFC 7523 section 3).

    https://developers.google.com/identity/protocols/oauth2/service-account
    """
    now = int(time.time())
    claims = {
        "iss": account.email,
        "sub": username,
        "scope": oauth2.scope,
        # The file's own, where OAUTH2_TOKEN_URL leads there by another way.
        "aud": account.token_url or oauth2.token_url,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    headers = {"kid": account.key_id} if account.key_id else None
    return jwt.encode(claims, account.key.reveal(), algorithm="RS256", headers=headers)


def make_client_assertion(oauth2: OAuth2, key: ClientKey) -> str:
    """Return an application's assertion of who it is (RFC 7523 section 3, private_key_jwt).

    Header and claims as Entra ID wants them: https://learn.microsoft.com/entra/identity-platform/certificate-credentials
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate = x509.load_pem_x509_certificate(key.certificate_pem.encode())
    thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    now = int(time.time())
    claims = {
        "iss": oauth2.client_id,
        "sub": oauth2.client_id,
        "aud": oauth2.token_url,
        "jti": str(uuid.uuid4()),
        "nbf": now,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    is_ecdsa = isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    algorithm = "ES256" if is_ecdsa else "PS256"
    return jwt.encode(claims, key.key_pem, algorithm=algorithm, headers={"x5t#S256": thumbprint})
