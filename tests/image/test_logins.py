"""Clients that log in: real programs over verified TLS, what guessing comes to, whose a sender is, what changes.

Nobody here is in MYNETWORKS but the relay's own loopback: whoever sends has logged in, or has shown a certificate.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import re
import statistics
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization

from tests.image.conftest import AT_A_RELOAD, Relays
from tests.image.test_open_relay import ATTEMPTS, CONTAINER_PYTHON
from tests.image.test_upkeep import wait_line
from tests.support.authorities import Authority, Chain
from tests.support.dialogue import Place, hold_dialogues
from tests.support.engine import Engine, Network
from tests.support.mailers import OTHER_CA_PATH, Mailers, Session, Submission, encode, plain
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

HELLO: Final = "EHLO client.example.test"
FROM: Final = "MAIL FROM:<app@example.test>"
STRANGER: Final = "MAIL FROM:<stranger@elsewhere.test>"
TO: Final = "RCPT TO:<b@example.com>"
USERS: Final = {
    "app": "plain-Zq9",
    "colon": "Zq9:a:b:",
    "quotes": "Zq9 \"c\" 'd' \\e` $f #g {h}",
    "jörg.müller@example.test": "Zq9 ü€ß",
    "two words": "{scheme}Zq9",
    "gone": "Zq9-gone",
    "moved": "Zq9-before",
}
# The password `hashed Zq9`. One of hash-password's takes five times the work, which a busy machine of tests lacks.
HASH: Final = (
    "{SCRYPT}$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$"
    + base64.b64encode(
        hashlib.scrypt(b"hashed Zq9", salt=bytes(range(16)), n=2**14, r=8, p=1, dklen=32, maxmem=2**26)
    ).decode().rstrip("=")
)  # fmt: skip
OWNERS: Final = f"""
listed@example.test app
# of both
@binder.test app, colon
Quoted@binder.test colon
@example.test {", ".join(user for user in USERS if " " not in user)}, hashed
"""
EXPECTED: Final = (
    "SASL (PLAIN|LOGIN) authentication failed: (wrong user|Connection lost to authentication server)",
    "SASL (EXTERNAL|ANONYMOUS) authentication failed: Invalid authentication mechanism",
    "SASL LOGIN authentication aborted",
    "logins from .* are not heard until",
    "SMTPD_USERS_TABLE_FILE: line 2: it has no colon",
    "logins ended .* and is started again",
    "the user '(two words|new)' has no line|there is no user 'gone'",
    "alert unknown ca|unsupported protocol",
    "Connection rate limit exceeded",
    "AUTH command rate limit exceeded",
    "(Message delivery request|Recipient address) rate limit exceeded",
)
ASK_LISTENERS: Final = """
from entrypoint.system.greeting import ask_listeners
assert all(is_well for _ in range(16) for _, is_well, _ in ask_listeners())
"""
PROGRAMS: Final = ("swaks", "smtplib", "nodemailer", "msmtp", "curl")


def write_users(users: dict[str, str]) -> bytes:
    """The secret file."""
    lines = [f"{name}:{'{PLAIN}' if password.startswith('{') else ''}{password}" for name, password in users.items()]
    return "\n".join(["# users", *lines, f"hashed:{HASH}", ""]).encode()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The relay, two clients, and the CA that signed the relay's certificate."""

    relay: Relay
    mailers: Mailers
    other: Mailers
    guesser: Mailers
    address: str
    authority: Authority

    @property
    def host(self) -> str:
        """What the certificate says, and the clients connect to."""
        return self.relay.container.name

    def talk(self, *steps: str | bytes, port: int = 587, certificate: str = "") -> list[int]:
        """Hold a session inside TLS; the codes of the replies to the steps, without TLS's own."""
        ((*answers, _),) = self.mailers.hold([self.make_session(*steps, port=port, certificate=certificate)])
        return [answer.code for answer in answers][1 if port == 465 else 3 :]

    def make_session(self, *steps: str | bytes, port: int = 587, certificate: str = "") -> Session:
        """A session inside TLS."""
        begin = () if port == 465 else (HELLO, "STARTTLS")
        # By IPv4: with IPv6 all clients on a network are one to whoever counts.
        return Session(host=self.host, port=port, steps=(*begin, *steps), certificate=certificate, address=self.address)


