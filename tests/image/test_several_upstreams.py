"""Four real servers and two mocks at once, each with accounts and a level of its own: who gets which mail, as whom.

Postfix with Cyrus SASL, Postfix with Dovecot's, Exim, OpenSMTPD. Each account has a password of its own, so that a
password at another server is a failed login there, and there must be none. Who hands the mail in has a say as well: by
network, or as one of two users, each with senders of its own.
"""

from __future__ import annotations

import json
import re
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
from tests.support.upstream import RealExim, RealPostfix, RealServers, Upstream
from tests.support.wait import wait_until

CYRUS, DOVECOT, EXIM, BSD = (f"{name}.upstreams.test" for name in ("cyrus", "dovecot", "exim", "bsd"))
MAIN, OPEN = "main.upstreams.test", "open.upstreams.test"
ACCOUNTS: Final = {
    MAIN: {"relay@main.test": "main-secret", "sales@main.test": "sales-secret"},
    CYRUS: {"alice@cyrus.test": "alice secret", "bob@cyrus.test": "bob-secret"},
    DOVECOT: {"carol@dovecot.test": "carol-secret"},
    EXIM: {"dave@exim.test": "dave-secret"},
    BSD: {"erin@bsd.test": "erin-secret"},
}
_SMTPD: Final = """
pki upstream cert "/etc/upstream/chain.pem"
pki upstream key "/etc/upstream/key.pem"
table accounts file:/etc/upstream/credentials
listen on 0.0.0.0 port 25 tls-require pki upstream auth <accounts>
listen on 0.0.0.0 port 587 tls-require pki upstream auth <accounts>
listen on 0.0.0.0 port 465 smtps pki upstream auth <accounts>
table everybody { "@" = vmail }
action "keep" maildir "/var/mail/upstream/Maildir" virtual <everybody>
match auth from any for any action "keep"
"""


class OpenSmtpd(RealServers):
    """OpenSMTPD that wants a login and keeps every message."""

    ports = (25, 465, 587)


@dataclass(frozen=True)
class House:
    """Everybody, and the relay before them."""

    relay: Relay
    upstreams: str
    authority: Authority
    main: Upstream
    open: Upstream
    cyrus: RealPostfix
    dovecot: RealPostfix
    exim: RealExim
    bsd: OpenSmtpd


