"""`authrelay send-test` says what became of its message, and that is what the upstream and the queue say, too."""

from __future__ import annotations

import concurrent.futures
import email
import email.policy
import json
import re
import time
from typing import Any

import pytest

from tests.image.conftest import LOGIN, PASSWORD, Relays
from tests.support.client import Client
from tests.support.engine import Engine, Network, Result
from tests.support.relay import Relay
from tests.support.upstream import Upstream, hang, reply
from tests.support.wait import wait_until

TO = "b@example.com"
SECOND = "second.example.test"
# No word of any sentence: whatever is found of it is a leak.
SECRET = "k1-Wm:9z-Qx"

# Sends many messages over some connections, as a busy application does. Arguments: host, messages, connections.
_LOAD = r"""
import smtplib, sys, threading
def send(count):
    with smtplib.SMTP(sys.argv[1], 25) as server:
        for number in range(count):
            server.sendmail("load@example.test", [f"{number}@example.org"], "Subject: load\r\n\r\nx\r\n")
threads = [threading.Thread(target=send, args=(int(sys.argv[2]) // int(sys.argv[3]),)) for _ in range(int(sys.argv[3]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
# Follows the log and never reads it: `ready` when it follows.
_STALLED_READER = r"""
import socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/authrelay/log-tap")
connection.sendall(b"follow\n")
assert connection.recv(11) == b"!following\n"
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
connection.settimeout(30)
size = 0
last = b""
while data := connection.recv(65536):
    size += len(data)
    last = (last + data)[-100:]
