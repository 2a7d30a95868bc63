"""What the upkeep remembers, when it runs again, and what it says of certificates that end."""

from __future__ import annotations

import pathlib
import time

import pytest

from entrypoint import paths
from entrypoint.system.agenda import find_now, read_agenda
from entrypoint.upkeep import record as records
from entrypoint.upkeep.expiry import Ending, find_endings, find_next_look
from entrypoint.upkeep.record import FETCH, SETTINGS, Record, load_record, save_record, say_changes
from entrypoint.upkeep.schedule import choose_next_fetch, is_fetch_due, plan_next_run
from entrypoint.upkeep.verdict import Upstream, Verdict, find_readiness, load_verdict, save_verdict

DAY = 86400
END = 1_800_000_000


@pytest.fixture(autouse=True)
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A directory of the test's own."""
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    for name in ("UPKEEP", "VERDICT", "UNTRUSTED", "REFUSED", "LAST_SENT"):
        monkeypatch.setattr(paths, name, str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was written to the log."""
    written: list[str] = []
    monkeypatch.setattr(records, "write_line", lambda severity, text: written.append(f"{severity} {text}"))
    return written


def _make_ending(renewed_at: int | None = None) -> Ending:
    return Ending(
        role="trusted_ca",
        what="RELAYHOST_CA: the CA",
        subject="CN=x",
        sha256="AB",
        not_after=END,
        remedy="Add one",
        renewed_at=renewed_at,
    )


@pytest.mark.parametrize(
    ("left", "key", "words"),
    [
        (31 * DAY, "", ""),
        (30 * DAY, "end:AB:30", "RELAYHOST_CA: the CA 'CN=x' expires in 30 days, on 2027-01-15 08:00 UTC. Add one"),
        (8 * DAY, "end:AB:30", "expires in 8 days"),
        (7 * DAY - 1, "end:AB:7", "expires in 6 days"),
        (2 * DAY, "end:AB:7", "expires in 2 days"),
        (DAY - 1, "end:AB:1", "expires in 23 hours"),
        (3000, "end:AB:1", "expires in the next hour"),
        (-1, "end:AB:0", "RELAYHOST_CA: the CA 'CN=x' expired on 2027-01-15 08:00 UTC. Add one"),
    ],
)
def test_certificate_that_ends_is_told_at_30_7_1_and_0_days(left: int, key: str, words: str) -> None:
    """Four times, each with what to do: the key is what is said once."""
    found = find_endings([_make_ending()], END - left)
    assert list(found) == ([key] if key else [])
    assert words in found.get(key, "")


def test_next_look_is_when_there_will_be_something_to_say() -> None:
    """Not every hour: nothing happens in between."""
    one = [_make_ending()]
    assert find_next_look(one, END - 90 * DAY) == END - 30 * DAY + 1
    assert find_next_look(one, END - 20 * DAY) == END - 7 * DAY + 1
    assert find_next_look(one, END - 3) == END + 1
    assert find_next_look(one, END + 2) is None
    assert find_next_look([], 0) is None


def test_certificate_that_renews_itself_is_looked_at_then_and_never_told() -> None:
    """Its renewal says what matters."""
    one = [_make_ending(renewed_at=END - 30 * DAY)]
    assert find_endings(one, END - DAY) == {}
    assert find_next_look(one, 0) == END - 30 * DAY + 1


def test_record_survives_the_disk() -> None:
    """Each run is another process."""
    assert load_record() == Record()
    record = Record(troubles={"a": "text"}, fetch_due_at=3.5, failures=2, vain=1)
    save_record(record)
    assert load_record() == record


def test_trouble_is_said_once(lines: list[str]) -> None:
    """Also where its text changes, as an age in it does."""
    say_changes(Record(), Record(troubles={FETCH: "copy of 1 hour ago", "b": "other"}))
    say_changes(
        Record(troubles={FETCH: "copy of 1 hour ago", "b": "other"}), Record(troubles={FETCH: "of 2 hours ago"})
    )
    assert lines == ["WARNING copy of 1 hour ago", "WARNING other"]


def test_end_of_a_trouble_that_matters_is_said(lines: list[str]) -> None:
    """Who was woken wants to know that it is over."""
    say_changes(Record(troubles={FETCH: "x", SETTINGS: "y", "other": "z"}), Record())
    assert lines == [
        "INFO RELAYHOST_CA_URL: the CA was fetched again",
        "INFO the settings and their files can be used again",
    ]


def test_settings_that_cannot_be_used_are_an_error_each_time_they_are_others(lines: list[str]) -> None:
    """A second slip is not hidden by the first."""
    say_changes(Record(), Record(troubles={SETTINGS: "A: bad."}))
    say_changes(Record(troubles={SETTINGS: "A: bad."}), Record(troubles={SETTINGS: "A: bad."}))
    say_changes(Record(troubles={SETTINGS: "A: bad."}), Record(troubles={SETTINGS: "B: bad."}))
    rest = "What was in force before stays in force."
    assert lines == [f"ERROR A: bad. {rest}", f"ERROR B: bad. {rest}"]


def test_fetches_are_spread_and_a_failure_is_tried_again_sooner() -> None:
    """A fleet must not ask together; a server that is down must not be asked every second, nor only tomorrow."""
    spread = {round(choose_next_fetch(1000, 0) - find_now()) for _ in range(200)}
    assert min(spread) >= 899
    assert max(spread) <= 1101
    assert len(spread) > 50
    for failures, seconds in ((1, 300), (2, 600), (3, 1200), (9, 21600), (5000, 21600)):
        assert 0.89 * seconds < choose_next_fetch(21600, failures) - find_now() < 1.11 * seconds
    assert choose_next_fetch(10, 5) - find_now() < 11.1


def test_fetch_is_due_at_its_time_or_when_a_delivery_calls_for_it(run: pathlib.Path) -> None:
    """And never without a URL."""
    assert not is_fetch_due(Record())
    assert is_fetch_due(Record(fetch_due_at=find_now() - 1))
    waiting = Record(fetch_due_at=find_now() + 1000)
    plan_next_run(waiting, (), ())
    assert not is_fetch_due(waiting)
    (run / "untrusted").write_text("x")
    assert is_fetch_due(waiting)


@pytest.mark.parametrize(("vain", "seconds"), [(0, 5), (3, 40), (5000, 3600)])
def test_deliveries_call_for_a_fetch_ever_more_seldom(vain: int, seconds: float) -> None:
    """An upstream whose certificate stays wrong must not make us hammer a server of CAs."""
    plan_next_run(Record(fetch_due_at=find_now() + 99999, vain=vain), (), ())
    (watch,) = (one for one in read_agenda("upkeep").watches if one.path == paths.UNTRUSTED)
    assert watch.not_before - find_now() == pytest.approx(seconds, abs=1)


def test_next_run_is_the_first_of_what_is_to_come() -> None:
    """The fetch, the end of a certificate, or tomorrow, for the wall clock may have been put right since."""

    def plan(record: Record, ending: Ending | None = None) -> float:
        plan_next_run(record, (), [ending] if ending else [])
        return (read_agenda("upkeep").due_at or 0) - find_now()

    assert plan(Record()) == pytest.approx(DAY, abs=1)
    assert plan(Record(fetch_due_at=find_now() + 50)) == pytest.approx(50, abs=1)
    soon = Ending(role="client", what="a", subject="b", sha256="c", not_after=int(time.time()) + DAY + 60, remedy="d")
    assert plan(Record(fetch_due_at=find_now() + 500), soon) == pytest.approx(61, abs=2)
    broken = Record(troubles={SETTINGS: "x"}, fetch_due_at=find_now() - 5)
    assert plan(broken) == pytest.approx(300, abs=1)
    # A postmap that the kernel ended leaves no file that changes when there is memory again.
    assert plan(Record(troubles={SETTINGS: "x"})) == pytest.approx(300, abs=1)
    plan_next_run(Record(), (), (), has_names=True)
    assert (read_agenda("upkeep").due_at or 0) - find_now() == pytest.approx(300, abs=1)


def _make_verdict(*steps: str) -> Verdict:
    upstreams = tuple(Upstream(setting="S", nexthop="n", step=step, words="w") for step in steps)
    return Verdict(at=time.time() - 60, upstreams=upstreams)


def test_verdict_survives_the_disk() -> None:
    """The probe writes it, `health` reads it."""
    assert load_verdict() == Verdict()
    verdict = _make_verdict("", "auth")
    save_verdict(verdict)
    assert load_verdict() == verdict


@pytest.mark.parametrize(
    ("verdict", "is_ready"),
    [
        (Verdict(), False),
        (_make_verdict(""), True),
        (_make_verdict("auth"), False),
        (_make_verdict("auth", ""), True),
        (_make_verdict("auth", "resolve"), False),
    ],
    ids=["none-yet", "good", "broken", "fallback-works", "both-broken"],
)
def test_relay_is_ready_when_one_upstream_works(verdict: Verdict, is_ready: bool) -> None:
    """Mail goes out then."""
    assert all(is_well for _, is_well, _ in find_readiness(verdict)) == is_ready


def test_delivery_since_a_failed_probe_counts_more(run: pathlib.Path) -> None:
    """And one before it does not."""
    verdict = _make_verdict("greeting")
    (run / "last_sent").write_text("")
    assert all(is_well for _, is_well, _ in find_readiness(verdict))
    later = Verdict(at=time.time() + 60, upstreams=verdict.upstreams)
    assert not any(is_well for _, is_well, _ in find_readiness(later))
