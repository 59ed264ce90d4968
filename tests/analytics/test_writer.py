"""Rows wait, are written, and are given up one by one: over databases that are there, away, and refuse."""

from datetime import timedelta
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.analytics import writer as module
from oxidecast.analytics.writer import EVERY, Waiting, Writer
from oxidecast.database.history import Broadcast, Measurement, ViewerSession, write_viewers
from oxidecast.database.records import new_id
from tests.database.support import START, DatabaseCase, both_engines


def viewer(**changes: Any) -> ViewerSession:
    values: dict[str, Any] = {
        "id": new_id(),
        "stream_id": new_id(),
        "session_id": None,
        "user_id": None,
        "connection_type": "hls",
        "rendition": "source",
        "address": "192.0.2.0/24",
        "started_at": START,
        "ended_at": START + timedelta(seconds=30),
        "bytes_sent": 7,
    }
    return ViewerSession(**{**values, **changes})


class Queues(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = Waiting("birds", 3, write_viewers)
        for number in range(3):
            self.queue.put(number, f"row {number}")

    def rows(self) -> list[Any]:
        return [row for _, row in self.queue.take(99)]

    def test_the_oldest_goes_when_there_are_too_many(self) -> None:
        self.queue.put(3, "row 3")
        self.assertEqual((len(self.queue), self.queue.dropped), (3, 1))
        self.assertEqual(self.rows(), ["row 1", "row 2", "row 3"])

    def test_a_newer_state_takes_the_place_of_an_older_one(self) -> None:
        self.queue.put(0, "newer")
        self.assertEqual(self.rows(), ["newer", "row 1", "row 2"])
        self.assertEqual(self.queue.dropped, 0)

    def test_what_is_being_written_counts(self) -> None:
        self.queue.take(2)
        self.assertEqual(len(self.queue), 3)
        self.queue.done()
        self.assertEqual(len(self.queue), 1)

    def test_what_comes_back_is_first_again(self) -> None:
        taken = self.queue.take(2)
        self.queue.done(taken)
        self.assertEqual(self.rows(), ["row 0", "row 1", "row 2"])

    def test_what_comes_back_gives_way_to_what_is_newer(self) -> None:
        taken = self.queue.take(2)
        self.queue.put(1, "newer")
        self.queue.put(3, "row 3")
        self.queue.done(taken)
        self.assertEqual(self.queue.dropped, 1)
        self.assertEqual(self.rows(), ["row 2", "newer", "row 3"])


class WriterCase(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.writer = Writer(self.database, self.clock)
        self.writer.startService()
        self.addCleanup(self.writer.stopService)

    def leave(self, row: ViewerSession) -> None:
        self.writer.viewer(row.id, lambda: row)

    async def turn(self) -> None:
        """One turn of the writer."""
        self.clock.advance(EVERY)
        if self.writer._writing is not None:
            await self.writer._writing
        await deferLater(reactor, 0)

    async def count(self, table: str = "viewer_sessions") -> int:
        rows = await self.database.query(f"SELECT count(*) AS n FROM {table}")
        return int(rows[0]["n"])

    @property
    def dropped(self) -> dict[str, int]:
        return {table.table: table.dropped for table in self.writer.tables if table.dropped}


@both_engines
class Writing(WriterCase):
    async def test_many_rows_of_all_kinds(self) -> None:
        for number in range(1234):
            self.leave(viewer())
            self.writer.measurement(
                Measurement(
                    stream_id=new_id(),
                    rendition="source",
                    at=START + timedelta(seconds=number),
                    bitrate=1,
                    frame_rate=29.97,
                    frames_dropped=0,
                    viewers=1,
                )
            )
        self.assertEqual(self.writer.waiting, 2468)
        await self.turn()
        self.assertEqual((self.writer.waiting, self.dropped), (0, {}))
        for table in ("viewer_sessions", "viewer_hours", "stream_metrics"):
            self.assertEqual(await self.count(table), 1234)

    async def test_a_flood_is_written_turn_by_turn(self) -> None:
        self.patch(module, "BATCH", 5)
        for _ in range(80):
            self.leave(viewer())
        await self.turn()
        self.assertEqual(self.writer.waiting, 30)
        await self.turn()
        self.assertEqual((self.writer.waiting, await self.count()), (0, 80))

    async def test_what_was_written_already_changes_nothing(self) -> None:
        """As when the connection died at the commit."""
        rows = [viewer(stream_id=new_id()) for _ in range(3)]
        for again in (rows, rows, [*rows, viewer(stream_id=rows[0].stream_id)]):
            for row in again:
                self.leave(row)
            await self.turn()
        totals = await self.database.query(
            "SELECT sum(sessions) AS sessions, sum(watch_time) AS watch_time, sum(bytes_sent) AS bytes_sent"
            " FROM viewer_hours"
        )
        self.assertEqual(await self.count(), 4)
        self.assertEqual(totals[0], {"sessions": 4, "watch_time": 120, "bytes_sent": 28})

    async def test_a_row_that_is_refused_is_given_up_alone(self) -> None:
        for number in range(9):
            self.leave(viewer(connection_type=None if number == 4 else "hls"))
        await self.turn()
        self.assertEqual((await self.count(), self.dropped), (8, {"viewer_sessions": 1}))
        self.assertEqual(self.writer.waiting, 0)

    async def test_a_row_that_cannot_even_be_sent_is_given_up_alone(self) -> None:
        for number in range(3):
            self.leave(viewer(rendition="\ud800" if number == 1 else "source"))
        await self.turn()
        self.assertEqual((await self.count(), self.dropped), (2, {"viewer_sessions": 1}))

    async def test_texts_with_nul(self) -> None:
        self.leave(viewer(rendition="a\0b"))
        await self.turn()
        self.assertEqual(await self.count(), 1)

    async def test_what_waits_is_written_at_the_end(self) -> None:
        for _ in range(700):
            self.leave(viewer())
        await self.writer.stopService()
        self.assertEqual((await self.count(), self.writer.waiting, self.dropped), (700, 0, {}))


class Away(WriterCase):
    """The file is closed, which is as good as away."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.patch(module, "MOST_VIEWERS", 5)
        self.away = self.opened()
        await self.away.close()
        self.writer = Writer(self.away, self.clock)
        self.writer.startService()
        self.addCleanup(self.writer.stopService)

    async def test_rows_wait_up_to_the_bound_and_arrive_when_it_is_back(self) -> None:
        rows = [viewer() for _ in range(8)]
        for row in rows:
            self.leave(row)
            await self.turn()
        self.assertEqual((self.writer.waiting, self.dropped), (5, {"viewer_sessions": 3}))
        self.writer._database = self.database
        await self.turn()
        found = await self.database.query("SELECT id FROM viewer_sessions")
        self.assertEqual({row["id"] for row in found}, {row.id for row in rows[3:]}, "the newest")

    async def test_only_the_newest_state_of_a_broadcast_waits(self) -> None:
        row = broadcast(new_id())
        for number in range(20):
            self.writer.broadcast(msgspec.structs.replace(row, bytes_received=number))
            await self.turn()
        self.assertEqual((self.writer.waiting, self.dropped), (1, {}))

    async def test_what_cannot_be_written_at_the_end_is_counted(self) -> None:
        for _ in range(4):
            self.leave(viewer())
        await self.writer.stopService()
        self.assertEqual((self.writer.waiting, self.dropped), (0, {"viewer_sessions": 4}))


class Hanging(SynchronousTestCase):
    def test_a_database_that_hangs_does_not_keep_the_server_from_stopping(self) -> None:
        clock = Clock()

        class Hanging:
            def transaction(self, *args: Any) -> Deferred[None]:
                return Deferred()

        writer = Writer(Hanging(), clock)  # type: ignore[arg-type]
        writer.startService()
        writer.viewer("one", viewer)
        clock.advance(EVERY)
        stopped = writer.stopService()
        self.assertNoResult(stopped)
        clock.advance(module.LAST)
        self.successResultOf(stopped)
        self.assertEqual((writer.waiting, writer.tables[1].dropped), (0, 1))


def broadcast(stream_id: str) -> Broadcast:
    return Broadcast(
        id=new_id(),
        stream_id=stream_id,
        protocol="rtmp",
        publisher_address=None,
        encoder="",
        started_at=START,
        ended_at=None,
        end_reason="",
        reconnects=0,
        bytes_received=0,
        peak_viewers=0,
        unique_viewers=0,
        server_id=new_id(),
        seen_at=START,
    )
