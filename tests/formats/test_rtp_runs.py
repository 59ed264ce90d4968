"""Runs that GSO takes, and what a receiver gets out of them."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_runs import MARKER, MAX_RUN, MAX_SEGMENTS, PADDING, PLAIN, runs
from tests.media.fuzz import FUZZ


class Runs(SynchronousTestCase):
    def test_equal_payloads_and_a_short_last_are_one_run(self) -> None:
        payloads = [b"a" * 1000, b"b" * 1000, b"c" * 10]
        (run,) = runs(payloads)
        self.assertEqual(run.size, 1000)
        self.assertEqual(
            run.payloads, ((PLAIN, payloads[0]), (PLAIN, payloads[1]), (PLAIN | MARKER, payloads[2]))
        )

    def test_nearly_equal_ones_are_padded(self) -> None:
        (run,) = runs([b"a" * 997, b"b" * 1000, b"c" * 999])
        self.assertEqual(run.payloads[0], (PLAIN | PADDING, b"a" * 997 + b"\x00\x00\x03"))
        self.assertEqual(run.payloads[2], (PLAIN | MARKER, b"c" * 999))

    def test_a_much_larger_one_begins_a_run(self) -> None:
        self.assertEqual([run.size for run in runs([b"sets" * 10, b"a" * 1000, b"b" * 1000])], [40, 1000])

    def test_no_payload_is_no_run(self) -> None:
        self.assertEqual(runs([]), [])

    @FUZZ
    @given(st.lists(st.integers(1, 1_180) | st.integers(1_100, 1_180), min_size=1, max_size=150))
    def test_every_run_is_one_send_and_nothing_is_lost(self, sizes: list[int]) -> None:
        payloads = [bytes((n & 0x7F,)) * size for n, size in enumerate(sizes)]
        made = runs(payloads)
        received: list[bytes] = []
        for run in made:
            self.assertLessEqual(len(run.payloads), MAX_SEGMENTS)
            self.assertLessEqual(sum(len(payload) for _, payload in run.payloads), MAX_RUN)
            self.assertEqual({len(payload) for _, payload in run.payloads[:-1]} - {run.size}, set())
            self.assertLessEqual(len(run.payloads[-1][1]), run.size)
            received += [
                payload[: -payload[-1]] if first & PADDING else payload for first, payload in run.payloads
            ]
        self.assertEqual(received, payloads)
        marked = [first & MARKER for run in made for first, _ in run.payloads]
        self.assertEqual(marked, [0] * (len(sizes) - 1) + [MARKER])
