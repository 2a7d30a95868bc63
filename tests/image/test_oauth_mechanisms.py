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

from entrypoint.diagnosis.steps import STATUSES
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
            describe("submission", REAL, USER, make_token(4096), 'auth = "xoauth2"').replace(":587", ":1587"),
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
        allowed=[
            "SASL authentication failure: (XOAUTH2|OAUTHBEARER): the server refuses the access token",
            "offered no supported AUTH mechanisms",
        ],
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
        for message in queue["messages"]:
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
    sender = f"app@{name}.test".encode()
    assert len([one for one in house.real.wait_messages(before + 1) if sender in one]) == 1
    user = "word@tokens.test" if method == "PLAIN" else USER
    assert f"sasl_method={method}, sasl_username={user}" in house.real.logs()
    assert f"Verified TLS connection established to {REAL}" in house.relay.logs()


def test_real_server_with_short_lines_takes_a_long_token(house: House) -> None:
    """Dovecot's submission server answers a long AUTH command with "500 Line too long"."""
    doctor = house.relay.exec(["authrelay", "doctor", "submission"], check=False)
    assert doctor.status == 0, doctor.text
    assert f"logged in as <{USER}> by XOAUTH2" in doctor.text


def test_real_server_refuses_ended_and_forged_tokens(house: House, client: Client) -> None:
    """The mail waits, the log says why, and nothing else is tried with what is no password."""
    for name in ("real-ended", "real-forged"):
        submit(house, client, name)
    for name in ("real-ended", "real-forged"):
        assert "SASL authentication failed" in json.dumps(find_queued(house, name))
    log = house.relay.logs()
    assert "XOAUTH2: the server refuses the access token: status " in log
    assert "OAUTHBEARER: the server refuses the access token: status " in log
    tried = {line.rpartition("SASL ")[2] for line in house.real.logs().splitlines() if "authentication failed" in line}
    assert {line.split()[0] for line in tried} <= {"XOAUTH2", "OAUTHBEARER"}
    assert not any(token in log for token in SECRETS)


def replace_token(house: House, token: str) -> None:
    """Replace RELAYHOST's token in its file, and have the relay look at once (it does so every few seconds)."""
    is_told = "changed: the login at the upstream"
    before = house.relay.logs().count(is_told)
    house.relay.set_secret("/run/secrets/token", token.encode())
    house.relay.kill("HUP")
    wait_until(lambda: house.relay.logs().count(is_told) > before, 15, "the token should be in force")


ORDERS: Final = [("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"), ("OAUTHBEARER", "XOAUTH2", "LOGIN", "PLAIN")]
FITTING: Final = {
    "mock-x": ("XOAUTH2", "x,y=z@tokens.test", TOKEN),
    "mock-bearer": ("OAUTHBEARER", "a,b=c@tokens.test", OTHER_TOKEN),
    "mock-long": ("XOAUTH2", "long@tokens.test", LONG),
    "mock-word": ("", "word@tokens.test", PASSWORD),
    "mock-refusing": ("LOGIN", "not-plain@tokens.test", PASSWORD),
}


@pytest.mark.parametrize("order", ORDERS, ids=["passwords-first", "tokens-first"])
def test_no_password_is_a_token_and_no_token_a_password(
    house: House, mock: Upstream, client: Client, order: tuple[str, ...]
) -> None:
    """Without a filter libsasl2 chooses from what is offered: a server could have the one for the other."""
    mock.behave(mechanisms=order)
    for name in FITTING:
        submit(house, client, name)
    mock.wait_messages(len(FITTING))
    sessions = mock.sessions()
    logins = [login for session in sessions for login in session.logins]
    assert {message.mail_from: message.login for message in mock.messages()} == {
        f"app@{name}.test": user for name, (_, user, _) in FITTING.items()
    }
    for mechanism, user, secret in FITTING.values():
        (login,) = [one for one in logins if one.identity == user]
        assert (login.mechanism, login.password) == (mechanism or login.mechanism, secret.encode())
        assert login.mechanism in ("PLAIN", "LOGIN") or secret != PASSWORD
    # RFC 4954 section 4: what makes the command too long goes by itself.
    lines = [line for session in sessions for line in session.inside_tls.split(b"\r\n")]
    assert max(len(line) for line in lines if line.startswith(b"AUTH ")) <= 510
    assert b"AUTH XOAUTH2" in lines


@pytest.mark.parametrize(
    ("offered", "waiting"),
    [(("XOAUTH2", "OAUTHBEARER"), "mock-word"), (("PLAIN", "LOGIN", "OAUTHBEARER"), "mock-x")],
    ids=["tokens-alone", "passwords-and-the-other"],
)
def test_account_whose_mechanism_is_not_offered_waits(
    house: House, mock: Upstream, client: Client, offered: tuple[str, ...], waiting: str
) -> None:
    """It must not be tried by what is there: the secret would be the wrong one, and sent."""
    mock.behave(mechanisms=offered)
    submit(house, client, waiting)

    def find() -> bool:
        queue = house.relay.exec(["authrelay", "queue", "--json"]).text
        return f"app@{waiting}.test" in queue and "offered no compatible authentication mechanisms" in queue

    wait_until(find, 20, "the mail should wait, and say why")
    assert [login for session in mock.sessions() for login in session.logins] == []
    doctor = house.relay.exec(["authrelay", "doctor", waiting], check=False)
    assert doctor.status == STATUSES["mechanisms"]
    assert ("auth=xoauth2, and give" if waiting == "mock-word" else "auth=oauthbearer, which it offers") in doctor.text
    assert [login for session in mock.sessions() for login in session.logins] == []
    house.relay.exec(["postsuper", "-d", "ALL"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mock-x", f"status 400, scope {GOOGLE}"),
        ("mock-bearer", "status invalid_token, scope smtp.send"),
        ("real-ended", "status 401, scope mail"),
    ],
)
def test_doctor_says_what_the_server_says_of_a_token(house: House, mock: Upstream, name: str, says: str) -> None:
    """The reply after it says no more than that the login failed."""
    mock.behave(mechanisms=ORDERS[0])
    mock.set_tokens({})
    doctor = house.relay.exec(["authrelay", "doctor", name], check=False)
    assert doctor.status == STATUSES["auth"]
    assert f"the upstream refuses the access token ({says}; 535" in doctor.text
    assert "into password, in UPSTREAMS" in doctor.text
    assert not any(secret in doctor.text for secret in SECRETS)
    mechanisms = {login.mechanism for session in mock.sessions() for login in session.logins}
    assert len(mechanisms) == (0 if name.startswith("real") else 1)


def test_token_in_a_file_is_replaced_while_the_relay_runs(house: House, client: Client) -> None:
    """That is how tokens from a fetcher of one's own come: an hour later there is another."""
    replace_token(house, make_token(seconds=-60))
    submit(house, client, "rotated")
    find_queued(house, "rotated")
    before = len(house.real.messages())
    replace_token(house, make_token())
    assert b"app@rotated.test" in house.real.wait_messages(before + 1)[-1]
