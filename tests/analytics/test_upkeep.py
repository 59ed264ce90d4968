"""Old rows go, months come, and what cannot be done now is done later."""

from datetime import timedelta

import msgspec

from oxidecast.analytics import upkeep as module
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.analytics.upkeep import EVERY, FIRST, Upkeep
from oxidecast.database import partitions, retention
from oxidecast.database.history import write_broadcasts, write_viewers
from oxidecast.database.records import new_id
from oxidecast.database.streams import Streams
from tests.analytics.test_writer import broadcast, viewer
from tests.database.support import START, DatabaseCase, both_engines


@both_engines
class Retention(DatabaseCase):
    changes_schema = True

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.settings = AnalyticsSettings(retention_days=30, audit_days=100)
        self.upkeep = Upkeep(self.database, self.clock, lambda: self.settings)

    async def count(self, table: str) -> int:
        rows = await self.database.query(f"SELECT count(*) AS n FROM {table}")
        return int(rows[0]["n"])

    async def test_viewers_go_with_their_totals(self) -> None:
        """By whole hours: those of the hour in which the time ended stay."""
        self.clock.advance(2400)
        days = (200, 31, 30, 29.9, 5)
        rows = [viewer(started_at=(at := START - timedelta(days=day)), ended_at=at) for day in days]
        await self.database.transaction(write_viewers, rows)
        await self.upkeep.run()
        self.assertEqual((await self.count("viewer_sessions"), await self.count("viewer_hours")), (3, 3))

    async def test_broadcasts(self) -> None:
        user = await self.someone()
        stream = await Streams(self.database, self.clock).create(user.id, "Show")
        row = broadcast(stream.id)
        rows = [
            msgspec.structs.replace(row, id=new_id(), started_at=START - timedelta(days=day))
            for day in (31, 29)
        ]
        await self.database.transaction(write_broadcasts, rows)
        await self.upkeep.run()
        self.assertEqual(await self.count("stream_sessions"), 1)

    async def test_refresh_tokens_that_expired(self) -> None:
        user = await self.someone()
        for seconds in (-1, 1):
            await self.database.execute(
                "INSERT INTO refresh_tokens (id, user_id, family_id, digest, created_at, expires_at)"
                " VALUES (:id, :user, :id, :id, :at, :at)",
                {"id": new_id(), "user": user.id, "at": START + timedelta(seconds=seconds)},
            )
        await self.upkeep.run()
        self.assertEqual(await self.count("refresh_tokens"), 1)

    async def test_the_audit_log_has_its_own_time(self) -> None:
        for day in (101, 99):
            await self.database.execute(
                "INSERT INTO audit_log (id, at, actor, action, details) VALUES (:id, :at, 'ada', 'x', '{}')",
                {"id": new_id(), "at": START - timedelta(days=day)},
            )
        await self.upkeep.run()
        self.assertEqual(await self.count("audit_log"), 1)

    async def test_more_than_go_at_once(self) -> None:
        self.patch(retention, "BATCH", 3)
        for day in range(101, 109):
            await self.database.execute(
                "INSERT INTO audit_log (id, at, actor, action, details) VALUES (:id, :at, 'ada', 'x', '{}')",
                {"id": new_id(), "at": START - timedelta(days=day)},
            )
        await self.upkeep.run()
        self.assertEqual(await self.count("audit_log"), 0)

    async def test_what_fails_keeps_nothing_else_from_being_done(self) -> None:
        await self.database.execute("ALTER TABLE viewer_hours RENAME TO elsewhere")
        await self.database.execute(
            "INSERT INTO audit_log (id, at, actor, action, details) VALUES (:id, :at, 'ada', 'x', '{}')",
            {"id": new_id(), "at": START - timedelta(days=400)},
        )
        await self.upkeep.run()
        self.assertEqual(await self.count("audit_log"), 0)

    async def test_an_index_finds_what_goes(self) -> None:
        if self.flavour == "postgres":
            return  # of few rows it reads all; there are the same indexes
        for table, column in (("stream_sessions", "started_at"), ("refresh_tokens", "expires_at")):
            rows = await self.database.query(
                f"EXPLAIN QUERY PLAN SELECT id FROM {table} WHERE {column} < '2026' ORDER BY {column} LIMIT 5"
            )
            self.assertRegex(rows[0]["detail"], "^SEARCH .* USING .*INDEX")


class Months(DatabaseCase):
    flavour = "postgres"
    changes_schema = True

    async def test_are_made_ahead(self) -> None:
        await Upkeep(self.database, self.clock, AnalyticsSettings).run()
        self.assertTrue(await self.database.has_table("viewer_sessions_2027_01"))


class Timer(DatabaseCase):
    async def test_soon_after_the_start_and_every_hour(self) -> None:
        runs: list[float] = []
        began = self.clock.seconds()

        async def ensure(*_: object) -> None:
            runs.append(self.clock.seconds() - began)

        async def nothing(*_: object) -> None: ...

        self.patch(partitions, "ensure", ensure)
        upkeep = Upkeep(self.database, self.clock, AnalyticsSettings)
        self.patch(upkeep, "_forget_viewers", nothing)
        self.patch(module, "delete_before", nothing)
        upkeep.startService()
        self.clock.advance(FIRST)
        self.clock.advance(EVERY)
        upkeep.stopService()
        self.clock.advance(EVERY)
        self.assertEqual(runs, [FIRST, FIRST + EVERY])

    async def test_a_server_that_stops_before(self) -> None:
        upkeep = Upkeep(self.database, self.clock, AnalyticsSettings)
        upkeep.startService()
        upkeep.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
