"""A hundred thousand viewer sessions of one stream: what is asked of them is answered by an index, and by few rows.

Nothing is timed here. `make soak` does the same with a million, `bench/viewer_history.py` times the API over them.
"""

from datetime import timedelta

from oxidecast.database import partitions
from oxidecast.database.audience import Audience, Wanted
from oxidecast.database.measurements import Measurements
from oxidecast.database.records import new_id
from tests.database.crowd import BEGAN, DAYS, Explaining, Plan, fill, measure
from tests.database.support import START, DatabaseCase, both_engines

HOURS = DAYS * 24
LIMIT = 20


@both_engines
class ManyViewers(DatabaseCase):
    changes_schema = True
    timeout = 120
    many = 100_000

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for days in range(0, DAYS + 31, 28):
            await partitions.ensure(self.database, BEGAN + timedelta(days=days))
        self.stream_id = new_id()
        await fill(self.database, self.stream_id, self.many)
        self.explaining = Explaining(self.database)
        self.audience = Audience(self.explaining)

    def check(self, plan: Plan, rows: int) -> None:
        """That the sessions are found by an index in their order; on PostgreSQL, that no step touched more rows."""
        words = "; ".join(plan.steps)
        for step in plan.steps:
            if "viewer_sessions" in step:
                self.assertRegex(step, r"^(SEARCH|Index)", words)
            self.assertNotRegex(step, r"^(SCAN|Seq Scan|USE TEMP B-TREE FOR ORDER)", words)
        self.assertLessEqual(plan.rows, rows, words)

    async def pages(self, wanted: Wanted, total: int, newest_first: bool = True) -> None:
        """The first, one in the middle, and the last."""
        last = -(-total // LIMIT)
        in_an_hour = -(-self.many // HOURS)
        for page in (1, last // 2, last):
            found = await self.audience.page(wanted, page, LIMIT, newest_first=newest_first)
            self.assertEqual(found.total, total)
            self.assertEqual(len(found.items), LIMIT if page < last else total - (last - 1) * LIMIT)
            *_, hours, rows = await self.explaining.plans()
            self.assertIn("FROM viewer_sessions", rows.sql)
            self.check(rows, 2 * in_an_hour + LIMIT)
            self.assertLessEqual(hours.rows, self.many // 10)

    async def test_all_of_them_and_those_of_one_type(self) -> None:
        await self.pages(Wanted(stream_id=self.stream_id), self.many)
        await self.pages(Wanted(stream_id=self.stream_id), self.many, newest_first=False)
        await self.pages(Wanted(stream_id=self.stream_id, connection_type="webrtc"), self.many // 10)

    async def test_between_two_times(self) -> None:
        since = START - timedelta(days=30, minutes=20)
        wanted = Wanted(stream_id=self.stream_id, since=since, until=START - timedelta(days=10, minutes=50))
        rows = await self.database.query(
            "SELECT count(*) AS n FROM viewer_sessions WHERE stream_id = :stream_id"
            " AND started_at >= :since AND started_at < :until",
            {"stream_id": self.stream_id, "since": wanted.since, "until": wanted.until},
        )
        await self.pages(wanted, rows[0]["n"])
        await self.audience.page(wanted)
        for plan in await self.explaining.plans():
            if "count(*)" in plan.sql:
                self.check(plan, -(-self.many // HOURS))

    async def test_totals_read_hours_only(self) -> None:
        totals = await self.audience.totals(self.stream_id)
        self.assertEqual(
            {kind: one.sessions for kind, one in totals.items()},
            {"hls": self.many * 8 // 10, "webrtc": self.many // 10, "multicast": self.many // 10},
        )
        (plan,) = await self.explaining.plans()
        self.assertNotIn("viewer_sessions", plan.sql)
        self.assertLessEqual(plan.rows, self.many // 10)

    async def test_a_chart_of_a_month(self) -> None:
        """Of a stream that was always live, among others that were."""
        minutes = 31 * 24 * 60
        for stream_id in (self.stream_id, new_id(), new_id(), new_id()):
            await measure(self.database, stream_id, minutes)
        series = Measurements(self.explaining).series
        points = await series(self.stream_id, "source", START - timedelta(days=31), START, 3600)
        self.assertEqual((len(points), points[-1].bitrate, points[-1].viewers), (31 * 24, 2_500_000, 99))
        points = await series(self.stream_id, "source", START - timedelta(days=1), START, 360)
        *_, month, day = await self.explaining.plans()
        self.assertLessEqual(month.rows, minutes)
        self.assertLessEqual(day.rows, 24 * 60)
        for plan in (month, day):
            self.assertRegex(
                "; ".join(plan.steps), r"SEARCH stream_metrics USING|(Index|Bitmap Heap) Scan stream_metrics"
            )

    async def test_pages_join_without_a_gap(self) -> None:
        """Over the border of an hour, and of a month."""
        wanted, seen = Wanted(stream_id=self.stream_id, connection_type="multicast"), []
        for page in range(95, 125):
            seen += (await self.audience.page(wanted, page, 100)).items
        rows = await self.database.query(
            "SELECT id FROM viewer_sessions WHERE stream_id = :stream_id AND connection_type = 'multicast'"
            " ORDER BY started_at DESC, id DESC LIMIT 3000 OFFSET 9400",
            {"stream_id": self.stream_id},
        )
        self.assertEqual([one.id for one in seen], [str(row["id"]) for row in rows])
