"""What a stream's owner learns of its past, and what of it only administrators."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.analytics.plugin import Analytics
from oxidecast.interfaces import PublishRequest
from oxidecast.web.api import ApiError, Call
from oxidecast.web.history import MOST_POINTS, _resolution
from oxidecast.web.moments import EARLIEST, LATEST, moment
from tests.streams.stage import VIDEO
from tests.web.test_api import ApiCase

SHOW = "/api/v1/streams/show"


class HistoryCase(ApiCase):
    @property
    def analytics(self) -> Analytics:
        return next(one.instance for one in self.server.registry.running if one.name == "analytics")

    async def written(self) -> None:
        while self.analytics.writer.waiting:
            await self.analytics.writer._write_some()
            await deferLater(reactor, 0.01)

    async def aired(self, *, watched_by: str = "", addresses: str = "network") -> str:
        """The owner's token, after a broadcast with two viewers, one of them with an account."""
        self.environ["OXIDECAST_ANALYTICS_ADDRESSES"] = addresses
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.live(owner)
        joined = await self.ask("POST", f"{SHOW}/join", {"connection_type": "hls"}, watched_by or owner)
        self.assertEnvelope(joined, 200)
        [stream] = self.server.hub.streams.values()
        stream.viewer("multicast", "203.0.113.77")
        await self.ask("DELETE", f"/api/v1/viewers/{joined.data['viewer_id']}")
        stream.end("enough")
        await self.written()
        return owner

    async def data(self, path: str, token: str) -> Any:
        answer = await self.ask("GET", f"{SHOW}/{path}", token=token)
        self.assertEnvelope(answer, 200)
        return answer.data


