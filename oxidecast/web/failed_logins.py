"""Failed logins, counted before they are written to the audit log.

The one idea: whoever guesses passwords must not fill the disk by it. A row stands for all that one network tried on one
account since the last time, rows are written every `PERIOD` seconds, and only as many as a bucket has tokens for; what
has to wait is counted on, in bounded memory.

A name is written down only if an account has it: people type their passwords into the wrong field.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.limits import TokenBuckets, network_of
from oxidecast.database.audit import ANONYMOUS, Actor, AuditLog
from oxidecast.database.errors import DatabaseError
from oxidecast.database.records import utc
from oxidecast.database.users import target

PERIOD = 5.0
"""Seconds between two writings: what an administrator who looks for an attack waits."""
BURST = 100
REFILL = 10.0
"""Rows at once, and seconds for one more: at most some 9,000 rows a day, which is 2 MB."""
MOST_COUNTED = 1000
"""Networks and accounts counted apart. What comes beyond is counted together, as of nobody from nowhere."""

ACTION = "login.failed"
OTHERS = ("", "")


@dataclass
class _Counted:
    address: str
    """The last one of the network."""
    first: datetime
    last: datetime
    times: int = 0


class FailedLogins(Service):
    """Counts, and writes down while the service runs."""

    log = Logger()

    def __init__(self, accounts: Accounts, audit: AuditLog, reactor: Any) -> None:
        self._accounts = accounts
        self._audit = audit
        self._reactor = reactor
        self._counted: OrderedDict[tuple[str, str], _Counted] = OrderedDict()
        self._rows = TokenBuckets(reactor, BURST, REFILL, maximum=1)
        self._ended: Deferred[Any] | None = None
        self._loop = LoopingCall(self.write)
        self._loop.clock = reactor

    def add(self, address: str, username: str) -> None:
        """Somebody has not been let in."""
        now = utc(self._reactor)
        pair = network_of(address), username.lower()[:100]
        if pair not in self._counted and len(self._counted) >= MOST_COUNTED:
            pair, address = OTHERS, ""
        counted = self._counted.setdefault(pair, _Counted(address, now, now))
        counted.address, counted.last, counted.times = address, now, counted.times + 1

    async def write(self) -> None:
        """Write down what there is room for. What cannot be written is counted on."""
        while self._counted and self._rows.wait(ACTION) == 0.0:
            pair, counted = self._counted.popitem(last=False)
            try:
                user = await self._accounts.known(pair[1])
                await self._audit.add_several(
                    Actor(ANONYMOUS, None, counted.address),
                    ACTION,
                    target(user.username) if user is not None else "",
                    counted.times,
                    counted.first,
                    counted.last,
                )
            except DatabaseError as error:
                self.log.debug("failed logins wait to be written down: {error}", error=error)
                self._keep(pair, counted)
                return
            self._rows.take(ACTION)

    def _keep(self, pair: tuple[str, str], counted: _Counted) -> None:
        """Not written: count on where it was, with what came meanwhile."""
        meanwhile = self._counted.get(pair)
        if meanwhile is not None:
            counted.times += meanwhile.times
            counted.last, counted.address = meanwhile.last, meanwhile.address
        self._counted[pair] = counted
        self._counted.move_to_end(pair, last=False)

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(PERIOD, now=False).addErrback(
            lambda failure: self.log.failure("failed logins are not written down", failure=failure)
        )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        if self._ended is not None:
            await self._ended  # what is being written
        await self.write()
