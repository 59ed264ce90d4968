"""Ten minutes of flashes, beeps and the machine's clock by WebRTC: `make soak`. The short form is in
`tests/e2e/test_webrtc_sync.py`."""

from statistics import median

from tests.e2e import clock
from tests.e2e.sync import MOST_APART
from tests.e2e.test_webrtc_sync import MOST_OLD, SyncCase

LONG = 600
"""Seconds."""
BEGINNING = 30
"""Beeps until a browser has settled, and as many more."""


class SoakTests(SyncCase):
    def go_through(self, name: str) -> tuple[clock.Seen, clock.Seen]:
        """Both stay together, and do not drift."""
        shown, came = self.watch(name, LONG)
        for one in (shown, came):
            apart = one.apart()
            minutes = [median(apart[at : at + 60]) for at in range(BEGINNING, len(apart) - 59, 60)]
            print(f"late minute by minute: {', '.join(f'{1000 * late:.0f}' for late in minutes)} ms")
            self.assertLess(max(map(abs, minutes)), MOST_APART)
        return shown, came

    def test_what_is_passed_through(self) -> None:
        name, key = self.server.new_stream("Passed through")
        self.source(clock.rtmp(self.server.ingest(key), sound="libopus"))
        for seen in self.go_through(name):
            self.assertLess(median(seen.ages()), MOST_OLD)

    def test_b_frames_and_aac_as_obs_sends_them(self) -> None:
        name, key = self.server.new_stream("As by OBS", transcoding_profiles=["360p"])
        self.source(clock.rtmp(self.server.ingest(key), bframes=2), 44_100)
        self.go_through(name)
