from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import Track
from oxidecast.streams.queue import PacketQueue
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.settings import StreamsSettings
from tests.streams.stage import AUDIO, VIDEO, picture, sound


class TestPacketQueue(SynchronousTestCase):
    def make(self, *tracks: Track, max_bytes: int = 350) -> tuple[Rendition, PacketQueue]:
        self.calls = 0

        def ready() -> None:
            self.calls += 1

        settings = StreamsSettings()
        rendition = Rendition("source", tracks or (VIDEO, AUDIO), settings, lambda: 0.0, None, None)
        queue = PacketQueue(rendition, max_bytes, ready)
        rendition.subscribe(queue)
        return rendition, queue

    def test_packets_come_out_in_order_and_once(self) -> None:
        rendition, queue = self.make()
        packets = [picture(0, True), picture(3000)]
        for packet in packets:
            rendition.push(packet)
        self.assertEqual(queue.take(), packets)
        self.assertEqual(queue.take(), [])

    def test_the_consumer_is_called_once_until_it_takes(self) -> None:
        rendition, queue = self.make()
        rendition.push(picture(0, True))
        rendition.push(picture(3000))
        self.assertEqual(self.calls, 1)
        queue.take()
        rendition.push(picture(6000))
        self.assertEqual(self.calls, 2)

    def test_a_full_queue_drops_everything_up_to_the_next_keyframe(self) -> None:
        rendition, queue = self.make()
        for number in range(5):
            rendition.push(picture(number * 3000, number == 0))
        self.assertEqual((queue.take(), queue.dropped), ([], 5))
        rendition.push(sound(15_000))
        rendition.push(again := picture(18_000, True))
        rendition.push(after := sound(18_000))
        self.assertEqual(queue.take(), [again, after])
        self.assertEqual(queue.dropped, 6)

    def test_the_keyframe_that_finds_the_queue_full_begins_anew(self) -> None:
        rendition, queue = self.make()
        for number in range(3):
            rendition.push(picture(number * 3000, number == 0))
        rendition.push(again := picture(9000, True))
        self.assertEqual((queue.take(), queue.dropped), ([again], 3))

    def test_a_packet_larger_than_the_queue_never_enters(self) -> None:
        rendition, queue = self.make()
        rendition.push(picture(0, True, size=1000))
        rendition.push(picture(3000, True, size=1000))
        self.assertEqual((queue.take(), queue.dropped), ([], 2))

    def test_a_loss_is_told_even_to_who_takes_in_between(self) -> None:
        rendition, queue = self.make()
        rendition.push(picture(0, True))
        queue.take()
        self.assertFalse(queue.fresh)
        for number in range(1, 5):
            rendition.push(picture(number * 3000))
        self.assertTrue(queue.fresh)
        self.assertEqual(queue.take(), [])
        self.assertTrue(queue.fresh)

    def test_a_restart_drops_what_waits_and_is_told(self) -> None:
        rendition, queue = self.make()
        rendition.push(picture(0, True))
        queue.take()
        rendition.push(picture(3000))
        rendition.restart((VIDEO, AUDIO), "the publisher came back")
        self.assertEqual((queue.take(), queue.fresh), ([], True))

    def test_sound_alone_goes_on_with_any_packet(self) -> None:
        rendition, queue = self.make(AUDIO, max_bytes=25)
        for number in range(3):
            rendition.push(last := sound(number * 1920))
        self.assertEqual((queue.take(), queue.dropped), ([last], 2))

    def test_memory_stays_bounded_when_nobody_takes(self) -> None:
        rendition, queue = self.make()
        for number in range(1000):
            rendition.push(picture(number * 3000, number % 7 == 0))
        self.assertLessEqual(sum(len(packet.payload) for packet in queue.take()), 350)

    def test_the_end_is_told(self) -> None:
        rendition, queue = self.make()
        rendition.end("over")
        self.assertEqual((queue.over, self.calls), ("over", 1))
