"""What is written of a broadcast and of its viewers, into a real database."""

from datetime import datetime

import msgspec
from zope.interface.verify import verifyObject

from oxidecast.analytics import on_air
from oxidecast.analytics.plugin import LEAST_SILENCE, Analytics, server_id
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.database.audience import Audience, Wanted
from oxidecast.database.broadcasts import CRASHED
from oxidecast.interfaces import IEventListener
from tests.analytics.stage import AnalyticsCase, seconds
from tests.database.support import both_engines
from tests.streams.stage import info


@both_engines
class BroadcastRows(AnalyticsCase):
    async def test_it_is_there_from_the_start_on(self) -> None:
        self.live()
        await self.written()
        row = await self.row("stream_sessions")
        self.assertEqual((str(row["stream_id"]), row["protocol"]), (self.infos[0].id, "test"))
        self.assertEqual((row["publisher_address"], row["ended_at"]), ("192.0.2.1", None))

    async def test_its_end(self) -> None:
        encoder = self.live()
        received = self.stream.source.bytes
        encoder.publication.close("left")
        self.clock.advance(15)
        await self.written()
        row = await self.row("stream_sessions")
        self.assertEqual(row["end_reason"], "the publisher did not come back")
        self.assertEqual((row["bytes_received"], row["reconnects"], row["peak_viewers"]), (received, 0, 0))
        self.assertAlmostEqual(seconds(row), 16, delta=0.1)

    async def test_who_comes_back_or_takes_over(self) -> None:
        self.live().publication.close("left")
        self.live()
        self.live()
        await self.written(self.settings.interval)
        self.assertEqual((await self.row("stream_sessions"))["reconnects"], 2)

    async def test_an_encoder_that_says_its_name_late(self) -> None:
        self.live().publication.named("OBS 30")
        await self.written(self.settings.interval)
        self.assertEqual((await self.row("stream_sessions"))["encoder"], "OBS 30")

    async def test_viewers_at_most_and_in_all(self) -> None:
        self.live()
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            self.stream.viewer("hls", address)
        for viewer in list(self.stream.viewers.values()):
            viewer.leave()
        self.stream.viewer("hls", "192.0.2.1")
        self.stream.end("enough")
        await self.written()
        row = await self.row("stream_sessions")
        self.assertEqual((row["peak_viewers"], row["unique_viewers"]), (3, 2))

    async def test_the_streams_highest_number_of_viewers_rises_and_stays(self) -> None:
        for viewers in (2, 3, 1):
            self.live()
            for _ in range(viewers):
                self.stream.viewer("hls", "192.0.2.1")
            await self.written()
            self.stream.end("enough")
            await self.written()
        rows = await self.database.query("SELECT max_viewers FROM streams ORDER BY max_viewers")
        self.assertEqual([row["max_viewers"] for row in rows], [0, 3])

    async def test_a_stream_that_is_deleted_takes_nothing_with_it(self) -> None:
        self.live()
        self.live(key="key-of-other")
        self.stream.viewer("hls", "192.0.2.1")
        await self.database.execute("DELETE FROM streams WHERE name = 'show'")
        for stream in list(self.hub.streams.values()):
            stream.end("enough")
        await self.written()
        self.assertEqual(str((await self.row("stream_sessions"))["stream_id"]), self.infos[1].id)
        self.assertEqual(len(await self.rows("viewer_sessions")), 1)
        self.assertEqual(sum(table.dropped for table in self.analytics.writer.tables), 0)

    async def test_a_stream_without_an_account_leaves_nothing(self) -> None:
        self.keys.infos["key-of-show"] = info("show", owner_id="")
        self.live()
        self.stream.viewer("hls", "192.0.2.1")
        self.stream.end("enough")
        await self.written()
        self.assertEqual(self.analytics.writer.waiting, 0)
        for table in ("stream_sessions", "viewer_sessions", "stream_metrics"):
            self.assertEqual(await self.rows(table), [])

    def test_it_is_a_listener(self) -> None:
        verifyObject(IEventListener, self.analytics)


@both_engines
class ViewerRows(AnalyticsCase):
    async def watched(self, address: str = "192.0.2.77") -> None:
        self.live()
        viewer = self.stream.viewer("hls", address)
        viewer.rendition, viewer.bytes_sent = "source", 5000
        viewer.startup_time, viewer.figures = 0.25, {"lost": 3, "loss": 0.01}
        self.clock.advance(40)
        viewer.leave(self.clock.seconds() - 10)
        await self.written()

    async def test_one(self) -> None:
        await self.watched()
        row, broadcast = await self.row("viewer_sessions"), await self.row("stream_sessions")
        self.assertEqual((str(row["stream_id"]), row["session_id"]), (self.infos[0].id, broadcast["id"]))
        self.assertEqual(
            (row["connection_type"], row["rendition"], row["bytes_sent"]), ("hls", "source", 5000)
        )
        self.assertEqual((row["address"], row["user_id"]), ("192.0.2.77", None))
        self.assertEqual(seconds(row), 30, "it was heard of ten seconds ago")
        self.assertEqual(row["startup_time"], 0.25)
        [session] = (await Audience(self.database).page(Wanted(stream_id=self.infos[0].id))).items
        self.assertEqual(session.figures, {"lost": 3, "loss": 0.01})

    async def test_its_hour(self) -> None:
        await self.watched()
        row = await self.row("viewer_hours")
        self.assertEqual((row["sessions"], row["watch_time"], row["bytes_sent"]), (1, 30, 5000))
        hour = msgspec.convert(row["hour"], datetime)
        self.assertEqual((hour.minute, hour.second), (0, 0))

    async def test_those_who_watch_when_it_ends(self) -> None:
        self.live()
        self.stream.viewer("hls", "192.0.2.1")
        self.clock.advance(5)
        self.stream.end("enough")
        await self.written()
        self.assertEqual(seconds(await self.row("viewer_sessions")), 5)

    async def test_a_flood_is_bounded_and_counted(self) -> None:
        self.patch(on_air, "VIEWERS_AT_ONCE", 10)
        self.live()
        for _ in range(25):
            self.stream.viewer("hls", "192.0.2.1").leave()
        await self.written()
        self.assertEqual((len(await self.rows("viewer_sessions")), self.analytics.flooded), (10, 15))
        self.stream.viewer("hls", "192.0.2.1").leave()
        await self.written()
        self.assertEqual(len(await self.rows("viewer_sessions")), 11)


