"""The soak: mixed mail and one fault after the other, for as long as it is told; nothing is lost, and nothing grows.

Half a minute here; `make soak` takes 30. The seed is printed: AUTHRELAY_SEED repeats a run's choices, not its timing.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.image.test_crash import revive, strike
from tests.support.authorities import Authority
from tests.support.engine import Engine, Network, run_docker
from tests.support.load import Kill, Load, count_queue, is_whole, list_recipients, wait_until_delivered, was_in_flight
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Message, Upstream, drop, reply
from tests.support.wait import WaitError, wait_until

SECONDS = float(os.environ.get("AUTHRELAY_MINUTES", "0.45")) * 60
SEED = int(os.environ.get("AUTHRELAY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
_CALM = 0.8
"""Of the time, before which the container is not killed: so long nothing hides what grows."""
_GROWTH_KIB = 4096
"""For each kind of process: what a heap keeps of the largest message and the longest queue that went through it."""
_GROWTH_DESCRIPTORS = 2
"""A log tap that is just being closed, a file that is just being read."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the processes of one kind have."""

    count: int
    descriptors: int
    threads: int
    anonymous_kib: int


@dataclass
class Stage:
    """What the faults work on."""

    relay: Relay
    upstream: Upstream
    chance: random.Random
    passwords: list[str] = field(default_factory=lambda: [PASSWORD])
    kills: list[Kill] = field(default_factory=list)

    def wait(self, most_seconds: float) -> None:
        """Let a fault last."""
        time.sleep(self.chance.uniform(0.3, most_seconds))


def measure(relay: Relay) -> dict[str, Size]:
    """The processes that stay, by kind, as this machine sees them: descriptors, threads, memory."""
    found: dict[str, list[Size]] = collections.defaultdict(list)
    for line in run_docker(["top", relay.container.name, "-eo", "pid,stat,args"]).text.splitlines()[1:]:
        pid, state, command = line.split(None, 2)
        kind = next(
            (word for word in ("supervisor", "forwarder", "master -s", "qmgr", "tlsmgr") if word in command), ""
        )
        assert "Z" not in state, f"a dead process that nobody looks after: {line}"
        if not kind:
            continue
        process = pathlib.Path("/proc", pid)
        rollup = (process / "smaps_rollup").read_text()
        found[kind].append(
            Size(
                count=1,
                descriptors=len(list((process / "fd").iterdir())),
                threads=len(list((process / "task").iterdir())),
                anonymous_kib=next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss_Anon:")),
            )
        )
    return {
        kind: Size(
            count=len(sizes),
            descriptors=sum(size.descriptors for size in sizes),
            threads=sum(size.threads for size in sizes),
            anonymous_kib=sum(size.anonymous_kib for size in sizes),
        )
        for kind, sizes in found.items()
    }


def refuse_for_now(stage: Stage) -> None:
    """4xx at any stage."""
    where = stage.chance.choice(["connect", "ehlo", "auth", "mail", "rcpt", "data", "end-of-data"])
    stage.upstream.behave(faults={where: reply(421 if where == "connect" else 451, "4.3.0 not now")})
    stage.wait(6)
    stage.upstream.mend()


def drop_connections(stage: Stage) -> None:
    """The connection ends instead of a reply."""
    where = stage.chance.choice(["connect", "handshake", "ehlo", "auth", "mail", "rcpt", "data", "end-of-data"])
    stage.upstream.behave(faults={where: drop()})
    stage.wait(4)
    stage.upstream.mend()


def be_slow(stage: Stage) -> None:
    """The final 250 takes its time."""
    stage.upstream.behave(final_reply_jitter_seconds=3)
    stage.wait(6)
    stage.upstream.mend()


def freeze(stage: Stage) -> None:
    """An upstream that hangs, connections and all."""
    stage.upstream.container.kill("STOP")
    stage.wait(6)
    stage.upstream.container.kill("CONT")


def show_wrong_certificate(stage: Stage) -> None:
    """Of an authority that nobody knows."""
    stage.upstream.serve(Authority().make_chain(HOSTNAME))
    stage.wait(5)
    stage.upstream.serve(stage.upstream.good_chain)


def rotate(stage: Stage) -> None:
    """A new password, and the old one good for a while."""
    old, new = stage.passwords[-1], f"secret-{len(stage.passwords)}"
    stage.passwords.append(new)
    stage.upstream.set_accounts({LOGIN: f"{old}\n{new}"})
    stage.relay.set_secret("/run/secrets/password", new.encode())
    stage.wait(8)
    stage.upstream.set_accounts({LOGIN: new})


def kill_forwarder(stage: Stage) -> None:
    strike(stage.relay, "forwarder")


def kill_master(stage: Stage) -> None:
    """Not three times in half a minute, which would end the container."""
    stage.kills.append(strike(stage.relay, "master"))
    wait_until(lambda: revive(stage.relay), 40, "it should greet again")
    time.sleep(min(20, SECONDS / 20))


def call_upkeep(stage: Stage) -> None:
    stage.relay.kill("HUP")


def flush(stage: Stage) -> None:
    stage.relay.flush()


def look(stage: Stage) -> None:
    """What people type while they look for a fault."""
    for words in (["health", "--ready"], ["queue"], ["doctor", "--timeout", "3"]):
        stage.relay.exec(["authrelay", *words], check=False)


def kill_container(stage: Stage) -> None:
    stage.kills.append(strike(stage.relay, "container"))
    wait_until(lambda: revive(stage.relay), 40, "it should greet again")


