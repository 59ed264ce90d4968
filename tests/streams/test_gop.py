from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS
from oxidecast.streams.gop import GOPCache
from tests.streams.stage import picture, sound


def cache(has_video: bool = True, max_bytes: int = 10_000, max_seconds: float = 5.0) -> GOPCache:
    return GOPCache(has_video, max_bytes, max_seconds)


class TestWithVideo(SynchronousTestCase):
    def test_nothing_is_kept_before_a_keyframe(self) -> None:
        kept = cache()
        kept.push(picture(0))
        kept.push(sound(0))
        self.assertEqual(kept.packets(), [])
        self.assertFalse(kept.whole)

    def test_the_keyframe_is_the_first_of_what_is_kept(self) -> None:
        kept = cache()
        packets = [picture(0, True), sound(10), picture(3000)]
        for packet in packets:
            kept.push(packet)
        self.assertEqual(kept.packets(), packets)
        self.assertTrue(kept.whole)

    def test_the_next_keyframe_replaces_the_group(self) -> None:
        kept = cache()
        for packet in (picture(0, True), picture(3000), second := picture(6000, True), last := picture(9000)):
            kept.push(packet)
        self.assertEqual(kept.packets(), [second, last])

    def test_a_group_of_too_many_bytes_is_given_up_until_the_next_keyframe(self) -> None:
        kept = cache(max_bytes=250)
        for number in range(4):
            kept.push(picture(number * 3000, number == 0))
        self.assertEqual((kept.packets(), kept.whole), ([], False))
        kept.push(again := picture(12_000, True))
        self.assertEqual((kept.packets(), kept.whole), ([again], True))

    def test_a_group_that_lasts_too_long_is_given_up(self) -> None:
        kept = cache(max_seconds=1)
        kept.push(picture(0, True))
        kept.push(picture(TICKS + 1))
        self.assertEqual((kept.packets(), kept.whole), ([], False))

    def test_the_time_of_the_group_before_does_not_count(self) -> None:
        kept = cache(max_seconds=1)
        kept.push(picture(0, True))
        kept.push(second := picture(2 * TICKS, True))
        self.assertEqual(kept.packets(), [second])

    def test_a_keyframe_that_is_too_large_alone_is_not_kept(self) -> None:
        kept = cache(max_bytes=50)
        kept.push(picture(0, True))
        self.assertEqual((kept.packets(), kept.whole), ([], False))

    def test_what_is_given_out_is_a_copy(self) -> None:
        kept = cache()
        kept.push(picture(0, True))
        given = kept.packets()
        kept.push(picture(3000))
        self.assertEqual(len(given), 1)


class TestAudioOnly(SynchronousTestCase):
    def test_it_can_be_started_from_at_any_time(self) -> None:
        self.assertTrue(cache(has_video=False).whole)

    def test_about_a_second_is_kept(self) -> None:
        kept = cache(has_video=False)
        for number in range(1000):
            kept.push(sound(number * 1920))
            span = kept.packets()[-1].dts - kept.packets()[0].dts
            self.assertLessEqual(span, TICKS + 1920)
        self.assertGreater(span, TICKS // 3)

    def test_bytes_are_bounded_too(self) -> None:
        kept = cache(has_video=False, max_bytes=100)
        for number in range(50):
            kept.push(sound(number))
            self.assertLessEqual(sum(len(packet.payload) for packet in kept.packets()), 100)
        self.assertTrue(kept.whole)