def start(relays: Relays, env: dict[str, str], authority: Authority, users: dict[str, str] = USERS) -> Relay:
    """Start a relay with a certificate for the name that clients know it by."""
    settings = {
        "SMTPD_USERS_TABLE_FILE": "/run/secrets/users",
        "SMTPD_TLS_CERT_FILE": "/run/secrets/tls.crt",
        "SMTPD_TLS_KEY_FILE": "/run/secrets/tls.key",
    }
    secrets = {"/run/secrets/users": write_users(users), "/run/secrets/tls.crt": b"", "/run/secrets/tls.key": b""}
    relay = relays.create({**settings, **env}, secrets=secrets, allowed=(*EXPECTED, *AT_A_RELOAD))
    set_certificate(relay, authority.make_chain(relay.container.name))
    relay.start()
    return relay.wait_ready()


def set_certificate(relay: Relay, chain: Chain) -> None:
    """Give it, or replace it: the key first."""
    relay.set_secret("/run/secrets/tls.key", chain.key_pem.encode())
    relay.set_secret("/run/secrets/tls.crt", chain.chain_pem.encode())


@pytest.fixture(scope="module")
def stage(engine: Engine, network: Network, module_relays: Relays) -> Stage:
    """One relay for all but the limits."""
    authority = Authority()
    known, by_key = authority.make_client_chain("known"), authority.make_client_chain("by-key")
    public = by_key.certificate.public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key_sha256 = hashlib.sha256(public.public_bytes(*form)).hexdigest()
    relay = start(
        module_relays,
        {
            "MYNETWORKS": "none",
            "LISTEN_PORTS": "25 465 587",
            "SENDER_LOGIN_TABLE": OWNERS,
            "SMTPD_CLIENT_CERTS_TABLE": f"{known.sha256} known\n{key_sha256} by-key",
        },
        authority,
    )
    mailers, other, guesser = (Mailers(engine, network, authority.pem) for _ in range(3))
    for name, chain in (("known", known), ("by-key", by_key), ("unknown", authority.make_client_chain("known"))):
        mailers.put(f"/{name}.pem", chain.combined_pem)
    return Stage(
        relay=relay,
        mailers=mailers,
        other=other,
        guesser=guesser,
        authority=authority,
        address=relay.container.address(network),
    )


@pytest.mark.parametrize(
    ("program", "port", "user"),
    [
        ("swaks", 465, "jörg.müller@example.test"),
        ("swaks", 25, "app"),
        ("smtplib", 587, "quotes"),
        ("smtplib", 465, "colon"),
        ("nodemailer", 587, "jörg.müller@example.test"),
        ("msmtp", 587, "colon"),
        ("curl", 465, "quotes"),
        ("curl", 587, "colon"),
    ],
)
def test_program_logs_in_and_sends(program: str, port: int, user: str, stage: Stage, upstream: Upstream) -> None:
    """What people have, with passwords that people have: each by STARTTLS or by TLS from the beginning, verified."""
    sender = f"{program}@example.test"
    one = Submission(host=stage.host, port=port, user=user, password=USERS[user], sender=sender)
    result = getattr(stage.mailers, program)(one)
    assert result.status == 0, result.text + result.stderr.decode()
    upstream.wait_messages(1)
    assert upstream.messages()[0].mail_from == sender


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_verifies_the_certificate(program: str, stage: Stage, upstream: Upstream) -> None:
    """Otherwise the test before would be one of clients that give their password to everybody."""
    one = Submission(
        host=stage.host, port=465, user="app", password=USERS["app"], sender="x@example.test", ca=OTHER_CA_PATH
    )
    assert getattr(stage.mailers, program)(one).status != 0
    assert upstream.messages() == []


def test_every_user_logs_in_by_plain_and_by_login(stage: Stage) -> None:
    """Byte for byte, whatever a program makes of its command line."""
    users = {**USERS, "hashed": "hashed Zq9"}
    plains = [stage.make_session(HELLO, plain(user, password)) for user, password in users.items()]
    logins = [
        stage.make_session(HELLO, f"AUTH LOGIN {encode(user)}", encode(password), port=465)
        for user, password in users.items()
    ]
    slow = [stage.make_session(HELLO, "AUTH LOGIN", encode("app"), encode(USERS["app"]))]
    slow += [stage.make_session(HELLO, "AUTH PLAIN", encode(f"\0app\0{USERS['app']}"))]
    answers = stage.mailers.hold([*plains, *logins, *slow])
    assert [one[-2].code for one in answers] == [235] * len(answers)