print(size, last.splitlines()[-1].decode())
"""


def send_test(relay: Relay, *arguments: str, to: str = TO) -> Result:
    return relay.exec(["authrelay", "send-test", "--to", to, *arguments], check=False)


def send_test_json(relay: Relay, *arguments: str) -> dict[str, Any]:
    result = send_test(relay, "--json", *arguments)
    answer: dict[str, Any] = json.loads(result.text)
    assert answer["exit_status"] == result.status
    return answer


def find_process(relay: Relay, name: str) -> str:
    script = f"for p in /proc/[0-9]*; do grep -qx {name} $p/comm && echo ${{p#/proc/}}; done; true"
    return relay.exec(["bash", "-c", script]).text.split()[0]


def test_sent_message_is_followed_to_the_upstream(relays: Relays, upstream: Upstream) -> None:
    """The person who asks wants to know that mail goes, how it was protected, and what the other side said."""
    relay = relays.start()
    result = send_test(relay)
    assert result.status == 0
    (message,) = upstream.messages()
    assert (message.mail_from, message.rcpt_tos, message.login) == (LOGIN, (TO,), LOGIN)
    content = email.message_from_bytes(message.data, policy=email.policy.default)
    assert str(content["Subject"]).startswith("authrelay test from relay.example.test")
    assert content["Auto-Submitted"] == "auto-generated"
    assert content["Message-ID"]
    assert content["Date"]
    said = re.search(r"status=sent \((.*)\)", relay.logs())
    assert said
    assert f"the upstream said: {said[1]}\n" in result.text
    assert re.search(
        r"tls +Verified TLS connection established to mail\.example\.test\[\S+\]:587: TLSv1\.3 ", result.text
    )
    assert re.search(r"sent +<b@example\.com> by mail\.example\.test\[\S+\]:587\n", result.text)
    assert "SENT: " in result.text
    assert upstream.count() == 1


def test_recipients_and_sender_are_those_that_were_named(relays: Relays, upstream: Upstream) -> None:
    """Upstreams decide by the sender."""
    relay = relays.start()
    answer = send_test_json(relay, "--to", "c@example.com", "--from", "me@example.test")
    (message,) = upstream.messages()
    assert (message.mail_from, message.rcpt_tos) == ("me@example.test", (TO, "c@example.com"))
    assert [(one["recipient"], one["status"], one["tls"]) for one in answer["recipients"]] == [
        (TO, "sent", "Verified"),
        ("c@example.com", "sent", "Verified"),
    ]
    assert (answer["version"], answer["result"], answer["exit_status"]) == (1, "sent", 0)
    assert answer["queue_id"] in relay.logs()


def test_sender_without_an_account_is_root_at_this_host(relays: Relays, upstream: Upstream) -> None:
    """An upstream that knows clients by address has no account that could be the sender."""
    upstream.behave(require_auth=False)
    relay = relays.start({"RELAYHOST_USERNAME": "", "RELAYHOST_PASSWORD_FILE": ""})
    assert send_test(relay).status == 0
    assert upstream.messages()[0].mail_from == "root@relay.example.test"


def test_deferred_message_stays_and_the_command_that_removes_it_works(relays: Relays, upstream: Upstream) -> None:
    """A wrong password is the commonest of all troubles; its test message must not arrive next week."""
    upstream.behave(faults={"auth": reply(535, "5.7.8 Authentication credentials invalid")})
    relay = relays.start()
    result = send_test(relay)
    assert result.status == 75
    assert re.search(r"Postfix says: SASL .* said: 535 5\.7\.8 Authentication credentials invalid\n", result.text)
    assert "the upstream refuses the user name or the password\n" in result.text
    assert "-> Check RELAYHOST_USERNAME and RELAYHOST_PASSWORD" in result.text
    removal = re.search(r"docker exec relay (postsuper -d \S+)\.$", result.text.strip())
    assert removal
    assert len(relay.queue()) == 1
    relay.exec(removal[1].split())
    assert relay.queue() == []


def test_bounced_message_is_told_with_its_notice(relays: Relays, upstream: Upstream) -> None:
    """The bounce goes to the sender as a message of its own."""
    upstream.behave(faults={"rcpt": reply(550, "5.1.1 no such user", containing=TO)})
    relay = relays.start()
    answer = send_test_json(relay)
    assert (answer["result"], answer["exit_status"]) == ("bounced", 69)
    (recipient,) = answer["recipients"]
    assert "said: 550 5.1.1 no such user (in reply to RCPT TO command)" in recipient["reply"]
    assert any("does not take mail for this recipient" in line for step in answer["steps"] for line in step["more"])
    (message,) = upstream.wait_messages(1)
    assert (message.mail_from, message.rcpt_tos) == ("", (LOGIN,))
    assert f"{answer['bounce_queue_id']}: from=<>" in relay.logs()


def test_upstream_that_hangs_is_undecided_in_the_time_that_was_given(relays: Relays, upstream: Upstream) -> None:
    """Nobody waits for Postfix's five minutes at a terminal."""
    upstream.behave(faults={"data": hang()})
    relay = relays.start()
    began = time.monotonic()
    result = send_test(relay, "--timeout", "3")
    assert result.status == 75
    assert 3 <= time.monotonic() - began < 10
    assert "UNDECIDED: Not decided within 3 s" in result.text
    assert len(relay.queue()) == 1


def test_fallback_is_named_and_what_was_tried_before_it(
    relays: Relays, upstream: Upstream, engine: Engine, network: Network
) -> None:
    """Mail that goes by the second upstream looks the same to who receives it."""
    second = Upstream(engine, network, authority=upstream.authority, aliases=(SECOND,))
    upstream.behave(faults={"mail": reply(451, "4.3.0 not today")})
    settings = {
        "FALLBACK_RELAYHOST": f"[{SECOND}]:587",
        "FALLBACK_RELAYHOST_USERNAME": LOGIN,
        "FALLBACK_RELAYHOST_PASSWORD": PASSWORD,
    }
    relay = relays.start(settings, allowed=["FALLBACK_RELAYHOST_PASSWORD"])
    result = send_test(relay)
    assert result.status == 0, result.text
    assert second.count() == 1
    assert upstream.count() == 0
    assert f"by {SECOND}[" in result.text
    assert "this is FALLBACK_RELAYHOST: RELAYHOST did not take it" in result.text
    assert re.search(r"remark +host mail\.example\.test\[\S+\] said: 451 4\.3\.0 not today", result.text)
    assert f"Verified TLS connection established to {SECOND}[" in result.text


