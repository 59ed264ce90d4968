from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS, Packet
from oxidecast.registry import CALLBACK_BOUND, SLOW_CALLS_ALLOWED
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.settings import StreamsSettings
from tests.streams.stage import AUDIO, VIDEO, WIDE, Reader, picture, sound


class RenditionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.faults: list[tuple[Any, str]] = []
        self.slow: list[tuple[Any, float]] = []
        self.rendition = Rendition(
            "source",
            (VIDEO, AUDIO),
            StreamsSettings(gop_cache_size=1000, gop_cache_duration=5.0),
            self.clock.seconds,
            lambda owner, error: self.faults.append((owner, str(error))),
            lambda owner, seconds: self.slow.append((owner, seconds)),
        )

    def push(self, *packets: Packet) -> None:
        for packet in packets:
            self.rendition.push(packet)


class TestSubscribing(RenditionCase):
    def test_a_late_subscriber_starts_at_the_last_keyframe(self) -> None:
        group = [picture(0, True), sound(0), picture(3000)]
        self.push(*group)
        self.rendition.subscribe(reader := Reader())
        self.assertEqual(reader.seen, group)

    def test_after_the_cached_group_the_feed_goes_on(self) -> None:
        self.push(picture(0, True))
        self.rendition.subscribe(reader := Reader())
        self.push(following := picture(3000))
        self.assertEqual(reader.packets[-1], following)

    def test_without_a_whole_group_a_subscriber_waits_for_the_next_keyframe(self) -> None:
        self.push(picture(0, True, size=2000), picture(3000))
        self.rendition.subscribe(reader := Reader())
        self.push(picture(6000), sound(6000), key := picture(9000, True), after := sound(9000))
        self.assertEqual(reader.seen, [key, after])

    def test_sound_alone_starts_at_once(self) -> None:
        self.rendition.restart((AUDIO,), "test")
        self.rendition.subscribe(reader := Reader())
        self.push(first := sound(0))
        self.assertEqual(reader.seen, [first])

    def test_who_subscribes_after_the_end_is_told_of_it(self) -> None:
        self.rendition.end("over")
        subscription = self.rendition.subscribe(reader := Reader())
        self.assertEqual(reader.seen, ["ended: over"])
        self.assertFalse(subscription.active)

    def test_cancelling_twice_is_once(self) -> None:
        subscription = self.rendition.subscribe(reader := Reader())
        subscription.cancel()
        subscription.cancel()
        self.push(picture(0, True))
        self.assertEqual(reader.seen, [])


class TestReentrancy(RenditionCase):
    def test_a_subscriber_may_cancel_inside_its_packet(self) -> None:
        reader = Reader(lambda packet: subscription.cancel())
        subscription = self.rendition.subscribe(reader)
        self.push(first := picture(0, True), picture(3000))
        self.assertEqual(reader.seen, [first])

    def test_a_subscriber_may_cancel_inside_the_cached_group(self) -> None:
        self.push(first := picture(0, True), picture(3000))
        subscriptions: list[Any] = []

        def act(packet: Packet) -> None:
            self.rendition.drop(self)

        self.rendition.subscribe(reader := Reader(act), owner=self)
        self.assertEqual((reader.seen, subscriptions), ([first], []))

    def test_a_subscriber_may_cancel_another_that_has_not_been_called_yet(self) -> None:
        self.rendition.subscribe(Reader(lambda packet: second.cancel()))
        second = self.rendition.subscribe(reader := Reader())
        self.push(picture(0, True))
        self.assertEqual(reader.seen, [])

    def test_who_is_subscribed_inside_a_packet_gets_that_packet_once(self) -> None:
        late = Reader()

        def act(packet: Packet) -> None:
            if not late.seen:
                self.rendition.subscribe(late)

        self.rendition.subscribe(Reader(act))
        self.push(first := picture(0, True), second := picture(3000))
        self.assertEqual(late.seen, [first, second])

    def test_the_end_inside_a_packet_is_the_last_thing_anybody_hears(self) -> None:
        self.rendition.subscribe(first := Reader(lambda packet: self.rendition.end("over")))
        self.rendition.subscribe(second := Reader())
        self.push(packet := picture(0, True))
        self.assertEqual((first.seen, second.seen), ([packet, "ended: over"], ["ended: over"]))


