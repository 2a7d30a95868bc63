"""What changes while the relay runs: passwords, CAs, certificates. Noticed, checked, put into force; no restart."""

from __future__ import annotations

import json
import os
import pathlib
import re
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from entrypoint.system.client_certificate import make_client_certificate
from tests.image.conftest import AT_A_RELOAD, LOGIN, PASSWORD, Relays
from tests.image.test_processes import list_processes
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.engine import Engine, Network
from tests.support.load import Load, account, wait_until_delivered
from tests.support.relay import Relay
from tests.support.upstream import Session, Upstream
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"
ROUNDS = int(os.environ.get("AUTHRELAY_ROUNDS", "4"))
"""How many rotations under load; `make rotations` does 50."""
OVERLAP_SECONDS = 10.0 if ROUNDS > 4 else 4.0
"""How long the upstream takes the old password, too."""
OLD, NEW = "r8!vK_old_one", "k1-Wm:$9z#Qx"
DAY = 86400


def submit(relay: Relay, client: Client) -> None:
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)


def wait_line(relay: Relay, pattern: str, timeout_seconds: float = 15) -> str:
    """Wait for a line of our own and return it."""

    def find() -> str | None:
        lines = [line for line in relay.logs().splitlines() if " authrelay: " in line and re.search(pattern, line)]
        return lines[-1] if lines else None

    return wait_until(find, timeout_seconds, f"a line should say {pattern}") or ""


def find_master(relay: Relay) -> str:
    return relay.exec(["cat", "/var/spool/postfix/pid/master.pid"]).text.strip()


class Secrets:
    """A directory of secrets as Kubernetes mounts it, and the four ways in which a file in one changes."""

    def __init__(self, directory: pathlib.Path, text: str) -> None:
        self._directory = directory
        self._swaps = 0
        (directory / "password").symlink_to("..data/password")
        self.swap(text)

    @property
    def _file(self) -> pathlib.Path:
        return (self._directory / "..data").resolve() / "password"

    def rename(self, text: str) -> None:
        """As careful programs, and `docker cp`, write."""
        new = self._file.with_name("new")
        new.write_text(text)
        new.rename(self._file)

    def write(self, text: str) -> None:
        """As an editor or a shell writes: in place, in pieces."""
        with self._file.open("w") as file:
            for character in text:
                file.write(character)
                file.flush()
                time.sleep(0.02)

    def recreate(self, text: str) -> None:
        """Removed, and there again."""
        self._file.unlink()
        self._file.write_text(text)

    def swap(self, text: str) -> None:
        """As the kubelet does: a new directory, and the link `..data` put in the place of the old one."""
        self._swaps += 1
        new = self._directory / f"..{self._swaps}"
        new.mkdir()
        (new / "password").write_text(text)
        link = self._directory / "..data_tmp"
        link.symlink_to(new.name)
        link.rename(self._directory / "..data")


WAYS: Sequence[Callable[[Secrets, str], None]] = (Secrets.rename, Secrets.write, Secrets.recreate, Secrets.swap)


def start_with_secrets(engine: Engine, relays: Relays, text: str, **options: Any) -> tuple[Relay, Secrets]:
    """A relay whose password lies in such a directory."""
    directory = engine.directory()
    secrets = Secrets(directory, text)
    env = {"RELAYHOST_PASSWORD_FILE": "/run/kept/password"}
    return relays.start(env, volumes={str(directory): "/run/kept"}, **options), secrets


