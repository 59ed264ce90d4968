"""What is kept for a child that takes over."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import Packet
from oxidecast.transcoding.backlog import LONGEST, Backlog
from tests.streams.stage import picture, sound

BOUND = 10_000


class TestBacklog(SynchronousTestCase):
    def setUp(self) -> None:
        self.backlog = Backlog(BOUND)
        self.made: int | None = None

    def push(self, *packets: Packet) -> None:
        for packet in packets:
            self.backlog.push(packet, 0, self.made)

    def kept(self) -> list[int]:
        return [packet.dts for packet, _ in self.backlog.packets]

    def test_it_begins_with_a_keyframe(self) -> None:
        self.push(sound(0), picture(1), picture(2, keyframe=True), sound(3), picture(4))
        self.assertEqual((self.kept(), self.backlog.until), ([2, 3, 4], 4))

    def test_groups_are_kept_from_the_one_that_is_being_made(self) -> None:
        for at in range(0, 50, 10):
            self.made = at - 25 if at > 20 else None
            self.push(picture(at, keyframe=True), picture(at + 5))
        self.assertEqual(self.kept(), [10, 15, 20, 25, 30, 35, 40, 45])

    def test_who_is_far_behind_goes_on_with_what_is_new(self) -> None:
        self.made = 0
        for at in range(0, LONGEST + 1, LONGEST // 4):
            self.push(picture(at, keyframe=True), picture(at + 1))
        self.assertEqual(self.kept(), [LONGEST, LONGEST + 1])

    def test_a_long_group_stays_whole(self) -> None:
        self.push(picture(0, keyframe=True), picture(2 * LONGEST))
        self.assertEqual(self.kept(), [0, 2 * LONGEST])

    def test_a_group_that_is_too_large_is_not_kept(self) -> None:
        self.push(picture(0, keyframe=True, size=BOUND // 2), picture(1, size=BOUND), picture(2))
        self.assertEqual((self.kept(), self.backlog.until), ([], -1))
        self.push(picture(3, keyframe=True))
        self.assertEqual(self.kept(), [3])

    def test_cleared(self) -> None:
        self.push(picture(0, keyframe=True))
        self.backlog.clear()
        self.push(picture(1))
        self.assertEqual(self.kept(), [])

    @given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, LONGEST), st.integers(4, BOUND))))
    def test_its_bounds_hold(self, steps: list[tuple[bool, bool, int, int]]) -> None:
        backlog, at = Backlog(BOUND), 0
        for keyframe, is_picture, step, size in steps:
            at += step
            backlog.push(picture(at, keyframe=keyframe, size=size) if is_picture else sound(at), 0, at // 2)
            packets = [packet for packet, _ in backlog.packets]
            self.assertEqual(backlog._bytes, sum(len(packet.payload) for packet in packets))
            if packets:
                self.assertTrue(packets[0].keyframe and packets[0].track.is_video)
                self.assertLessEqual(backlog._bytes, BOUND)