def test_verdict_on_tls_is_told_at_every_log_level(relays: Relays) -> None:
    """TLS_LOG_LEVEL=0 leaves out what is wrong with a certificate, and not how far it was verified."""
    result = send_test(relays.start({"TLS_LOG_LEVEL": "0"}))
    assert result.status == 0, result.text
    assert "Verified TLS connection established to" in result.text


@pytest.mark.parametrize(
    ("env", "behaviour", "words"),
    [
        (
            {"RELAYHOST_TLS": "none", "RELAYHOST_CLEARTEXT_AUTH": "yes", "RELAYHOST_CA_FILE": ""},
            {"auth_offered": "always"},
            "none was used, because RELAYHOST_TLS",
        ),
        (
            {"RELAYHOST_TLS": "may", "RELAYHOST_CA_FILE": "", "RELAYHOST_USERNAME": "", "RELAYHOST_PASSWORD_FILE": ""},
            {"starttls_offered": False, "require_auth": False},
            "the upstream offered none, and RELAYHOST_TLS=may goes on without",
        ),
    ],
    ids=["none", "may"],
)
def test_missing_verdict_on_tls_is_explained(
    env: dict[str, str], behaviour: dict[str, Any], words: str, relays: Relays, upstream: Upstream
) -> None:
    """Silence about TLS is either a setting of the log's or a message that anybody could read."""
    upstream.behave(**behaviour)
    relay = relays.start(env, allowed=["RELAYHOST_TLS", "CLEARTEXT"])
    result = send_test(relay)
    assert result.status == 0, result.text
    assert words in result.text
    assert "TLS connection established" not in result.text


def test_no_relay_says_where_to_run_it(relays: Relays) -> None:
    """`docker run` instead of `docker exec` is the obvious mistake."""
    relay = relays.create(command=["send-test", "--to", TO], has_defaults=False, allowed=["."])
    relay.start()
    assert relay.wait_exit() == 69
    assert relay.logs() == (
        "authrelay: no relay is running here; run it inside: docker exec relay authrelay send-test --to b@example.com\n"
    )


def test_relay_that_does_not_relay_for_itself_is_the_one_that_refuses(relays: Relays, upstream: Upstream) -> None:
    """Then no upstream is at fault, and nothing is queued."""
    relay = relays.start({"MYNETWORKS": "192.0.2.0/24"})
    answer = send_test_json(relay)
    assert (answer["result"], answer["exit_status"], answer["queue_id"]) == ("refused", 69, None)
    assert "the relay itself refuses: for <b@example.com>: 554 5.7.1 " in answer["text"]
    assert upstream.sessions() == []


def test_wrong_command_line_ends_with_64_and_sends_nothing(relays: Relays, upstream: Upstream) -> None:
    """EX_USAGE of sysexits(3)."""
    relay = relays.start()
    for arguments in ([], ["--to", "nobody"], ["--to", TO, "--timeout", "soon"]):
        result = relay.exec(["authrelay", "send-test", *arguments], check=False)
        assert result.status == 64
        assert b"usage: authrelay send-test" in result.stderr
    assert upstream.sessions() == []


def test_password_that_the_upstream_repeats_is_never_shown(relays: Relays, upstream: Upstream) -> None:
    """The output is pasted into tickets."""
    upstream.set_accounts({LOGIN: SECRET})
    upstream.behave(faults={"rcpt": reply(451, f"4.3.0 hello {LOGIN} with {SECRET}")})
    relay = relays.start(secrets={"/run/secrets/password": SECRET.encode()})
    for arguments in ((), ("--json",)):
        result = send_test(relay, *arguments)
        assert result.status == 75
        assert SECRET.encode() not in result.stdout + result.stderr
        assert b"(hidden)" in result.stdout


