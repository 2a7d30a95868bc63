"""The fault matrix: while mail flows something breaks, and is whole again. Nothing is lost, and all goes out by itself.

What a fault costs is printed, a row each. A few seconds here; `make faults` lets the upstream be away for a minute
(AUTHRELAY_SECONDS) and goes by the image's own patience, where otherwise Postfix tries again after a second.

Repeated may be only what the upstream had whole and did not confirm: RFC 5321 section 4.5.4.1 has the client send it
again (RFC 1047). Nowhere does a test call for a queue run.
"""

from __future__ import annotations

import base64
import concurrent.futures
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.image.conftest import Relays
from tests.image.test_crash import strike
from tests.support.authorities import Authority
from tests.support.client import Client
from tests.support.dialogue import Place, hold_dialogues
from tests.support.engine import Engine, Network
from tests.support.flow import (
    BRIEF,
    IS_LONG,
    KILLED,
    QUICK,
    SAID,
    SECONDS,
    Mail,
    collect_copies,
    send,
)
from tests.support.load import Kill
from tests.support.name_server import NameServer
from tests.support.upstream import HOSTNAME, Fault, Upstream, drop, reply, reset


def count_resets(upstream: Upstream) -> int:
    """How many RST its container has sent (proc(5), /proc/net/snmp)."""
    lines = upstream.container.exec(["grep", "^Tcp:", "/proc/net/snmp"]).text.splitlines()
    return int(dict(zip(*(line.split() for line in lines), strict=True))["OutRsts"])


@pytest.fixture(scope="module")
def names(engine: Engine, network: Network, the_upstream: Upstream) -> NameServer:
    """A name server that knows the upstream and nothing else."""
    address = base64.b64encode(socket.inet_aton(the_upstream.container.address(network))).decode()
    return NameServer(engine, network, {"records": [[HOSTNAME, "A", address]], "signed": [], "failing": []})


@pytest.fixture(scope="module")
def mail(
    engine: Engine, network: Network, module_relays: Relays, names: NameServer, the_upstream: Upstream
) -> Iterator[Mail]:
    """Mail through a relay that tries again soon, for most tests."""
    volumes = {engine.volume(): "/var/spool/postfix", str(names.write_resolv_conf()): "/etc/resolv.conf"}
    relay = module_relays.start(QUICK, volumes=volumes, allowed=(*SAID, *KILLED))
    with send(engine, network, relay, the_upstream, "shared") as flowing:
        yield flowing


@pytest.fixture(autouse=True)
def _mended(kept_upstream: Upstream) -> None:
    """After a test that failed the next one begins with a good upstream, too."""


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
        mail.last(BRIEF / 3)
    mail.upstream.mend()
    mail.account("451 at six stages, one after the other")


def test_greeting_that_says_come_back_later(mail: Mail) -> None:
    """What a provider says that has too much to do (RFC 5321 section 3.8)."""
    mail.upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
    mail.last(BRIEF)
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
    mail.last(BRIEF)
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
        mail.last(BRIEF)
    shown = [one for one in mail.upstream.sessions() if one.started_at > began_at and one.logins]
    mail.upstream.serve(mail.upstream.good_chain)
    assert shown == []
    mail.account("bad certificates")


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
