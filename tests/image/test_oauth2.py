"""OAuth 2.0 in the running relay: tokens are fetched, kept, refreshed and replaced, before a Dovecot that checks each.

The endpoint is a mock over HTTPS with a CA of its own, which checks signatures; Dovecot checks every token's signature
and end by itself.
"""

from __future__ import annotations

import base64
import concurrent.futures
import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.image.conftest import Relays
from tests.image.test_processes import list_processes
from tests.image.test_secrecy import find_leaks, list_forms, read_world_readable
from tests.support.authorities import Authority, Chain
from tests.support.client import Client
from tests.support.engine import Engine, File, Network
from tests.support.relay import Relay
from tests.support.token_endpoint import TOKEN_URL, TokenEndpoint
from tests.support.upstream import RealPostfix
from tests.support.wait import wait_until

REAL: Final = "dovecot.oauth2.test"
USER: Final = "relay@example.test"
CLIENT_ID: Final = "11111111-2222-3333-4444-555555555555"
SECRET: Final = "k1-s3cret~of.the_client"
MESSAGE: Final = b"Subject: a token\r\n\r\nx\r\n"
_NO_TOKEN: Final = "SASL authentication failure: (XOAUTH2|OAUTHBEARER): the access token is empty"
"""What Postfix says of mail that came before the first token."""
# Kills whoever keeps a token, some tenths of milliseconds after the new file has appeared.
_ASSASSIN: Final = """
import glob, os, signal, sys, time
NEW = "/var/lib/authrelay/tokens/smtp.json.new"
def find():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if open(path, "rb").read().split(b"\\0")[-2:-1] == [b"tokens"]:
                return int(path.split("/")[2])
        except OSError:
            pass
    return 0
ends_at, pid = time.monotonic() + 20, 0
while time.monotonic() < ends_at:
    pid, seen_at = find(), time.time()
    while pid and os.path.exists(f"/proc/{pid}/status"):
        # One that an earlier victim left behind does not count.
        if os.path.exists(NEW) and os.stat(NEW).st_ctime > seen_at:
            time.sleep(int(sys.argv[1]) / 10000)
            os.kill(pid, signal.SIGKILL)
            print("killed")
            sys.exit()
    time.sleep(0.01)
"""
# A message a second; one that is not accepted, while the relay is restarted, is tried again. Prints their numbers.
_SENDER: Final = """
import smtplib, sys, time
ends_at, number = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < ends_at:
    try:
        with smtplib.SMTP(sys.argv[1], 25, timeout=10) as session:
            message = f"Subject: {number} of two hours\\r\\n\\r\\nx\\r\\n"
            session.sendmail("app@example.test", ["b@example.com"], message)
        print(number)
    except OSError:
        pass
    number += 1
    time.sleep(1)
"""
_KEY: Final = hashlib.sha256(b"who signs these tokens").digest()
_BEGINNING: Final[dict[str, Any]] = {
    "clients": {CLIENT_ID: {"secret": SECRET, "user": USER}},
    "expires_in": 3600,
    "bytes": 0,
    "refresh_tokens": {},
    "is_rotating": False,
    "fault": {},
    "answer_delay": 0.0,
    "key": base64.b64encode(_KEY).decode(),
}


@pytest.fixture(scope="module")
def upstream_authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def real(engine: Engine, network: Network, upstream_authority: Authority) -> Iterator[RealPostfix]:
    made = RealPostfix(
        engine,
        network,
        authority=upstream_authority,
        aliases=(REAL,),
        accounts={"word@example.test": "secret"},
        env={"SASL_TYPE": "dovecot"},
        files={"/etc/upstream/oauth2-key": File(data=base64.b64encode(_KEY), mode=0o600)},
    )
    yield made
    made.container.remove()


@pytest.fixture(scope="module")
def the_endpoint(engine: Engine, network: Network) -> Iterator[TokenEndpoint]:
    made = TokenEndpoint(engine, network, _KEY)
    yield made
    made.container.remove()


@pytest.fixture
def endpoint(the_endpoint: TokenEndpoint) -> TokenEndpoint:
    """The endpoint, good and without a record."""
    the_endpoint.order(**_BEGINNING)
    the_endpoint.forget()
    return the_endpoint


