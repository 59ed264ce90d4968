"""A viewer goes from one rendition to another, and skips what it cannot be sent: numbers and times go on as if nothing
had happened. The hub is real, the renditions come from a stand-in for the encoder that is some pictures late."""

from itertools import pairwise
from typing import Any

import msgspec
from aiortc import rtp

from oxidecast.media import Codec, Packet, Track
from oxidecast.outputs.webrtc import pictures as pictures_module
from oxidecast.outputs.webrtc.adapting import HOLD, STEP_TIME
from oxidecast.outputs.webrtc.pictures import BEHIND, MAX_FAILED, REPLAY_PAUSE
from oxidecast.outputs.webrtc.qualities import WITHIN
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.wanting import Planned, RenditionSpec
from tests.formats.material import stream as material
from tests.formats.test_rtcp import REMB, feedback
from tests.outputs.webrtc.stage import ADDRESS, Browser
from tests.outputs.webrtc.test_output import WebRTCCase
from tests.streams.stage import PICTURE, Reader

LOW_TRACK, LOW_PACKETS = material(Codec.H264, frames=24, size=64)
SPEC = RenditionSpec("360p", low_latency=True)
LATE = 4
"""Pictures."""


class MovingCase(WebRTCCase):
    def setUp(self) -> None:
        super().setUp()
        self.low: Rendition | None = None
        self.asked = 0
        self.can_be_asked = True
        self.source = Reader()
        self.made = 0

    def on_air(self, pictures: int = 30, reordered: bool = False, opus: bool = True) -> None:
        super().on_air(pictures, reordered, opus)
        self.stream.source.subscribe(self.source)
        self.made = len(self.source.of(True))
        self.stream.source.bitrate = 2_500_000
        planned = Planned(
            name="360p",
            width=640,
            height=360,
            frame_rate=None,
            peak=700_000,
            average=600_000,
            codecs=(),
        )
        self.stream.planned = {"360p": planned}

    def make(self) -> Rendition:
        """The rendition, without a picture yet."""
        tracks: tuple[Track, ...] = (msgspec.structs.replace(LOW_TRACK, id=1),)
        self.low = self.stream.add_rendition(SPEC.name, tracks, listed=False)
        self.low.bitrate = 600_000
        self.low.on_keyframe_wanted = self.ask
        self.asked = 1  # It begins with one.
        self.made = len(self.source.of(True))
        return self.low

    def ask(self) -> bool:
        self.asked += self.can_be_asked
        return self.can_be_asked

    def send(self, pictures: int, reordered: bool = False, gop: int = 12) -> None:
        for _ in range(pictures):
            super().send(1, reordered, gop)
            pictures_made = self.source.of(True)
            while self.low is not None and self.made < len(pictures_made) - LATE:
                one = pictures_made[self.made]
                self.made += 1
                keyframe = one.keyframe or self.asked > 0
                self.asked = 0
                payload = LOW_PACKETS[0 if keyframe else 1].payload
                track = self.low.tracks[0]
                self.low.push(Packet(track, one.dts, one.pts, one.duration, keyframe, payload))
                self.low.bitrate = 600_000
            self.stream.source.bitrate = 2_500_000
        self.deliver()

    def estimate(self, browser: Browser, bitrate: int) -> None:
        information = rtp.pack_remb_fci(bitrate, [7])
        self.port.datagram(browser.say(feedback(206, REMB, information, ssrc=0)), ADDRESS)
        self.deliver()

    def trouble(self, browser: Browser, room: int = 1_000_000) -> None:
        self.estimate(browser, 2_500_000)
        self.estimate(browser, room)

    def go_down(self) -> tuple[Viewer, Browser]:
        """A viewer that watches the low rendition."""
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.trouble(browser)
        self.make()
        self.send(8)
        self.assertEqual(viewer.pictures.feed, self.shown._feeds[SPEC.name])
        return viewer, browser

    def assert_whole(self, browser: Browser) -> list[Any]:
        """All frames came, and time only went on."""
        numbers = [packet.sequence_number for packet in self.video(browser)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        frames = self.frames(browser)
        self.assertFalse(any(frame.after_loss for frame in frames))
        stamps = [frame.timestamp for frame in frames]
        self.assertEqual(stamps, sorted(set(stamps)))
        return frames

    def patch_quick(self) -> None:
        """No group is young enough."""
        self.patch(pictures_module, "QUICK", 0.0)

    def stamps(self, browser: Browser) -> list[int]:
        return [frame.timestamp for frame in self.frames(browser)]


class TestDown(MovingCase):
    def test_at_the_first_keyframe_of_the_lower_one(self) -> None:
        viewer, browser = self.go_down()
        self.send(12)
        frames = self.assert_whole(browser)
        sizes = {len(packet.payload) for packet in (LOW_PACKETS[1], LOW_PACKETS[0])}
        self.assertIn(len(frames[-2].payload), sizes)
        self.assertEqual((viewer.figures.switches, viewer.pictures.adapting.current), (1, SPEC.name))
        assert viewer.counted is not None
        self.assertEqual(viewer.counted.rendition, SPEC.name)
        self.assertEqual(set(self.shown._feeds), {SPEC.name, "source"})  # The sound is still the source's.
        self.assertEqual(self.stream.wanted, {SPEC: 1})

    def test_the_frames_of_before_time_went_on_are_a_moment_apart(self) -> None:
        _, browser = self.go_down()
        self.send(12)
        steps = [after - before for before, after in pairwise(self.stamps(browser))]
        self.assertEqual(steps[-12:], [PICTURE] * 12)
        self.assertIn(90, steps[8:20])

    def test_what_the_publisher_sends_smaller_is_one_as_well(self) -> None:
        self.on_air(30)
        layer = self.stream.add_rendition("layer.1", (LOW_TRACK,))
        layer.bitrate = 700_000
        viewer, browser = self.connect()
        self.send(3)
        self.trouble(browser, 1_500_000)
        last = self.source.of(True)[-1]
        layer.push(
            msgspec.structs.replace(last, track=LOW_TRACK, keyframe=True, payload=LOW_PACKETS[0].payload)
        )
        self.send(3)
        self.assertEqual(viewer.pictures.adapting.current, "layer.1")
        self.assertEqual(self.stream.wanted, {})

    def test_the_source_is_watched_until_then(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.estimate(browser, 2_500_000)
        self.estimate(browser, 1_900_000)
        before = len(self.frames(browser))
        self.send(5)
        self.assertEqual(len(self.frames(browser)), before + 5)
        self.assertEqual(viewer.pictures.feed, self.shown._feeds["source"])
        self.assertEqual(self.stream.wanted, {SPEC: 1})

    def test_what_does_not_come_is_let_go(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.trouble(browser)
        self.clock.advance(WITHIN)
        self.assertEqual(self.stream.wanted, {})
        self.assertEqual(self.shown._moving, {})
        self.send(13)
        self.assertEqual(viewer.pictures.feed, self.shown._feeds["source"])

    def test_what_ends_on_the_way_is_let_go(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.trouble(browser)
        self.make()
        self.stream.remove_rendition(SPEC.name, "its child died")
        self.low = None
        self.assertEqual((self.stream.wanted, self.shown._moving), ({}, {}))
        self.send(20)
        self.assertTrue(viewer.peer.is_open)
        self.assert_whole(browser)

    def test_a_viewer_who_leaves_on_the_way_leaves_nothing(self) -> None:
        for ready in (False, True):
            self.setUp()
            self.on_air(30)
            viewer, browser = self.connect()
            self.send(3)
            self.trouble(browser)
            if ready:
                self.make()
            viewer.end("enough")
            self.assertEqual((self.stream.wanted, self.shown._moving, self.shown._feeds), ({}, {}, {}))
            if self.low is not None:
                self.assertEqual(self.low._subscriptions, ())

    def test_one_that_runs_already_is_asked_for_a_keyframe_once_for_all(self) -> None:
        self.on_air(30)
        self.make()
        first, _ = self.connect()
        second, _ = self.connect()
        self.deliver = self.socket.sent.clear  # type: ignore[method-assign]
        self.send(10)
        self.patch_quick()
        self.asked = 0
        for one in (first, second):
            one.pictures.network.estimate(2_500_000, self.clock.seconds())
            one.pictures.network.estimate(1_000_000, self.clock.seconds())
            one.pictures._troubled()
        self.assertEqual(self.asked, 1)
        self.send(LATE + 2)
        self.assertEqual(
            (first.pictures.adapting.current, second.pictures.adapting.current), (SPEC.name,) * 2
        )

    def test_what_was_missed_of_it_comes_again(self) -> None:
        viewer, browser = self.go_down()
        self.send(4)
        sent = self.video(browser)
        for missed in (sent[-1], sent[-3]):
            sequence = missed.sequence_number.to_bytes(2, "big")
            self.port.datagram(browser.say(feedback(205, 1, sequence + bytes(2), missed.ssrc)), ADDRESS)
            self.deliver()
            again = browser.rtp[-1]
            self.assertEqual(again.payload, sequence + missed.payload)
            self.assertEqual(again.timestamp, missed.timestamp)
        # What was sent of the one before is not worth it, where there is no room.
        sequence = sent[0].sequence_number.to_bytes(2, "big")
        self.port.datagram(browser.say(feedback(205, 1, sequence + bytes(2), sent[0].ssrc)), ADDRESS)
        self.assertEqual(viewer.figures.resent, 2)

    def test_who_asked_for_it_by_name_keeps_it(self) -> None:
        self.on_air(30)
        viewer, _ = self.connect()
        pictures, sound = self.shown.viewers[viewer]
        pinned = self.shown.viewer(viewer.agreed, pictures, sound, pinned=True)
        pinned.pictures.network.estimate(2_500_000, self.clock.seconds())
        pinned.pictures.network.estimate(500_000, self.clock.seconds())
        pinned.pictures._troubled()
        self.assertEqual(self.stream.wanted, {})


class TestUp(MovingCase):
    def go_up(self, browser: Browser) -> None:
        """Without trouble, for as long as it takes to try."""
        for _ in range(round((HOLD + 10 * STEP_TIME + 4) * 30)):
            self.send(1)

    def test_no_frame_is_missing_and_none_comes_twice(self) -> None:
        viewer, browser = self.go_down()
        before = len(self.frames(browser))
        self.go_up(browser)
        self.assertEqual(viewer.pictures.adapting.current, "source")
        frames = [packet for packet in self.video(browser) if packet.ssrc == self.video(browser)[0].ssrc]
        self.assertGreater(len(frames), before)
        stamps = self.stamps(browser)[before:]
        self.assertEqual({after - before for before, after in pairwise(stamps)}, {PICTURE})
        self.assert_whole(browser)
        self.assertEqual(self.stream.wanted, {})
        self.assertEqual(list(self.shown._feeds), ["source"])

    def test_more_was_tried_before_on_the_stream_for_that(self) -> None:
        viewer, browser = self.go_down()
        self.go_up(browser)
        again = [packet for packet in browser.rtp if packet.payload_type in (103, 106)]
        self.assertGreater(len(again), 20)
        self.assertGreater(viewer.figures.resent, 20)


class TestSkipping(MovingCase):
    def test_who_falls_behind_is_sent_nothing_until_a_keyframe(self) -> None:
        self.on_air(25)
        self.stream.planned = {}
        viewer, browser = self.connect()
        self.send(6)
        self.trouble(browser)
        viewer.pictures.network.sent(round(viewer.pictures.network.room * BEHIND / 8), self.clock.seconds())
        before = len(self.frames(browser))
        self.send(4)
        self.assertEqual(len(self.frames(browser)), before)
        self.send(20)
        frames = self.assert_whole(browser)
        self.assertTrue(frames[before].keyframe)
        self.assertEqual(viewer.figures.skips, 1)

    def test_a_full_socket_is_no_reason_to_send_what_cannot_be_shown(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.socket.full = True
        self.send(MAX_FAILED)
        self.socket.full = False
        self.send(14)
        self.assertEqual(viewer.figures.skips, 1)
        frames = self.frames(browser)
        lost = next(at for at, frame in enumerate(frames) if frame.after_loss)
        self.assertTrue(frames[lost].keyframe)


class TestPace(MovingCase):
    def burst(self, room: int | None) -> list[int]:
        """Bytes of each hundredth of a second after the beginning."""
        self.on_air(36)
        viewer, browser = self.join()
        viewer.pictures.feed = None
        self.port.datagram(browser.check(), ADDRESS)
        for datagram in browser.start(self.clock.seconds()):
            self.port.datagram(datagram, ADDRESS)
        self.deliver()
        if room is not None:
            viewer.pictures.network.estimate(2_500_000, 0)
            viewer.pictures.network.estimate(room, 0)
        sent = []
        for _ in range(40):
            before = len(self.video(browser))
            if not sent:
                viewer.pictures.watch(self.shown._feeds["source"])
            else:
                self.clock.advance(0.01)
            self.deliver()
            sent.append(sum(len(packet.payload) for packet in self.video(browser)[before:]))
        self.assert_whole(browser)
        return sent

    def test_a_beginning_is_fast_where_nothing_speaks_against_it(self) -> None:
        sent = self.burst(None)
        self.assertEqual(sum(sent[10:]), 0)
        self.assertGreater(sum(sent), 60_000)

    def test_it_is_as_fast_as_the_network_where_that_is_known(self) -> None:
        sent = self.burst(2_000_000)
        self.assertGreater(sum(sent[20:]), 0)
        for hundredths in range(10, 40, 10):
            self.assertLess(sum(sent[:hundredths]), 2_000_000 / 8 * hundredths / 100 + max(sent))

    def test_what_is_heard_meanwhile_counts_at_once(self) -> None:
        self.on_air(36)
        viewer, browser = self.connect()
        begun = len(self.video(browser))
        self.trouble(browser, 400_000)
        self.clock.advance(0.02)
        self.deliver()
        self.assertLess(len(self.video(browser)) - begun, 20)
        self.assertTrue(viewer.pictures.network.short)


class TestKeyframes(MovingCase):
    def wish(self, browser: Browser) -> None:
        ssrc = self.video(browser)[0].ssrc
        self.port.datagram(browser.say(feedback(206, 1, ssrc=ssrc)), ADDRESS)
        self.deliver()

    def test_the_last_one_again_while_it_is_young(self) -> None:
        viewer, browser = self.go_down()
        self.send(3)
        self.clock.advance(REPLAY_PAUSE)
        self.asked = 0
        self.wish(browser)
        self.assertEqual((viewer.figures.replays, self.asked), (1, 0))

    def test_else_a_new_one_of_who_makes_it(self) -> None:
        viewer, browser = self.go_down()
        self.patch_quick()
        self.clock.advance(REPLAY_PAUSE)
        self.asked = 0
        for _ in range(3):
            self.wish(browser)
        self.assertEqual((viewer.figures.replays, self.asked), (0, 1))
        self.send(LATE)
        self.assertTrue(self.assert_whole(browser)[-1].keyframe or self.frames(browser)[-LATE].keyframe)

    def test_else_the_last_one_nevertheless(self) -> None:
        viewer, browser = self.go_down()
        self.patch_quick()
        self.clock.advance(REPLAY_PAUSE)
        self.can_be_asked = False
        self.wish(browser)
        self.assertEqual(viewer.figures.replays, 1)