@pytest.mark.parametrize("change", WAYS, ids=["renamed", "in-place", "recreated", "kubernetes"])
def test_changed_password_is_in_force_within_seconds(
    change: Callable[[Secrets, str], None], engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Other images keep the old password until somebody restarts them; what waited for the new one goes out at once."""
    relay, secrets = start_with_secrets(engine, relays, OLD)
    before = find_master(relay)
    upstream.set_accounts({LOGIN: NEW})
    submit(relay, client)
    wait_until(lambda: "status=deferred (SASL" in relay.logs(), 10, "the old password should be refused")
    change(secrets, NEW)
    began = time.monotonic()
    upstream.wait_messages(1)
    assert time.monotonic() - began < 12
    assert find_master(relay) == before
    wait_line(relay, "changed: the login at the upstream")
    listed = relay.exec(["stat", "-c", "%a", "/etc/postfix/sasl_passwd", "/etc/postfix/sasl_passwd.lmdb"]).text
    assert listed.split() == ["600", "600"]
    assert relay.exec(["grep", "-rlaF", OLD, "/run/authrelay"], check=False).text == ""
    assert relay.exec(["sh", "-c", "ls /run/authrelay/postfix | grep next"], check=False).text == ""
    assert OLD not in relay.logs()
    assert NEW not in relay.logs()


def test_delivery_under_way_with_the_old_password_is_tried_again_soon(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """It fails only after everything was tried with the new one."""
    relay = relays.start()
    upstream.set_accounts({LOGIN: NEW})
    upstream.container.pause()
    submit(relay, client)
    wait_until(lambda: relay.exec(["pidof", "smtp"], check=False).text, 10, "a delivery should be under way")
    relay.set_secret("/run/secrets/password", NEW.encode())
    wait_line(relay, "changed: the login at the upstream")
    upstream.container.unpause()
    upstream.wait_messages(1, timeout_seconds=20)
    assert "status=deferred (SASL" in relay.logs()


@pytest.mark.parametrize(
    ("bad", "words"),
    [(b" x", "begins or ends with a blank"), (b"", "the file is empty"), (b"\xff\xfe", "not UTF-8")],
    ids=["blank", "empty", "binary"],
)
def test_secret_that_cannot_be_used_leaves_the_old_one_in_force(
    bad: bytes, words: str, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A slip of somebody's hand at night must not stop the mail; one ERROR says what it is."""
    relay = relays.start(allowed=[words])
    relay.set_secret("/run/secrets/password", bad)
    line = wait_line(relay, words)
    assert " ERROR authrelay: RELAYHOST_PASSWORD_FILE" in line
    assert line.endswith("What was in force before stays in force.")
    submit(relay, client)
    upstream.wait_messages(1)
    answer = json.loads(relay.exec(["authrelay", "health", "--json"]).text)
    assert answer["is_healthy"]
    assert any(words in warning for warning in answer["warnings"])
    relay.set_secret("/run/secrets/password", PASSWORD.encode())
    wait_line(relay, "INFO authrelay: the settings and their files can be used again")
    assert json.loads(relay.exec(["authrelay", "health", "--json"]).text)["warnings"] == []
    assert len([one for one in relay.complaints() if "RELAYHOST_PASSWORD" in one.text]) == 1


def test_file_that_is_mounted_alone_and_replaced_outside_is_told(engine: Engine, relays: Relays) -> None:
    """The container cannot see the new one, whatever it does; without a word that is a night's search."""
    file = engine.directory() / "password"
    file.write_text(PASSWORD)
    relay = relays.start(
        {"RELAYHOST_PASSWORD_FILE": "/password"}, volumes={str(file): "/password"}, allowed=["was replaced outside"]
    )
    new = file.with_name("new")
    new.write_text(NEW)
    new.rename(file)
    assert " WARNING authrelay: /password was replaced outside" in wait_line(relay, "replaced outside")
    assert "mount the directory instead" in relay.exec(["authrelay", "health"]).text
    file.write_text(PASSWORD)


def test_hangup_signal_makes_the_relay_look_at_once(relays: Relays, upstream: Upstream, client: Client) -> None:
    """The reflex of everyone who ran daemons; it must not stop the mail instead."""
    relay = relays.start()
    written_at = relay.exec(["stat", "-c", "%.9Y", "/run/authrelay/upkeep.json"]).text
    relay.kill("HUP")
    wait_until(
        lambda: relay.exec(["stat", "-c", "%.9Y", "/run/authrelay/upkeep.json"]).text != written_at,
        15,
        "the upkeep should have run",
    )
    submit(relay, client)
    upstream.wait_messages(1)
    assert relay.container.is_running


def test_nobody_but_the_first_process_has_the_settings(relays: Relays) -> None:
    """The upkeep reads them again, so that they are kept; a service that was broken into must not find them."""
    relay = relays.start({"RELAYHOST_PASSWORD": NEW, "RELAYHOST_PASSWORD_FILE": ""})
    relay.set_secret("/run/secrets/ca.pem", Authority().pem.encode())
    wait_line(relay, "changed: the trusted CA")
    find = "for d in /proc/[0-9]*; do ls -l $d/fd 2>/dev/null | grep -q memfd:settings && echo ${d#/proc/}; done; true"
    # The upkeep, which is given them, waits for deliveries under way before it ends.
    wait_until(lambda: relay.exec(["bash", "-c", find]).text.split() == ["1"], 15, "nobody else should have them")
    environments = [f"/proc/{pid}/environ" for pid in list_processes(relay)]
    assert len(environments) > 3
    assert relay.exec(["grep", "-laFs", NEW, *environments], check=False).text == ""
    found = relay.exec(["grep", "-rlaF", NEW, "/run/authrelay", "/var/lib/authrelay"], check=False).text.split()
    assert sorted(found) == ["/run/authrelay/postfix/sasl_passwd", "/run/authrelay/postfix/sasl_passwd.lmdb"]


def is_changed(relay: Relay, times: int) -> bool:
    """Whether the login was changed so often."""
    return relay.logs().count("changed: the login") == times


class Stream:
    """An application that sends, message after message, until told to stop."""

    def __init__(self, relay: Relay, client: Client) -> None:
        self._relay, self._client = relay, client
        self._is_over = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self._is_over.is_set():
            submit(self._relay, self._client)
            self.count += 1

    def has_sent(self, count: int) -> bool:
        """Whether so many messages were accepted."""
        return self.count >= count

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def find_first_use(sessions: Sequence[Session], password: str) -> float:
    """When the upstream was first shown a password."""
    wanted = password.encode()
    return min(one.started_at for one in sessions if any(login.password == wanted for login in one.logins))


def test_password_rotates_under_load_without_one_failed_delivery(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """While the upstream takes both passwords, nobody may notice, whichever way the file changes."""
    relay, secrets = start_with_secrets(engine, relays, PASSWORD, allowed=AT_A_RELOAD)
    passwords = [PASSWORD, *(f"password-{number}" for number in range(1, ROUNDS + 1))]
    changed_at = []
    with Load(engine, network, relay.container.name, prefix="x", sessions=4, pause_seconds=0.3) as load:
        for number, password in enumerate(passwords[1:], start=1):
            load.wait_accepted(len(load.accepted()) + 3)
            upstream.set_accounts({LOGIN: "\n".join(passwords[number - 1 : number + 1])})
            changed_at.append(time.time())
            WAYS[number % len(WAYS)](secrets, password)
            wait_until(partial(is_changed, relay, number), OVERLAP_SECONDS, "it should be in force")
            time.sleep(max(0.0, changed_at[-1] + OVERLAP_SECONDS - time.time()))
            upstream.set_accounts({LOGIN: password})
        accepted = load.end()
    wait_until_delivered(relay)
    lost, repeated = account(accepted, upstream.messages())
    sessions = upstream.sessions()
    refused = [login for one in sessions for login in one.logins if not login.is_accepted]
    deferred = relay.logs().count("status=deferred")
    seconds = [find_first_use(sessions, new) - at for new, at in zip(passwords[1:], changed_at, strict=True)]
    print(
        f"{ROUNDS} rotations, {len(accepted)} accepted, {deferred} deferred, {len(refused)} logins refused, "
        f"{len(lost)} lost, {len(repeated)} repeated; seconds from the file to its use: {min(seconds):.1f} to "
        f"{max(seconds):.1f}, median {statistics.median(seconds):.1f}"
    )
    assert (deferred, refused, lost, repeated) == (0, [], [], [])


def test_session_of_a_withdrawn_password_is_not_used_for_long(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """Sessions are kept for the next message; those that know the old password end after ten seconds at most."""
    relay, secrets = start_with_secrets(engine, relays, PASSWORD, allowed=AT_A_RELOAD)
    upstream.set_accounts({LOGIN: f"{PASSWORD}\nnext"})
    with Load(engine, network, relay.container.name, prefix="x", sessions=6, pause_seconds=0.02) as load:
        load.wait_accepted(100)
        secrets.rename("next")
        wait_until(partial(is_changed, relay, 1), 15, "it should be in force")
        in_force_at = time.time()
        wait_until(lambda: time.time() > in_force_at + 15, 25, "the load should go on")
        accepted = load.end()
    wait_until_delivered(relay)
    assert account(accepted, upstream.messages()) == ([], [])
    uses = [(one.logins[0].password, message) for one in upstream.sessions() for message in one.messages if one.logins]
    late = [message.final_reply_at for password, message in uses if password == PASSWORD.encode()]
    seconds = max(at for at in late if at is not None) - in_force_at
    many = max(len(one.messages) for one in upstream.sessions())
    print(f"{many} messages in one session at most; the old password's was used until {seconds:.1f} s after")
    assert many > 5, "sessions should be used again"
    assert seconds < 13


def test_own_certificate_is_renewed_while_the_relay_runs(
    engine: Engine, relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A container runs for years; the certificate that we made must not end under it."""
    state = engine.directory()
    # Its renewal is due thirty days before its end: in a few seconds.
    made = make_client_certificate(subject="CN=old", days=31, key_type="ecdsa", now=time.time() - DAY + 3600 + 6)
    (state / "client.pem").write_text(made.chain)
    relay = relays.start(volumes={str(state): "/var/lib/authrelay"}, allowed=["near its end and is replaced"])
    assert made.sha256 not in relay.logs()
    line = wait_line(relay, f"WARNING authrelay: the client certificate .* was {made.sha256}, is ", 20)
    new = re.findall(r"is ([0-9A-F:]{95})\.", line)[0]
    upstream.accept_client_certificate((state / "client-certificate.pem").read_text())
    submit(relay, client)
    upstream.wait_messages(1)
    shown = upstream.sessions()[-1].client_certificate_sha256 or ""
    assert shown.replace(":", "").lower() == new.replace(":", "").lower()


def test_users_certificate_whose_key_does_not_match_leaves_the_old_pair(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Two files cannot be replaced at once: between them the old pair serves, and the new one after."""
    old, new = upstream.authority.make_client_chain("old"), upstream.authority.make_client_chain("new")
    upstream.accept_client_certificate(upstream.authority.pem)
    env = {"CLIENT_CERT_FILE": "/run/secrets/cert.pem", "CLIENT_KEY_FILE": "/run/secrets/key.pem"}
    relay = relays.start(
        env,
        secrets={"/run/secrets/cert.pem": old.chain_pem.encode(), "/run/secrets/key.pem": old.key_pem.encode()},
        allowed=["CLIENT_KEY"],
    )
    relay.set_secret("/run/secrets/cert.pem", new.chain_pem.encode())
    line = wait_line(relay, "CLIENT_KEY")
    assert "CLIENT_KEY: it is not the key of the first certificate in CLIENT_CERT" in line
    submit(relay, client)
    upstream.wait_messages(1)
    assert "old" in (upstream.sessions()[-1].client_certificate_subject or "")
    relay.set_secret("/run/secrets/key.pem", new.key_pem.encode())
    wait_line(relay, "changed: the client certificate")
    submit(relay, client)
    upstream.wait_messages(2)
    assert "new" in (upstream.sessions()[-1].client_certificate_subject or "")


def test_certificates_that_end_are_told_before(relays: Relays, upstream: Upstream) -> None:
    """At 30, 7 and 1 days; here one passes its week while the relay runs."""
    chain = upstream.authority.make_client_chain_until("ends", time.time() + 7 * DAY + 8)
    env = {"CLIENT_CERT_FILE": "/run/secrets/cert.pem", "CLIENT_KEY_FILE": "/run/secrets/key.pem"}
    relay = relays.start(
        env,
        secrets={"/run/secrets/cert.pem": chain.chain_pem.encode(), "/run/secrets/key.pem": chain.key_pem.encode()},
        allowed=["CLIENT_CERT: the certificate"],
    )
    assert "expires in 7 days, on " in wait_line(relay, "WARNING authrelay: CLIENT_CERT: the certificate 'CN=ends'")
    assert "expires in 7 days, on " in relay.exec(["authrelay", "health"]).text
    assert "expires in 6 days, on " in wait_line(relay, "expires in 6 days", 25)
    assert relay.logs().count("WARNING authrelay: CLIENT_CERT") == 2