@pytest.fixture(scope="module")
def house(engine: Engine, network: Network, module_relays: Relays) -> Iterator[House]:
    """Two upstreams named in UPSTREAMS with their own CA, two by tables with RELAYHOST's."""
    common, exims, bsds = Authority(), Authority(), Authority()
    main = Upstream(engine, network, authority=common, aliases=(MAIN,), accounts=ACCOUNTS[MAIN])
    no_login = Upstream(engine, network, authority=common, aliases=(OPEN,), accounts={})
    no_login.behave(require_auth=False, auth_offered="absent")
    cyrus = RealPostfix(engine, network, authority=common, aliases=(CYRUS,), accounts=ACCOUNTS[CYRUS])
    dovecot = RealPostfix(
        engine,
        network,
        authority=common,
        aliases=(DOVECOT,),
        accounts=ACCOUNTS[DOVECOT],
        env={"SASL_TYPE": "dovecot"},
    )
    exim = RealExim(engine, network, authority=exims, aliases=(EXIM,), accounts=ACCOUNTS[EXIM])
    # What OpenSMTPD compares with (crypt(3)).
    hashes = {name: main.container.exec(["openssl", "passwd", "-6", word]).text for name, word in ACCOUNTS[BSD].items()}
    credentials = "".join(f"{name} {digest}" for name, digest in hashes.items())
    bsd = OpenSmtpd(
        engine,
        network,
        authority=bsds,
        aliases=(BSD,),
        env={"SERVERS": "opensmtpd"},
        files={
            "/etc/smtpd.conf": File(data=_SMTPD.encode(), mode=0o644),
            "/etc/upstream/credentials": File(data=credentials.encode(), mode=0o644),
        },
    )
    upstreams = f"""
[exim]
nexthop = "{EXIM}:465"
username = "dave@exim.test"
password = "dave-secret"
tls = "verify"
ca = '''{exims.pem}'''
senders = ["@exim.test", "vip@cyrus.test"]
domains = ["to-exim.test", ".to-exim.test"]

[bsd]
nexthop = "{BSD}:587"
username = "erin@bsd.test"
password = "erin-secret"
tls = "fingerprint"
fingerprint = ["{bsd.chain.sha256}"]
senders = ["@bsd.test"]
"""
    senders = f"""
@cyrus.test      [{CYRUS}]:587   alice@cyrus.test alice secret
bob@cyrus.test   [{CYRUS}]:587   bob@cyrus.test   bob-secret
@dovecot.test    [{DOVECOT}]:465 carol@dovecot.test carol-secret
@sales.test      [{MAIN}]:587    sales@main.test sales-secret
@plain.test      [{MAIN}]:587
@open.test       [{OPEN}]:25
"""
    recipients = f"""
to-open.test   [{OPEN}]:25
to-bsd.test    bsd
to-main.test   [{MAIN}]:587
gone.test      error 5.1.2 this domain has gone
null.test      discard
"""
    relay = module_relays.create(
        {
            "RELAYHOST": f"{MAIN}:587",
            "RELAYHOST_USERNAME": "relay@main.test",
            "RELAYHOST_PASSWORD": "main-secret",
            "RELAYHOST_CA": common.pem,
            "MYHOSTNAME": "relay.example.test",
            "UPSTREAMS_FILE": "/run/secrets/upstreams.toml",
            "SENDER_RELAY_TABLE_FILE": "/run/secrets/senders",
            "TRANSPORT_TABLE": recipients,
            "LOG_FORMAT": "json",
            "SMTPD_USERS_TABLE": "".join(f"{user}:{user}-word\n" for user in USERS if user),
            "SENDER_LOGIN_TABLE": "".join(f"{sender} {' '.join(users)}\n" for sender, users in OWNERS.items()),
            "SMTPD_TLS_CERT_FILE": "/run/secrets/tls.crt",
            "SMTPD_TLS_KEY_FILE": "/run/secrets/tls.key",
        },
        # Eight accounts, and doctor beside them.
        arguments=["--memory=448m", "--memory-swap=448m"],
        secrets={
            "/run/secrets/upstreams.toml": upstreams.encode(),
            "/run/secrets/senders": senders.encode(),
            "/run/secrets/tls.crt": b"",
            "/run/secrets/tls.key": b"",
        },
        has_defaults=False,
    )
    chain = common.make_chain(relay.container.name)
    relay.set_secret("/run/secrets/tls.crt", chain.chain_pem.encode())
    relay.set_secret("/run/secrets/tls.key", chain.key_pem.encode())
    relay.start()
    relay.wait_ready()
    made = House(relay, upstreams, common, main, no_login, cyrus, dovecot, exim, bsd)
    yield made
    for container in (one.container for one in (main, no_login, cyrus, dovecot, exim, bsd)):
        container.remove()


# By sender: the server, and the account.
BY_SENDER: Final = {
    "app@elsewhere.test": (MAIN, "relay@main.test"),
    "": (MAIN, "relay@main.test"),
    "anna@cyrus.test": (CYRUS, "alice@cyrus.test"),
    "BOB@Cyrus.Test": (CYRUS, "bob@cyrus.test"),
    "vip@cyrus.test": (EXIM, "dave@exim.test"),
    "x@dovecot.test": (DOVECOT, "carol@dovecot.test"),
    "y@exim.test": (EXIM, "dave@exim.test"),
    "z@bsd.test": (BSD, "erin@bsd.test"),
    "s@sales.test": (MAIN, "sales@main.test"),
    "p@plain.test": (MAIN, "relay@main.test"),
    "o@open.test": (OPEN, ""),
    "sub@below.cyrus.test": (MAIN, "relay@main.test"),
}
# By recipient, whoever sent it; `None` is by the sender.
BY_RECIPIENT: Final[dict[str, tuple[str, str] | None]] = {
    "r@example.com": None,
    "r@cyrus.test": None,
    "r@to-exim.test": (EXIM, "dave@exim.test"),
    "r@below.to-exim.test": (EXIM, "dave@exim.test"),
    "r@to-open.test": (OPEN, ""),
    "R@To-BSD.test": (BSD, "erin@bsd.test"),
    "r@to-main.test": (MAIN, "relay@main.test"),
    "r@below.to-main.test": None,
    "r@null.test": ("discard", ""),
}
USERS: Final = ("", "cora", "desk")
"""Who hands it in; the first is known by network."""
OWNERS: Final = {
    "@cyrus.test": ("cora",),
    "bob@cyrus.test": ("desk",),
    "@sales.test": ("cora", "desk"),
    "z@bsd.test": ("desk",),
}
CASES: Final = {
    (user, sender, recipient): way or by_sender
    for user in USERS
    for sender, by_sender in BY_SENDER.items()
    for recipient, way in BY_RECIPIENT.items()
}