def test_wrong_login_is_refused_in_one_and_the_same_way(stage: Stage) -> None:
    """Whether there is such a user is nobody's business. The log has the name and the address, and no password."""
    for user, password in (("app", "wrong-Zq9"), ("nobody", USERS["app"]), ("App", USERS["app"])):
        (answers,) = stage.mailers.hold([stage.make_session(HELLO, plain(user, password), STRANGER, TO)])
        answer, _, refusal, _ = answers[4:]
        assert (answer.code, answer.text) == (535, "5.7.8 Error: authentication failed: wrong user name or password")
        assert refusal.code == 554
    log = stage.relay.logs()
    assert re.search(r"unknown\[[0-9a-f.:]+\]: SASL PLAIN authentication failed: .*sasl_username=nobody", log)


def test_login_is_possible_inside_tls_alone(stage: Stage) -> None:
    """A password must not cross the network in the clear; and a downgraded client must notice."""
    for port in (25, 587):
        steps = (HELLO, plain("app", USERS["app"]), STRANGER, TO)
        ((_, hello, login, _, refusal, _),) = stage.mailers.hold([Session(host=stage.host, port=port, steps=steps)])
        assert "AUTH" not in hello.text
        assert "STARTTLS" in hello.text
        assert (login.code, refusal.code) == (503, 554)
        assert "log in or show a certificate that is known here, inside TLS" in refusal.text
    ((*_, inside, _),) = stage.mailers.hold([stage.make_session(HELLO)])
    assert "AUTH PLAIN LOGIN" in inside.text.split("\n")


def test_stranger_inside_tls_is_refused_whatever_it_tries(stage: Stage, upstream: Upstream) -> None:
    """Encryption says nothing of who it is; neither does a login that failed, was aborted, or is half done."""
    befores: tuple[tuple[str, ...], ...] = (
        (plain("app", "no"),),
        ("AUTH LOGIN", "*"),
        ("AUTH PLAIN", "===="),
        ("AUTH EXTERNAL =",),
        ("AUTH ANONYMOUS",),
        (plain("", ""),),
    )
    tricks = [((), attempt.rcpt_to) for attempt in ATTEMPTS.values()]
    sessions = [
        stage.make_session(HELLO, *before, STRANGER, f"RCPT TO:<{recipient}>", "DATA")
        for before, recipient in (*tricks, *((before, "b@example.com") for before in befores))
    ]
    sessions += [
        stage.make_session(HELLO, sender, "RCPT TO:<b@example.com>", "DATA", port=port)
        for sender, port in ((STRANGER, 465), ("MAIL FROM:<>", 465), ("MAIL FROM:<>", 587))
    ]
    for answers in stage.other.hold(sessions, at_once=2):
        assert answers[-2].code >= 500, answers
    assert upstream.messages() == []
    # AUTH before STARTTLS is forgotten (RFC 3207 section 4.2), and after a login nobody becomes somebody else.
    again = (HELLO, plain("app", USERS["app"]), plain("colon", USERS["colon"]))
    assert stage.talk(*again)[1:] == [235, 503]


def test_gateway_is_told_that_it_can_log_in(stage: Stage, network: Network) -> None:
    """Behind a published port everybody looks like the gateway: a login is what it takes there."""
    steps = [f"{step}\r\n".encode() for step in (HELLO, STRANGER, TO)]
    (answers,) = hold_dialogues(Place(host=stage.relay.container.address(network)), [steps])
    assert (answers[-1].code, "inside TLS" in answers[-1].text) == (554, True)


@pytest.mark.parametrize(
    ("user", "sender", "code"),
    [
        ("app", "listed@example.test", 250),
        ("app", "LISTED@EXAMPLE.TEST", 250),
        ("app", "any@binder.test", 250),
        ("colon", "any@binder.test", 250),
        ("app", "", 250),
        ("app", "other@elsewhere.test", 553),
        ("colon", "listed@example.test", 553),
        ("colon", '"listed"@example.test', 553),
        ("colon", "@x.test:listed@example.test", 553),
        ("app", "quoted@binder.test", 553),
        ("quotes", "any@binder.test", 553),
        ("two words", "any@example.test", 553),
    ],
)
def test_sender_belongs_to_its_users(user: str, sender: str, code: int, stage: Stage) -> None:
    """One application's password must not be enough to write in another's name. The most exact line counts."""
    login = (HELLO, plain(user, USERS[user]))
    assert stage.talk(*login, f"MAIL FROM:<{sender}>", TO)[-1] == code