def stop_and_start(stage: Stage) -> None:
    began_at = time.time()
    if stage.relay.stop(10) != 0:
        stage.kills.append(Kill(victim="stop", began_at=began_at, ended_at=time.time()))
    wait_until(lambda: revive(stage.relay), 40, "it should greet again")


CALM: Sequence[Callable[[Stage], None]] = (
    *(refuse_for_now, drop_connections, be_slow, freeze, show_wrong_certificate, rotate),
    *(kill_forwarder, kill_master, call_upkeep, flush, look),
)
ROUGH: Sequence[Callable[[Stage], None]] = (*CALM, kill_container, stop_and_start)


def wait_idle(relay: Relay) -> None:
    """Wait until only what stays is there: a reload ends what is idle, also what a health check has just called for."""
    wait_until_delivered(relay)
    passing = {"smtp", "smtpd", "cleanup", "bounce", "upkeep", "probe"}

    def has_settled() -> bool:
        rows = run_docker(["top", relay.container.name, "-eo", "pid,comm"]).text.splitlines()[1:]
        return not passing & {row.split()[1] for row in rows}

    def settles() -> bool:
        relay.exec(["postfix", "reload"])
        with contextlib.suppress(WaitError):
            wait_until(has_settled, 5, "what is idle should end")
        return has_settled()

    try:
        wait_until(settles, 120, "the last delivery should end")
    except WaitError as error:
        rows = run_docker(["top", relay.container.name, "-eo", "pid,ppid,etimes,stat,wchan:24,args"]).text
        raise AssertionError(f"{error}\n{rows}") from error


def check_mail(accepted: Sequence[str], arrived: Sequence[Message], kills: Sequence[Kill]) -> str:
    """Account for every recipient of every message that got its 250; the figures, in words."""
    confirmed = [message for message in arrived if message.is_accepted]
    counts = collections.Counter((one.mail_from, name) for one in confirmed for name in one.rcpt_tos)
    wanted = [pair for name in accepted for pair in list_recipients(name)]
    lost = [pair for pair in wanted if not counts[pair]]
    repeated = {pair for pair, count in counts.items() if count > 1}
    odd = [
        (sender, name)
        for sender, name in sorted(repeated)
        if not any(was_in_flight(one, kills) for one in confirmed if one.mail_from == sender and name in one.rcpt_tos)
    ]
    damaged = [message.mail_from for message in arrived if not is_whole(message)]
    assert lost == []
    assert odd == []
    assert damaged == []
    return (
        f"{len(accepted)} messages accepted for {len(wanted)} recipients, {len(lost)} lost, {len(repeated)} repeated "
        f"in {len(kills)} kills, {len(odd)} oddly, {len(damaged)} damaged; "
        f"{sum(len(message.data) for message in arrived) / 1e6:.0f} MB"
    )


def render_sizes(before: dict[str, Size], after: dict[str, Size]) -> str:
    """What each kind of process had, and has."""
    rows = [f"{'':<12} {'processes':>12} {'descriptors':>12} {'threads':>10} {'own KiB':>16}"]
    for kind, old in before.items():
        new = after[kind]
        rows.append(
            f"{kind:<12} {old.count:>4} -> {new.count:<4} {old.descriptors:>4} -> {new.descriptors:<4} "
            f"{old.threads:>3} -> {new.threads:<3} {old.anonymous_kib:>6} -> {new.anonymous_kib:<6}"
        )
    return "\n".join(rows)


def test_mixed_mail_survives_one_fault_after_the_other_and_nothing_grows(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """What shows only after a while is what nobody finds before their users do."""
    print(f"AUTHRELAY_SEED={SEED}")
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    relay = relays.start(volumes={engine.volume(): "/var/spool/postfix"}, allowed=["."], is_checked=True)
    stage = Stage(relay=relay, upstream=upstream, chance=chance)
    done: collections.Counter[str] = collections.Counter()
    name = relay.container.name
    with Load(engine, network, name, prefix="warm", sessions=4, pause_seconds=0.1, is_mixed=True) as load:
        load.wait_accepted(60)
        accepted = load.end()
    wait_idle(relay)
    before = measure(relay)
    ends_at = time.monotonic() + SECONDS
    calm_until = time.monotonic() + SECONDS * _CALM
    with Load(engine, network, name, prefix="soak", sessions=6, pause_seconds=0.5, is_mixed=True) as load:
        while time.monotonic() < calm_until:
            fault = chance.choice(CALM)
            done[fault.__name__] += 1
            fault(stage)
            stage.wait(4)
        accepted += load.end()
    wait_idle(relay)
    after = measure(relay)
    with Load(engine, network, name, prefix="rough", sessions=6, pause_seconds=0.5, is_mixed=True) as load:
        while time.monotonic() < ends_at:
            fault = chance.choice(ROUGH)
            done[fault.__name__] += 1
            fault(stage)
            stage.wait(4)
        accepted += load.end()
    wait_idle(relay)
    print(", ".join(f"{count} {name}" for name, count in sorted(done.items())))
    print(render_sizes(before, after))
    print(check_mail(accepted, upstream.messages(), stage.kills))
    assert count_queue(relay) == 0
    for kind, old in before.items():
        new = after[kind]
        assert new.count == old.count, kind
        assert new.threads == old.threads, kind
        assert new.descriptors <= old.descriptors + _GROWTH_DESCRIPTORS, kind
        assert new.anonymous_kib <= old.anonymous_kib + _GROWTH_KIB, kind
    assert relay.stop() == 0
    relays.made.remove(relay)
