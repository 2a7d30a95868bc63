"""The mock's own CA and server certificate, for when nobody pushed any: the demo. Disk."""

from __future__ import annotations

import pathlib

import trustme

from .tls import save_atomically


def make_server_certificate(hostname: str, directory: pathlib.Path | None) -> tuple[str, str]:
    """Make a certificate chain and key (PEM) for the host name; the CA is left in `directory/ca.pem`.

    The CA's key is kept beside it: whoever trusts the CA goes on trusting it after a restart.
    """
    if directory is None:
        authority = trustme.CA()
    else:
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / "ca.pem", directory / "ca-key.pem"
        if certificate.is_file() and key.is_file():
            authority = trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
        else:
            authority = trustme.CA(organization_name="authrelay demo")
            save_atomically(key, authority.private_key_pem.bytes(), 0o600)
            save_atomically(certificate, authority.cert_pem.bytes(), 0o644)
    leaf = authority.issue_cert(hostname)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return chain.decode(), leaf.private_key_pem.bytes().decode()
