"""Mail that flows while something is broken, and its account: nothing lost, all gone out by itself. Runs docker."""

from __future__ import annotations

import collections
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.engine import Engine, Network
from tests.support.load import Kill, Load, count_queue, was_in_flight
from tests.support.relay import Relay
from tests.support.upstream import Message, Upstream
from tests.support.wait import wait_until

SECONDS = float(os.environ.get("AUTHRELAY_SECONDS", "3"))
"""How long the upstream is away."""
IS_LONG = SECONDS >= 60
BRIEF = min(SECONDS, 15) / 2
QUICK = {
    "POSTFIX_queue_run_delay": "1s",
    # Postfix takes it for over a second early; less, and it would meet messages whose delivery has not quite ended.
    "POSTFIX_minimal_backoff_time": "3s",
    "POSTFIX_maximal_backoff_time": "3s",
}
_DRAINED_SECONDS = 45.0
"""More than twice what any row needs with the settings above, on a machine that does three other things."""
_LEAST_RATE = 20.0
"""Messages a second that go out at least, on such a machine: the long form has hundreds to send."""
_SKIPPED = 3
_SKIPPED_SECONDS = 130.0
"""A message that the queue manager meets while its delivery is just ending ("skipped, still being delivered", in its
words) is left for a minute and until its next wakeup. There are few of them, and none is what a row is about."""
# What Postfix says of the faults themselves.
SAID = ("SASL authentication failed", "does not work, broken at")
KILLED = (
    *(
        "killed by signal 9",
        # The kernel may take master(8) itself, and the supervisor starts it again.
        r"postfix ended \(terminated by SIGKILL\)",
        "bad command startup -- throttling",
        "problem talking to service",
        "error sending request to private/",
        "premature end-of-input",
        "malformed response",
        "malformed request",
        "write rewrite reply: Broken pipe",
        r"postfix/tlsproxy\[\d+\]: warning: .*: Broken pipe",
    ),
    *("(upkeep|probe) failed .terminated by SIGKILL", "status ended .terminated by SIGKILL. and is started again"),
    *("log-forwarder does not read", "log-forwarder ended .terminated by SIGKILL. and is started again"),
)


@dataclass
class Mail:
    """Mail that goes on while something is broken, and the account of it."""

    relay: Relay
    upstream: Upstream
    load: Load
    _counted: int = field(default=0, init=False)

    def wait(self, count: int = 5, timeout_seconds: float = 30) -> None:
        """Wait until so many more were accepted."""
        self.load.wait_accepted(len(self.load.accepted()) + count, timeout_seconds)

    def last(self, seconds: float) -> None:
        """Let the fault last, and see that the clients' mail is taken all the while."""
        began = time.monotonic()
        self.wait(timeout_seconds=max(seconds, 10))
        time.sleep(max(0.0, began + seconds - time.monotonic()))

    def account(
        self, fault: str, *, most_seconds: float = _DRAINED_SECONDS, kills: Sequence[Kill] = (), most_repeated: int = 0
    ) -> float:
        """Wait until all that was accepted since the last account is confirmed, print the row, and judge it.

        Returns how long that took, but for the few messages that Postfix leaves for a minute; `finish` waits for them.
        """
        began = time.monotonic()
        names = self.load.accepted()[self._counted :]
        self._counted += len(names)
        because = f"all mail should go out after {fault}"
        most_seconds += len(names) / _LEAST_RATE
        wait_until(lambda: len(find_lost(names, self.upstream)) <= _SKIPPED, most_seconds, because)
        seconds = time.monotonic() - began
        late = find_lost(names, self.upstream)
        copies = collect_copies(self.upstream.messages())
        repeated = [name for name in names if len(copies[name]) > 1]
        odd = [name for name in repeated if not any(is_doubtful(one, kills) for one in copies[name])]
        out = len(names) - len(late)
        print(
            f"{fault:<44} {len(names):>4} in, {out:>4} out after {seconds:.1f} s, {len(late)} later; "
            f"{len(repeated)} repeated, {len(odd)} oddly"
        )
        assert odd == []
        assert len(repeated) <= most_repeated
        assert names
        return seconds

    def finish(self) -> None:
        """End the load, and see that really everything has gone out."""
        accepted = self.load.end()
        wait_until(lambda: not count_queue(self.relay), _SKIPPED_SECONDS, "the queue should be empty")
        assert find_lost(accepted, self.upstream) == set()


def find_lost(names: Sequence[str], upstream: Upstream) -> set[str]:
    """The messages that the upstream has not confirmed."""
    return set(names) - {one.mail_from for one in upstream.messages() if one.is_accepted}


def collect_copies(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """What the upstream has whole, by name, without what it refused."""
    copies: dict[str, list[Message]] = collections.defaultdict(list)
    for one in messages:
        if one.final_code in (250, None):
            copies[one.mail_from].append(one)
    return copies


def is_doubtful(message: Message, kills: Sequence[Kill]) -> bool:
    """Whether the relay could not know that the upstream has it."""
    return message.final_code is None or was_in_flight(message, kills)


def count_refused_logins(upstream: Upstream) -> int:
    return sum(not login.is_accepted for one in upstream.sessions() for login in one.logins)


@contextlib.contextmanager
def send(engine: Engine, network: Network, relay: Relay, upstream: Upstream, name: str) -> Iterator[Mail]:
    """Let mail flow."""
    with Load(engine, network, relay.container.name, prefix=name, sessions=3, pause_seconds=0.2) as load:
        mail = Mail(relay, upstream, load)
        mail.wait()
        yield mail
        mail.finish()