class TestContainment(RenditionCase):
    def _raise(self, packet: Packet) -> None:
        raise ValueError("broken")

    def test_one_that_raises_is_dropped_and_the_others_go_on(self) -> None:
        self.rendition.subscribe(bad := Reader(self._raise), owner="bad")
        self.rendition.subscribe(good := Reader())
        self.push(picture(0, True), picture(3000))
        self.assertEqual((len(bad.seen), len(good.seen)), (1, 2))
        self.assertEqual(self.faults, [("bad", "broken")])

    def test_one_that_raises_in_the_cached_group_is_dropped(self) -> None:
        self.push(picture(0, True), picture(3000))
        subscription = self.rendition.subscribe(Reader(self._raise), owner="bad")
        self.assertFalse(subscription.active)
        self.assertEqual(len(self.faults), 1)

    def test_one_that_raises_at_the_end_does_not_keep_it_from_the_others(self) -> None:
        class Broken(Reader):
            def ended(self, reason: str) -> None:
                raise ValueError("broken")

        self.rendition.subscribe(Broken())
        self.rendition.subscribe(good := Reader())
        self.rendition.end("over")
        self.assertEqual((good.seen, len(self.faults)), (["ended: over"], 1))

    def test_a_call_that_keeps_the_reactor_is_told_with_its_owner(self) -> None:
        self.rendition.subscribe(Reader(lambda packet: self.clock.advance(1)), owner="slow")
        self.rendition.subscribe(Reader(), owner="quick")
        self.push(picture(0, True))
        self.assertEqual(self.slow, [("slow", 1.0)])

    def test_a_slow_restart_counts_too(self) -> None:
        class Slow(Reader):
            def restarted(self, reason: str) -> None:
                clock.advance(CALLBACK_BOUND * 2)

        clock = self.clock
        self.rendition.subscribe(Slow(), owner="slow")
        self.rendition.restart((VIDEO,), "test")
        self.assertEqual(len(self.slow), 1)

    def test_a_slow_one_without_owner_is_let_go(self) -> None:
        subscription = self.rendition.subscribe(Reader(lambda packet: self.clock.advance(1)))
        for number in range(SLOW_CALLS_ALLOWED + 1):
            self.assertTrue(subscription.active)
            self.push(picture(number * 3000, True))
        self.assertFalse(subscription.active)


class TestRestart(RenditionCase):
    def test_tracks_are_new_when_the_restart_is_told(self) -> None:
        told: list[Any] = []

        class Curious(Reader):
            def restarted(self, reason: str) -> None:
                told.append(rendition.tracks)

        rendition = self.rendition
        rendition.subscribe(Curious())
        rendition.restart((WIDE,), "the picture changed")
        self.assertEqual(told, [(WIDE,)])

    def test_after_a_restart_the_next_packet_is_a_keyframe(self) -> None:
        self.rendition.subscribe(reader := Reader())
        self.push(picture(0, True))
        self.rendition.restart((VIDEO, AUDIO), "back")
        self.push(sound(3000), picture(3000), key := picture(6000, True))
        self.assertEqual(reader.seen[1:], ["restarted: back", key])

    def test_a_subscriber_after_a_restart_sees_nothing_of_before(self) -> None:
        self.push(picture(0, True))
        self.rendition.restart((VIDEO, AUDIO), "back")
        self.rendition.subscribe(reader := Reader())
        self.assertEqual(reader.seen, [])


class TestFigures(RenditionCase):
    def test_packets_bytes_keyframes_and_bitrate(self) -> None:
        for number in range(30 * 12):
            self.push(picture(number * TICKS // 30, number % 60 == 0, size=1000))
        figures = self.rendition
        self.assertEqual((figures.packets, figures.bytes, figures.keyframes), (360, 360_000, 6))
        self.assertEqual(figures.bitrate, 240_000)


class TestKeyframesWanted(RenditionCase):
    def test_whoever_makes_it_is_asked_once_a_second(self) -> None:
        asked: list[float] = []

        def make() -> bool:
            asked.append(self.clock.seconds())
            return True

        self.rendition.on_keyframe_wanted = make
        for _ in range(30):
            self.assertTrue(self.rendition.want_keyframe())
            self.clock.advance(0.1)
        self.assertEqual(len(asked), 3)

    def test_where_nobody_can_be_asked(self) -> None:
        self.assertFalse(self.rendition.want_keyframe())
        self.rendition.on_keyframe_wanted = lambda: False
        self.assertFalse(self.rendition.want_keyframe())
        self.assertFalse(self.rendition.want_keyframe())

    def test_one_that_is_over_is_asked_for_nothing(self) -> None:
        self.rendition.on_keyframe_wanted = self.fail
        self.rendition.end("over")
        self.assertFalse(self.rendition.want_keyframe())
