"""A token endpoint that a test commands: RFC 6749 with RFC 7523, RFC 7636 and RFC 8628, over HTTPS on port 443.

Runs in the mock's container. Orders come as JSON to port 8026: POST /state merges them, GET /record tells what it was
asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
import uuid
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

URL: Final = "https://login.example.test/token"
_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_SECONDS: Final = 3600


class Refused(Exception):
    """An answer that is none of success."""

    def __init__(self, status: int, error: str, description: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.description = status, error, description


class State:
    """What is known, and how to behave."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[str, Any] = {
            "key": "a2V5",  # base64; what access tokens are signed with (HS256)
            "clients": {},  # id: {"secret", "certificate", "user"}
            "accounts": {},  # e-mail of a service account: PEM of its public key
            "refresh_tokens": {},  # token: user
            "expires_in": 3600,
            "is_rotating": False,
            "bytes": 0,
            "fault": {},  # {"status", "error", "description", "retry_after", "text", "hang", "times"}
            "device": [],  # what a device's questions are answered with, one after the other
            "device_interval": 1,
            "authorize_error": "",
            "answer_delay": 0.0,
        }
        self.record: list[dict[str, Any]] = []
        self.seen: set[str] = set()
        self.replaced: dict[str, str] = {}
        self.codes: dict[str, dict[str, str]] = {}

    def take_fault(self) -> dict[str, Any]:
        fault: dict[str, Any] = self.values["fault"]
        if not fault or fault.get("times") == 0:
            return {}
        if "times" in fault:
            fault["times"] -= 1
        return fault