class House:
    """Makes relays to the Dovecot with tokens of the endpoint."""

    def __init__(self, relays: Relays, real: RealPostfix, endpoint: TokenEndpoint, client: Client) -> None:
        self.relays, self.real, self.endpoint, self.client = relays, real, endpoint, client

    def create(self, env: dict[str, str], **options: Any) -> Relay:
        secrets = {
            "/run/secrets/ca.pem": self.real.authority.pem.encode(),
            "/run/secrets/tokens-ca.pem": self.endpoint.authority.pem.encode(),
            "/run/secrets/client-secret": SECRET.encode(),
        } | options.pop("secrets", {})
        return self.relays.create(
            {
                "RELAYHOST": f"{REAL}:587",
                "RELAYHOST_USERNAME": USER,
                "RELAYHOST_CA_FILE": "/run/secrets/ca.pem",
                "MYHOSTNAME": "relay.example.test",
                "OAUTH2_TOKEN_URL": TOKEN_URL,
                "OAUTH2_CLIENT_ID": CLIENT_ID,
                "OAUTH2_CA_FILE": "/run/secrets/tokens-ca.pem",
                **env,
            },
            secrets=secrets,
            has_defaults=False,
            **options,
        )

    def start(self, env: dict[str, str], **options: Any) -> Relay:
        relay = self.create(env, **options)
        relay.start()
        return relay.wait_ready()

    def submit(self, relay: Relay, text: str, sender: str = "app@example.test") -> None:
        message = MESSAGE.replace(b"a token", text.encode())
        self.client.send(relay.container.name, 25, sender, ["b@example.com"], message)

    def wait_delivered(self, *texts: str, timeout_seconds: float = 60) -> None:
        wanted = [f"Subject: {text}\r\n".encode() for text in texts]

        def has_all() -> bool:
            found = b"".join(message.replace(b"\r\n", b"\n") for message in self.real.messages())
            return all(text.replace(b"\r\n", b"\n") in found for text in wanted)

        wait_until(has_all, timeout_seconds, f"{texts} should be at the upstream")


@pytest.fixture
def house(relays: Relays, real: RealPostfix, endpoint: TokenEndpoint, client: Client) -> House:
    return House(relays, real, endpoint, client)


def read_kept(relay: Relay, service: str = "smtp") -> dict[str, Any]:
    """What is kept for an account."""
    found: dict[str, Any] = json.loads(relay.exec(["cat", f"/var/lib/authrelay/tokens/{service}.json"]).text)
    return found


def wait_logged(relay: Relay, pattern: str, timeout_seconds: float = 60) -> str:
    """Wait for a line of the relay's log; the line."""
    return wait_until(
        lambda: next((line for line in relay.logs().splitlines() if re.search(pattern, line)), ""),
        timeout_seconds,
        f"the log should have {pattern}",
    )


def make_rsa_chain() -> Chain:
    """A certificate of RSA, as Entra ID wants it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name.from_rfc4514_string("CN=an application")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Chain(chain_pem=certificate.public_bytes(pem).decode(), key_pem=render_key(key))


def render_key(key: rsa.RSAPrivateKey) -> str:
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def make_service_account() -> tuple[str, str]:
    """The JSON file that Google Cloud's console gives, and PEM of the public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    values = {"type": "service_account", "client_email": "robot@project.test", "private_key_id": "1"}
    return json.dumps({**values, "private_key": render_key(key), "token_uri": TOKEN_URL}), public


MADE, GIVEN, PERSON = "made-client", "given-client", "person-client"


def describe(name: str, more: str) -> str:
    """A table of UPSTREAMS that takes the mail of @NAME.test, as an account of its own."""
    return f"""
[{name}]
nexthop = "[{REAL}]:587"
username = "{name}@example.test"
ca = '''{{ca}}'''
senders = ["@{name}.test"]
oauth2_ca = '''{{tokens_ca}}'''
{more}
"""


