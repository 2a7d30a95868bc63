"""The queue directory on a volume: made, put right, and never shared."""

from __future__ import annotations

from tests.image.conftest import Relays
from tests.support.client import Client
from tests.support.engine import Engine
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
    first.exec(["bash", "-c", "touch /copy/x && cp -a /var/spool/postfix/. /copy && rm /copy/x"])
    first.stop()
    upstream.mend()
    second = relays.start(volumes={copy: "/var/spool/postfix"}, allowed=["postsuper: "])
    second.flush()
    upstream.wait_messages(3)
    second.wait_queue(0)


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