class TestHistory(HistoryCase):
    async def test_broadcasts(self) -> None:
        owner = await self.aired()
        page = await self.data("sessions", owner)
        self.assertEqual((page["total"], page["page"], page["total_pages"]), (1, 1, 1))
        [row] = page["items"]
        self.assertEqual((row["protocol"], row["end_reason"]), ("test", "enough"))
        self.assertEqual((row["peak_viewers"], row["unique_viewers"]), (2, 2))
        self.assertEqual(row["publisher_address"], "192.0.2.1")

    async def test_one_that_goes_on(self) -> None:
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.live(owner)
        await self.written()
        [row] = (await self.data("sessions", owner))["items"]
        self.assertEqual((row["ended_at"], row["end_reason"]), (None, None))

    async def test_viewers(self) -> None:
        owner = await self.aired()
        page = await self.data("viewers", owner)
        self.assertEqual(page["total"], 2)
        [broadcast] = (await self.data("sessions", owner))["items"]
        for row in page["items"]:
            self.assertEqual(row["broadcast_id"], broadcast["id"])
            self.assertGreaterEqual(row["watch_time"], 0)
        multicast = await self.data("viewers?connection_type=multicast", owner)
        self.assertEqual((multicast["total"], multicast["items"][0]["address"]), (1, "203.0.113.0/24"))
        oldest = await self.data("viewers?sort=started&limit=1", owner)
        self.assertEqual((oldest["total_pages"], oldest["items"][0]["connection_type"]), (2, "hls"))

    async def test_who_watches_now_and_how(self) -> None:
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.live(owner)
        [stream] = self.server.hub.streams.values()
        for number in range(3):
            viewer = stream.viewer("webrtc", f"203.0.113.{number}")
            viewer.startup_time, viewer.figures = 0.25, {"lost": number}
        stream.viewer("hls", "203.0.113.9")
        page = await self.data("viewers?watching=true&connection_type=webrtc&limit=2", owner)
        self.assertEqual((page["total"], page["total_pages"]), (3, 2))
        self.assertEqual([row["figures"] for row in page["items"]], [{"lost": 2}, {"lost": 1}])
        row = page["items"][0]
        self.assertEqual((row["ended_at"], row["startup_time"]), (None, 0.25))
        self.assertEqual(row["address"], "203.0.113.0/24")
        self.assertNotIn(row["id"], stream.viewers, "by that anybody could say that it leaves")
        oldest = await self.data("viewers?watching=true&sort=started&limit=1&page=3", owner)
        self.assertEqual(oldest["items"][0]["figures"], {"lost": 2})
        nobody = await self.data("viewers?watching=true&to=2020-01-01T00:00:00Z", owner)
        self.assertEqual((nobody["total"], nobody["total_pages"]), (0, 0))
        stream.end("enough")
        await self.written()
        left = await self.data("viewers?connection_type=webrtc", owner)
        self.assertEqual({one["figures"]["lost"] for one in left["items"]}, {0, 1, 2})
        self.assertIn(row["id"], [one["id"] for one in left["items"]])
        self.assertEqual((await self.data("viewers?watching=true", owner))["total"], 0)

    async def test_viewers_between_two_times(self) -> None:
        owner = await self.aired()
        now = datetime.now(UTC)
        for since, until, total in ((-60, 60, 2), (60, 120, 0), (-120, -60, 0), (60, -60, 0)):
            span = [quote((now + timedelta(seconds=seconds)).isoformat()) for seconds in (since, until)]
            page = await self.data(f"viewers?from={span[0]}&to={span[1]}", owner)
            self.assertEqual(page["total"], total)

    async def test_only_administrators_see_whole_addresses_and_accounts(self) -> None:
        owner = await self.aired(addresses="full")
        [row] = (await self.data("viewers?connection_type=hls", owner))["items"]
        self.assertEqual((row["address"], row["user_id"]), ("127.0.0.0/24", None))
        admin = await self.token("admin")
        [row] = (await self.data("viewers?connection_type=hls", admin))["items"]
        self.assertEqual(row["address"], "127.0.0.1")
        user = await self.server.foundation.accounts.bearer(owner)
        self.assertEqual(row["user_id"], user.id)

    async def test_statistics_now_and_then(self) -> None:
        owner = await self.aired()
        stats = await self.data("stats", owner)
        self.assertEqual((stats["is_live"], stats["max_viewers"]), (False, 2))
        history = stats["history"]
        self.assertEqual((history["broadcasts"], history["viewer_sessions"]), (1, 2))
        self.assertEqual((history["peak_viewers"], history["unique_viewers"]), (2, 2))
        self.assertEqual(
            {kind: one["sessions"] for kind, one in history["by_connection_type"].items()},
            {"hls": 1, "multicast": 1},
        )
        self.assertEqual((await self.ask("GET", SHOW)).data["max_viewers"], 2)

    async def test_the_most_viewers_ever_while_it_is_live_again(self) -> None:
        owner = await self.aired()
        key = (await self.ask("GET", f"{SHOW}/key", token=owner)).data["stream_key"]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=key)
        publication = await self.server.hub.publish(request, self.publisher)
        publication.track(VIDEO)
        publication.expect(True, False)
        publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        answer = (await self.ask("GET", SHOW)).data
        self.assertEqual((answer["is_live"], answer["viewer_count"], answer["max_viewers"]), (True, 0, 2))

    async def test_a_chart(self) -> None:
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.live(owner)
        await deferLater(reactor, 1.1)
        [stream] = self.server.hub.streams.values()
        stream.end("enough")
        await self.written()
        series = await self.data("metrics?resolution=100", owner)
        self.assertEqual((series["rendition"], series["resolution"]), ("source", 100))
        [point] = series["points"]
        self.assertGreater(point["frame_rate"], 0)
        self.assertEqual((await self.data("metrics?rendition=720p", owner))["points"], [])
        self.assertEqual((await self.data("metrics", owner))["resolution"], 360)

    async def test_what_cannot_be_asked(self) -> None:
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.ask("POST", "/api/v1/streams", {"title": "Show"}, owner)
        for path in (
            "sessions?sort=bytes",
            "sessions?limit=101",
            "viewers?sort=-address",
            "viewers?from=yesterday",
            "viewers?to=2026-11-22T12:00:00",
            "viewers?to=0001-01-01T00:00:00%2B14:00",
            "metrics?resolution=0",
            "metrics?resolution=x",
            "metrics?resolution=10",
            "metrics?from=2026-01-01T00:00:00Z&to=2026-11-01T00:00:00Z",
            "metrics?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z",
        ):
            self.assertEnvelope(await self.ask("GET", f"{SHOW}/{path}", token=owner), 422, "invalid")

    async def test_a_plus_need_not_be_escaped(self) -> None:
        owner = await self.aired()
        page = await self.data("viewers?from=2026-01-01T00:00:00+00:00", owner)
        self.assertEqual(page["total"], 2)

    async def test_metrics_of_the_rows(self) -> None:
        await self.aired()
        text = (await self.ask("GET", "/metrics")).body.decode()
        for line in (
            'oxidecast_rows_dropped_total{table="viewer_sessions"} 0.0',
            'oxidecast_rows_dropped_total{table="stream_sessions"} 0.0',
            'oxidecast_rows_dropped_total{table="stream_metrics"} 0.0',
            "oxidecast_rows_waiting 0.0",
        ):
            self.assertIn(f"\n{line}\n", text)

    async def test_a_stop_writes_what_waits(self) -> None:
        await self.start()
        await self.live(await self.token("streamer", "owner"))
        [stream] = self.server.hub.streams.values()
        stream.viewer("hls", "192.0.2.1")
        await self.server.stopService()
        await self.start()
        users = (await self.server.foundation.accounts.users.page()).items
        owner = next(user for user in users if user.username == "owner")
        token = self.server.foundation.tokens.access(owner)
        [row] = (await self.data("sessions", token))["items"]
        self.assertEqual(row["end_reason"], "the server is shutting down")
        self.assertEqual((await self.data("viewers", token))["total"], 1)

    async def test_switched_off(self) -> None:
        self.environ["OXIDECAST_PLUGINS_DISABLED"] = '["analytics"]'
        await self.start()
        owner = await self.token("streamer", "owner")
        await self.live(owner)
        self.assertEqual((await self.data("viewers", owner))["total"], 0)
        self.assertTrue((await self.data("stats", owner))["is_live"])


class TestParameters(SynchronousTestCase):
    def call(self, **values: str) -> Call:
        call = Call(None, {}, "", None, b"")  # type: ignore[arg-type]
        call.query = values.get  # type: ignore[method-assign]
        return call

    @settings(deadline=None)
    @given(
        st.one_of(
            st.text(), st.datetimes().map(lambda at: f"{at.isoformat()}Z"), st.from_regex(r"[0-9T:.+Z -]+")
        )
    )
    def test_whatever_is_given_for_a_time(self, text: str) -> None:
        try:
            at = moment(self.call(at=text), "at")
        except ApiError as error:
            self.assertEqual(error.status, 422)
        else:
            assert at is not None
            self.assertTrue(EARLIEST <= at <= LATEST)

    @settings(deadline=None)
    @given(st.floats(0.001, 31 * 86400), st.one_of(st.none(), st.text(), st.integers().map(str)))
    def test_never_too_many_points(self, seconds: float, text: str | None) -> None:
        try:
            resolution = _resolution(self.call(**({} if text is None else {"resolution": text})), seconds)
        except ApiError as error:
            self.assertEqual(error.status, 422)
        else:
            self.assertLessEqual(seconds / resolution + 1, MOST_POINTS + 1)
