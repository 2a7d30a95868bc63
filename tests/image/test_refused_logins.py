"""The upstream refuses the login for a while: mail waits, goes out by itself, and few logins are tried till then."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.image.conftest import AT_A_RELOAD, LOGIN, PASSWORD, Relays
from tests.support.engine import Engine, Network
from tests.support.flow import BRIEF, IS_LONG, KILLED, QUICK, SAID, SECONDS, count_refused_logins, find_lost, send
from tests.support.load import Load
from tests.support.relay import Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

_OWN = {"PROBE": "yes"}
"""The image as it is: the tests leave the probe out otherwise."""


@pytest.fixture(scope="module")
def own(module_relays: Relays) -> Relay:
    """A relay as people start it: Postfix's patience, and the probe."""
    return module_relays.start(_OWN, allowed=(*SAID, *KILLED, *AT_A_RELOAD))


def test_mail_goes_out_soon_with_the_settings_of_the_image(
    engine: Engine, network: Network, own: Relay, kept_upstream: Upstream
) -> None:
    """Postfix alone would leave what waits for another 5 to 10 minutes; the probe sees the end and has it tried."""
    with send(engine, network, own, kept_upstream, "own") as mail:
        kept_upstream.behave(faults={"connect": reply(421, "4.3.2 too busy")})
        mail.last(SECONDS)
        kept_upstream.mend()
        mail.account(f"421 for {SECONDS:g} s, the image's own settings", most_seconds=SECONDS + 30)


def test_login_that_is_refused_is_not_tried_for_each_message(
    engine: Engine, network: Network, kept_upstream: Upstream, relays: Relays
) -> None:
    """What goes out over a session from before tells the queue manager that all is well, and it hands out the rest."""
    relay = relays.start(allowed=(*SAID, *AT_A_RELOAD))
    name = relay.container.name
    kept_upstream.behave(final_reply_delay_seconds=0.05)
    with Load(engine, network, name, prefix="old-session", sessions=1, pause_seconds=0.02) as steady:
        time.sleep(1.5)
        counts = [count_refused_logins(kept_upstream)]
        kept_upstream.set_accounts({LOGIN: "renewed"})
        with Load(engine, network, name, prefix="new-session", sessions=4, pause_seconds=0.3) as more:
            for _ in range(9):
                time.sleep(1)
                counts.append(count_refused_logins(kept_upstream))
            relay.set_secret("/run/secrets/password", b"renewed")
            accepted = {*more.end(), *steady.end()}
    refused = [later - earlier for earlier, later in itertools.pairwise(counts)]
    print(f"a session from before: {refused} logins refused, one second after the other, {len(accepted)} messages")
    wait_until(lambda: not find_lost([*accepted], kept_upstream), 30, "all should go out with the new password")
    kept_upstream.set_accounts({LOGIN: f"renewed\n{PASSWORD}"})
    # Without the reload it goes on, 14 in each second, until the last session is as old as it may be. On a busy machine
    # one that is at work at the reload may be left to the next.
    assert sum(refused) > 0
    assert sum(refused[1:]) <= 140
    assert sum(refused[6:]) <= 28


def test_password_that_changes_in_the_file_first(
    engine: Engine, network: Network, kept_upstream: Upstream, relays: Relays
) -> None:
    """Whoever rotates does not do both in one moment. With the image's own patience the probe finds the moment."""
    relay = relays.start(_OWN if IS_LONG else QUICK, allowed=(*SAID, *AT_A_RELOAD))
    with send(engine, network, relay, kept_upstream, "file-first") as mail:
        before = count_refused_logins(kept_upstream)
        relay.set_secret("/run/secrets/password", b"another")
        wait_until(lambda: count_refused_logins(kept_upstream) > before, 10, "the new password should be refused")
        mail.last(BRIEF)
        refused = count_refused_logins(kept_upstream) - before
        kept_upstream.set_accounts({LOGIN: "another"})
        mail.account(f"password, file first ({refused} logins refused)", most_seconds=90)
    kept_upstream.set_accounts({LOGIN: f"another\n{PASSWORD}"})


def test_password_that_changes_at_the_upstream_first(
    engine: Engine, network: Network, own: Relay, kept_upstream: Upstream
) -> None:
    """What waits goes out as soon as the file has the new one; the old one is not tried for every message till then."""
    with send(engine, network, own, kept_upstream, "upstream-first") as mail:
        before = count_refused_logins(kept_upstream)
        kept_upstream.set_accounts({LOGIN: "renewed"})
        mail.last(2 * SECONDS)
        refused = count_refused_logins(kept_upstream) - before
        own.set_secret("/run/secrets/password", b"renewed")
        try:
            mail.account(f"password, upstream first ({refused} logins refused)")
        finally:
            kept_upstream.set_accounts({LOGIN: f"renewed\n{PASSWORD}"})
    # As many as were under way at once, at each of two addresses, and the probe's; then none for minutes. Where a
    # session from before goes on delivering, it is ended in the third second; on a busy machine all of that again.
    assert 0 < refused <= 120
