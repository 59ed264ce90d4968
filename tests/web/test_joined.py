"""Viewers who say themselves that they watch, on a clock."""

from oxidecast.streams.wanting import RenditionSpec
from oxidecast.web import joined as module
from oxidecast.web.joined import GONE_AFTER, HEARTBEAT, JoinedViewers, TooManyViewers
from tests.streams.stage import HubCase

HOME = "192.0.2.1"


class TestJoined(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.live()
        self.joined = JoinedViewers(self.clock)
        self.joined.startService()
        self.addCleanup(self.joined.stopService)

    def join(self, address: str = HOME) -> str:
        return self.joined.join(self.stream, "multicast", address)

    def wait(self, seconds: float) -> None:
        self.clock.pump([1.0] * round(seconds))

    def test_a_viewer_counts_from_its_join_to_its_leave(self) -> None:
        viewer = self.join()
        self.assertEqual(self.stream.viewer_count, 1)
        self.joined.leave(viewer)
        self.joined.leave(viewer)
        self.assertEqual((self.stream.viewer_count, self.stream.max_viewers, len(self.joined)), (0, 1, 0))

    def test_heartbeats_keep_it(self) -> None:
        viewer = self.join()
        for _ in range(10):
            self.wait(HEARTBEAT * 2)
            self.assertTrue(self.joined.heartbeat(viewer))
        self.assertEqual(self.stream.viewer_count, 1)

    def test_who_misses_three_is_gone(self) -> None:
        viewer = self.join()
        self.wait(GONE_AFTER - 1)
        self.assertEqual(self.stream.viewer_count, 1)
        self.wait(2)
        self.assertEqual((self.stream.viewer_count, len(self.joined)), (0, 0))
        self.assertFalse(self.joined.heartbeat(viewer))

    def test_what_it_watches_is_wanted_as_long(self) -> None:
        spec = RenditionSpec("720p")
        first, second, third = (
            self.joined.join(self.stream, "multicast", HOME, rendition="source", wants="720p")
            for _ in range(3)
        )
        self.joined.join(self.stream, "hls", HOME, rendition="720p")
        self.assertEqual(self.stream.wanted, {spec: 3})
        self.joined.leave(first)
        self.wait(GONE_AFTER - 1)
        self.joined.heartbeat(second)
        self.wait(2)
        self.assertEqual(self.stream.wanted, {spec: 1})
        self.assertFalse(self.joined.heartbeat(third))
        stream = self.stream
        stream.end("enough")
        self.joined.heartbeat(second)
        self.assertEqual(stream.wanted, {})

    def test_each_is_gone_at_its_own_time(self) -> None:
        early = self.join()
        self.wait(HEARTBEAT)
        self.join()
        self.joined.heartbeat(early)
        self.join()
        self.wait(GONE_AFTER + 1)
        self.assertEqual(self.stream.viewer_count, 0)

    def test_the_end_of_the_stream_ends_its_viewers(self) -> None:
        viewer = self.join()
        self.stream.end("enough")
        self.assertFalse(self.joined.heartbeat(viewer))
        self.assertEqual(len(self.joined), 0)

    def test_who_is_gone_was_there_until_it_was_last_heard_of(self) -> None:
        viewer = self.stream.viewers[self.join()]
        self.wait(HEARTBEAT)
        self.joined.heartbeat(viewer.id)
        heard = self.clock.seconds()
        self.wait(GONE_AFTER + 1)
        self.assertEqual((self.stream.viewer_count, viewer.left), (0, heard))

    def test_who_watches_and_what(self) -> None:
        viewer_id = self.joined.join(self.stream, "hls", HOME, "somebody", "720p")
        viewer = self.stream.viewers[viewer_id]
        self.assertEqual((viewer.output, viewer.user_id, viewer.rendition), ("hls", "somebody", "720p"))

    def test_who_says_to_leave_another_stream_stays(self) -> None:
        viewer = self.join()
        self.joined.leave(viewer, "other")
        self.assertEqual(self.stream.viewer_count, 1)
        self.joined.leave(viewer, self.stream.name)
        self.assertEqual(self.stream.viewer_count, 0)

    def test_an_address_has_only_so_many(self) -> None:
        self.patch(module, "MOST_OF_ADDRESS", 2)
        first = self.join("2001:db8::1")
        self.join("2001:db8::2")
        self.assertRaises(TooManyViewers, self.join, "2001:db8::3")
        self.join("2001:db8:0:1::1")
        self.joined.leave(first)
        self.join("2001:db8::4")

    def test_a_stream_has_only_so_many(self) -> None:
        self.patch(module, "MOST_OF_STREAM", 3)
        for number in range(3):
            self.join(f"192.0.2.{number}")
        self.assertRaises(TooManyViewers, self.join, "192.0.2.9")
        self.wait(GONE_AFTER + 1)
        self.join("192.0.2.9")

    def test_nothing_is_remembered_of_who_has_left(self) -> None:
        for number in range(100):
            self.joined.leave(self.join(f"192.0.2.{number}"))
        self.assertEqual((self.joined._counts, self.joined._joined), ({}, {}))
