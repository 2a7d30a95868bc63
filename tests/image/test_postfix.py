"""What the user says to Postfix itself: services, parameters and tables of their own, and milters. docs/postfix.md."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from entrypoint.config.master import PROGRAMS
from tests.image.conftest import AT_A_RELOAD, Relays
from tests.support.client import Client, SmtpRefusedError
from tests.support.engine import Engine, Network
from tests.support.milter import Milter
from tests.support.relay import Relay
from tests.support.upstream import Upstream
from tests.support.wait import wait_until

_PARAMETERS: Final = "/etc/authrelay/main.cf.d"
_TABLES: Final = "/etc/authrelay/tables"
_SENDER: Final = "app@example.com"
_WEAKENED: Final = "POSTFIX_MASTER_2525__inet: -o smtpd_authorized_xclient_hosts=192.0.2.1 weakens a safe default: "
_IMPATIENT: Final = 2529
_ACTIONS: Final = {"accept": 2526, "reject": 2527, "quarantine": 2528}
_AWAY: Final = (
    "connect to Milter service inet:milter",
    "host or service milter.example.test:11332 not found",
    "milter inet:milter.* can't read SMFIC_BODYEOB",
    "/table-headers, line 1: Unmatched|/tables/headers, line 1: Unmatched",
)


@pytest.fixture(scope="module")
def milter(engine: Engine, network: Network) -> Milter:
    """The milter that all share."""
    return Milter(engine, network)


@pytest.fixture(scope="module")
def relay(module_relays: Relays, milter: Milter) -> Relay:
    """A relay with something of everything."""
    return module_relays.start(
        {
            "SMTPD_MILTERS": milter.address,
            "POSTFIX_MASTER_2525__inet": "2525 inet n - n - 10 smtpd "
            "-o { smtpd_banner = the other door } -o smtpd_milters= -o message_size_limit=20000 "
            "-o smtpd_authorized_xclient_hosts=192.0.2.1",
            **{
                f"POSTFIX_MASTER_{port}__inet": f"{port} inet n - n - 1 smtpd -o milter_default_action={action}"
                for action, port in _ACTIONS.items()
            },
            f"POSTFIX_MASTER_{_IMPATIENT}__inet": f"{_IMPATIENT} inet n - n - 1 smtpd -o milter_content_timeout=1s",
            "POSTFIX_MASTER_quiet__unix": "quiet unix - - n - 1 error",
            "POSTFIX_quiet_destination_concurrency_limit": "1",
        },
        secrets={
            f"{_PARAMETERS}/10-routes.cf": b"# as in\ntransport_maps =\n  lmdb:/etc/authrelay/tables/routes\n",
            f"{_PARAMETERS}/20-headers.cf": b"header_checks = regexp:/etc/authrelay/tables/headers\n",
            f"{_TABLES}/routes": b"nowhere.example discard:\ngone.example quiet:5.1.2 gone for good\n",
            f"{_TABLES}/headers": b"/^X-Internal:/ IGNORE\n",
        },
        allowed=(*_AWAY, *AT_A_RELOAD, _WEAKENED),
    )


def _host(relay: Relay) -> str:
    return relay.container.name


def _message(subject: str, *fields: str) -> bytes:
    return "\r\n".join([f"Subject: {subject}", *fields, "", "hello", ""]).encode()


def _find(upstream: Upstream, subject: str) -> bytes:
    """The message with that subject that the upstream has accepted, once."""

    def find() -> list[bytes]:
        return [
            one.data for one in upstream.messages() if one.is_accepted and f"Subject: {subject}".encode() in one.data
        ]

    wait_until(find, 15, f"the upstream should have {subject}")
    (data,) = find()
    return data


def test_listener_of_ones_own_has_its_options_and_is_watched(relay: Relay, client: Client, upstream: Upstream) -> None:
    """A port that nobody watches may be dead for weeks, and one with the wrong options is another port."""
    replies = client.send(_host(relay), 2525, _SENDER, ["ann@example.com"], _message("other-door"))
    assert "the other door" in replies[0].text
    assert "SIZE 20000" in replies[1].text
    assert b"X-Seen-By" not in _find(upstream, "other-door")
    assert _WEAKENED in relay.logs()
    answer = json.loads(relay.exec(["authrelay", "health", "--json"]).text)
    assert {"name": "127.0.0.1:2525", "is_well": True, "detail": "220 the other door"} in answer["findings"], answer


def test_tables_of_ones_own_are_used_by_postfix_and_their_change_is_noticed(
    relay: Relay, client: Client, upstream: Upstream
) -> None:
    """A transport map and header checks, as people have them in old configurations, with no command but a mount.

    Postfix itself would leave out a line that it cannot read, and let pass what it was to stop.
    """
    fields = ("X-Internal: secret", "X-Open: yes", "X-Later: yes")
    client.send(_host(relay), 25, _SENDER, ["ann@example.com", "bob@nowhere.example"], _message("tables-1", *fields))
    data = _find(upstream, "tables-1")
    assert (b"X-Internal" in data, b"X-Open" in data, b"X-Later" in data) == (False, True, True)
    wait_until(lambda: not relay.queue(), 10, "what goes nowhere should have gone")
    assert [one.rcpt_tos for one in upstream.messages()] == [("ann@example.com",)]

    before = relay.exec(["cat", "/etc/postfix/table-headers"]).text
    relay.set_secret(f"{_TABLES}/headers", b"/^X-(Broken:/ IGNORE\n")
    place = f"{_TABLES}/headers, line 1"
    wait_until(lambda: place in relay.exec(["authrelay", "health"]).text, 10, "it should be told")
    assert relay.exec(["cat", "/etc/postfix/table-headers"]).text == before

    relay.set_secret(f"{_TABLES}/headers", b"/^X-Later:/ IGNORE\n")
    wait_until(lambda: "changed: the table headers" in relay.logs(), 10, "the change should be noticed")
    client.send(_host(relay), 25, _SENDER, ["ann@example.com"], _message("tables-2", *fields))
    data = _find(upstream, "tables-2")
    assert (b"X-Internal" in data, b"X-Later" in data) == (True, False)


def test_milter_over_the_network_marks_what_the_upstream_gets(relay: Relay, client: Client, upstream: Upstream) -> None:
    """What a filter adds must be in what is relayed, and what it refuses must not be relayed."""
    client.send(_host(relay), 25, _SENDER, ["ann@example.com"], _message("marked"))
    assert b"X-Seen-By: the milter" in _find(upstream, "marked")
    for verdict, code in (("reject", 550), ("tempfail", 451)):
        message = _message(verdict, f"X-Milter-Verdict: {verdict}")
        with pytest.raises(SmtpRefusedError) as refused:
            client.send(_host(relay), 25, _SENDER, ["ann@example.com"], message)
        assert (refused.value.replies[-2].command, refused.value.replies[-2].code) == (".", code)
    assert len(upstream.messages()) == 1


def test_slow_milter_holds_its_own_message_alone(
    relay: Relay, milter: Milter, client: Client, upstream: Upstream
) -> None:
    """A virus scanner takes seconds; one that takes too long is as good as away, and the message is tried again."""

    def send(subject: str, port: int) -> int:
        message = _message(subject, "X-Milter-Verdict: wait")
        replies, _ = client.converse(_host(relay), port, _SENDER, ["ann@example.com"], message)
        return next(reply.code for reply in replies if reply.command == ".")

    with ThreadPoolExecutor(2) as threads:
        slow, too_slow = threads.submit(send, "slow", 25), threads.submit(send, "too-slow", _IMPATIENT)
        try:
            client.send(_host(relay), 25, _SENDER, ["ann@example.com"], _message("quick"))
            _find(upstream, "quick")
            assert too_slow.result() == 451
            assert not slow.done()
        finally:
            milter.release()
        assert slow.result() == 250
    assert b"X-Seen-By" in _find(upstream, "slow")
    assert len(upstream.messages()) == 2


def test_milter_that_hangs_leaves_the_relay_healthy(relay: Relay, milter: Milter) -> None:
    """A restart of the relay would not bring the filter back, and would stop its other ports."""
    milter.container.pause()
    try:
        before = relay.logs()
        result = relay.exec(["authrelay", "health"], check=False)
        assert result.status == 0, result.text
        assert "milter" not in relay.logs().removeprefix(before)
    finally:
        milter.container.unpause()


def test_milter_away_has_mail_tried_again_until_it_is_back(
    relay: Relay, milter: Milter, client: Client, upstream: Upstream
) -> None:
    """451, so that the client keeps it; or what MILTER_DEFAULT_ACTION says, here by port."""
    milter.container.kill()
    with pytest.raises(SmtpRefusedError) as refused:
        client.send(_host(relay), 25, _SENDER, ["ann@example.com"], _message("away"))
    assert 451 in [reply.code for reply in refused.value.replies]
    client.send(_host(relay), 2525, _SENDER, ["ann@example.com"], _message("without"))
    assert b"X-Seen-By" not in _find(upstream, "without")
    client.send(_host(relay), _ACTIONS["accept"], _SENDER, ["ann@example.com"], _message("unseen"))
    assert b"X-Seen-By" not in _find(upstream, "unseen")
    with pytest.raises(SmtpRefusedError) as refused:
        client.send(_host(relay), _ACTIONS["reject"], _SENDER, ["ann@example.com"], _message("refused"))
    assert [reply.code for reply in refused.value.replies] == [554]
    client.send(_host(relay), _ACTIONS["quarantine"], _SENDER, ["ann@example.com"], _message("held"))
    (held,) = relay.wait_queue(1)
    assert held["queue_name"] == "hold"
    relay.exec(["postsuper", "-d", held["queue_id"]])
    milter.start()
    client.send(_host(relay), 25, _SENDER, ["ann@example.com"], _message("back"))
    assert b"X-Seen-By" in _find(upstream, "back")
    assert len(upstream.messages()) == 3


def test_programs_are_those_of_the_image(relay: Relay) -> None:
    """A line of master.cf is refused for a program that is not there, and for no other reason."""
    assert set(relay.exec(["ls", "/usr/lib/postfix/sbin"]).text.split()) >= PROGRAMS


def test_check_tells_all_that_is_wrong_and_starts_nothing(relays: Relays) -> None:
    """Everything at once, by variable, or by file and line, before any mail depends on it."""
    relay = relays.create(
        {
            "POSTFIX_MASTER_2525__inet": "2525 inet n - y - 10 smtpd",
            "POSTFIX_MASTER_2526__inet": "2526 inet n - n - ten smtpd",
            "POSTFIX_MASTER_2527__inet": "2527 inet n - n - 10 smptd",
            "POSTFIX_MASTER_2528__inet": "2528 inet n - n - 10 smtpd -o smtpd_baner=x",
        },
        secrets={
            f"{_PARAMETERS}/a.cf": b"maillog_file = /dev/stdout\nheader_checks = regexp:/etc/authrelay/tables/x\n"
        },
        allowed=("",),
    )
    relay.start()
    assert relay.container.wait_exit() == 78
    said = relay.logs()
    for expected in (
        "POSTFIX_MASTER_2525__inet: the column chroot is y: .* Write n.",
        "POSTFIX_MASTER_2526__inet: the column maxproc is 'ten'. Write a number, or -.",
        "POSTFIX_MASTER_2527__inet: there is no program 'smptd' that could serve. Use one of anvil, ",
        r"POSTFIX_MASTER_2528__inet: -o smtpd_baner: Postfix has no such parameter. Did you mean -o smtpd_banner\?",
        "/etc/authrelay/main.cf.d/a.cf line 1: maillog_file: it cannot be changed, because the log forwarder",
        "/etc/authrelay/main.cf.d/a.cf line 2: there is no file /etc/authrelay/tables/x. Mount it there",
    ):
        assert re.search(expected, said), expected