def may_use(user: str, sender: str) -> bool:
    """Whether the sender is the user's, or nobody's for who is known by network; a bounce is anybody's."""
    name = sender.lower()
    owners = OWNERS.get(name) or OWNERS.get(name[name.find("@") :]) if name else None
    if not sender:
        return True
    return user in owners if owners else not user


# Standard input: JSON, the relay's name, the CA, and (user, sender, recipient) of each message, by user; prints codes.
_SEND_ALL: Final = r"""
import json, smtplib, ssl, sys
relay, authority, cases = json.load(sys.stdin)
context = ssl.create_default_context(cadata=authority)
codes, last = [], None
for number, (user, sender, recipient) in enumerate(cases):
    if user != last:
        session, last = smtplib.SMTP(relay, 587, "client.example.test", 30), user
        session.starttls(context=context)
        if user:
            session.login(user, user + "-word")
    try:
        session.sendmail(sender, [recipient], "Subject: case-%d\r\n\r\nx\r\n" % number)
        codes.append(250)
    except smtplib.SMTPRecipientsRefused as refused:
        codes.append(refused.recipients[recipient][0])
        last = None  # who has many refused in one session is hung up on
print(json.dumps(codes))
"""


def find_events(relay: Relay) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in relay.logs().splitlines() if line.startswith("{")]
    return [record for record in records if record["event"] == "delivery"]


def find_logins(house: House) -> dict[str, dict[str, str]]:
    """By server: the account of each message, by its subject."""
    found: dict[str, dict[str, str]] = {}
    for name, mock in ((MAIN, house.main), (OPEN, house.open)):
        found[name] = {find_subject(message.data): message.login for message in mock.messages()}
    for name, real in ((CYRUS, house.cyrus), (DOVECOT, house.dovecot)):
        found[name] = {
            find_subject(message): (re.findall(rb"Authenticated sender: ([^)]*)\)", message) or [b""])[0].decode()
            for message in real.messages()
        }
    found[EXIM] = {
        find_subject(message): (re.findall(rb"X-Upstream-Login: (\S*)", message) or [b""])[0].decode()
        for message in house.exim.messages()
    }
    # OpenSMTPD says it by session, and adds a Received with the id of the message.
    sessions = dict(re.findall(r"(\w{16}) smtp authentication user=(\S+) result=ok", house.bsd.logs()))
    ids = re.findall(r"(\w{16}) smtp message msgid=(\w+)", house.bsd.logs())
    messages = {number: session for session, number in ids}
    found[BSD] = {
        find_subject(message): sessions.get(messages[re.findall(rb"with ESMTPSA? id (\w{8})", message)[0].decode()], "")
        for message in house.bsd.messages()
    }
    return found


def find_subject(message: bytes) -> str:
    return str(re.findall(rb"(?m)^Subject: (\S+)", message)[0], "ascii")


