"""What is changed elsewhere, by a command or by another server on the same database, has its consequences here.

The one idea: look often and cheaply whether anything was changed, and when it was, how it is now. A change of this
server's own comes by here too, and finds all done. Who stops a stream elsewhere and starts it again before this server
has looked has changed nothing for it.
"""

from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from oxidecast.accounts.roles import Permission, role_may
from oxidecast.database.changes import KEEP, Change, Changes
from oxidecast.database.errors import DatabaseError
from oxidecast.database.streams import Streams
from oxidecast.streams.hub import Hub
from oxidecast.web.consequences import Consequences

PERIOD = 0.5
"""Seconds between two looks: a second is promised."""
CLEANING = 3600.0
"""Seconds between two deletions of old rows."""


class Elsewhere(Service):
    """Looks while it runs. While the database is away nothing is missed: it is all there to be read later."""

    log = Logger()

    def __init__(
        self, changes: Changes, streams: Streams, hub: Hub, consequences: Consequences, reactor: Any
    ) -> None:
        self._changes = changes
        self._streams = streams
        self._hub = hub
        self._consequences = consequences
        self._reactor = reactor
        self._again: set[str] = set()
        """Ids of live streams that have to be looked at."""
        self._cleaned = 0.0
        self._read = reactor.seconds()
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(PERIOD, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    async def look(self) -> None:
        """Read what is new, and see to it."""
        try:
            for change in await self._changes.fresh():
                self._heard(change)
            self._been_away(self._reactor.seconds())
            for stream_id in list(self._again):
                await self._look_at(stream_id)
                self._again.discard(stream_id)
            await self._clean()
        except DatabaseError as error:
            self.log.debug("changes made elsewhere wait for the database: {error}", error=error)
        except Exception:
            self.log.failure("a change made elsewhere was not followed")

    def _heard(self, change: Change) -> None:
        if change.stream_id is not None:
            self._again |= {change.stream_id} & self._hub.streams.keys()
            if change.key_id is not None:
                self._consequences.key_revoked(change.stream_id, change.key_id)
            else:
                self._consequences.keys_changed(change.stream_id)
        if change.user_id is not None:
            self._consequences.account_changed(change.user_id)
            for stream in self._hub.streams.values():
                if stream.info.owner_id == change.user_id:
                    self._again.add(stream.id)

    def _been_away(self, now: float) -> None:
        """After more than rows are kept, some may be gone: all is looked at."""
        if now - self._read > KEEP:
            self._consequences.everything_changed()
            self._again |= self._hub.streams.keys()
        self._read = now

    async def _look_at(self, stream_id: str) -> None:
        """How it is with a live stream now."""
        found = await self._streams.with_owner(stream_id)
        stream = self._hub.streams.get(stream_id)
        if stream is None or not stream.info.owner_id:
            return  # It has ended meanwhile, or the database knows nothing of it (`rtmp.enable_auth = false`).
        if found is None:
            self._consequences.stream_deleted(stream_id)
        elif found.owner_disabled:
            self._consequences.account_ended(found.stream.owner_id)
        elif not role_may(found.owner_role, Permission.PUBLISH):
            self._consequences.account_demoted(found.stream.owner_id)
        elif not found.stream.accepts_publishing:
            self._consequences.stream_stopped(stream_id)
        elif not stream.is_described_by(found.stream):
            self._consequences.stream_changed(found.stream)

    async def _clean(self) -> None:
        now = self._reactor.seconds()
        if now - self._cleaned >= CLEANING:
            await self._changes.drop_old()
            self._cleaned = now