def test_test_message_is_followed_among_thousands_of_lines(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A relay in trouble is usually a busy one: other mail's lines are neither mistaken nor in the way."""
    relay = relays.start()
    load = ["python", "-c", _LOAD, relay.container.name, "1500", "5"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.container.exec, load, timeout_seconds=300)
        wait_until(lambda: upstream.count() > 20, 30, "the load should flow")
        answers = [send_test_json(relay) for _ in range(3)]
        running.result()
    assert [answer["result"] for answer in answers] == ["sent"] * 3
    lines = relay.logs().splitlines()
    span: list[int] = []
    for answer in answers:
        (recipient,) = answer["recipients"]
        assert (recipient["recipient"], recipient["tls"]) == (TO, "Verified")
        own = [number for number, line in enumerate(lines) if f": {answer['queue_id']}: " in line]
        (decided,) = [number for number in own if ": to=<" in lines[number]]
        assert f"status=sent ({recipient['reply']})" in lines[decided]
        assert f"relay={recipient['relay']}," in lines[decided]
        span += own[0], decided
    assert max(span) - min(span) > 300, "the load should have flowed while the test messages were followed"
    upstream.wait_messages(1503, 120)


def test_reader_that_stands_still_is_cut_off_while_mail_and_log_flow(
    relays: Relays, upstream: Upstream, client: Client
) -> None:
    """A `send-test` that somebody stopped with Ctrl-Z must not hold up the log, and with it the mail."""
    relay = relays.start()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reader = pool.submit(relay.exec, ["/opt/authrelay/bin/python3", "-c", _STALLED_READER, "20"])
        client.container.exec(["python", "-c", _LOAD, relay.container.name, "3000", "5"], timeout_seconds=300)
        upstream.wait_messages(3000, 120)
        wait_until(lambda: relay.logs().count("status=sent") == 3000, 20, "every line should be in the log")
        assert send_test(relay).status == 0
        size = int(reader.result().text.split()[1])
    assert size < 3_000_000
    relay.wait_queue(0)


@pytest.mark.parametrize("delay", [4.0, 0.5], ids=["afterwards", "in-the-gap"])
def test_forwarder_that_is_killed_meanwhile_is_followed_by_the_next(
    delay: float, relays: Relays, upstream: Upstream
) -> None:
    """Its lines wait in the socket; the verdict must come from the next one, or not be claimed."""
    upstream.behave(final_reply_delay_seconds=delay)
    relay = relays.start(allowed=["log-forwarder ended"])
    forwarder = find_process(relay, "log-forwarder")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(send_test_json, relay, "--timeout", "30")
        wait_until(lambda: "(queue active)" in relay.logs(), 20, "the message should be under way")
        relay.exec(["bash", "-c", f"kill -9 {forwarder}"])
        answer = running.result()
    assert answer["result"] == "sent", answer
    assert [step["text"] for step in answer["steps"] if step["name"] == "log"] == [
        "the log forwarder ended; following again, a line may be missing"
    ]
    assert upstream.count() == 1


def test_forwarder_that_does_not_answer_means_that_nothing_is_sent(relays: Relays, upstream: Upstream) -> None:
    """Without the log nothing could be told of the message; and Postfix would soon wait for the log as well."""
    relay = relays.start(allowed=["log-forwarder"])
    forwarder = find_process(relay, "log-forwarder")
    relay.exec(["bash", "-c", f"kill -STOP {forwarder}"])
    result = send_test(relay)
    shown = relay.exec(["authrelay", "queue"]).text
    # If the supervisor has not ended it by now.
    relay.exec(["bash", "-c", f"kill -CONT {forwarder} || true"])
    assert result.status == 69
    assert b"the log forwarder does not answer, so that nothing was sent" in result.stderr
    assert shown == "The queue is empty.\n"
    assert upstream.sessions() == []