@pytest.fixture
def everyone(house: House) -> tuple[Relay, str]:
    """A relay with an account of each kind, and the certificate that was uploaded for one of them."""
    chain, (account, public) = make_rsa_chain(), make_service_account()
    house.endpoint.order(
        bytes=4096,
        accounts={"robot@project.test": public},
        refresh_tokens={"first": "person@example.test", "second": "person@example.test"},
        is_rotating=True,
        clients={
            CLIENT_ID: {"secret": SECRET, "user": USER},
            GIVEN: {"certificate": chain.chain_pem, "user": "given@example.test"},
            MADE: {"certificate": chain.chain_pem, "user": "made@example.test"},
            PERSON: {"user": "person@example.test"},
        },
    )
    url = f'oauth2_token_url = "{TOKEN_URL}"'
    upstreams = (
        describe("robot", f"oauth2_service_account = '''{account}'''")
        + describe(
            "given",
            f"""{url}
oauth2_client_id = "{GIVEN}"
oauth2_client_cert = '''{chain.chain_pem}'''
oauth2_client_key = '''{chain.key_pem}'''""",
        )
        + describe("made", f'{url}\noauth2_client_id = "{MADE}"\nauth = "oauthbearer"')
        + describe("person", f'{url}\noauth2_client_id = "{PERSON}"\noauth2_refresh_token = "first"')
    )
    for place, pem in (("ca", house.real.authority.pem), ("tokens_ca", house.endpoint.authority.pem)):
        upstreams = upstreams.replace(f"{{{place}}}", pem)
    relay = house.create(
        {"OAUTH2_CLIENT_SECRET_FILE": "/run/secrets/client-secret", "UPSTREAMS_FILE": "/run/secrets/upstreams.toml"},
        secrets={"/run/secrets/upstreams.toml": upstreams.encode()},
        allowed=["a certificate for OAuth 2.0", "invalid_client", _NO_TOKEN],
        arguments=["--memory=400m", "--memory-swap=400m"],
    )
    relay.start()
    return relay.wait_ready(), upstreams


def test_every_grant_delivers_and_keeps_its_secrets(house: House, everyone: tuple[Relay, str]) -> None:
    """A secret, two certificates, a service account and a person's refresh token, each with tokens of 4 kB.

    Dovecot checks every token; the endpoint checks every assertion: signature, aud, iss, sub, exp, and that jti is new.
    """
    relay, upstreams = everyone
    names = ["robot", "given", "made", "person"]
    house.submit(relay, "secret")
    for name in names:
        house.submit(relay, name, sender=f"app@{name}.test")
    house.wait_delivered("secret", "robot", "given", "person")
    # The one that was made here is not uploaded yet.
    line = wait_logged(relay, r"UPSTREAMS \[made\] .*invalid_client")
    assert "authrelay oauth2 certificate" in line
    assert wait_logged(relay, "WARNING authrelay: a certificate for OAuth 2.0 was made: upload")
    certificate = relay.exec(["authrelay", "oauth2", "certificate"]).text
    assert certificate == relay.exec(["cat", "/var/lib/authrelay/oauth2-certificate.pem"]).text
    house.endpoint.order(
        clients={
            CLIENT_ID: {"secret": SECRET, "user": USER},
            MADE: {"certificate": certificate, "user": "made@example.test"},
            PERSON: {"user": "person@example.test"},
        }
    )
    # To write a file again is to say: now.
    relay.set_secret("/run/secrets/upstreams.toml", upstreams.encode())
    house.wait_delivered("made")
    log = house.real.logs()
    assert f"sasl_method=XOAUTH2, sasl_username={USER}" in log
    for name in names:
        method = "OAUTHBEARER" if name == "made" else "XOAUTH2"
        assert f"sasl_method={method}, sasl_username={name}@example.test" in log
    assert {(one["grant_type"].rpartition(":")[2], one["status"]) for one in house.endpoint.requests()} == {
        ("client_credentials", 200),
        ("client_credentials", 401),
        ("jwt-bearer", 200),
        ("refresh_token", 200),
    }
    doctor = relay.exec(["authrelay", "doctor", "robot"]).text
    assert re.search(rf"ok +token +one from {TOKEN_URL}, by service_account, \d+ s old, good until", doctor)
    assert "gives one for 3600 s" in doctor
    assert "logged in as <robot@example.test> by XOAUTH2" in doctor
    good = house.endpoint.refresh_tokens()
    doctor = relay.exec(["authrelay", "doctor", "person"]).text
    assert re.search(r"ok +token .* answers 400 invalid_request, as it must to a question without a token", doctor)
    assert house.endpoint.refresh_tokens() == good, "looking uses no refresh token"
    asked = len(house.endpoint.requests())
    relay.restart()
    relay.wait_ready()
    house.submit(relay, "after a restart", sender="app@given.test")
    house.wait_delivered("after a restart")
    assert len(house.endpoint.requests()) == asked, "a token that is still good needs no endpoint"
    _check_secrecy(relay, upstreams)


