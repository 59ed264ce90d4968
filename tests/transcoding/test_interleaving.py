"""Sound waits for its pictures."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed import FramedPacket
from oxidecast.transcoding.interleaving import MOST_HELD, Interleaver


def made(track: int, dts: int) -> FramedPacket:
    return FramedPacket(track, dts, dts, True, b"", 0)


def through(interleaver: Interleaver, *packets: FramedPacket) -> list[tuple[int, int]]:
    return [(one.track_id, one.dts) for packet in packets for one in interleaver.packet(packet)]


class TestInterleaver(SynchronousTestCase):
    def setUp(self) -> None:
        self.interleaver = Interleaver(1, 128)

    def test_sound_ahead_of_the_pictures_waits(self) -> None:
        self.assertEqual(through(self.interleaver, made(128, 10), made(128, 20), made(128, 30)), [])
        self.assertEqual(through(self.interleaver, made(1, 25)), [(128, 10), (128, 20), (1, 25)])
        self.assertEqual(through(self.interleaver, made(128, 25)), [])
        self.assertEqual([one.dts for one in self.interleaver.flush()], [30, 25])

    def test_sound_behind_the_pictures_does_not(self) -> None:
        self.assertEqual(through(self.interleaver, made(1, 100), made(128, 50)), [(1, 100), (128, 50)])

    def test_pictures_that_have_stopped_are_not_waited_for(self) -> None:
        self.assertEqual(through(self.interleaver, made(128, 0), made(128, MOST_HELD)), [(128, 0)])

    def test_other_feeds_and_no_sound(self) -> None:
        self.assertEqual(through(self.interleaver, made(2, 0), made(129, 0)), [])
        self.assertEqual(through(Interleaver(1, None), made(1, 0), made(128, 0)), [(1, 0)])

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, MOST_HELD)), max_size=60))
    def test_nothing_is_lost_and_each_feed_keeps_its_order(self, steps: list[tuple[bool, int]]) -> None:
        interleaver, at, given_, got = Interleaver(1, 2), [0, 0], [], []
        for sound, step in steps:
            at[sound] += step
            packet = made(1 + sound, at[sound])
            given_.append(packet)
            got += interleaver.packet(packet)
            self.assertLessEqual(len(given_) - len(got), len(steps))
        got += interleaver.flush()
        for feed in (1, 2):
            self.assertEqual(
                [one for one in got if one.track_id == feed], [one for one in given_ if one.track_id == feed]
            )
