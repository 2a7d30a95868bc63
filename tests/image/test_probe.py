"""The probe: a relay says by itself, in one line, whether its upstream works, and what is broken if it does not."""

from __future__ import annotations

import re
import time

import pytest

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.image.test_upkeep import submit, wait_line
from tests.support.client import Client
from tests.support.engine import Result
from tests.support.relay import Relay
from tests.support.upstream import HOSTNAME, Upstream, hang, reply
from tests.support.wait import wait_until

ON = {"PROBE": "yes"}


def ask_readiness(relay: Relay) -> Result:
    return relay.exec(["authrelay", "health", "--ready"], check=False)


def wait_ready(relay: Relay, timeout_seconds: float = 20) -> None:
    wait_until(lambda: ask_readiness(relay).status == 0, timeout_seconds, "it should become ready")


def test_good_upstream_is_told_in_one_line_and_the_relay_is_ready(relays: Relays, upstream: Upstream) -> None:
    """The first question of whoever starts a relay, answered without a message being sent."""
    relay = relays.start(ON)
    began = time.monotonic()
    wait_ready(relay)
    assert time.monotonic() - began < 12
    line = wait_line(relay, r"RELAYHOST \[mail\.example\.test\]:587 works: TLSv1\.3, ")
    assert " INFO authrelay: " in line
    assert f"logged in as <{LOGIN}> by PLAIN" in line
    assert "trusted by " in line
    assert upstream.messages() == []
    assert relay.logs().count("RELAYHOST [") == 1


def test_login_is_hidden_as_every_name_is(relays: Relays, upstream: Upstream) -> None:
    """Providers give logins that are no addresses, and some are the name of a person."""
    upstream.set_accounts({"ann": PASSWORD})
    relay = relays.start({**ON, "RELAYHOST_USERNAME": "ann", "LOG_ADDRESSES": "domain"})
    wait_ready(relay)
    assert "logged in as <*> by PLAIN" in wait_line(relay, r"RELAYHOST \[mail\.example\.test\]:587 works: TLSv1\.3, ")
    shown = relay.exec(["authrelay", "health", "--ready"]).text
    assert "logged in as <*> by PLAIN" in shown
    assert "ann" not in relay.logs() + shown


def test_broken_login_is_named_at_the_start_and_its_end_is_told(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Mail is accepted all the while; only `--ready` says no. The mended password is noticed, and all is well."""
    upstream.set_accounts({LOGIN: "another"})
    relay = relays.start(ON, allowed=["RELAYHOST .* does not work"])
    line = wait_line(relay, "does not work, broken at 'auth': the upstream refuses the user name or the password")
    assert " WARNING authrelay: RELAYHOST [mail.example.test]:587 " in line
    assert "-> Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD" in line
    assert relay.exec(["authrelay", "health"]).status == 0
    answer = ask_readiness(relay)
    assert answer.status == 69
    assert "FAILED RELAYHOST [mail.example.test]:587: the upstream refuses the user name" in answer.text
    submit(relay, client)
    relay.set_secret("/run/secrets/password", b"another")
    wait_line(relay, "INFO authrelay: RELAYHOST .* works: ")
    wait_ready(relay)
    upstream.wait_messages(1)
    # One login of the probe and one of the delivery were refused: no more, for providers lock accounts.
    refused = [login for session in upstream.sessions() for login in session.logins if not login.is_accepted]
    assert len(refused) <= 3
    assert relay.logs().count("does not work") == 1


def test_outage_while_it_runs_is_told_when_mail_begins_to_wait(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """Healthy while every message defers, is what other images report."""
    relay = relays.start(ON, allowed=["RELAYHOST .* does not work"])
    wait_ready(relay)
    upstream.behave(faults={"connect": reply(421, "4.3.2 closed for tonight")})
    submit(relay, client)
    line = wait_line(relay, "does not work, broken at 'greeting'", 25)
    assert "421 4.3.2 closed for tonight" in line
    assert ask_readiness(relay).status == 69
    upstream.mend()
    wait_line(relay, "INFO authrelay: RELAYHOST .* works: ", 25)
    upstream.wait_messages(1)
    wait_ready(relay)


def test_delivery_after_a_failed_probe_makes_the_relay_ready(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """What was delivered was delivered, whatever a walk says."""
    upstream.behave(faults={"auth": reply(454, "4.7.0 later", times=1)})
    relay = relays.start(ON, allowed=["RELAYHOST .* does not work"])
    wait_line(relay, "does not work, broken at 'auth'")
    submit(relay, client)
    upstream.wait_messages(1)
    wait_ready(relay)


def test_start_does_not_wait_for_an_upstream_that_hangs(relays: Relays, upstream: Upstream) -> None:
    """The relay's own 220 must come as quickly as ever; the probe waits in the background, and stops when told."""
    upstream.behave(faults={"connect": hang()})
    began = time.monotonic()
    relay = relays.start(ON)
    assert time.monotonic() - began < 8
    wait_until(upstream.sessions, 10, "the probe should be under way")
    assert "it has not been tried yet" in ask_readiness(relay).text
    began = time.monotonic()
    relay.stop()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("word", ["no-login", "no"])
def test_probe_can_do_without_the_login_and_be_left_out(word: str, relays: Relays, upstream: Upstream) -> None:
    """Some providers count logins; some networks must see no traffic that nobody asked for."""
    relay = relays.start({"PROBE": word})
    wait_ready(relay)
    assert [session.logins for session in upstream.sessions() if session.logins] == []
    if word == "no":
        assert upstream.sessions() == []
        assert "it is not tried: PROBE=no" in ask_readiness(relay).text
    else:
        assert wait_line(relay, "RELAYHOST .* works: ").endswith("; the login is not tried: PROBE=no-login")


@pytest.mark.usefixtures("upstream")
def test_one_working_upstream_of_two_is_enough_to_be_ready(relays: Relays) -> None:
    """That is what a fallback is for; but it is told that the other is broken."""
    env = {"FALLBACK_RELAYHOST": "[nowhere.example.test]:587"}
    relay = relays.start({**ON, **env}, allowed=["FALLBACK_RELAYHOST .* does not work"])
    wait_ready(relay)
    assert "FALLBACK_RELAYHOST [nowhere.example.test]:587 does not work, broken at 'resolve'" in wait_line(
        relay, "does not work"
    )
    answer = ask_readiness(relay)
    assert re.search(rf"ok +RELAYHOST \[{HOSTNAME}\]:587: TLSv1", answer.text)
