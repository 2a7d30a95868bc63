"""The fault matrix: while mail flows something breaks, and is whole again. Nothing is lost, and all goes out by itself.

What a fault costs is printed, a row each. A few seconds here; `make faults` lets the upstream be away for a minute
(AUTHRELAY_SECONDS) and goes by the image's own patience, where otherwise Postfix tries again after a second.

Repeated may be only what the upstream had whole and did not confirm: RFC 5321 section 4.5.4.1 has the client send it
again (RFC 1047). Nowhere does a test call for a queue run.
"""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.image.conftest import AT_A_RELOAD, LOGIN, PASSWORD, Relays
from tests.image.test_crash import strike
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.clock import Clock
from tests.support.dialogue import Place, hold_dialogues
from tests.support.engine import Engine, Network
from tests.support.load import Kill, Load, count_queue, was_in_flight
from tests.support.name_server import NameServer
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Fault, Message, Upstream, drop, reply, reset
from tests.support.wait import wait_until

SECONDS = float(os.environ.get("AUTHRELAY_SECONDS", "3"))
"""How long the upstream is away."""
IS_LONG = SECONDS >= 60
_BRIEF = min(SECONDS, 15) / 2
_QUICK = {
    "POSTFIX_queue_run_delay": "1s",
    # Postfix takes it for over a second early; less, and it would meet messages whose delivery has not quite ended.
    "POSTFIX_minimal_backoff_time": "3s",
    "POSTFIX_maximal_backoff_time": "3s",
}
_DRAINED_SECONDS = 45.0
"""More than twice what any row needs with the settings above, on a machine that does three other things."""
_LEAST_RATE = 20.0
"""Messages a second that go out at least, on such a machine: the long form has hundreds to send."""
_SKIPPED = 3
_SKIPPED_SECONDS = 130.0
"""A message that the queue manager meets while its delivery is just ending ("skipped, still being delivered", in its
words) is left for a minute and until its next wakeup. There are few of them, and none is what a row is about."""
_OWN = {"PROBE": "yes"}
"""The image as it is: the tests leave the probe out otherwise."""
# What Postfix says of the faults themselves.
_JUMPED = (
    "time jump detected|ciphertext .* timeout",
    # What tlsproxy(8) waited for just then has "timed out"; smtp(8) tries again.
    "receive request attributes: Connection timed out|tlsproxy service role .* is not available",
)
_SAID = ("SASL authentication failed", "does not work, broken at")
_KILLED = (
    *(
        "killed by signal 9",
        # The kernel may take master(8) itself, and the supervisor starts it again.
        r"postfix ended \(terminated by SIGKILL\)",
        "bad command startup -- throttling",
        "problem talking to service",
        "premature end-of-input",
        "malformed response",
        "malformed request",
        "write rewrite reply: Broken pipe",
    ),
    *("(upkeep|probe) failed .terminated by SIGKILL", "status ended .terminated by SIGKILL. and is started again"),
    *("log-forwarder does not read", "log-forwarder ended .terminated by SIGKILL. and is started again"),
)


@dataclass
class Mail:
    """Mail that goes on while something is broken, and the account of it."""

    relay: Relay
    upstream: Upstream
    load: Load
    _counted: int = field(default=0, init=False)

    def wait(self, count: int = 5, timeout_seconds: float = 30) -> None:
        """Wait until so many more were accepted."""
        self.load.wait_accepted(len(self.load.accepted()) + count, timeout_seconds)

    def last(self, seconds: float) -> None:
        """Let the fault last, and see that the clients' mail is taken all the while."""
        began = time.monotonic()
        self.wait(timeout_seconds=max(seconds, 10))
        time.sleep(max(0.0, began + seconds - time.monotonic()))

    def account(
        self, fault: str, *, most_seconds: float = _DRAINED_SECONDS, kills: Sequence[Kill] = (), most_repeated: int = 0
    ) -> float:
        """Wait until all that was accepted since the last account is confirmed, print the row, and judge it.

        Returns how long that took, but for the few messages that Postfix leaves for a minute; `finish` waits for them.
        """
        began = time.monotonic()
        names = self.load.accepted()[self._counted :]
        self._counted += len(names)
        because = f"all mail should go out after {fault}"
        most_seconds += len(names) / _LEAST_RATE
        wait_until(lambda: len(find_lost(names, self.upstream)) <= _SKIPPED, most_seconds, because)
        seconds = time.monotonic() - began
        late = find_lost(names, self.upstream)
        copies = collect_copies(self.upstream.messages())
        repeated = [name for name in names if len(copies[name]) > 1]
        odd = [name for name in repeated if not any(is_doubtful(one, kills) for one in copies[name])]
        out = len(names) - len(late)
        print(
            f"{fault:<44} {len(names):>4} in, {out:>4} out after {seconds:.1f} s, {len(late)} later; "
            f"{len(repeated)} repeated, {len(odd)} oddly"
        )
        assert odd == []
        assert len(repeated) <= most_repeated
        assert names
        return seconds

    def finish(self) -> None:
        """End the load, and see that really everything has gone out."""
        accepted = self.load.end()
        wait_until(lambda: not count_queue(self.relay), _SKIPPED_SECONDS, "the queue should be empty")
        assert find_lost(accepted, self.upstream) == set()