def test_sender_of_a_user_is_nobodys_without_a_login(stage: Stage) -> None:
    """Who may send by network uses every sender but those that are somebody's."""
    place = Place(host="127.0.0.1", container=stage.relay.container, python=CONTAINER_PYTHON)
    senders = ("any@elsewhere.test", "listed@example.test", "", "listed@EXAMPLE.test", '"listed"@example.test')
    dialogues = [[f"{step}\r\n".encode() for step in (HELLO, f"MAIL FROM:<{sender}>", TO)] for sender in senders]
    answers = [one[-1] for one in hold_dialogues(place, dialogues)]
    assert [answer.code for answer in answers] == [250, 553, 250, 553, 553]
    assert answers[1].text.startswith("5.7.1 <listed@example.test>: Sender address rejected: not logged in")


def test_client_certificate_is_known_by_its_fingerprint(stage: Stage) -> None:
    """A printer that can hold a certificate needs no password; the CA that signed it is not looked at."""
    for port in (587, 465):
        for name, code in (("known", 250), ("by-key", 250), ("unknown", 554)):
            sender = "MAIL FROM:<printer@elsewhere.test>"
            assert stage.talk(HELLO, sender, TO, port=port, certificate=f"/{name}.pem")[-1] == code, name


def test_service_that_is_killed_refuses_nobody(stage: Stage) -> None:
    """Its socket is the supervisor's: who asks meanwhile waits."""
    for _ in range(2):
        find = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = logins ] && echo ${p#/proc/}; done; true'
        pid = stage.relay.exec(["bash", "-c", find]).text.split()[0]
        # Root in the container has no CAP_KILL.
        stage.relay.exec(
            ["setpriv", "--reuid=logins", "--regid=logins", "--clear-groups", "bash", "-c", f"kill -9 {pid}"]
        )
        assert stage.talk(HELLO, plain("app", USERS["app"]))[-1] == 235
    wait_line(stage.relay, r"logins ended .* and is started again")


def test_guessing_is_slow_while_others_log_in_at_once(stage: Stage) -> None:
    """Forty guesses from one address come to ten at most; who is guessed at logs in from elsewhere meanwhile."""
    guesses = [stage.make_session(HELLO, plain("colon", f"guess-{number}")) for number in range(40)]
    users = [stage.make_session(HELLO, plain("colon", USERS["colon"])) for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        guessing = pool.submit(stage.guesser.hold, guesses, at_once=2)
        logins = stage.mailers.hold(users)
        codes = [answers[-2].code for answers in guessing.result()]
    assert [answers[-2].code for answers in logins] == [235] * len(users)
    assert statistics.median(float(answers[-1].text) for answers in logins) < 1
    assert 2 <= codes.count(535) <= 10
    assert set(codes) == {535, 454}


def test_changed_users_are_in_force_without_a_restart(stage: Stage) -> None:
    """A password that leaked, and somebody who left: both are out at once. What is under way ends by itself."""
    old = {user: USERS[user] for user in ("moved", "gone")}
    assert [stage.talk(HELLO, plain(*one))[-1] for one in old.items()] == [235, 235]
    users = {**USERS, "moved": "Zq9-after", "new": "Zq9-new"}
    del users["gone"]
    stage.relay.set_secret("/run/secrets/users", write_users(users))
    wait_line(stage.relay, "changed: who may log in")
    tried = [*old.items(), ("moved", "Zq9-after"), ("new", "Zq9-new"), ("app", USERS["app"])]
    assert [stage.talk(HELLO, plain(*one))[-1] for one in tried] == [535, 535, 235, 235, 235]
    # A file that cannot be used changes nothing.
    stage.relay.set_secret("/run/secrets/users", b"app:Zq9-new\nmoved Zq9-broken\n")
    line = wait_line(stage.relay, "SMTPD_USERS_TABLE_FILE: line 2: it has no colon")
    assert "Zq9" not in line
    assert stage.talk(HELLO, plain("app", USERS["app"]))[-1] == 235
    stage.relay.set_secret("/run/secrets/users", write_users(users))
    wait_line(stage.relay, "the settings and their files can be used again")


def test_replaced_certificate_is_served_without_a_restart(stage: Stage) -> None:
    """Certificates of today live for weeks, and nobody restarts a mail relay for each."""

    def show(port: int) -> str:
        (answers,) = stage.mailers.hold([stage.make_session("SHOW", port=port)])
        return answers[-2].text.split()[0]

    before = show(587)
    chain = stage.authority.make_intermediate_chain(stage.host)
    assert before != chain.sha256.replace(":", "").lower()
    set_certificate(stage.relay, chain)
    expected = chain.sha256.replace(":", "").lower()
    wait_until(lambda: show(587) == expected and show(465) == expected, 20, "the new certificate should be shown")
    with contextlib.suppress(AssertionError):
        # Of the pair one half may have been seen alone: that is said, and changes nothing.
        wait_line(stage.relay, "it is not the key of the first certificate in SMTPD_TLS_CERT", 0.1)


def test_tls_older_than_1_2_is_refused(stage: Stage) -> None:
    """RFC 8996; also where TLS is optional, for a password goes through it."""
    old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-starttls", "smtp", "-connect", f"{stage.host}:587"]
    new = ["-tls1_2", "-starttls", "smtp", "-connect", f"{stage.host}:587"]
    statuses = [
        stage.mailers.container.exec(["openssl", "s_client", *one], stdin=b"QUIT\r\n", check=False)
        for one in (old, new)
    ]
    assert [result.status == 0 for result in statuses] == [False, True]


def test_no_password_is_in_the_log_or_on_a_disk(stage: Stage) -> None:
    """What was typed by mistake, guessed or right: it is nobody's business, and not the backup's either."""
    spoken = [*USERS.values(), "wrong-Zq9", "hashed Zq9", "guess-1", "Zq9-after"]
    log = stage.relay.logs()
    assert not [word for word in spoken if word in log or encode(word).rstrip("=") in log]
    find = ["grep", "-rlE", "Zq9", "/run/authrelay", "/tmp", "/var/lib/authrelay", "/var/spool/postfix"]
    assert stage.relay.exec(find, check=False).text == ""
    listing = stage.relay.exec(["stat", "-c", "%a %U %G", "/run/authrelay/logins", "/run/authrelay/login-socket"]).text
    assert listing.splitlines() == ["640 root logins", "660 root postfix"]


def test_limits_answer_for_now_and_by_name(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """A client that runs wild must not take the upstream's patience; what it has comes later. With TLS for everyone."""
    limits = {"CONNECTION": "14", "MESSAGE": "3", "RECIPIENT": "6", "AUTH": "2"}
    environ = {f"SMTPD_CLIENT_{name}_RATE_LIMIT": number for name, number in limits.items()}
    authority = Authority()
    relay = start(relays, {**environ, "SMTPD_TLS_SECURITY_LEVEL": "encrypt"}, authority)
    mailers = Mailers(engine, network, authority.pem)
    host = relay.container.name
    bare = Session(host=host, steps=(HELLO, FROM))
    login = Session(host=host, steps=(HELLO, "STARTTLS", HELLO, plain("app", USERS["app"])))
    message = Session(host=host, steps=(HELLO, "STARTTLS", HELLO, FROM))
    many = Session(host=host, steps=(HELLO, "STARTTLS", HELLO, FROM, *[TO] * 7))
    answers = mailers.hold([bare, login, login, login, message, many, message, message, *[bare] * 8])
    said = [(one[-2].code, one[-2].text) for one in answers]
    assert said[0] == (530, "5.7.0 Must issue a STARTTLS command first")
    assert [code for code, _ in said[1:4]] == [235, 235, 450]
    assert "too many AUTH commands" in said[3][1]
    assert said[4][0] == 250
    assert (said[5][0], "too many recipients" in said[5][1]) == (450, True)
    assert (said[7][0], "too much mail" in said[7][1]) == (450, True)
    assert (said[-1][0], answers[-1][0].code) == (421, 421)
    # The container's own checks come every few seconds, and are no clients.
    relay.exec([CONTAINER_PYTHON, "-c", ASK_LISTENERS])
    assert relay.exec(["authrelay", "send-test", "--to", "b@example.com", "--from", "app@example.test"]).status == 0
    upstream.wait_messages(1)
