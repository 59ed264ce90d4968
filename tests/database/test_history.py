"""Lists and sums over what was, held against the plain way of counting."""

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from oxidecast.database.audience import Audience, Wanted
from oxidecast.database.broadcasts import Broadcasts
from oxidecast.database.history import (
    Measurement,
    ViewerSession,
    write_broadcasts,
    write_measurements,
    write_viewers,
)
from oxidecast.database.measurements import Measurements
from oxidecast.database.records import new_id
from oxidecast.database.streams import Streams
from tests.analytics.test_writer import broadcast, viewer
from tests.database.support import START, DatabaseCase, both_engines

HOUR = timedelta(hours=1)


@both_engines
class Viewers(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.stream_id = new_id()
        self.audience = Audience(self.database)
        chance = random.Random(7)
        moments = [START + timedelta(seconds=chance.randrange(6 * 3600)) for _ in range(120)]
        moments += [START + timedelta(hours=number) for number in range(7)] * 2  # on the very hour, and twice
        self.rows = [
            viewer(
                stream_id=self.stream_id,
                started_at=moment,
                ended_at=moment + timedelta(seconds=10),
                connection_type=chance.choice(("hls", "hls", "multicast")),
            )
            for moment in moments
        ]
        await self.database.transaction(write_viewers, [*self.rows, viewer()])

    def expected(self, wanted: Wanted) -> list[str]:
        found: list[ViewerSession] = [
            row
            for row in self.rows
            if (wanted.since is None or row.started_at >= wanted.since)
            and (wanted.until is None or row.started_at < wanted.until)
            and wanted.connection_type in (None, row.connection_type)
        ]
        return [row.id for row in sorted(found, key=lambda row: (row.started_at, row.id))]

    async def listed(self, wanted: Wanted, limit: int, newest_first: bool) -> tuple[int, list[str]]:
        ids: list[str] = []
        total = page = 0
        while True:
            page += 1
            found = await self.audience.page(wanted, page, limit, newest_first=newest_first)
            ids += [row.id for row in found.items]
            total = found.total
            if not found.items:
                return total, ids

    async def test_whatever_is_wanted(self) -> None:
        minutes = (None, 0, 1, 59, 60, 61, 90, 120, 200, 360, 500)
        chance = random.Random(11)
        for number in range(60):
            since, until = chance.choice(minutes), chance.choice(minutes)
            wanted = Wanted(
                stream_id=self.stream_id,
                since=START + timedelta(minutes=since) if since is not None else None,
                until=START + timedelta(minutes=until) if until is not None else None,
                connection_type=chance.choice((None, "hls", "multicast", "webrtc")),
            )
            newest_first = number % 2 == 0
            expected = self.expected(wanted)
            if newest_first:
                expected.reverse()
            listed = await self.listed(wanted, chance.choice((7, 20, 100)), newest_first)
            self.assertEqual(listed, (len(expected), expected), wanted)

    async def test_times_of_another_zone(self) -> None:
        here = timezone(timedelta(hours=5, minutes=30))
        since, until = START + HOUR * 1.5, START + HOUR * 3.25
        wanted = Wanted(stream_id=self.stream_id, since=since, until=until)
        other = wanted.within(since.astimezone(here), until.astimezone(here))
        self.assertEqual(await self.listed(other, 100, True), await self.listed(wanted, 100, True))

    async def test_pages_that_nobody_has(self) -> None:
        wanted = Wanted(stream_id=self.stream_id)
        for page in (500, 10**9):
            found = await self.audience.page(wanted, page)
            self.assertEqual((found.items, found.total), ([], len(self.rows)))
        for stream_id in (new_id(), "nonsense", ""):
            self.assertEqual((await self.audience.page(Wanted(stream_id=stream_id))).total, 0)
            self.assertEqual(await self.audience.totals(stream_id), {})

    async def test_what_they_add_up_to(self) -> None:
        totals = await self.audience.totals(self.stream_id)
        self.assertEqual(sum(one.sessions for one in totals.values()), len(self.rows))
        hls = sum(row.connection_type == "hls" for row in self.rows)
        self.assertEqual((totals["hls"].sessions, totals["hls"].watch_time), (hls, hls * 10))
        self.assertEqual(totals["hls"].bytes_sent, hls * 7)


@both_engines
class BroadcastLists(DatabaseCase):
    async def test_pages_and_sums(self) -> None:
        user = await self.someone()
        stream = await Streams(self.database, self.clock).create(user.id, "Show")
        rows = []
        for number in range(5):
            began = START + HOUR * number
            changes = {"started_at": began, "ended_at": began + HOUR / 2, "peak_viewers": number}
            rows.append(_changed(stream.id, **changes))
        rows.append(_changed(stream.id, started_at=START + HOUR * 9, seen_at=START + HOUR * 10))
        await self.database.transaction(write_broadcasts, rows)
        broadcasts = Broadcasts(self.database)
        found = await broadcasts.page(stream.id, 1, 4)
        self.assertEqual((found.total, [row.id for row in found.items]), (6, [row.id for row in rows[:1:-1]]))
        oldest = await broadcasts.page(stream.id, 2, 4, sort="started")
        self.assertEqual([row.id for row in oldest.items], [row.id for row in rows[4:]])
        totals = await broadcasts.totals(stream.id)
        self.assertEqual((totals.broadcasts, totals.peak_viewers, totals.first_at), (6, 4, START))
        self.assertAlmostEqual(totals.air_time, 3600 * 3.5, places=2)

    async def test_of_a_stream_that_was_never_live(self) -> None:
        totals = await Broadcasts(self.database).totals(new_id())
        self.assertEqual((totals.broadcasts, totals.air_time, totals.first_at), (0, 0, None))
        self.assertEqual((await Broadcasts(self.database).page("nonsense")).total, 0)


def _changed(stream_id: str, **changes: Any) -> Any:
    return msgspec.structs.replace(broadcast(stream_id), **changes)


@both_engines
class Series(DatabaseCase):
    async def test_averages_of_each_stretch(self) -> None:
        stream_id = new_id()

        def measured(at: datetime, rendition: str = "source", bitrate: int = 1000) -> Measurement:
            return Measurement(
                stream_id=stream_id,
                rendition=rendition,
                at=at,
                bitrate=bitrate,
                frame_rate=30.0,
                frames_dropped=2,
                viewers=bitrate // 100,
            )

        rows = [measured(START + timedelta(minutes=n), bitrate=1000 * (n + 1)) for n in range(7)]
        rows += [measured(START, "720p"), measured(START - HOUR)]
        await self.database.transaction(write_measurements, rows)
        points = await Measurements(self.database).series(
            stream_id, "source", START, START + timedelta(minutes=6), 180
        )
        self.assertEqual(
            [(point.at, point.bitrate, point.frames_dropped, point.viewers) for point in points],
            [(START, 2000, 6, 30), (START + timedelta(minutes=3), 5000, 6, 60)],
        )
        self.assertEqual(points[0].frame_rate, 30.0)

    async def test_of_no_stream(self) -> None:
        series = Measurements(self.database).series
        for stream_id in (new_id(), "nonsense"):
            self.assertEqual(await series(stream_id, "source", START, START + HOUR, 60), [])
