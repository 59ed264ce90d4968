"""What was changed lately, for every server on one database to hear of: its own API, another's, or a command.

The one idea: a row only says what to look at again. Who reads it looks how things are now, so it does not matter when
it is read, or how often. The exception is a revoked key, which stays revoked, and may be gone when somebody looks.

Numbers grow, but on PostgreSQL they are given before the transaction is committed: a lower one may be seen later than a
higher one. So the last `OVERLAP` seconds are read again each time, and what was seen is remembered for as long.
"""

from datetime import datetime, timedelta

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.records import record, utc

OVERLAP = 60.0
"""Seconds between a number being given and its row being seen: more than a transaction lasts, which is ended after 30
(`idle_in_transaction_session_timeout`), its last statement after 10 and its commit after 10 more."""
KEEP = 2 * 86_400.0
"""Seconds that rows are kept: a server may be away from the database for so long and miss nothing."""
BATCH = 1000
"""Rows read at once."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at again: a stream, all of an account, or a stream whose key was revoked."""

    sequence: int
    stream_id: str | None
    user_id: str | None
    key_id: str | None


class Changes:
    """The changes table, as one server reads it: each row once."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock
        self._settled: int | None = None
        """Every row up to this one was seen, and no other can come."""
        self._seen: dict[int, float] = {}
        """The rows above it, and when each was seen."""

    async def fresh(self) -> list[Change]:
        """The rows that were not seen before. Raises DatabaseError, and then nothing was seen."""
        now = self._clock.seconds()
        fresh: list[Change] = []
        if self._settled is None:
            self._settled = await self._before(utc(self._clock) - timedelta(seconds=2 * OVERLAP))
        after = self._settled
        while True:
            rows = await self._database.query(
                "SELECT sequence, stream_id, user_id, key_id FROM changes WHERE sequence > :after"
                " ORDER BY sequence LIMIT :batch",
                {"after": after, "batch": BATCH},
            )
            fresh += [record(row, Change) for row in rows if row["sequence"] not in self._seen]
            if len(rows) < BATCH:
                break
            after = rows[-1]["sequence"]
        self._seen.update((change.sequence, now) for change in fresh)
        old = [sequence for sequence, seen in self._seen.items() if now - seen > OVERLAP]
        self._settled = max(old, default=self._settled)
        for sequence in [sequence for sequence in self._seen if sequence <= self._settled]:
            del self._seen[sequence]
        return fresh

    async def _before(self, moment: datetime) -> int:
        """The last row from before `moment`: who has just been started has nothing that is older."""
        rows = await self._database.query(
            "SELECT max(sequence) AS last FROM changes WHERE at < :moment", {"moment": moment}
        )
        last: int | None = rows[0]["last"]
        return last or 0

    async def drop_old(self) -> None:
        """Let go what every server has read. Raises DatabaseError."""
        await self._database.execute(
            "DELETE FROM changes WHERE at < :moment",
            {"moment": utc(self._clock) - timedelta(seconds=KEEP)},
        )


def note_change(
    now: datetime, *, stream_id: str | None = None, user_id: str | None = None, key_id: str | None = None
) -> Body[None]:
    """A step of a transaction, and the last: the less is done after it, the sooner its number can be seen."""
    yield (
        "INSERT INTO changes (at, stream_id, user_id, key_id) VALUES (:at, :stream_id, :user_id, :key_id)",
        {"at": now, "stream_id": stream_id, "user_id": user_id, "key_id": key_id},
    )
