"""How many clients are served at once: what the memory holds, and never all of it for one."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from entrypoint.plan.capacity import choose_capacity
from entrypoint.system import memory
from tests.unit.reading import FACTS, find_text, plan_for, read, read_main_cf

MEBIBYTE = 2**20
RELAYHOST = {"RELAYHOST": "smtp.example.com"}


@pytest.mark.parametrize(
    ("mebibytes", "env", "sessions", "of_one"),
    [
        (None, {}, 100, 50),
        (4096, {}, 100, 50),
        (192, {}, 12, 10),
        (192, {"LISTEN_PORTS": "25"}, 24, 20),
        (192, {"RELAYHOST_CONCURRENCY": "5"}, 22, 18),
        (1024, {"RELAYHOST_CONCURRENCY": "200"}, 52, 42),
        (256, {}, 25, 20),
        (512, {}, 76, 50),
        (64, {}, 4, 2),
    ],
)
def test_sessions_follow_from_the_memory(
    mebibytes: int | None, env: dict[str, str], sessions: int, of_one: int
) -> None:
    """A relay that the kernel ends because of its clients helps nobody; the numbers of Postfix need 500 MB."""
    found = choose_capacity(read({**RELAYHOST, **env})[0], mebibytes and mebibytes * MEBIBYTE)
    assert (found.sessions, found.sessions_of_one) == (sessions, of_one)


@pytest.mark.parametrize(("concurrency", "first"), [("1", "1"), ("4", "4"), ("20", "5"), ("50", "10"), (None, None)])
def test_burst_begins_with_a_fifth_of_the_deliveries(concurrency: str | None, first: str | None) -> None:
    """Each may be a refused login; never more than are allowed at all, of which Postfix would warn."""
    env = {"RELAYHOST_CONCURRENCY": concurrency} if concurrency else {}
    main_cf = read_main_cf(plan_for({**RELAYHOST, **env}))
    assert main_cf.get("smtp_initial_destination_concurrency") == first


@pytest.mark.parametrize("mebibytes", [96, 128, 192, 256, 384, 512, 1024])
def test_one_client_leaves_sessions_to_others(mebibytes: int) -> None:
    """And what is missing for the least number is missing only where there is little memory."""
    found = choose_capacity(read(RELAYHOST)[0], mebibytes * MEBIBYTE)
    assert 2 <= found.sessions_of_one <= found.sessions - 2
    assert bool(found.missing_bytes) == (mebibytes < 150)


def test_little_memory_is_told_with_what_is_needed() -> None:
    """Only the limit can be changed, so the sentence says to what."""
    plan = plan_for(RELAYHOST, dataclasses.replace(FACTS, memory_bytes=64 * MEBIBYTE))
    assert plan.warnings == (
        "the container's memory is limited to 64 MiB, which is used up when 4 clients send at once. Give it 150 MiB "
        "(--memory 150m), or set a smaller RELAYHOST_CONCURRENCY",
    )
    assert plan_for(RELAYHOST, dataclasses.replace(FACTS, memory_bytes=150 * MEBIBYTE)).warnings == ()


def test_both_numbers_are_in_force() -> None:
    """The limit of one without that of all, or the reverse, protects nobody."""
    plan = plan_for(RELAYHOST, dataclasses.replace(FACTS, memory_bytes=192 * MEBIBYTE))
    listeners = re.findall(r"(?m)^(\d+) +inet .* (\d+) +nice-smtpd$", find_text(plan, "master.cf"))
    assert listeners == [("25", "12"), ("587", "12")]
    assert read_main_cf(plan)["smtpd_client_connection_count_limit"] == "10"
    assert read_main_cf(plan)["smtpd_client_event_limit_exceptions"] == ""


@pytest.mark.parametrize(
    ("concurrency", "limit"),
    [({}, "-"), ({"RELAYHOST_CONCURRENCY": "3"}, "3"), ({"RELAYHOST_CONCURRENCY": "200"}, "200")],
)
def test_there_are_as_many_deliveries_as_were_asked_for(concurrency: dict[str, str], limit: str) -> None:
    """Postfix's hundred would be the silent limit of a setting that may be a thousand; and with one recipient a message
    its queue manager counts by recipient, so that nothing else would hold."""
    plan = plan_for({**RELAYHOST, **concurrency})
    assert re.findall(r"(?m)^smtp +unix .* (\S+) +smtp$", find_text(plan, "master.cf")) == [limit]


@pytest.mark.parametrize(
    ("text", "limit"),
    [("201326592\n", 192 * MEBIBYTE), ("max\n", None), ("9223372036854771712\n", None), ("", None), (None, None)],
)
def test_limit_is_read_as_the_kernel_writes_it(
    text: str | None, limit: int | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 says max, version 1 a number that no machine has; without cgroups there is no file."""
    path = tmp_path / "limit"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(memory, "_LIMITS", (str(path),))
    assert memory.read_memory_limit() == limit
