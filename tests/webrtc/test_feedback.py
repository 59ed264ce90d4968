"""What is told of when packets came: what was lost, what does not fit into one packet, and any numbers at all."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.feedback import MAX_PENDING, TransportFeedback
from oxidecast.webrtc.reception import MAX_FEEDBACK


def told(packets: list[bytes]) -> list[tuple[int, int, int]]:
    """First number, how many, and the count, of each."""
    return [
        (int.from_bytes(one[12:14], "big"), int.from_bytes(one[14:16], "big"), one[19]) for one in packets
    ]


class TestFeedback(SynchronousTestCase):
    def test_what_was_lost_between_two_feedbacks_is_told(self) -> None:
        feedback = TransportFeedback()
        for number in (65_534, 65_535, 1):
            feedback.packet(number, 1.0)
        feedback.packet(4, 1.1)
        self.assertEqual(told(feedback.take(1, 2)), [(65_534, 7, 0)])
        feedback.packet(7, 1.2)
        feedback.packet(3, 1.2)
        self.assertEqual(told(feedback.take(1, 2)), [(5, 3, 1)])
        self.assertEqual(feedback.take(1, 2), [])

    def test_what_one_packet_cannot_say_goes_into_two(self) -> None:
        feedback = TransportFeedback()
        for number in range(MAX_FEEDBACK + 3):
            feedback.packet(number, 1.0)
        self.assertEqual(told(feedback.take(1, 2)), [(0, MAX_FEEDBACK, 0), (MAX_FEEDBACK, 3, 1)])
        feedback.packet(MAX_FEEDBACK + 3, 2.0)
        feedback.packet(MAX_FEEDBACK + 4, 11.0)
        self.assertEqual([count for _, count, _ in told(feedback.take(1, 2))], [1, 1])

    def test_it_is_bounded(self) -> None:
        feedback = TransportFeedback()
        for number in range(MAX_PENDING + 100):
            feedback.packet(number & 0xFFFF, 1.0)
        self.assertEqual(sum(count for _, count, _ in told(feedback.take(1, 2))), MAX_PENDING)

    @given(st.lists(st.tuples(st.integers(0, 65_535), st.floats(0, 20), st.booleans()), max_size=40))
    def test_any_numbers_at_any_time(self, packets: list[tuple[int, float, bool]]) -> None:
        feedback = TransportFeedback()
        for number, at, take in packets:
            feedback.packet(number, at)
            if take:
                feedback.take(1, 2)
        for one in feedback.take(1, 2):
            self.assertEqual(len(one), 4 * int.from_bytes(one[2:4], "big") + 4)