STATE: Final = State()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_access_token(user: str) -> str:
    now = time.time()
    claims = {"sub": user, "email": user, "iat": int(now), "exp": int(now + STATE.values["expires_in"])}
    claims |= {"jti": str(uuid.uuid4()), "filled": "x" * (STATE.values["bytes"] * 3 // 4)}
    text = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{encode(hmac.digest(base64.b64decode(STATE.values['key']), text.encode(), 'sha256'))}"


def verify(assertion: str, key: rsa.RSAPublicKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a signed JWT whose time has come and not ended; Refused otherwise."""
    header_text, claims_text, signature = assertion.split(".")
    header, claims = json.loads(decode(header_text)), json.loads(decode(claims_text))
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    try:
        if header["alg"] == "PS256":
            key.verify(decode(signature), f"{header_text}.{claims_text}".encode(), scheme, hashes.SHA256())
        elif header["alg"] == "RS256":
            text = f"{header_text}.{claims_text}".encode()
            key.verify(decode(signature), text, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise Refused(401, "invalid_client", f"alg {header['alg']}")
    except Refused:
        raise
    except Exception as error:
        raise Refused(401, "invalid_client", "AADSTS700027: the signature is not the certificate's") from error
    now = time.time()
    if not claims["iat"] - 60 <= now < claims["exp"] <= claims["iat"] + _MOST_SECONDS:
        raise Refused(401, "invalid_client", "the assertion's time")
    return header, claims


def check_client(form: dict[str, str]) -> dict[str, Any]:
    """Return the client that a form is from."""
    client: dict[str, Any] | None = STATE.values["clients"].get(form.get("client_id", ""))
    if client is None:
        raise Refused(401, "invalid_client", "AADSTS700016: no such application")
    if client.get("certificate"):
        if form.get("client_assertion_type") != _ASSERTION:
            raise Refused(401, "invalid_client", "no assertion")
        certificate = x509.load_pem_x509_certificate(client["certificate"].encode())
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        header, claims = verify(form["client_assertion"], key)
        thumbprint = encode(certificate.fingerprint(hashes.SHA256()))
        wrong = [
            name
            for name, value, wanted in (
                ("alg", header["alg"], "PS256"),
                ("x5t#S256", header.get("x5t#S256"), thumbprint),
                ("aud", claims["aud"], URL),
                ("iss", claims["iss"], form["client_id"]),
                ("sub", claims["sub"], form["client_id"]),
            )
            if value != wanted
        ]
        if wrong or claims["jti"] in STATE.seen or claims["exp"] > time.time() + 600:
            raise Refused(401, "invalid_client", f"wrong: {wrong or 'jti or exp'}")
        STATE.seen.add(claims["jti"])
    elif client.get("secret", "") != form.get("client_secret", ""):
        raise Refused(401, "invalid_client", f"AADSTS7000215: Invalid secret {form.get('client_secret', '')}")
    return client


def grant(form: dict[str, str]) -> dict[str, Any]:
    """Return the answer to a good question."""
    kind = form.get("grant_type", "")
    refresh_token = ""
    if kind == "client_credentials":
        user = check_client(form)["user"]
    elif kind == _BEARER:
        user = check_account(form["assertion"])
    elif kind == "refresh_token":
        check_client(form)
        user, refresh_token = use_refresh_token(form.get("refresh_token", ""))
    elif kind == "authorization_code":
        user = use_code(form)
        refresh_token = make_refresh_token(user)
    elif kind == _DEVICE:
        check_client(form)
        user = ask_device()
        refresh_token = make_refresh_token(user)
    else:
        raise Refused(400, "unsupported_grant_type")
    answer = {"token_type": "Bearer", "access_token": make_access_token(user)}
    answer["expires_in"] = STATE.values["expires_in"]
    return answer | ({"refresh_token": refresh_token} if refresh_token else {})


def check_account(assertion: str) -> str:
    issuer = json.loads(decode(assertion.split(".")[1]))["iss"]
    key = serialization.load_pem_public_key(STATE.values["accounts"][issuer].encode())
    assert isinstance(key, rsa.RSAPublicKey)
    _, claims = verify(assertion, key)
    if claims["aud"] != URL or claims["scope"] != "https://mail.google.com/":
        raise Refused(400, "invalid_scope", "aud or scope")
    if not claims["sub"].endswith("@example.test"):
        raise Refused(401, "unauthorized_client", "Client is unauthorized to retrieve access tokens")
    return str(claims["sub"])


def make_refresh_token(user: str) -> str:
    token = f"refresh-{uuid.uuid4()}"
    STATE.values["refresh_tokens"][token] = user
    return token


def use_refresh_token(token: str) -> tuple[str, str]:
    """Return the user, and the next refresh token: the old one is good until the new one has been used."""
    known: dict[str, str] = STATE.values["refresh_tokens"]
    if not token:
        raise Refused(400, "invalid_request", "refresh_token is missing")
    if token not in known:
        raise Refused(400, "invalid_grant", f"AADSTS700082: the refresh token has expired: {token}")
    user = known[token]
    if not STATE.values["is_rotating"]:
        return user, ""
    for old in [old for old, new in STATE.replaced.items() if new == token]:
        known.pop(old, None)
    new = make_refresh_token(user)
    STATE.replaced[token] = new
    return user, new


def use_code(form: dict[str, str]) -> str:
    code = STATE.codes.pop(form.get("code", ""), None)
    check_client(form)
    verifier = form.get("code_verifier", "")
    if code is None or code["redirect_uri"] != form.get("redirect_uri"):
        raise Refused(400, "invalid_grant", "the code")
    if encode(hashlib.sha256(verifier.encode()).digest()) != code["code_challenge"] or not 43 <= len(verifier) <= 128:
        raise Refused(400, "invalid_grant", "the verifier")
    return "person@example.test"


def ask_device() -> str:
    answers: list[str] = STATE.values["device"]
    answer = answers.pop(0) if answers else "granted"
    if answer != "granted":
        raise Refused(400, answer)
    return "person@example.test"


class Handler(http.server.BaseHTTPRequestHandler):
    """What clients ask."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Let a person's browser agree at once."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with STATE.lock:
            STATE.record.append({"path": parts.path, "at": time.time(), **query})
            code = str(uuid.uuid4())
            STATE.codes[code] = query
            error = STATE.values["authorize_error"]
        answer = {"error": error} if error else {"code": code}
        if parts.path != "/authorize" or query.get("code_challenge_method") != "S256":
            self.send_error(404)
            return
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urlencode({**answer, 'state': query['state']})}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Answer a form."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        with STATE.lock:
            shown = {name: value for name, value in form.items() if name in ("grant_type", "client_id", "scope")}
            entry = {"path": self.path, "at": time.time(), "status": 0, **shown}
            STATE.record.append(entry)
            fault = STATE.take_fault() if self.path == "/token" else {}
            status, answer = self._decide(fault, form)
            entry["status"] = status
            if "hang" in fault:
                entry["status"] = -1
        if "hang" in fault:
            time.sleep(fault["hang"])
            return
        text = fault["text"] if "text" in fault else json.dumps(answer)
        time.sleep(STATE.values["answer_delay"])
        self.send_response(status)
        if "retry_after" in fault:
            self.send_header("Retry-After", str(fault["retry_after"]))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _decide(self, fault: dict[str, Any], form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if fault:
            return fault.get("status", 200), {
                "error": fault.get("error", "server_error"),
                "error_description": fault.get("description", ""),
            }
        try:
            if self.path == "/device":
                check_client(form)
                answer = {"device_code": str(uuid.uuid4()), "user_code": "BDWP-HQPK", "expires_in": 60}
                answer |= {"verification_uri": "https://login.example.test/device"}
                return 200, answer | {"interval": STATE.values["device_interval"]}
            return 200, grant(form)
        except Refused as refused:
            return refused.status, {"error": refused.error, "error_description": refused.description}
        except Exception as error:
            return 400, {"error": "invalid_request", "error_description": f"{type(error).__name__}: {error}"}


class Control(http.server.BaseHTTPRequestHandler):
    """What the test orders."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell what was asked."""
        with STATE.lock:
            self._answer({"record": STATE.record, "refresh_tokens": STATE.values["refresh_tokens"]})

    def do_POST(self) -> None:
        """Take orders."""
        values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with STATE.lock:
            if self.path == "/forget":
                STATE.record.clear()
            STATE.values |= values
        self._answer({})

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve for ever."""
    tls = http.server.ThreadingHTTPServer(("", 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/combined.pem")
    tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=tls.serve_forever, daemon=True).start()
    http.server.ThreadingHTTPServer(("", 8026), Control).serve_forever()


if __name__ == "__main__":
    main()