def _check_secrecy(relay: Relay, upstreams: str) -> None:
    kept = {name: read_kept(relay, name) for name in ("smtp", "smtp-robot", "smtp-given", "smtp-made", "smtp-person")}
    secrets = {SECRET, kept["smtp-person"]["refresh_token"], *(one["access_token"] for one in kept.values())}
    assert all(len(one["access_token"]) > 4096 for one in kept.values())
    made = relay.exec(["cat", "/var/lib/authrelay/oauth2-client.pem"]).text
    blocks = re.findall(r"BEGIN PRIVATE KEY-----((?:(?:\\n|\n)[A-Za-z0-9+/=]+)+)", upstreams + made)
    assert len(blocks) == 3
    # The lines in the middle: the first ones are what is public of a key.
    keys = [line for block in blocks for line in re.split(r"\\n|\n", block)[10:20]]
    forms = {key.encode() for key in keys} | {form for secret in secrets for form in list_forms(secret)}
    outputs = {"log": relay.logs().encode(), "open files": read_world_readable(relay)}
    pids = " ".join(map(str, list_processes(relay)))
    script = f"cd /proc; for p in {pids}; do cat $p/environ $p/cmdline; done"
    outputs["processes"] = relay.exec(["bash", "-c", script], check=False).stdout
    for command in (["doctor"], ["check"], ["settings"], ["health", "--ready"], ["queue"], ["oauth2", "certificate"]):
        result = relay.exec(["authrelay", *command], check=False)
        outputs[" ".join(command)] = result.stdout + result.stderr
    assert {name: found for name, text in outputs.items() if (found := find_leaks(text, forms))} == {}
    modes = relay.exec(["sh", "-c", "stat -c '%a %U' /var/lib/authrelay/tokens/* /var/lib/authrelay/oauth2-client.pem"])
    assert set(modes.text.splitlines()) == {"600 root"}


_TROUBLES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"status": 401, "error": "invalid_client", "description": "AADSTS7000222: expired"}, "invalid_client.*new one"),
    ({"status": 400, "error": "invalid_grant", "description": f"no {SECRET}"}, r"400 invalid_grant: no \(hidden\)"),
    ({"status": 429, "error": "slow_down", "retry_after": 1}, "it answered 429"),
    ({"status": 500, "text": "<html>"}, "it answered 500"),
    ({"hang": 30}, "it was not here whole after 10 seconds"),
]


def test_endpoint_in_trouble_keeps_mail_and_says_why(house: House) -> None:
    """The start does not wait for it; each trouble is named, and mail goes by itself when it is over."""
    house.endpoint.fail(hang=30)
    relay = house.create(
        {"OAUTH2_CLIENT_SECRET_FILE": "/run/secrets/client-secret", "PROBE": "yes"},
        allowed=["access token cannot be fetched", _NO_TOKEN],
    )
    relay.start()
    relay.wait_ready(timeout_seconds=5)
    house.submit(relay, "waits")
    for fault, words in (_TROUBLES[-1], *_TROUBLES[:-1]):
        house.endpoint.fail(**fault)
        relay.set_secret("/run/secrets/client-secret", SECRET.encode())
        line = wait_logged(relay, f"WARNING authrelay: RELAYHOST .*{TOKEN_URL}: .*{words}")
        assert "Mail is accepted, and waits" in line
        health = relay.exec(["authrelay", "health", "--ready"], check=False)
        assert health.status == 69
        assert re.search(f"FAILED RELAYHOST .*{words}", health.text)
        assert relay.exec(["authrelay", "health"]).status == 0
        if "hang" in fault:
            continue  # doctor would wait for it as long
        doctor = relay.exec(["authrelay", "doctor"], check=False)
        assert doctor.status == 26
        assert re.search(f"BROKEN +token .*{words.partition('.*')[0]}", doctor.text)
    assert len(relay.queue()) == 1
    house.endpoint.mend()
    relay.set_secret("/run/secrets/client-secret", SECRET.encode())
    house.wait_delivered("waits")
    wait_until(lambda: relay.exec(["authrelay", "health", "--ready"], check=False).status == 0, 60, "it is ready")
    assert find_leaks(relay.logs().encode(), list_forms(SECRET)) == []


