"""What Mailman's runners do with the message in their hands when the database goes away, or when they are to stop.

Mailman's own do the same in either case: the message goes to the shunt queue, where it waits for a person; and one that
LMTP brings is refused for ever with 550. Here a runner waits for the database and begins anew with the message; it
finishes the message before it stops; and LMTP is told 451.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

import mailman.runners.lmtp as lmtp
from mailman.config import config
from mailman.core.runner import Runner
from mailman.interfaces.runner import RunnerInterrupt
from sqlalchemy import event, text
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

log = logging.getLogger("mailman.runner")
_process_one_file = Runner._process_one_file
_one_iteration = Runner._one_iteration
_signal_handler = Runner.signal_handler


class DatabaseAway(BaseException):
    """Passes by Mailman's own handling of errors, which would shunt the message."""


def _is_away(error: BaseException) -> bool:
    """Whether it is the connection and not the question (PostgreSQL, Appendix A: classes 08 and 57)."""
    if isinstance(error, DatabaseAway | PendingRollbackError):
        return True
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    return isinstance(error, OperationalError | InterfaceError) and (code is None or code[:2] in ("08", "57"))


def _process(self, msg, msgdata):
    try:
        _process_one_file(self, msg, msgdata)
    except Exception as error:
        if _is_away(error):
            raise DatabaseAway from error
        raise


def _iterate(self):
    self.is_busy = True
    try:
        return _one_iteration(self)
    finally:
        self.is_busy = False


def _handle(self, signum, frame):
    try:
        _signal_handler(self, signum, frame)
    except RunnerInterrupt:
        # Where nothing is in hand only: it would be an error of the message's. `_short_circuit` ends the loop after it.
        if not self.is_busy:
            raise


Runner.is_busy = False
Runner._process_one_file = _process
Runner._one_iteration = _iterate
Runner.signal_handler = _handle


def run(runner: Runner) -> None:
    """Run it until it is stopped."""
    while not runner._stop:
        try:
            runner.run()
            return
        except (DatabaseAway, SQLAlchemyError) as error:
            if not _is_away(error):
                raise
            log.error("%s runner: the database is away: %s", runner.name, error.__cause__ or error)
        with contextlib.suppress(RunnerInterrupt):
            _wait_for_database(runner)
        _put_back(runner)


def _wait_for_database(runner: Runner) -> None:
    while not runner._stop:
        with contextlib.suppress(SQLAlchemyError):
            config.db.abort()
            config.db.store.execute(text("SELECT 1"))
            config.db.commit()
            log.info("%s runner: the database is back", runner.name)
            return
        config.db.sessionmaker.remove()
        time.sleep(1)


def _put_back(runner: Runner) -> None:
    """What it was at is as it was: its attempts are not counted, of which Mailman allows three in all."""
    if runner.switchboard is None:
        return
    for base in runner.switchboard.get_files(".bak"):
        path = os.path.join(runner.switchboard.queue_directory, base)
        os.rename(f"{path}.bak", f"{path}.pck")


class Handler(lmtp.LMTPHandler):
    """Mailman's, which takes every error for a recipient that does not exist; of the database's it is told here."""

    def __init__(self):
        self._errors = 0
        event.listen(config.db.engine, "handle_error", self._note)

    def _note(self, context):
        # One that is noticed before it is used is replaced, and no error.
        self._errors += not context.is_pre_ping

    async def handle_exception(self, error):
        """Without it aiosmtpd says 500."""
        log.error("lmtp runner: %s", error, exc_info=error)
        return lmtp.ERR_451

    def _handle_RCPT(self, *arguments):  # noqa: N802 - aiosmtpd's name
        return self._guard(super()._handle_RCPT, arguments, 1)

    def _handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        return self._guard(super()._handle_DATA, (server, session, envelope), len(envelope.rcpt_tos))

    def _guard(self, function, arguments, answers):
        before = self._errors
        try:
            answer = function(*arguments)
        except SQLAlchemyError as error:
            log.error("lmtp runner: the database is away: %s", error)
        else:
            if self._errors == before:
                return answer
        return lmtp.CRLF.join([lmtp.ERR_451] * answers)


lmtp.LMTPHandler = Handler
