"""What holds for every fetch, whoever asked for it."""

from __future__ import annotations

import datetime
import pathlib
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entrypoint import paths
from entrypoint.system import web
from entrypoint.system.web import Bounds, WebError, fetch, send_form

BOUNDS = Bounds(seconds=2, max_bytes=100, follow=lambda _, location: location)
NOW = datetime.datetime.now(datetime.UTC)
PEM = serialization.Encoding.PEM


def make_old(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate as tools made it in 2005: no key identifiers, no key usage."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(subject))
        .issuer_name(x509.Name.from_rfc4514_string(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    if subject == issuer:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(PEM)


def test_authority_of_an_old_tool_is_good_enough(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 alone refuses it; curl and Postfix do not, so that nobody would know why."""
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    bundle, chain = tmp_path / "bundle.pem", tmp_path / "chain.pem"
    bundle.write_bytes(make_old("CN=old", "CN=old", signer, signer))
    secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(secret + make_old("CN=leaf", "CN=old", key, signer))
    monkeypatch.setattr(paths, "SYSTEM_AUTHORITIES", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as accepted, context.wrap_socket(accepted, server_side=True) as connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nfound")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        assert fetch(f"https://localhost:{listener.getsockname()[1]}/", BOUNDS) == b"found"


def test_form_is_sent_once_and_its_answer_read_whatever_it_is() -> None:
    """A redirect would carry a secret elsewhere; what a refusal says is what a person needs."""
    asked: list[bytes] = []
    answers = [
        b"HTTP/1.1 400 Bad\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 307 There\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    ]

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            with listener.accept()[0] as accepted:
                asked.append(accepted.recv(4096))
                accepted.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://localhost:{listener.getsockname()[1]}/token"
        refused, elsewhere = send_form(url, "a=b%20c", BOUNDS), send_form(url, "a=b", BOUNDS)
    assert (refused.status, refused.content, refused.retry_after) == (400, b"no", "7")
    assert (elsewhere.status, elsewhere.content) == (307, b"")
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert body == b"a=b%20c"
    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7" in head
    assert len(asked) == 2


@pytest.mark.parametrize("url", ["http:///x", "http://host/a b", "http://host/\r\nX: y", "http://höst/", "http://h/ü"])
def test_address_that_no_caller_should_let_through_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty host is this machine, and a line break a second request: the last door, whoever forgets the first."""
    monkeypatch.setattr(web, "connect", lambda *_: pytest.fail("it was asked"))
    with pytest.raises(WebError, match="the address cannot be used"):
        fetch(url, BOUNDS)