def test_two_hours_without_a_failed_delivery(house: House) -> None:
    """An hour of a token's life is 45 s here, so that 90 s are two hours of them, by the same schedule.

    What is not scaled is the pause after a failure and the time that a process takes. A message a second goes out all
    the while; the endpoint rotates the refresh token and fails twice, once with 429 and once with 500, and the relay is
    restarted. AUTHRELAY_MINUTES makes it longer; its tokens live 45 s in any case.
    """
    seconds = max(90.0, float(os.environ.get("AUTHRELAY_MINUTES", "0")) * 60)
    house.endpoint.order(refresh_tokens={"first": USER}, is_rotating=True, expires_in=45)
    relay = house.create(
        {
            "OAUTH2_CLIENT_SECRET_FILE": "/run/secrets/client-secret",
            "OAUTH2_REFRESH_TOKEN_FILE": "/run/secrets/refresh",
        },
        secrets={"/run/secrets/refresh": b"first"},
        allowed=["access token cannot be fetched .* The present one is good until"],
    )
    relay.start()
    relay.wait_ready()
    login = ["postmap", "-q", f"[{REAL}]:587", "lmdb:/etc/postfix/sasl_passwd"]
    wait_until(lambda: not relay.exec(login, check=False).text.strip().endswith(":"), 60, "Postfix should have a token")
    command = ["python", "-c", _SENDER, relay.container.name, str(seconds)]
    with concurrent.futures.ThreadPoolExecutor() as executor:
        sending = executor.submit(house.client.container.exec, command, timeout_seconds=seconds + 120)
        house.endpoint.fail(times=1, status=429, error="slow_down", retry_after=1)
        wait_until(lambda: _list_answers(house)[-2:] == [429, 200], 60, "it should be refreshed after a 429")
        relay.restart()
        relay.wait_ready()
        house.endpoint.fail(times=1, status=500, text="")
        wait_until(lambda: _list_answers(house)[-2:] == [500, 200], 60, "it should be refreshed after a 500")
        sent = sending.result().text.split()
    house.wait_delivered(*(f"{number} of two hours" for number in sent))
    lines = relay.logs().splitlines()
    assert [line for line in lines if "status=deferred" in line or "status=bounced" in line] == []
    print(f"{len(sent)} messages, none deferred; the endpoint answered {_list_answers(house)}")
    assert len(sent) > seconds * 0.6
    assert _list_answers(house).count(200) > seconds / 45
    # The one is the stop's, which closes the listeners so.
    reloads = [line for line in lines if "reload -- version" in line]
    assert len(reloads) <= 1, "a new token is no reason to reload"


def _list_answers(house: House) -> list[int]:
    return [request["status"] for request in house.endpoint.requests()]


def test_killed_while_it_keeps_a_rotated_refresh_token(house: House) -> None:
    """kill -9 of all of it at the moment at which the file is written: the old or the new one is there, whole."""
    rounds = int(os.environ.get("AUTHRELAY_ROUNDS", "2"))
    house.endpoint.order(refresh_tokens={"first": USER}, is_rotating=True, expires_in=6)
    relay = house.create(
        {
            "OAUTH2_CLIENT_SECRET_FILE": "/run/secrets/client-secret",
            "OAUTH2_REFRESH_TOKEN_FILE": "/run/secrets/refresh",
        },
        secrets={"/run/secrets/refresh": b"first"},
        # Six seconds are soon over while it is started again.
        allowed=["tokens failed", _NO_TOKEN, "the server refuses the access token"],
    )
    hits = 0
    # On a busy machine the moment is missed now and then.
    for number in range(3 * rounds):
        if hits == rounds:
            break
        relay.start()
        relay.wait_ready()
        found = relay.exec(["/opt/authrelay/bin/python3", "-c", _ASSASSIN, str(number * 3 % 10)], check=False).text
        hits += "killed" in found
        relay.container.kill()
    house.endpoint.order(expires_in=3600)
    relay.start()
    relay.wait_ready()
    house.submit(relay, "after it was killed")
    house.wait_delivered("after it was killed")
    answers = [request["status"] for request in house.endpoint.requests()]
    print(f"{rounds} rounds, killed in the middle {hits} times; the endpoint answered {answers}")
    assert hits == rounds
    assert set(answers) == {200}
    assert read_kept(relay)["refresh_token"] in house.endpoint.refresh_tokens()


def test_token_that_was_withdrawn_is_replaced_and_the_mail_goes(house: House) -> None:
    """It has not ended by its own word, but the server refuses it: a new password at the provider does that."""
    house.endpoint.order(key=base64.b64encode(b"no longer").decode())
    relay = house.start(
        {"OAUTH2_CLIENT_SECRET_FILE": "/run/secrets/client-secret"},
        allowed=["the server refuses the access token", _NO_TOKEN],
    )
    house.submit(relay, "withdrawn")
    wait_logged(relay, "the server refuses the access token")
    house.endpoint.order(key=base64.b64encode(_KEY).decode())
    house.wait_delivered("withdrawn", timeout_seconds=90)
    assert _list_answers(house) == [200, 200]