class NetworkRows(ViewerRows):
    settings = AnalyticsSettings()

    async def test_one(self) -> None:
        await self.watched()
        self.assertEqual((await self.row("viewer_sessions"))["address"], "192.0.2.0/24")

    async def test_none_after_a_reload(self) -> None:
        self.analytics.reload(AnalyticsSettings(addresses="none"))
        await self.watched()
        self.assertIsNone((await self.row("viewer_sessions"))["address"])


@both_engines
class MetricRows(AnalyticsCase):
    async def test_one_each_interval_and_at_the_end(self) -> None:
        encoder = self.live()
        self.clock.advance(self.settings.interval - self.clock.seconds() % 60)
        encoder.send(300)
        self.stream.viewer("hls", "192.0.2.1")
        self.stream.end("enough")
        await self.written()
        rows = await self.rows("stream_metrics", "at")
        self.assertGreaterEqual(len(rows), 1)
        last = rows[-1]
        self.assertEqual((last["rendition"], last["viewers"], last["frames_dropped"]), ("source", 0, 0))
        pictures = sum(row["frame_rate"] for row in rows)
        self.assertGreater(pictures, 4)
        self.assertTrue(all(row["bitrate"] > 0 for row in rows))

    async def test_the_rate_while_it_goes_on(self) -> None:
        encoder = self.live()
        self.analytics.look()
        encoder.send(300)
        self.stream.viewer("hls", "192.0.2.1")
        self.analytics.look()
        await self.written()
        last = (await self.rows("stream_metrics", "at"))[-1]
        self.assertEqual(last["viewers"], 1)
        self.assertAlmostEqual(last["frame_rate"], 30, delta=0.5)
        sent = 300 * 7 + 469 * 5
        self.assertAlmostEqual(last["bitrate"], sent * 8 / 10, delta=sent * 0.02)

    async def test_what_could_not_be_used(self) -> None:
        encoder = self.live()
        for _ in range(4):
            encoder.publication.packet(9, 0, 0, False, b"of no track")
        self.clock.advance(10)
        self.analytics.look()
        self.clock.advance(10)
        self.analytics.look()
        await self.written()
        rows = await self.rows("stream_metrics", "at")
        self.assertEqual([row["frames_dropped"] for row in rows][-2:], [4, 0])

    async def test_a_moment_says_nothing(self) -> None:
        self.live()
        self.analytics.look()
        self.analytics.look()
        await self.written()
        self.assertLessEqual(len(await self.rows("stream_metrics")), 1)


@both_engines
class Crashes(AnalyticsCase):
    async def crashed(self) -> None:
        self.live()
        await self.written()
        self.crash()

    async def again(self, analytics: Analytics) -> None:
        await analytics.close_abandoned()

    async def test_the_next_start_closes_what_it_left_open(self) -> None:
        await self.crashed()
        self.clock.advance(20)
        await self.again(self.begin())
        row = await self.row("stream_sessions")
        self.assertEqual(row["end_reason"], CRASHED)
        self.assertLess(seconds(row), 2, "it was last heard of then")

    async def test_those_of_another_server_stay_open(self) -> None:
        await self.crashed()
        (self.folder / "server-id").unlink()
        self.clock.advance(20)
        await self.again(self.begin())
        self.assertIsNone((await self.row("stream_sessions"))["ended_at"])

    async def test_until_that_was_silent_for_long(self) -> None:
        await self.crashed()
        (self.folder / "server-id").unlink()
        self.clock.advance(LEAST_SILENCE + 1)
        await self.again(self.begin())
        self.assertEqual((await self.row("stream_sessions"))["end_reason"], CRASHED)

    async def test_one_that_was_only_cut_off_opens_its_own_again(self) -> None:
        self.live()
        await self.written()
        await self.database.execute("UPDATE stream_sessions SET ended_at = seen_at, end_reason = 'silence'")
        await self.written(self.settings.interval)
        row = await self.row("stream_sessions")
        self.assertEqual((row["ended_at"], row["end_reason"]), (None, ""))

    async def test_its_own_of_now_stay_open(self) -> None:
        self.live()
        await self.written()
        await self.again(self.analytics)
        self.assertIsNone((await self.row("stream_sessions"))["ended_at"])

    def test_a_server_keeps_its_id(self) -> None:
        first = server_id(self.folder)
        self.assertEqual(server_id(self.folder), first)
        (self.folder / "server-id").unlink()
        self.assertNotEqual(server_id(self.folder), first)

    def test_an_id_that_was_damaged_is_still_one(self) -> None:
        (self.folder / "server-id").write_text("x")
        self.assertEqual(server_id(self.folder), server_id(self.folder))
        self.assertEqual(len(server_id(self.folder)), 36)
