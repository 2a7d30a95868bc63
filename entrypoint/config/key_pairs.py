"""A certificate and its private key, which are given as two settings and are good for nothing but together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoint.config.certificates import Certificates, has_same_key
from entrypoint.config.secret import Secret
from entrypoint.errors import Problem


def check_pair(
    prefix: str, certificate: Certificates | None, key: Secret | None, *, files: tuple[str, str], whose: str
) -> Iterator[Problem]:
    """Yield what is wrong with PREFIX_CERT and PREFIX_KEY; `files` are what an example calls the two."""
    certificate_name, key_name = f"{prefix}_CERT", f"{prefix}_KEY"
    if certificate is not None and key is None:
        yield Problem(
            setting=certificate_name,
            what=f"there is a certificate but no {key_name}",
            remedy=f"Set {key_name}_FILE=/run/secrets/{files[1]} as well, or neither",
        )
    if key is not None and certificate is None:
        yield Problem(
            setting=key_name,
            what=f"there is a key but no {certificate_name}",
            remedy=f"Set {certificate_name}_FILE=/run/secrets/{files[0]} as well, or neither",
        )
    if certificate is not None and key is not None and not has_same_key(certificate, key):
        yield Problem(
            setting=key_name,
            what=f"it is not the key of the first certificate in {certificate_name}",
            remedy=f"Give the pair that belongs together, the {whose}'s own certificate before its intermediates",
        )
