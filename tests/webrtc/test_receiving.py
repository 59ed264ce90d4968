"""The receive buffer: order, requests for what is missing, and an end to waiting."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp import RTPPacket
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.receiving import (
    KEYFRAME_WAIT,
    MAX_HELD,
    MAX_MISSING,
    PATIENCE,
    REORDERING,
    RETRIES,
    ReceiveBuffer,
    original,
)
from tests.media.fuzz import FUZZ


def packet(sequence: int, payload: bytes = b"x") -> RTPPacket:
    return RTPPacket(96, sequence & 0xFFFF, 0, 7, payload)


def numbers(out: list[tuple[int, RTPPacket]]) -> list[int]:
    return [came.sequence for _, came in out]


class Order(SynchronousTestCase):
    def test_packets_in_order_go_straight_through_over_the_wrap(self) -> None:
        buffer = ReceiveBuffer()
        out = [pair for n in range(65_530, 65_545) for pair in buffer.receive(packet(n), 0)]
        self.assertEqual(numbers(out), [n & 0xFFFF for n in range(65_530, 65_545)])
        unwrapped = [n for n, _ in out]
        self.assertEqual(unwrapped, list(range(unwrapped[0], unwrapped[0] + 15)))
        self.assertIsNone(buffer.next_call())

    def test_one_that_was_overtaken_is_waited_for_and_not_asked_for(self) -> None:
        buffer = ReceiveBuffer()
        buffer.receive(packet(1), 0)
        self.assertEqual(buffer.receive(packet(3), 0), [])
        self.assertEqual(buffer.nacks(REORDERING / 2), [])
        self.assertEqual(numbers(buffer.receive(packet(2), REORDERING / 2)), [2, 3])

    def test_twice_and_too_late(self) -> None:
        buffer = ReceiveBuffer()
        buffer.receive(packet(1), 0)
        self.assertEqual(buffer.receive(packet(1), 0) + buffer.receive(packet(0), 0), [])
        self.assertEqual(buffer.late, 2)

    def test_another_numbering_is_a_loss(self) -> None:
        buffer = ReceiveBuffer()
        ((before, _),) = buffer.receive(packet(1), 0)
        ((after, came),) = buffer.receive(packet(30_000), 0)
        self.assertGreater(after, before + 1)
        self.assertEqual((after & 0xFFFF, came.sequence), (30_000, 30_000))
        self.assertTrue(buffer.keyframe_due(0))


class Missing(SynchronousTestCase):
    def test_asked_for_once_a_round_trip_and_then_given_up(self) -> None:
        buffer = ReceiveBuffer()
        buffer.rtt = 0.04
        buffer.receive(packet(1), 0)
        buffer.receive(packet(3), 0)
        asked = [time for time in range(500) if buffer.nacks(time / 1000)]
        self.assertTrue(all(50 <= b - a <= 51 for a, b in pairwise(asked)), asked)
        self.assertEqual(len(asked), RETRIES)
        self.assertEqual(numbers(buffer.poll(0.5)), [3])
        self.assertEqual((buffer.given_up, buffer.keyframe_due(0.5)), (1, True))

    def test_a_slow_way_is_not_waited_for_beyond_patience(self) -> None:
        buffer = ReceiveBuffer()
        buffer.rtt = 2
        buffer.receive(packet(1), 0)
        buffer.receive(packet(3), 0)
        self.assertEqual(buffer.poll(PATIENCE - 0.01), [])
        self.assertEqual(numbers(buffer.poll(PATIENCE)), [3])

    def test_a_keyframe_is_asked_for_until_it_comes(self) -> None:
        buffer = ReceiveBuffer()
        self.assertFalse(buffer.keyframe_due(0))
        buffer.want_keyframe()
        self.assertEqual([buffer.keyframe_due(t) for t in (0, 0.1, KEYFRAME_WAIT)], [True, False, True])
        buffer.keyframe_came()
        self.assertFalse(buffer.keyframe_due(9))

    def test_an_outage_is_given_up_at_once(self) -> None:
        buffer = ReceiveBuffer()
        buffer.receive(packet(0), 0)
        self.assertEqual(numbers(buffer.receive(packet(MAX_MISSING + 2), 0)), [MAX_MISSING + 2])

    def test_what_waits_is_bounded(self) -> None:
        buffer = ReceiveBuffer()
        buffer.receive(packet(0), 0)
        out = [pair for n in range(2, MAX_HELD + 4) for pair in buffer.receive(packet(n), 0)]
        self.assertGreaterEqual(len(out), MAX_HELD)


class Retransmissions(SynchronousTestCase):
    def test_the_original_is_inside(self) -> None:
        inside = original(RTPPacket(97, 5, 900, 8, b"\x01\x02abc", True), 7, 96)
        self.assertEqual(inside, RTPPacket(96, 0x102, 900, 7, b"abc", True))

    def test_probes_and_what_is_refused(self) -> None:
        self.assertIsNone(original(RTPPacket(97, 5, 900, 8), 7, 96))
        with self.assertRaisesRegex(RemoteProtocolError, "1 byte"):
            original(RTPPacket(97, 5, 900, 8, b"a"), 7, 96)


class AnyOrder(SynchronousTestCase):
    @FUZZ
    @given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.floats(0, 0.3)), max_size=60))
    def test_any_numbers_rise_and_stay_bounded(self, came: list[tuple[int, float]]) -> None:
        buffer, now, last = ReceiveBuffer(), 0.0, -1
        for sequence, passed in came:
            now += passed
            for number, _ in buffer.receive(packet(sequence), now):
                self.assertGreater(number, last)
                last = number
            self.assertLessEqual(len(buffer._held), MAX_HELD + 1)
            self.assertLessEqual(len(buffer._missing), MAX_MISSING)
            buffer.nacks(now)

    @FUZZ
    @given(st.integers(0, 1 << 32), st.integers(0, 0xFFFF))
    def test_losses_that_are_answered_leave_no_hole(self, seed: int, start: int) -> None:
        noise, buffer, out = random.Random(seed), ReceiveBuffer(), []
        buffer.rtt = 0.03
        answers: list[tuple[float, int]] = []
        for n in range(200):
            now = n / 200
            if not n or noise.random() > 0.1:
                out += buffer.receive(packet(start + n), now)
            while answers and answers[0][0] <= now:
                out += buffer.receive(packet(answers.pop(0)[1]), now)
            answers += [(now + 0.03, number) for number in buffer.nacks(now)]
        out += buffer.receive(packet(start + 200), 1)
        for now in (1.02, 1.04, 1.06):
            for number in buffer.nacks(now):
                out += buffer.receive(packet(number), now)
        while answers:
            out += buffer.receive(packet(answers.pop(0)[1]), 1.07)
        self.assertEqual(numbers(out), [start + n & 0xFFFF for n in range(201)])