def test_each_mail_goes_where_it_belongs_as_whom_it_belongs(house: House, client: Client) -> None:
    """All of them at once, so that sessions are shared wherever they can be."""
    order = json.dumps([house.relay.container.name, house.authority.pem, list(CASES)]).encode()
    codes = json.loads(client.container.exec(["python", "-c", _SEND_ALL], stdin=order).stdout)
    assert codes == [250 if may_use(user, sender) else 553 for user, sender, _ in CASES]
    taken = codes.count(250)
    wait_until(lambda: len(find_events(house.relay)) >= taken, 60, "every message should be delivered")
    events = {(event.get("sasl_username", ""), event["from"], event["to"]): event for event in find_events(house.relay)}
    logins = find_logins(house)
    for number, ((user, sender, recipient), (server, account)) in enumerate(CASES.items()):
        arrived = {name: seen[f"case-{number}"] for name, seen in logins.items() if f"case-{number}" in seen}
        if codes[number] != 250:
            assert arrived == {}, f"{sender} by {user}"
            continue
        event = events[user, sender, recipient]
        case = f"{sender} by {user} to {recipient}: {event}"
        assert event["status"] == "sent", case
        if server == "discard":
            assert arrived == {}, case
            assert "tls" not in event, case
            continue
        assert arrived == {server: account}, case
        assert event["relay"].startswith(f"{server}["), case
        assert event["tls"]["verdict"] == "verified", case
    print(f"{len(CASES)} cases: {taken} each at its server, as its account, verified; the others refused with 553")


def test_every_server_saw_its_own_credentials_and_no_others(house: House) -> None:
    """A password that went astray is somebody's to keep."""
    seen = {(login.identity, login.password.decode()) for session in house.main.sessions() for login in session.logins}
    assert seen == set(ACCOUNTS[MAIN].items())
    assert [session.logins for session in house.open.sessions() if session.logins] == []
    for real in (house.cyrus, house.dovecot, house.exim, house.bsd):
        refusal = r"authentication fail|authenticator failed|result=permfail|\b535[ -]"
        assert not re.search(refusal, real.logs(), re.IGNORECASE)


def test_error_is_the_answer_at_rcpt(house: House, client: Client) -> None:
    """The application learns at once that nobody will take it."""
    replies, _ = client.converse(house.relay.container.name, 25, "a@elsewhere.test", ["r@gone.test"], b"x")
    (reply,) = (reply for reply in replies if reply.command == "RCPT")
    assert (reply.code, "5.1.2" in reply.text, "this domain has gone" in reply.text) == (550, True, True)


def test_doctor_walks_all_or_one(house: House) -> None:
    """Each with its own account and CA, in the words of its own setting."""
    result = house.relay.exec(["authrelay", "doctor", "--json"], check=False)
    answer = json.loads(result.stdout)
    assert answer["ok"], answer
    assert [one["setting"] for one in answer["upstreams"]][:3] == ["RELAYHOST", "UPSTREAMS [exim]", "UPSTREAMS [bsd]"]
    assert len(answer["upstreams"]) == 8
    one = json.loads(house.relay.exec(["authrelay", "doctor", "--json", "bsd"]).stdout)
    assert [(way["setting"], way["ok"]) for way in one["upstreams"]] == [("UPSTREAMS [bsd]", True)]
    missing = house.relay.exec(["authrelay", "doctor", "nobody"], check=False)
    assert missing.status != 0
    assert b"there is no upstream 'nobody'; there are RELAYHOST [main.upstreams.test]:587; " in missing.stderr


def test_password_of_one_is_replaced_while_mail_flows(house: House, client: Client) -> None:
    """A new UPSTREAMS_FILE is in force without a restart, and nobody else's mail notices."""
    before = len(house.exim.messages())
    house.relay.set_secret("/run/secrets/upstreams.toml", house.upstreams.replace('"@exim.test", ', "").encode())
    wait_until(lambda: "changed: " in house.relay.logs(), 20, "the change should be told")
    began = time.monotonic()
    client.send(house.relay.container.name, 25, "y@exim.test", ["r@example.com"], b"Subject: after\r\n\r\nx\r\n")

    def has_come() -> bool:
        return any(find_subject(message.data) == "after" for message in house.main.messages())

    wait_until(has_come, 20, "RELAYHOST should have it now")
    assert len(house.exim.messages()) == before
    print(f"in force: the next message went by RELAYHOST after {time.monotonic() - began:.1f} s")