def find_lost(names: Sequence[str], upstream: Upstream) -> set[str]:
    """The messages that the upstream has not confirmed."""
    return set(names) - {one.mail_from for one in upstream.messages() if one.is_accepted}


def collect_copies(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """What the upstream has whole, by name, without what it refused."""
    copies: dict[str, list[Message]] = collections.defaultdict(list)
    for one in messages:
        if one.final_code in (250, None):
            copies[one.mail_from].append(one)
    return copies


def is_doubtful(message: Message, kills: Sequence[Kill]) -> bool:
    """Whether the relay could not know that the upstream has it."""
    return message.final_code is None or was_in_flight(message, kills)


def count_refused_logins(upstream: Upstream) -> int:
    return sum(not login.is_accepted for one in upstream.sessions() for login in one.logins)


def count_resets(upstream: Upstream) -> int:
    """How many RST its container has sent (proc(5), /proc/net/snmp)."""
    lines = upstream.container.exec(["grep", "^Tcp:", "/proc/net/snmp"]).text.splitlines()
    return int(dict(zip(*(line.split() for line in lines), strict=True))["OutRsts"])


@contextlib.contextmanager
def send(engine: Engine, network: Network, relay: Relay, upstream: Upstream, name: str) -> Iterator[Mail]:
    """Let mail flow."""
    with Load(engine, network, relay.container.name, prefix=name, sessions=3, pause_seconds=0.2) as load:
        mail = Mail(relay, upstream, load)
        mail.wait()
        yield mail
        mail.finish()


@pytest.fixture(scope="module")
def upstream(the_upstream: Upstream) -> Iterator[Upstream]:
    """The mock upstream, which keeps its records from test to test: mail flows all the time."""
    yield the_upstream
    the_upstream.reset()


@pytest.fixture(autouse=True)
def _mended(upstream: Upstream) -> Iterator[None]:
    """After a test that failed the next one begins with a good upstream, too."""
    yield
    upstream.mend()


@pytest.fixture(scope="module")
def names(engine: Engine, network: Network, the_upstream: Upstream) -> NameServer:
    """A name server that knows the upstream and nothing else."""
    address = base64.b64encode(socket.inet_aton(the_upstream.container.address(network))).decode()
    return NameServer(engine, network, {"records": [[HOSTNAME, "A", address]], "signed": [], "failing": []})


@pytest.fixture(scope="module")
def mail(
    engine: Engine, network: Network, module_relays: Relays, names: NameServer, upstream: Upstream
) -> Iterator[Mail]:
    """Mail through a relay that tries again soon, for most tests."""
    volumes = {engine.volume(): "/var/spool/postfix", str(names.write_resolv_conf()): "/etc/resolv.conf"}
    relay = module_relays.start(_QUICK, volumes=volumes, allowed=(*_SAID, *_KILLED))
    with send(engine, network, relay, upstream, "shared") as flowing:
        yield flowing


def test_upstream_that_is_away(mail: Mail) -> None:
    """Its machine is up, its server is not: connections are refused."""
    mail.upstream.behave(is_listening=False)
    mail.last(SECONDS)
    mail.upstream.mend()
    mail.account(f"upstream away for {SECONDS:g} s")


def test_upstream_that_flaps(mail: Mail) -> None:
    """Up and down like a server that is restarted by its watchdog."""
    for _ in range(20 if IS_LONG else 3):
        mail.upstream.behave(is_listening=False, faults={"mail": drop()})
        mail.last(0.7)
        mail.upstream.mend()
        mail.last(0.5)
    mail.account("flapping")


def test_storm_of_temporary_refusals(mail: Mail) -> None:
    """A 4xx means later, wherever it comes; what was refused after its content was not taken, and is no duplicate."""
    for stage in ("ehlo", "auth", "mail", "rcpt", "data", "end-of-data"):
        mail.upstream.behave(faults={stage: reply(451, "4.3.0 not now")})
        mail.last(_BRIEF / 3)
    mail.upstream.mend()
    mail.account("451 at six stages, one after the other")


def test_greeting_that_says_come_back_later(mail: Mail) -> None:
    """What a provider says that has too much to do (RFC 5321 section 3.8)."""
    mail.upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
    mail.last(_BRIEF)
    mail.upstream.mend()
    mail.account("421 on connect")


def test_tarpit_that_takes_its_time(mail: Mail) -> None:
    """Slow replies, and a final 250 that is very late, are waited for: who gives up too early sends twice."""
    late = 45 if IS_LONG else 4
    mail.upstream.behave(reply_delay_seconds=0.3, final_reply_delay_seconds=late)
    mail.last(SECONDS)
    mail.upstream.mend()
    mail.account(f"tarpit, final 250 after {late} s", most_seconds=late + 30)


@pytest.mark.parametrize(
    ("stage", "fault", "most_repeated"),
    [("content", reset, 0), ("end-of-data", reset, 100), ("end-of-data", drop, 100)],
    ids=["reset-in-content", "reset-after-content", "closed-after-content"],
)
def test_connection_that_breaks_in_data(stage: str, fault: Callable[[], Fault], most_repeated: int, mail: Mail) -> None:
    """RST in the middle of the content: the upstream has nothing. After it: it may have all, and the relay cannot
    know; each such attempt is one copy, and no protocol avoids that."""
    before = count_resets(mail.upstream)
    mail.upstream.behave(faults={stage: fault()})
    mail.last(_BRIEF)
    mail.upstream.mend()
    assert fault is drop or count_resets(mail.upstream) > before
    mail.account(f"{fault.__name__} at {stage}", most_repeated=most_repeated)


def test_name_server_that_is_gone(mail: Mail, names: NameServer) -> None:
    """Nobody answers; a name that cannot be looked up now is not a name that does not exist."""
    names.container.pause()
    try:
        mail.last(SECONDS)
    finally:
        names.container.unpause()
    mail.account("DNS gone")


def test_certificate_that_is_wrong_for_a_while(mail: Mail) -> None:
    """Expired, of another name, of an unknown CA: mail waits, and the password is shown to nobody."""
    good = mail.upstream.authority
    bad = (good.make_expired_chain(HOSTNAME), good.make_chain("another.test"), Authority().make_chain(HOSTNAME))
    mail.upstream.serve(bad[0])
    # A handshake that is under way has been shown the good one.
    began_at = time.time() + 0.5
    for chain in bad:
        mail.upstream.serve(chain)
        mail.last(_BRIEF)
    shown = [one for one in mail.upstream.sessions() if one.started_at > began_at and one.logins]
    mail.upstream.serve(mail.upstream.good_chain)
    assert shown == []
    mail.account("bad certificates")


def test_login_that_is_refused_is_not_tried_for_each_message(
    engine: Engine, network: Network, upstream: Upstream, relays: Relays
) -> None:
    """What goes out over a session from before tells the queue manager that all is well, and it hands out the rest."""
    relay = relays.start(allowed=(*_SAID, *AT_A_RELOAD))
    name = relay.container.name
    upstream.behave(final_reply_delay_seconds=0.05)
    with Load(engine, network, name, prefix="old-session", sessions=1, pause_seconds=0.02) as steady:
        time.sleep(1.5)
        counts = [count_refused_logins(upstream)]
        upstream.set_accounts({LOGIN: "renewed"})
        with Load(engine, network, name, prefix="new-session", sessions=4, pause_seconds=0.3) as more:
            for _ in range(9):
                time.sleep(1)
                counts.append(count_refused_logins(upstream))
            relay.set_secret("/run/secrets/password", b"renewed")
            accepted = {*more.end(), *steady.end()}
    refused = [later - earlier for earlier, later in itertools.pairwise(counts)]
    print(f"a session from before: {refused} logins refused, one second after the other, {len(accepted)} messages")
    wait_until(lambda: not find_lost([*accepted], upstream), 30, "all should go out with the new password")
    upstream.set_accounts({LOGIN: f"renewed\n{PASSWORD}"})
    # Without the reload it goes on, 14 in each second, until the last session is as old as it may be. On a busy machine
    # one that is at work at the reload may be left to the next.
    assert sum(refused) > 0
    assert sum(refused[1:]) <= 140
    assert sum(refused[6:]) <= 28


def test_password_that_changes_in_the_file_first(
    engine: Engine, network: Network, mail: Mail, upstream: Upstream, module_relays: Relays
) -> None:
    """Whoever rotates does not do both in one moment. With the image's own patience the probe finds the moment."""
    relay = mail.relay
    if IS_LONG:
        relay = module_relays.start(_OWN, allowed=_SAID)
    with send(engine, network, relay, upstream, "file-first") if IS_LONG else contextlib.nullcontext(mail) as flowing:
        before = count_refused_logins(upstream)
        relay.set_secret("/run/secrets/password", b"another")
        wait_until(lambda: count_refused_logins(upstream) > before, 10, "the new password should be refused")
        flowing.last(_BRIEF)
        refused = count_refused_logins(upstream) - before
        upstream.set_accounts({LOGIN: "another"})
        flowing.account(f"password, file first ({refused} logins refused)", most_seconds=90)
    mail.relay.set_secret("/run/secrets/password", PASSWORD.encode())
    upstream.set_accounts({LOGIN: f"another\n{PASSWORD}"})


def test_smtpd_that_is_killed_in_a_message(mail: Mail, client: Client) -> None:
    """As the kernel does when memory is used up: the client has no 250 then, and nothing of the message is sent."""
    begun = [b"EHLO x\r\n", b"MAIL FROM:<half@example.test>\r\n", b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n", b"half"]
    place = Place(host=mail.relay.container.name, container=client.container)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = pool.submit(hold_dialogues, place, [begun], timeout_seconds=10)
        mail.last(1)
        for _ in range(20 if IS_LONG else 1):
            strike(mail.relay, "smtpd")
            mail.wait(1)
    codes = [answer.code for answer in answers.result()[0]]
    assert codes == [220, 250, 250, 250, 354, 0]
    mail.account("smtpd killed")
    assert all(one.mail_from != "half@example.test" for one in mail.upstream.messages())


# In the container's own cgroup, until the kernel has ended so many. Each is larger than the supervisor, and smaller
# than what Postfix's processes say of themselves (oom_score_adj); to look smaller it would need a capability.
_HOG = r"""
import glob, os, re, signal, sys, time
def count():
    for path in glob.glob("/sys/fs/cgroup/memory.events") + glob.glob("/sys/fs/cgroup/memory/memory.oom_control"):
        return int(re.search(r"^oom_kill (\d+)", open(path).read(), re.M)[1])
before, children, ends_at = count(), [], time.monotonic() + 30
while count() - before < int(sys.argv[1]) and time.monotonic() < ends_at:
    children.append(os.fork())
    if not children[-1]:
        held = b"x" * (40 << 20)
        signal.pause()
    time.sleep(0.05)
for child in children:
    os.kill(child, signal.SIGKILL)
print(count() - before)
"""


def test_memory_that_is_used_up(mail: Mail) -> None:
    """The kernel ends processes of Postfix, whichever it likes; they are started again, and the relay stays."""
    began_at = time.time()
    kills = mail.relay.container.exec(
        ["/opt/authrelay/bin/python3", "-c", _HOG, "20" if IS_LONG else "3"], is_privileged=True
    )
    ended_at = time.time()
    count = int(kills.text)
    assert count >= 3
    # What was killed as it started is tried again after ten seconds (postconf(5) service_throttle_time).
    mail.wait(timeout_seconds=30)
    mail.account(
        f"{count} processes ended by the kernel",
        kills=[Kill(victim="any", began_at=began_at, ended_at=ended_at)],
        most_repeated=20 * count,
    )
    assert mail.relay.container.is_running


def test_log_forwarder_that_hangs(mail: Mail) -> None:
    """syslog(3) blocks its caller when nobody reads: every daemon, and the mail with them, for as long as that is."""
    stop = "for p in /proc/[0-9]*; do grep -qx log-forwarder $p/comm && kill -STOP ${p#/proc/}; done; true"
    mail.relay.container.exec(["bash", "-c", stop], is_privileged=True)
    began = time.monotonic()
    mail.wait(10, timeout_seconds=15)
    print(f"{'':<44} after {time.monotonic() - began:.1f} s 10 more were accepted")
    mail.account("log forwarder stopped")


def test_everything_that_flowed_has_arrived(mail: Mail) -> None:
    """The whole account, also of what came between two rows."""
    mail.finish()
    accepted = mail.load.accepted()
    copies = collect_copies(mail.upstream.messages())
    repeated = sum(len(copies[name]) > 1 for name in accepted)
    print(f"{'all of one relay':<44} {len(accepted):>4} in, {len(accepted):>4} out, 0 lost; {repeated} repeated")


@pytest.fixture(scope="module")
def own(module_relays: Relays) -> Relay:
    """A relay as people start it: Postfix's patience, and the probe."""
    return module_relays.start(_OWN, allowed=(*_SAID, *_KILLED, *AT_A_RELOAD))


def test_mail_goes_out_soon_with_the_settings_of_the_image(
    engine: Engine, network: Network, own: Relay, upstream: Upstream
) -> None:
    """Postfix alone would leave what waits for another 5 to 10 minutes; the probe sees the end and has it tried."""
    with send(engine, network, own, upstream, "own") as mail:
        upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.last(SECONDS)
        upstream.mend()
        mail.account(f"421 for {SECONDS:g} s, the image's own settings", most_seconds=SECONDS + 30)


def test_password_that_changes_at_the_upstream_first(
    engine: Engine, network: Network, own: Relay, upstream: Upstream
) -> None:
    """What waits goes out as soon as the file has the new one; the old one is not tried for every message till then."""
    with send(engine, network, own, upstream, "upstream-first") as mail:
        before = count_refused_logins(upstream)
        upstream.set_accounts({LOGIN: "renewed"})
        mail.last(2 * SECONDS)
        refused = count_refused_logins(upstream) - before
        own.set_secret("/run/secrets/password", b"renewed")
        try:
            mail.account(f"password, upstream first ({refused} logins refused)")
        finally:
            upstream.set_accounts({LOGIN: f"renewed\n{PASSWORD}"})
    # As many as were under way at once, at each of two addresses, and the probe's; then none for minutes. Where a
    # session from before goes on delivering, it is ended in the third second; on a busy machine all of that again.
    assert 0 < refused <= 120


_FULL = (
    *("the queue lies in memory", "No space left on device", "not enough free space", "queue file write error"),
    *("mail_stream_cleanup: close error", "bad command startup -- throttling"),
    # What bounce(8) is to write about a delivery that is put off has no room either; the queue manager keeps it anyway.
    *("private/defer socket", "defer service failure", r"bounce pid \d+ exit status 1"),
)


@pytest.mark.parametrize(
    ("size", "limit", "ballast", "codes"),
    # By default 1.5 times MESSAGE_SIZE_LIMIT must be free; without a limit the disk is filled to its end.
    [("100m", "50M", "bs=1M count=40", {452}), ("16m", "none", "bs=1k", {451, 452})],
    ids=["nearly", "wholly"],
)
def test_disk_that_is_full(
    size: str,
    limit: str,
    ballast: str,
    codes: set[int],
    engine: Engine,
    network: Network,
    client: Client,
    upstream: Upstream,
    relays: Relays,
) -> None:
    """Clients are told to come back, nobody gets a false 250, what was accepted goes out, and it mends itself."""
    env = {**_QUICK, "MESSAGE_SIZE_LIMIT": limit}
    relay = relays.start(env, arguments=[f"--tmpfs=/var/spool/postfix:size={size}"], allowed=_FULL)
    with send(engine, network, relay, upstream, f"disk-{limit}") as mail:
        upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.wait()
        relay.exec(["dd", "if=/dev/zero", "of=/var/spool/postfix/ballast", *ballast.split()], check=False)
        large = b"Subject: x\r\n\r\n" + b"y" * 70 * 20000
        replies, _ = client.converse(relay.container.name, 25, "large@example.test", ["b@example.com"], large)
        assert {one.code for one in replies if one.command in ("MAIL", ".")} & codes
        assert all(one.code != 250 for one in replies if one.command == ".")
        relay.exec(["rm", "/var/spool/postfix/ballast"])
        upstream.mend()
        mail.wait()
        mail.account(f"disk full, MESSAGE_SIZE_LIMIT={limit}")
    assert find_lost(["large@example.test"], upstream)


def test_inodes_that_are_used_up(
    engine: Engine, network: Network, client: Client, upstream: Upstream, relays: Relays
) -> None:
    """Postfix has a client wait then, and looks again every 10 s (mail_queue_enter): no false 250, nothing is lost."""
    said = [*_FULL, "Connection concurrency limit exceeded", r"qmgr pid \d+ exit status 1"]
    relay = relays.start(_QUICK, arguments=["--tmpfs=/var/spool/postfix:size=150m,nr_inodes=300"], allowed=said)
    with send(engine, network, relay, upstream, "inodes") as mail:
        upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.wait()
        fill = "mkdir /var/spool/postfix/ballast && cd /var/spool/postfix/ballast && for i in {1..300}; do : >$i; done"
        relay.exec(["bash", "-c", fill], check=False)
        replies, _ = client.converse(
            relay.container.name, 25, "late@example.test", ["b@example.com"], b"x\r\n", timeout_seconds=3
        )
        assert all(one.command != "." for one in replies)
        relay.exec(["rm", "-r", "/var/spool/postfix/ballast"])
        upstream.mend()
        mail.wait()
        mail.account("inodes used up")
    assert find_lost(["late@example.test"], upstream)


def test_clock_that_is_set(
    engine: Engine, network: Network, client: Client, upstream: Upstream, relays: Relays
) -> None:
    """An hour forward and back again. The queue manager's own clock and the time of each next try then lie in the
    future, and Postfix alone would leave what waits for an hour."""
    clock = Clock(engine, client)
    relay = relays.start(_QUICK, volumes=clock.volumes, allowed=[*_JUMPED, *_KILLED])
    with send(engine, network, relay, upstream, "clock") as mail:
        for name, seconds in (("forward", 3600), ("back", 0)):
            upstream.behave(faults={"rcpt": reply(451, "4.3.0 not now")})
            mail.last(1.5)
            clock.set(seconds)
            assert abs(int(relay.exec(["date", "+%s"]).text) - time.time() - seconds) < 10
            upstream.mend()
            mail.last(1)
            mail.account(f"clock set an hour {name}")
    assert "the clock was set back by 3600 s" in relay.logs()


def test_state_volume_that_cannot_be_written(
    engine: Engine, network: Network, upstream: Upstream, relays: Relays
) -> None:
    """With a certificate from an earlier start it is only read; without one the end says what is wrong."""
    state = engine.volume()
    relay = relays.create(volumes={state: "/var/lib/authrelay:ro"})
    relay.start()
    assert relay.wait_exit() == 73
    assert relay.logs().startswith("authrelay: /var/lib/authrelay/client.pem cannot be written: Read-only file system")
    relays.made.remove(relay)
    # A stop right after a start may meet the first health check in its middle.
    relays.start(
        volumes={state: "/var/lib/authrelay"}, allowed=["private/anvil: Connection refused|Broken pipe"]
    ).stop()
    relay = relays.start(_QUICK, volumes={state: "/var/lib/authrelay:ro"})
    with send(engine, network, relay, upstream, "state") as mail:
        mail.account("state volume read-only, certificate kept")
