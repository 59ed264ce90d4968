"""Opus in RTP: timestamps that count samples."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_opus import MAX_DRIFT, MAX_PAYLOAD, SampleClock, depacketize
from oxidecast.media.errors import RemoteProtocolError
from tests.media.fuzz import FUZZ

TWENTY = b"\x78frame"  # CELT, 20 ms, one frame
SIXTY = b"\x18frame"  # SILK, 60 ms, one frame


class Timestamps(SynchronousTestCase):
    def test_each_packet_begins_where_the_last_one_ended(self) -> None:
        clock = SampleClock()
        self.assertEqual(
            [clock.timestamp(0, TWENTY), clock.timestamp(1800, SIXTY), clock.timestamp(7200, TWENTY)],
            [0, 960, 3840],
        )

    def test_times_in_whole_milliseconds_make_no_jumps(self) -> None:
        clock = SampleClock()
        jittered = [clock.timestamp(n * 1800 + (n * 7919 % 91) - 45, TWENTY) for n in range(1, 3_000)]
        self.assertEqual({after - before for before, after in pairwise(jittered)}, {960})

    def test_a_true_gap_is_followed(self) -> None:
        clock = SampleClock()
        clock.timestamp(0, TWENTY)
        self.assertEqual(clock.timestamp(90_000, TWENTY), 48_000)
        self.assertEqual(clock.timestamp(91_800, TWENTY), 48_960)

    def test_drift_is_followed_when_it_is_heard(self) -> None:
        clock = SampleClock()
        worst = 0
        for n in range(5_000):  # a source that is 0.1 % fast
            pts = n * 1800 * 999 // 1000
            worst = max(worst, abs(clock.timestamp(pts, TWENTY) - pts * 48 // 90))
        self.assertLessEqual(worst, MAX_DRIFT)


class Payloads(SynchronousTestCase):
    def test_how_long_a_payload_lasts(self) -> None:
        self.assertEqual((depacketize(TWENTY), depacketize(SIXTY)), (960, 2880))

    def test_what_is_refused(self) -> None:
        for payload in (b"", b"\x03", bytes(MAX_PAYLOAD + 1)):
            with self.assertRaises(RemoteProtocolError):
                depacketize(payload)

    @FUZZ
    @given(st.binary(max_size=50))
    def test_any_bytes(self, payload: bytes) -> None:
        try:
            self.assertGreater(depacketize(payload), 0)
        except RemoteProtocolError:
            pass
