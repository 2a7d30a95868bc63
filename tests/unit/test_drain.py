"""The stop: what counts as still to be delivered, who is waited for, and what the last line says."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

from entrypoint import paths
from entrypoint.services import drain
from entrypoint.services.drain import Drain, close_to_clients, describe_rest
from entrypoint.system.queue import count_messages, describe_place, has_pending, has_recipients

ROOT = "1 0 0:50 / / rw - overlay overlay rw"
NAMED = "2 1 8:1 /docker/volumes/queue/_data /var/spool/postfix rw,relatime - ext4 /dev/sda1 rw"
ANONYMOUS = f"2 1 8:1 /docker/volumes/{'0f' * 32}/_data /var/spool/postfix rw,relatime - ext4 /dev/sda1 rw"
KUBERNETES = f"2 1 8:1 /containerd/containers/{'0f' * 32}/volumes/{'1e' * 32} /var/spool/postfix rw - ext4 /dev/sda1 rw"
EMPTY_DIR = "2 1 8:1 /kubelet/pods/1e/volumes/kubernetes.io~empty-dir/q/queue /var/spool/postfix rw - ext4 /dev/sda1 rw"
MEMORY = "2 1 0:60 / /var/spool/postfix rw - tmpfs tmpfs rw"


@pytest.fixture(autouse=True)
def queue(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A queue of the test's own."""
    for name in ("maildrop", "incoming", "active", "deferred/A", "hold"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(paths, "QUEUE", str(tmp_path))
    return tmp_path


def _record(kind: str, text: bytes = b"") -> bytes:
    length = bytearray()
    number = len(text)
    while True:
        number, low = number >> 7, number & 0x7F
        length.append(low | (0x80 if number else 0))
        if not number:
            return kind.encode() + bytes(length) + text


def _make_file(*, before: str = "R", behind: str = "", content_bytes: int = 10, is_whole: bool = True) -> bytes:
    """A queue file as cleanup(8) writes it: `before` and `behind` the content, the kinds of its recipients' records."""
    content = b"".join(_record("N", b"R" * 200) for _ in range(content_bytes // 200 + 1))
    head = b"".join([_record("T", b"1795476385 1"), _record("S", b"a@example.test")])
    head += b"".join(_record(kind, b"b@example.com") for kind in before)
    # C comes first; its own length is fixed, so that the offset is known.
    offset = len(_record("C", b" " * 95)) + len(head) + len(_record("M"))
    size = b"%15d %15d %15d %15d %15d %15d" % (content_bytes, offset, 1, 0, len(content), 0)
    tail = _record("X") + b"".join(_record(kind, b"b@example.com") for kind in behind)
    return _record("C", size) + head + _record("M") + content + (tail + _record("E") if is_whole else b"")


def _put(path: pathlib.Path, data: bytes) -> None:
    """Write a queue file that is whole: an executable one."""
    path.write_bytes(data)
    path.chmod(0o700)


@pytest.mark.parametrize(
    ("data", "is_waiting"),
    [
        (_make_file(), True),
        (_make_file(before="D"), False),
        (_make_file(before="DDRD"), True),
        (_make_file(before="DDD"), False),
        (_make_file(before="D", content_bytes=300_000), False),
        (_make_file(before="", behind="R"), True),
        (_make_file(before="", behind="D"), False),
    ],
    ids=["waits", "done", "one-waits", "all-done", "large", "sendmail-t", "sendmail-t-done"],
)
def test_message_waits_while_it_has_a_recipient_that_is_not_done(
    data: bytes, is_waiting: bool, queue: pathlib.Path
) -> None:
    """A delivery marks its recipient in the file; the file itself stays until a qmgr removes it."""
    _put(queue / "active" / "1", data)
    assert has_recipients(str(queue / "active" / "1")) == is_waiting
    assert has_pending() == is_waiting
    assert count_messages() == int(is_waiting)


def test_message_that_is_being_written_is_waited_for_and_not_counted(queue: pathlib.Path) -> None:
    """Nobody was promised it yet; and what a crash left half written must not hold every later stop."""
    file = queue / "incoming" / "1"
    file.write_bytes(_make_file(is_whole=False))
    assert (has_pending(), count_messages()) == (True, 0)
    os.utime(file, (1, 1))
    assert (has_pending(), count_messages()) == (False, 0)
    file.chmod(0o700)
    assert (has_pending(), count_messages()) == (True, 1)


@pytest.mark.parametrize("data", [b"C\x021 ", b"C\x05x y z", b"C" + b"\xff" * 20000, b"C\x0b1 2 3 4 x y"])
def test_damaged_message_counts_as_one_that_waits(data: bytes, queue: pathlib.Path) -> None:
    """A stop must not end in the middle for it; and nobody knows that nobody waits for it."""
    _put(queue / "active" / "1", data)
    assert (has_pending(), count_messages()) == (True, 1)


def test_messages_are_counted_wherever_they_are(queue: pathlib.Path) -> None:
    """Only what is in the way keeps a stop; what waits for another try does not."""
    for name in ("deferred/A/1", "hold/2"):
        (queue / name).write_bytes(b"x")
    assert (count_messages(), has_pending()) == (2, False)
    (queue / "maildrop" / "3").write_bytes(b"x")
    assert (count_messages(), has_pending()) == (3, True)
    assert not has_recipients(str(queue / "active" / "gone"))


@pytest.mark.parametrize(
    ("mounts", "fault"),
    [
        ([ROOT], "in the container's own layer"),
        ([ROOT, NAMED], ""),
        ([ROOT, ANONYMOUS], "on a volume without a name"),
        ([ROOT, ANONYMOUS, MEMORY], "in memory"),
        ([ROOT, KUBERNETES], "on a volume without a name"),
        ([ROOT, EMPTY_DIR], "in an emptyDir of the pod"),
        ([ROOT, NAMED.replace("/var/spool/postfix", "/var/spool")], ""),
        ([ROOT, MEMORY.replace("/var/spool/postfix", "/var/spool/post")], "in the container's own layer"),
        ([], "in the container's own layer"),
    ],
)
def test_place_of_the_queue_is_known(mounts: list[str], fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a removed container takes the mail with it, somebody must be told before."""
    monkeypatch.setattr(paths, "QUEUE", "/var/spool/postfix")
    assert describe_place("\n".join(mounts)) == fault


def test_last_line_says_what_is_left_and_where() -> None:
    """It is the last that is known of this container."""
    assert describe_rest(0, "in memory") == ("INFO", "the queue is empty")
    assert describe_rest(1, "")[1].startswith("1 message is left in the queue on the volume at ")
    severity, text = describe_rest(12, "in memory")
    assert severity == "WARNING"
    assert text.startswith("12 messages are left in the queue, which lies in memory: gone when this ")
    assert "--volume queue:" in text


def test_new_clients_are_told_to_come_back() -> None:
    """Whatever the user's own parameters say, and without a second entry, of which Postfix would warn."""
    closed = close_to_clients("smtpd_client_restrictions = permit\nsmtpd_delay_reject=yes\nmyhostname = x\n")
    entries = [line for line in closed.splitlines() if not line.startswith("#")]
    assert len(entries) == 3
    assert entries[1] == "smtpd_delay_reject = no"
    assert entries[2].startswith("smtpd_client_restrictions = check_client_access static:{421 4.3.2 ")


class _Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(drain, "time", made)
    return made


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The processes that there are, by id; TERM and KILL end one."""
    running: dict[int, str] = {}
    monkeypatch.setattr(drain, "find_name", lambda pid: running.get(pid, ""))

    def kill(pid: int, number: int) -> None:
        if number == signal.SIGSTOP:
            running[pid] += " (held)"
        elif number != signal.SIGHUP:
            assert running.pop(pid) in ("smtpd", "qmgr", "cleanup", "tlsproxy")

    monkeypatch.setattr(os, "kill", kill)
    return running


def test_queue_is_handed_out_when_it_is_empty_or_its_time_is_over(
    clock: _Clock, queue: pathlib.Path, processes: dict[int, str]
) -> None:
    """Not in the first moment, in which what a client was just promised may not be there yet."""
    one = Drain(4)
    assert not one.hand_out()
    clock.now += 0.4
    assert one.hand_out()
    _put(queue / "active" / "1", _make_file())
    for _ in range(35):
        assert not one.hand_out()
        clock.now += 0.1
    clock.now += 0.3
    assert one.hand_out()
    assert processes == {}


def test_queue_manager_is_held_before_master_ends(
    clock: _Clock, queue: pathlib.Path, processes: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that begins when tlsmgr has gone asks for it for ten seconds, and the engine's patience is over."""
    _put(queue / "active" / "1", _make_file())
    monkeypatch.setattr(drain, "list_children", lambda pid: {7, 8} if pid == 5 else set())
    monkeypatch.setattr(drain, "write_file", lambda *_: None)
    monkeypatch.setattr(drain, "read_text", lambda _: "")
    processes.update({5: "master", 7: "qmgr", 8: "smtp"})
    one = Drain(4)
    one.begin(5)
    clock.now += 2.9
    assert not one.hand_out()
    assert processes[7] == "qmgr"
    clock.now += 0.2
    assert not one.hand_out()
    assert processes == {5: "master", 7: "qmgr (held)", 8: "smtp"}
    clock.now += 1
    assert one.hand_out()


def test_second_signal_leaves_time_only_to_settle(clock: _Clock, queue: pathlib.Path) -> None:
    """An impatient person waits a second, and for what is under way."""
    _put(queue / "active" / "1", _make_file())
    one = Drain(30)
    one.hurry()
    assert not one.hand_out()
    clock.now += 1
    assert one.hand_out()


def test_delivery_is_waited_for_and_never_ended(clock: _Clock, processes: dict[int, str]) -> None:
    """What the upstream may have taken must be confirmed, or it is sent again."""
    processes[7] = "smtp"
    one = Drain(0)
    for _ in range(1000):
        assert one.wait_for({7})
        clock.now += 1
    del processes[7]
    assert not one.wait_for({7})


def test_proxy_is_ended_after_the_last_delivery(clock: _Clock, processes: dict[int, str]) -> None:
    """The deliveries speak through it; when they have gone it would stay for minutes."""
    processes.update({7: "smtp", 8: "tlsproxy"})
    one = Drain(0)
    for _ in range(100):
        assert one.wait_for({7, 8})
        clock.now += 1
    assert processes == {7: "smtp", 8: "tlsproxy"}
    del processes[7]
    one.wait_for({8})
    assert processes == {}


def test_what_holds_the_stop_is_told_once_before_the_engine_loses_patience(
    clock: _Clock, queue: pathlib.Path, processes: dict[int, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its KILL leaves nothing in the log, and then nobody knows what was under way."""
    _put(queue / "active" / "1", _make_file())
    processes.update({7: "smtp", 8: "smtp", 9: "bounce"})
    one = Drain(0)
    for _ in range(19):
        assert one.wait_for({7, 8, 9})
        assert "waiting" not in capfd.readouterr().out
        clock.now += 0.1
    for _ in range(3):
        clock.now += 0.2
        one.wait_for({7, 8, 9})
    said = capfd.readouterr().out
    assert said.count("INFO authrelay: stopping; waiting for 2 deliveries that are under way; 1 message is left") == 1
    assert said.count("waiting") == 1


def test_idle_session_is_ended_when_no_message_is_being_taken(clock: _Clock, processes: dict[int, str]) -> None:
    """cleanup has a message until it is on disk, and smtpd promises it right after: both are let finish."""
    processes.update({1: "smtpd", 2: "cleanup"})
    one = Drain(0)
    for _ in range(10):
        assert one.wait_for({1, 2})
        clock.now += 0.1
    assert processes == {1: "smtpd", 2: "cleanup"}
    del processes[2]
    clock.now += 0.1
    one.wait_for({1})
    assert 1 in processes
    clock.now += 0.3
    one.wait_for({1})
    assert processes == {}
    assert not one.wait_for({1})


def test_client_that_stalls_in_its_message_is_ended_after_a_while(clock: _Clock, processes: dict[int, str]) -> None:
    """It was promised nothing, and must not hold the stop for minutes."""
    processes.update({1: "smtpd", 2: "cleanup"})
    one = Drain(0)
    one.wait_for({1, 2})
    clock.now += 2.9
    one.wait_for({1, 2})
    assert 1 in processes
    clock.now += 0.2
    assert one.wait_for({1, 2})
    assert processes == {2: "cleanup"}
    # It waits for a service that has gone with master; the client is told nothing more, whatever becomes of it.
    assert one.wait_for({2})
    assert processes == {}
    assert not one.wait_for({2})


def test_full_disk_does_not_stop_the_stop(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of it keeps deliveries from being cut off; that new clients are not turned away costs no message."""
    monkeypatch.setattr(paths, "POSTFIX_CONFIG", "/nowhere")
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: signals.append(number))
    one = Drain(4)
    one.begin(5)
    clock.now += 0.4
    assert one.hand_out()
    assert signals == [signal.SIGHUP]
