"""Sound that was kept is passed over; what is live is not."""

from unittest import TestCase

from oxidecast.media import TICKS
from oxidecast.outputs.webrtc.sound import LONGEST, SETTLED, CatchingUp

PACKET = 0.02


class TestCatchingUp(TestCase):
    def heard(self, arrivals: list[float]) -> list[float]:
        """Of packets that come at these times, those that are live."""
        sound = CatchingUp()
        return [now for at, now in enumerate(arrivals) if sound.is_live(round(at * PACKET * TICKS), now)]

    def test_what_is_live_from_the_start(self) -> None:
        heard = self.heard([at * PACKET for at in range(100)])
        self.assertAlmostEqual(heard[0], SETTLED)
        self.assertEqual(len(heard), 95)

    def test_what_was_kept_comes_at_once(self) -> None:
        live = 1.0
        kept = [live - 0.01] * 25  # half a second
        heard = self.heard([*kept, *(live + at * PACKET for at in range(100))])
        self.assertGreater(heard[0], live + SETTLED - PACKET)
        self.assertEqual(len(heard), 95)

    def test_an_encoder_that_keeps_packets_together(self) -> None:
        heard = self.heard([at // 4 * 4 * PACKET for at in range(100)])
        self.assertGreater(len(heard), 85)

    def test_a_clock_that_is_fast_is_heard_all_the_same(self) -> None:
        heard = self.heard([at * PACKET * 0.8 for at in range(200)])
        self.assertAlmostEqual(heard[0], LONGEST, delta=PACKET)
