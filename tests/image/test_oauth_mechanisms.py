"""Logins with an access token beside logins with a password: a Dovecot that checks signed tokens, and the mock.

One relay has seven accounts: whatever a server offers, none gets a password as a token, nor a token as a password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.image.conftest import Relays
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, File, Network
from tests.support.relay import Relay
from tests.support.upstream import RealPostfix, Upstream
from tests.support.wait import wait_until

REAL, MOCK = "dovecot.tokens.test", "mock.tokens.test"
_KEY: Final = hashlib.sha256(b"who signs the tokens").digest()
USER: Final = "relay@tokens.test"
MESSAGE: Final = b"Subject: a token\r\n\r\nx\r\n"
GOOGLE: Final = "https://mail.google.com/"
# How a token may look, and how none may: a password that could be both would tell nothing.
TOKEN, OTHER_TOKEN = "ya29.a0-token_of~the+mock/1==", "ya29.a0-another-token"
PASSWORD: Final = "pass word"
LONG: Final = "ya29." + "A" * 8187
SECRETS: Final = (TOKEN, OTHER_TOKEN, PASSWORD, LONG)


def make_token(size: int = 0, *, seconds: int = 3600, key: bytes = _KEY, user: str = USER) -> str:
    """Return a JSON Web Token (RFC 7519) for an account, of at least so many bytes."""

    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    header = {"alg": "HS256", "typ": "JWT"}
    claims = {"email": user, "sub": user, "iat": now - 7200, "exp": now + seconds, "filled": "x" * (size * 3 // 4)}
    text = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return (text + b"." + encode(hmac.digest(key, text, "sha256"))).decode()


@dataclass(frozen=True)
class House:
    """The servers, and the relay before them."""

    relay: Relay
    real: RealPostfix
    mock: Upstream


def describe(name: str, server: str, user: str, secret: str, more: str = "") -> str:
    """Return a table of UPSTREAMS that takes the mail of @NAME.test."""
    return f"""
[{name}]
nexthop = "[{server}]:587"
username = "{user}"
password = "{secret}"
ca = '''{{ca}}'''
senders = ["@{name}.test"]
{more}
"""


@pytest.fixture(scope="module")
def house(engine: Engine, network: Network, module_relays: Relays) -> Iterator[House]:
    authority = Authority()
    mock = Upstream(engine, network, authority=authority, aliases=(MOCK,), accounts={"word@tokens.test": PASSWORD})
    real = RealPostfix(
        engine,
        network,
        authority=authority,
        aliases=(REAL,),
        accounts={"word@tokens.test": PASSWORD},
        env={"SASL_TYPE": "dovecot"},
        files={"/etc/upstream/oauth2-key": File(data=base64.b64encode(_KEY), mode=0o600)},
    )
    ended, forged = make_token(seconds=-60), make_token(key=b"somebody else")
    upstreams = "".join(
        (
            describe("real-long", REAL, USER, make_token(4096), 'auth = "oauthbearer"'),
            describe("real-ended", REAL, USER, ended, 'auth = "xoauth2"').replace(USER, "ended@tokens.test"),
            describe("real-forged", REAL, "forged@tokens.test", forged, 'auth = "oauthbearer"'),
            describe("real-word", REAL, "word@tokens.test", PASSWORD),
            describe("mock-x", MOCK, "x,y=z@tokens.test", TOKEN, 'auth = "xoauth2"'),
            describe("mock-bearer", MOCK, "a,b=c@tokens.test", OTHER_TOKEN, 'auth = "oauthbearer"'),
            describe("mock-long", MOCK, "long@tokens.test", LONG, 'auth = "xoauth2"'),
            describe("mock-word", MOCK, "word@tokens.test", PASSWORD),
            describe("mock-refusing", MOCK, "not-plain@tokens.test", PASSWORD, 'mechanisms = ["!plain"]'),
        )
    ).format(ca=authority.pem)
    relay = module_relays.start(
        {
            "RELAYHOST": f"{REAL}:587",
            "RELAYHOST_USERNAME": USER,
            "RELAYHOST_PASSWORD_FILE": "/run/secrets/token",
            "RELAYHOST_AUTH": "xoauth2",
            "RELAYHOST_CA": authority.pem,
            "MYHOSTNAME": "relay.example.test",
            "UPSTREAMS_FILE": "/run/secrets/upstreams.toml",
        },
        secrets={"/run/secrets/token": make_token(4096).encode(), "/run/secrets/upstreams.toml": upstreams.encode()},
        arguments=["--memory=400m", "--memory-swap=400m"],
        has_defaults=False,
        allowed=["SASL authentication failure: (XOAUTH2|OAUTHBEARER): the server refuses the access token"],
    )
    yield House(relay, real, mock)
    for container in (mock.container, real.container):
        container.remove()


@pytest.fixture
def mock(house: House) -> Upstream:
    house.mock.reset()
    house.mock.set_accounts({"word@tokens.test": PASSWORD, "not-plain@tokens.test": PASSWORD})
    house.mock.set_tokens({"x,y=z@tokens.test": TOKEN, "a,b=c@tokens.test": OTHER_TOKEN, "long@tokens.test": LONG})
    return house.mock


def submit(house: House, client: Client, name: str) -> None:
    client.send(house.relay.container.name, 25, f"app@{name}.test", ["b@example.com"], MESSAGE)


def find_queued(house: House, name: str) -> dict[str, Any]:
    """The message of a sender when its delivery has been tried, as `authrelay queue` has it."""

    def find() -> dict[str, Any] | None:
        queue = json.loads(house.relay.exec(["authrelay", "queue", "--json"]).text)
        text = json.dumps(queue)
        assert not any(secret in text for secret in SECRETS)
        for message in queue["messages"] if isinstance(queue, dict) else queue:
            if f"app@{name}.test" in json.dumps(message) and "said: 5" in json.dumps(message):
                return dict(message)
        return None

    return wait_until(find, 20, f"the mail of {name} should wait with its reason") or {}


@pytest.mark.parametrize(
    ("name", "method"), [("elsewhere", "XOAUTH2"), ("real-long", "OAUTHBEARER"), ("real-word", "PLAIN")]
)
def test_real_server_takes_signed_tokens_and_passwords(house: House, client: Client, name: str, method: str) -> None:
    """Dovecot checks a token of 4 kB that is signed and not ended, by both mechanisms, inside verified TLS."""
    before = len(house.real.messages())
    submit(house, client, name)
    message = house.real.wait_messages(before + 1)[-1]
    assert f"app@{name}.test".encode() in message
    user = "word@tokens.test" if method == "PLAIN" else USER
    assert f"sasl_method={method}, sasl_username={user}" in house.real.logs()
    assert f"Verified TLS connection established to {REAL}" in house.relay.logs()
