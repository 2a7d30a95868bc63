"""Power loss: whatever is killed, whenever, each message that got its 250 is delivered.

A few rounds here; `make crash` does 200. The seed is printed: AUTHRELAY_SEED repeats a run's choices, not its timing.
"""

from __future__ import annotations

import os
import random
import time

from tests.image.conftest import Relays
from tests.support.engine import Engine, Network
from tests.support.load import Kill, Load, account, wait_until_delivered, was_in_flight
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

ROUNDS = int(os.environ.get("AUTHRELAY_ROUNDS", "4"))
SEED = int(os.environ.get("AUTHRELAY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)


def strike(relay: Relay, victim: str) -> Kill:
    """Kill -9 the container, master, every process of Postfix, every smtpd, or the log forwarder."""
    began_at = time.time()
    if victim == "container":
        relay.kill("KILL")
        wait_until(lambda: not relay.container.is_running, 10, "it should be gone")
    else:
        patterns = {
            "master": "^master$",
            "postfix": "^(master|smtp|smtpd|cleanup|qmgr)$",
            "smtpd": "^smtpd$",
            "forwarder": "^log-forwarder$",
        }
        relay.container.exec(
            [
                "bash",
                "-c",
                f"for p in /proc/[0-9]*; do [ ${{p#/proc/}} -gt 1 ] && tr '\\0' ' ' 2>/dev/null <$p/comm | "
                f"grep -Eq '{patterns[victim]}' && [ ${{p#/proc/}} != $$ ] && kill -9 ${{p#/proc/}}; done; true",
            ],
            check=False,
            is_privileged=True,
        )
    return Kill(victim=victim, began_at=began_at, ended_at=time.time())


def test_nothing_that_was_accepted_is_lost_whatever_is_killed(
    engine: Engine, network: Network, relays: Relays, upstream: Upstream
) -> None:
    """Duplicates are those whose delivery the kill fell into, and no others."""
    print(f"AUTHRELAY_SEED={SEED}")
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    upstream.behave(final_reply_jitter_seconds=0.2)
    relay = relays.start(volumes={engine.volume(): "/var/spool/postfix"}, allowed=["."])
    kills: list[Kill] = []
    with Load(engine, network, relay.container.name, prefix="crash", pause_seconds=0.2) as load:
        for number in range(ROUNDS):
            load.wait_accepted(len(load.accepted()) + 5)
            time.sleep(chance.uniform(0, 1.5))
            kills.append(strike(relay, chance.choice(["container", "container", "master", "postfix", "forwarder"])))
            wait_until(lambda: revive(relay), 40, "it should greet again")
            if (number + 1) % 20 == 0:
                print(f"{number + 1} kills, {len(load.accepted())} accepted", flush=True)
        accepted = load.end()
    upstream.mend()
    wait_until_delivered(relay)
    arrived = upstream.messages()
    lost, repeated = account(accepted, arrived)
    odd = [
        name
        for name in repeated
        if not any(was_in_flight(message, kills) for message in arrived if message.mail_from == name)
    ]
    print(f"{len(kills)} kills, {len(accepted)} accepted, {len(lost)} lost, {len(repeated)} repeated, {len(odd)} oddly")
    assert lost == []
    assert odd == []
    relays.made.remove(relay)


def revive(relay: Relay) -> bool:
    """Start it if it has ended, as a restart policy does: also of itself, when master dies three times in a row."""
    if not relay.container.is_running:
        relay.start()
    return relay.banner().startswith("220")
