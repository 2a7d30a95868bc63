"""Walks to one upstream: its name, and then every address that answers. Network, by `system`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from entrypoint.diagnosis.steps import ADDRESS, Broken, Step, break_as_postfix
from entrypoint.diagnosis.visit import Visit, Way
from entrypoint.system.resolver import find_addresses
from entrypoint.system.smtp_session import SessionError, SmtpSession, connect

MOST_ADDRESSES: Final = 8
"""More than Postfix tries of an upstream in one delivery (postconf(5) smtp_mx_address_limit), and each is a login."""


class Walk:
    """One walk; each step is told to `report` when it is done."""

    def __init__(self, way: Way, report: Callable[[Step], None], most_addresses: int = MOST_ADDRESSES) -> None:
        self._way = way
        self._report = report
        self._most_addresses = most_addresses

    def go(self) -> None:
        """Walk until the first broken step. Where a login was refused, no other address is asked to log in."""
        try:
            addresses = self._resolve()
            failures: dict[str, str] = {}
            is_first = True
            for address in addresses[: self._most_addresses]:
                session = self._connect(address, failures)
                if session is None:
                    if not is_first:
                        self._tell_address(address, f"NOT REACHED: {failures[address]}", is_notable=True)
                    continue
                if is_first:
                    self._tell_connection(address, failures)
                visit = self._visit_first if is_first else self._visit_further
                if visit(address, session):
                    return
                is_first = False
            if is_first:
                raise self._explain_failures(failures)
            self._tell_rest(addresses[self._most_addresses :])
        except Broken as broken:
            self._report(broken.step)

    def _resolve(self) -> tuple[str, ...]:
        way = self._way
        try:
            addresses = find_addresses(way.host, way.timeout_seconds, way.protocols)
        except OSError as error:
            said = reason = error.strerror or str(error)
            if isinstance(error, TimeoutError):
                said = f"no name server answered within {way.timeout_seconds:g} s"
                # What the resolver says in the end where it does not answer.
                reason = "Temporary failure in name resolution"
            words = f"unable to look up host {way.host}: {reason}"
            raise break_as_postfix("resolve", words, f"{said}; {way.protection.resolver}") from error
        if not way.nexthop.is_address:
            detail = f"{way.host} is {', '.join(addresses)}{way.remark_on_name}"
            self._report(Step(name="resolve", is_ok=True, detail=detail, is_notable=bool(way.remark_on_name)))
        return addresses

    def _connect(self, address: str, failures: dict[str, str]) -> SmtpSession | None:
        try:
            return connect(address, self._way.nexthop.port, self._way.timeout_seconds)
        except SessionError as error:
            failures[address] = str(error)
            return None

    def _tell_connection(self, address: str, failures: dict[str, str]) -> None:
        text = ", ".join(f"{one}: {reason}" for one, reason in failures.items())
        remark = f"; NOT REACHED: {text}, which costs time whenever Postfix tries it first" if failures else ""
        detail = f"port {self._way.nexthop.port} of {address}{remark}"
        self._report(Step(name="connect", is_ok=True, detail=detail, is_notable=bool(failures)))

    def _explain_failures(self, failures: dict[str, str]) -> Broken:
        address, reason = next(iter(failures.items()))
        words = f"connect to {self._way.host}[{address}]:{self._way.nexthop.port}: {reason}"
        return break_as_postfix("connect", words, ", ".join(f"{one}: {why}" for one, why in failures.items()))

    def _visit_first(self, address: str, session: SmtpSession) -> Step | None:
        return Visit(self._way, address, session, self._report).go()

    def _visit_further(self, address: str, session: SmtpSession) -> Step | None:
        """Tell a further address in one line: Postfix takes them in any order."""
        steps: list[Step] = []
        broken = Visit(self._way, address, session, steps.append).go()
        if broken:
            detail = f"at {address}, another address of it: {broken.detail}"
            self._report(replace(broken, detail=detail, address=address))
            return broken
        remarks = [f"; {step.name}: {step.detail}" for step in steps if step.is_notable]
        self._tell_address(address, f"every step is well here, too{''.join(remarks)}", is_notable=bool(remarks))
        return None

    def _tell_address(self, address: str, text: str, *, is_notable: bool = False) -> None:
        detail = f"{address}: {text}"
        self._report(Step(name=ADDRESS, is_ok=True, detail=detail, is_notable=is_notable, address=address))

    def _tell_rest(self, addresses: tuple[str, ...]) -> None:
        if addresses:
            detail = f"NOT WALKED, for each is a login: {', '.join(addresses)}"
            self._report(Step(name=ADDRESS, is_ok=True, detail=detail, is_notable=True))
