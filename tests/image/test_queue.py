"""The queue directory on a volume: made, put right, and never shared; and how often a message in it was tried."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Engine, run_docker
from tests.support.relay import IMAGE, Relay
from tests.support.upstream import Upstream, reply
from tests.support.wait import wait_until

TEXT = b"Subject: x\r\n\r\nhello\r\n"


def test_queue_survives_the_container(relays: Relays, upstream: Upstream, client: Client, engine: Engine) -> None:
    """An upgrade replaces the container: what it had accepted goes out from the next one."""
    volume = engine.volume()
    upstream.behave(faults={"rcpt": reply(451, "4.3.0 later")})
    first = relays.start(volumes={volume: "/var/spool/postfix"})
    client.send(first.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    first.wait_queue(1)
    assert first.stop() == 0
    upstream.mend()
    second = relays.start(volumes={volume: "/var/spool/postfix"})
    second.flush()
    upstream.wait_messages(1)
    assert upstream.messages()[-1].data.endswith(TEXT)


def test_queue_directories_are_put_right(relays: Relays, upstream: Upstream, client: Client, engine: Engine) -> None:
    """An empty, a half-made or a carelessly copied directory must neither stop a start nor stay open."""
    directory = engine.directory()
    (directory / "active").mkdir()
    (directory / "active").chmod(0o777)
    (directory / "maildrop").mkdir(mode=0o700)
    relay = relays.start(volumes={str(directory): "/var/spool/postfix"})
    shown = relay.exec(["stat", "-c", "%n %U %G %a", "/var/spool/postfix/active", "/var/spool/postfix/maildrop"])
    assert shown.text.splitlines() == [
        "/var/spool/postfix/active postfix root 700",
        "/var/spool/postfix/maildrop postfix postdrop 730",
    ]
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)
    # What Postfix itself would have said about the result of our own, quicker check: nothing.
    silent = relay.exec(["postfix", "check"])
    assert silent.text + silent.stderr.decode() == ""


def test_queue_that_was_copied_gets_its_file_names_back(
    relays: Relays, upstream: Upstream, client: Client, engine: Engine
) -> None:
    """Queue files are named after their inodes: in a restored volume every name is wrong (postsuper(1))."""
    volume, copy = engine.volume(), engine.volume()
    upstream.behave(faults={"rcpt": reply(451, "4.3.0 later")})
    first = relays.start(volumes={volume: "/var/spool/postfix"}, arguments=["--volume", f"{copy}:/copy"])
    for _ in range(3):
        client.send(first.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: [entry["queue_name"] for entry in first.queue()] == ["deferred"] * 3, 20, "three should wait")
    # A file more before them, so that no inode fits by chance.
    copying = "touch /copy/x && cp -a /var/spool/postfix/. /copy && rm /copy/x && echo y >/copy/corrupt/4bZ5pY3XxYz1B"
    first.container.exec(["bash", "-c", copying], is_privileged=True)
    first.stop()
    upstream.mend()
    damaged = "1 damaged message lies in /var/spool/postfix/corrupt: Postfix could not read it"
    said = ["postsuper: ", damaged, "belonged to another user"]
    second = relays.start(volumes={copy: "/var/spool/postfix"}, allowed=said)
    assert f"WARNING authrelay: {damaged}" in second.logs()
    second.flush()
    upstream.wait_messages(3)
    second.wait_queue(0)


def test_queue_files_of_another_user_are_given_back(
    relays: Relays, upstream: Upstream, client: Client, engine: Engine
) -> None:
    """A backup that was restored by hand: Postfix would say `Permission denied` again and again, and send nothing."""
    volume = engine.volume()
    upstream.behave(faults={"rcpt": reply(451, "4.3.0 later")})
    first = relays.start(volumes={volume: "/var/spool/postfix"})
    for _ in range(3):
        client.send(first.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: [entry["queue_name"] for entry in first.queue()] == ["deferred"] * 3, 20, "three should wait")
    first.stop()
    run_docker(["run", "--rm", f"--volume={volume}:/q", "--entrypoint=chown", IMAGE, "-R", "1000:1000", "/q"])
    upstream.mend()
    second = relays.start(volumes={volume: "/var/spool/postfix"}, allowed=["of the queue belonged to another user"])
    second.flush()
    upstream.wait_messages(3)
    second.wait_queue(0)
    assert "of the queue belonged to another user, as in a restored volume: given back to Postfix" in second.logs()


def test_queue_in_use_is_refused_and_the_first_relay_goes_on(
    relays: Relays, upstream: Upstream, client: Client, engine: Engine
) -> None:
    """Two Postfix instances on one queue deliver twice and lose files."""
    volume = engine.volume()
    first = relays.start(volumes={volume: "/var/spool/postfix"})
    second = relays.create(volumes={volume: "/var/spool/postfix"}, allowed=["."])
    second.start()
    assert second.wait_exit() == 70
    assert (
        "authrelay: another Postfix is running on the queue in /var/spool/postfix. "
        "Stop that container first, or give each container a queue volume of its own"
    ) in second.logs()
    client.send(first.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    upstream.wait_messages(1)


def list_messages(relay: Relay) -> list[dict[str, Any]]:
    """What `authrelay queue --json` says of each message."""
    messages: list[dict[str, Any]] = json.loads(relay.exec(["authrelay", "queue", "--json"]).text)["messages"]
    return messages


def try_again(relay: Relay, attempts: int) -> None:
    """Flush, and wait until that attempt is over."""
    relay.flush()
    wait_until(
        lambda: relay.logs().count("status=deferred") >= attempts and not is_active(relay), 20, "it should be tried"
    )


def is_active(relay: Relay) -> bool:
    """Whether a message is being delivered just now."""
    return any(entry["queue_name"] == "active" for entry in relay.queue())


def test_queue_shows_how_often_each_message_was_tried(relays: Relays, upstream: Upstream, client: Client) -> None:
    """Whether the upstream has refused once or thirty times decides what to do; Postfix does not tell."""
    upstream.behave(faults={"rcpt": reply(451, "4.3.0 later")})
    relay = relays.start()
    began = time.time()
    # Arrival times are whole seconds: a message of the forwarder's first second may be older than it.
    wait_until(lambda: time.time() - began > 1, 5, "the forwarder's first second should be over")
    forged = b"Message-ID: <x postfix/qmgr[1]: ABCDEF: from=<a>, size=1, nrcpt=1 (queue active)\r\n" + TEXT
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com", "c@example.com"], forged)
    try_again(relay, 2)
    for number in (2, 3, 4):
        before = list_messages(relay)[0]["attempts"]
        try_again(relay, 2 * number)
        (message,) = list_messages(relay)
        assert message["attempts"] == before + 1
    seen = len(re.findall(r"postfix/qmgr\[\d+\]: \w+: from=<a@example.test>.*\(queue active\)", relay.logs()))
    assert (message["attempts"], message["attempts_are_exact"]) == (seen, True)
    shown = relay.exec(["authrelay", "queue"]).text.splitlines()
    assert shown[0].split()[3] == "ATTEMPTS"
    assert re.search(rf" {seen} +\d+ +deferred ", shown[1])
    # A message that comes later has a count of its own.
    client.send(relay.container.name, 25, "a@example.test", ["d@example.com"], TEXT)
    wait_until(lambda: len(list_messages(relay)) == 2 and not is_active(relay), 20, "the second should wait, too")
    assert list_messages(relay)[1]["attempts"] == 1


def test_queue_says_when_it_cannot_know_all_attempts(relays: Relays, upstream: Upstream, client: Client) -> None:
    """A forwarder that was started again has seen only the end; one that stands still tells nothing, and costs 2 s."""
    upstream.behave(faults={"rcpt": reply(451, "4.3.0 later")})
    relay = relays.start(allowed=["log-forwarder ended"])
    client.send(relay.container.name, 25, "a@example.test", ["b@example.com"], TEXT)
    wait_until(lambda: "status=deferred" in relay.logs(), 20, "it should be deferred")
    find = "for p in /proc/[0-9]*; do grep -qx log-forwarder $p/comm && kill {} ${{p#/proc/}} && break; done"
    relay.exec(["bash", "-c", find.format("-9")])
    wait_until(lambda: list_messages(relay)[0]["attempts"] is not None, 20, "the next forwarder should answer")
    assert (list_messages(relay)[0]["attempts"], list_messages(relay)[0]["attempts_are_exact"]) == (0, False)
    try_again(relay, 2)
    assert (list_messages(relay)[0]["attempts"], list_messages(relay)[0]["attempts_are_exact"]) == (1, False)
    assert re.search(r" 1\+ +\d+ +deferred ", relay.exec(["authrelay", "queue"]).text)
    relay.exec(["bash", "-c", find.format("-STOP")])
    (message,) = list_messages(relay)
    assert (message["attempts"], message["attempts_are_exact"]) == (None, False)
    assert re.search(r" \? +\d+ +deferred ", relay.exec(["authrelay", "queue"]).text)
    relay.exec(["bash", "-c", find.format("-CONT")])
