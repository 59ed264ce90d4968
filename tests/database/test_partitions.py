"""Months come and go, and no row is refused or lost in between."""

from datetime import UTC, datetime, timedelta

from twisted.internet.defer import Deferred, gatherResults

from oxidecast.database import DatabaseUnavailable, partitions
from oxidecast.database.partitions import drop_before, ensure
from oxidecast.database.records import new_id
from tests.database.support import START, DatabaseCase, both_engines


class PartitionsCase(DatabaseCase):
    changes_schema = True

    async def watched(self, *moments: datetime) -> None:
        """Viewers and a measurement at each of these moments."""
        for moment in moments:
            values = {"id": new_id(), "stream": new_id(), "at": moment}
            await self.database.execute(
                "INSERT INTO viewer_sessions (id, stream_id, connection_type, started_at)"
                " VALUES (:id, :stream, 'hls', :at)",
                values,
            )
            await self.database.execute(
                "INSERT INTO stream_metrics (stream_id, rendition, at, bitrate, frame_rate)"
                " VALUES (:stream, 'source', :at, 1, 30)",
                values,
            )

    async def count(self, table: str = "viewer_sessions") -> int:
        rows = await self.database.query(f"SELECT count(*) AS n FROM {table}")
        return int(rows[0]["n"])


@both_engines
class Retention(PartitionsCase):
    async def test_rows_before_the_moment_go_and_others_stay(self) -> None:
        await ensure(self.database, START - timedelta(days=90))
        await self.watched(*(START - timedelta(days=days) for days in (400, 90, 60, 31, 30, 1)))
        await self.watched(START)
        await drop_before(self.database, START - timedelta(days=30))
        for table, column in partitions.TABLES.items():
            rows = await self.database.query(f"SELECT count(*) AS n FROM {table}")
            left = await self.database.query(
                f"SELECT 1 FROM {table} WHERE {column} < :at", {"at": START - timedelta(days=30)}
            )
            self.assertEqual((rows[0]["n"], left), (3, []))

    async def test_more_rows_than_go_at_once(self) -> None:
        self.patch(partitions, "BATCH", 3)
        await self.watched(*(START - timedelta(minutes=minutes) for minutes in range(1, 9)), START)
        await drop_before(self.database, START)
        self.assertEqual((await self.count(), await self.count("stream_metrics")), (1, 1))

    async def test_nothing_is_refused_in_any_month(self) -> None:
        await ensure(self.database, START)
        await self.watched(datetime(1990, 1, 1, tzinfo=UTC), START, datetime(2090, 1, 1, tzinfo=UTC))
        self.assertEqual(await self.count(), 3)


class Months(PartitionsCase):
    flavour = "postgres"

    async def partitions(self, table: str = "viewer_sessions") -> list[str]:
        rows = await self.database.query(
            "SELECT relname FROM pg_class JOIN pg_inherits ON oid = inhrelid"
            " WHERE inhparent = to_regclass(:table) ORDER BY relname",
            {"table": table},
        )
        return [row["relname"].removeprefix(f"{table}_") for row in rows]

    async def test_they_are_made_ahead_over_the_years_end(self) -> None:
        await ensure(self.database, START)
        for table in partitions.TABLES:
            self.assertEqual(await self.partitions(table), ["2026_11", "2026_12", "2027_01", "default"])

    async def test_making_them_again_changes_nothing(self) -> None:
        for _ in range(2):
            await ensure(self.database, START)
        self.assertEqual(len(await self.partitions()), 4)

    async def test_servers_that_make_them_at_once_make_them_once(self) -> None:
        others = [self.database, self.opened(), self.opened()]
        await gatherResults([Deferred.fromCoroutine(ensure(other, START)) for other in others])
        self.assertEqual(len(await self.partitions()), 4)

    async def test_rows_that_came_too_early_move_in(self) -> None:
        await self.watched(START, START + timedelta(days=400))
        await ensure(self.database, START)
        counts = [await self.count(f"viewer_sessions_{part}") for part in ("2026_11", "default")]
        self.assertEqual(counts, [1, 1])

    async def test_a_row_lies_in_its_month_by_utc(self) -> None:
        await ensure(self.database, START)
        await self.watched(datetime(2026, 12, 1, tzinfo=UTC) - timedelta(microseconds=1))
        await self.watched(datetime(2026, 12, 1, tzinfo=UTC))
        counts = [await self.count(f"viewer_sessions_{part}") for part in ("2026_11", "2026_12")]
        self.assertEqual(counts, [1, 1])

    async def test_a_month_that_is_over_goes_with_its_table(self) -> None:
        await ensure(self.database, START)
        await drop_before(self.database, datetime(2026, 12, 1, tzinfo=UTC))
        self.assertEqual(await self.partitions(), ["2026_12", "2027_01", "default"])

    async def test_a_month_of_which_a_part_is_kept_stays(self) -> None:
        await ensure(self.database, START)
        await drop_before(self.database, datetime(2026, 11, 30, tzinfo=UTC))
        self.assertIn("2026_11", await self.partitions())

    async def test_a_reader_in_its_way_is_not_waited_for_long(self) -> None:
        self.patch(partitions, "LOCK_TIMEOUT", "100ms")
        await ensure(self.database, START)
        reading = self.database.query("SELECT pg_sleep(1), count(*) FROM viewer_sessions")
        await self.assertFailure(
            Deferred.fromCoroutine(drop_before(self.database, START + timedelta(days=30))),
            DatabaseUnavailable,
        )
        await reading
        await drop_before(self.database, START + timedelta(days=30))
        self.assertNotIn("2026_11", await self.partitions())
