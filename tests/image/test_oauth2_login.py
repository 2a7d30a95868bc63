"""`authrelay oauth2 login`: a person's first login, by the real command against an endpoint that checks each step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from tests.support.engine import Container, Engine, Network
from tests.support.relay import IMAGE
from tests.support.token_endpoint import TOKEN_HOST, TOKEN_URL, TokenEndpoint
from tests.support.wait import wait_until

CLIENT_ID: Final = "desktop-application"
SECRET: Final = "n0t-so-secret"
_OPEN: Final = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cadata=open("/run/ca.pem").read())
address, address_to_follow = sys.argv[1], sys.argv[2]
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None
try:
    urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay).open(address)
except urllib.error.HTTPError as answer:
    place = answer.headers["Location"]
print(place)
if address_to_follow == "follow":
    try:
        urllib.request.urlopen(place.partition("?")[0] + "?state=wrong&code=stolen")
    except urllib.error.HTTPError as answer:
        print(answer.code)
    print(urllib.request.urlopen(place).read().decode())
"""


@pytest.fixture(scope="module")
def endpoint(engine: Engine, network: Network) -> Iterator[TokenEndpoint]:
    made = TokenEndpoint(engine, network, hashlib.sha256(b"login").digest())
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def desk(engine: Engine, network: Network, endpoint: TokenEndpoint) -> Iterator[Container]:
    """Where a person types: a container of the image in which nothing runs."""
    made = engine.run(
        IMAGE,
        ["infinity"],
        kind="desk",
        network=network,
        env={
            "OAUTH2_TOKEN_URL": TOKEN_URL,
            "OAUTH2_CLIENT_ID": CLIENT_ID,
            "OAUTH2_CLIENT_SECRET": SECRET,
            "OAUTH2_CA": endpoint.authority.pem,
            "OAUTH2_SCOPE": "mail offline_access",
        },
        arguments=["--entrypoint", "sleep", "--no-healthcheck"],
    )
    made.exec(["sh", "-c", "cat >/run/ca.pem"], stdin=endpoint.authority.pem.encode())
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def good(endpoint: TokenEndpoint) -> None:
    endpoint.order(clients={CLIENT_ID: {"secret": SECRET}}, device=[], device_interval=1, authorize_error="", fault={})
    endpoint.order(refresh_tokens={})
    endpoint.forget()


def log_in(desk: Container, words: Sequence[str], check: bool = True) -> Any:
    return desk.exec(["authrelay", "oauth2", "login", *words], check=check)


_DEVICE: Final = ("--device-url", f"https://{TOKEN_HOST}/device", "--flow", "device")


def test_device_login_prints_the_settings(desk: Container, endpoint: TokenEndpoint) -> None:
    """It waits while the person types, slows down when it is told to, and the token it prints is good."""
    endpoint.order(device=["authorization_pending", "slow_down", "granted"])
    result = log_in(desk, [*_DEVICE, "--save", "/run/refresh"])
    said = result.stderr.decode()
    assert f"Open https://{TOKEN_HOST}/device in any browser, and enter the code BDWP-HQPK" in said
    assert f"OAUTH2_TOKEN_URL={TOKEN_URL}\n" in result.text
    assert f"OAUTH2_CLIENT_ID={CLIENT_ID}\n" in result.text
    assert "OAUTH2_REFRESH_TOKEN_FILE=/run/refresh\n" in result.text
    (token,) = endpoint.refresh_tokens()
    assert desk.exec(["cat", "/run/refresh"]).text == f"{token}\n"
    assert desk.exec(["stat", "-c", "%a", "/run/refresh"]).text == "600\n"
    assert token not in result.text + said
    assert SECRET not in result.text + said
    times = [request["at"] for request in endpoint.requests()]
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] >= 6, "slow_down means five seconds more (RFC 8628 section 3.5)"


@pytest.mark.parametrize(
    ("answer", "words"),
    [("access_denied", "the login was declined"), ("expired_token", "nobody entered the code in time")],
)
def test_device_login_that_ends_says_why(answer: str, words: str, desk: Container, endpoint: TokenEndpoint) -> None:
    """RFC 8628 section 3.5."""
    endpoint.order(device=[answer])
    result = log_in(desk, _DEVICE, check=False)
    assert (result.status, result.text) == (70, "")
    assert f"authrelay: {words}" in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


@pytest.mark.parametrize("is_pasted", [False, True], ids=["comes back", "is pasted"])
def test_browser_login_prints_the_refresh_token_once(is_pasted: bool, desk: Container, endpoint: TokenEndpoint) -> None:
    """With PKCE and state; whoever comes back with another state is sent away."""
    desk.exec(["rm", "-f", "/run/out", "/run/said", "/run/paste"])
    command = (
        f"mkfifo /run/paste; sleep 60 >/run/paste & holder=$!; "
        f"authrelay oauth2 login --flow loopback --authorize-url https://{TOKEN_HOST}/authorize "
        "</run/paste >/run/out 2>/run/said; echo $? >>/run/said; kill $holder"
    )
    desk.exec(["sh", "-c", f"({command}) >/dev/null 2>&1 &"])
    pattern = rf"https://{TOKEN_HOST}/authorize\S+"
    said = wait_until(
        lambda: re.search(pattern, desk.exec(["cat", "/run/said"], check=False).text), 20, "an address should be said"
    )
    assert said is not None
    assert "code_challenge_method=S256" in said[0]
    assert "redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2F" in said[0]
    python = "/opt/authrelay/bin/python3"
    came = desk.exec([python, "-c", _OPEN, said[0], "paste" if is_pasted else "follow"]).text.splitlines()
    if is_pasted:
        desk.exec(["sh", "-c", "cat >/run/paste"], stdin=f"{came[0]}\n".encode())
    else:
        assert came[1:] == ["404", "This is what authrelay waited for; go on in its terminal.", ""]
    wait_until(lambda: desk.exec(["tail", "-n1", "/run/said"]).text == "0\n", 20, "it should end well")
    (token,) = endpoint.refresh_tokens()
    out = desk.exec(["cat", "/run/out"]).text
    assert out.count(token) == 1
    assert out.endswith(f"OAUTH2_REFRESH_TOKEN={token}\n")
    assert token not in desk.exec(["cat", "/run/said"]).text


def test_login_without_what_it_needs_says_what(desk: Container) -> None:
    """Each is told with the option that gives it."""
    google = log_in(desk, ["--provider", "gmail", "--flow", "device"], check=False)
    assert google.status == 64
    assert "gmail gives devices no access to mail: use --flow loopback" in google.stderr.decode()
    nobody = log_in(desk, ["--provider", "sendgrid"], check=False)
    assert "sendgrid has no OAuth 2.0" in nobody.stderr.decode()
