"""WebRTC for minutes: a minute on a good network, a minute on one that loses one packet in twenty far away, and a line
that is narrow again and again. `tests/e2e/test_webrtc_network.py` has the short forms."""

from pathlib import Path
from typing import Any

from tests.e2e.programs import publish, until
from tests.e2e.relay import Relay
from tests.e2e.test_webrtc_network import RATE, SMALL, SOURCE
from tests.e2e.whep import PLAIN_H264, STATS, WHEPCase

MINUTE = 60
ROUNDS = 4


class SoakWebRTC(WHEPCase):
    def watch(self, title: str, relay: Relay | None, **more: Any) -> Any:
        """A page that has shown two seconds of a new stream."""
        name, key = self.server.new_stream(title, **more)
        log = Path(self.server.folder, f"{name}.log")
        video = (*PLAIN_H264, *RATE)
        self.enterContext(publish(self.server.ingest(key), log, size="854x480", video=video, seconds=600))
        until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
        page, status, text = self.play(name, relay.port if relay is not None else 0)
        self.assertEqual(status, 201, text)
        self.wait_for_frames(page, 60)
        return page

    def relay(self, **how: float) -> Relay:
        made = Relay(self.udp, **how)  # type: ignore[arg-type]
        self.addCleanup(made.stop)
        return made

    def minute(self, page: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures of pictures and sound, less those of before, of one minute."""
        before = page.evaluate(STATS)
        page.wait_for_timeout(MINUTE * 1000)
        after = page.evaluate(STATS)
        self.assertEqual(after["transport"]["srtpCipher"], "SRTP_AEAD_AES_128_GCM")
        video, audio = (
            {
                name: value - before[kind].get(name, 0)
                for name, value in after[kind].items()
                if isinstance(value, int | float)
            }
            for kind in ("video", "audio")
        )
        concealed = audio["concealedSamples"] / audio["totalSamplesReceived"]
        print(
            f"\n{video['framesDecoded']:.0f} frames, {video['packetsLost']:.0f} packets lost, "
            f"{video['freezeCount']:.0f} freezes of {video['totalFreezesDuration']:.2f} s, "
            f"{video.get('retransmittedPacketsReceived', 0):.0f} sent again, {concealed:.2%} of the sound made up"
        )
        return video, audio

    def test_a_minute_on_a_good_network(self) -> None:
        video, audio = self.minute(self.watch("Good", None))
        self.assertEqual((video["packetsLost"], video["freezeCount"]), (0, 0))
        self.assertGreater(video["framesDecoded"], 30 * MINUTE * 0.98)
        self.assertLess(audio["concealedSamples"], 0.01 * audio["totalSamplesReceived"])

    def test_a_minute_far_away_with_one_in_twenty_lost(self) -> None:
        relay = self.relay(loss=0.05, delay=0.05)
        video, _ = self.minute(self.watch("Far away", relay))
        self.assertGreater(relay.lost, 500)
        self.assertLess(video["freezeCount"], 2)
        self.assertLess(video["totalFreezesDuration"], 1)

    def test_a_line_that_is_narrow_again_and_again(self) -> None:
        relay = self.relay(delay=0.02)
        page = self.watch("Narrow", relay, transcoding_profiles=["360p"])
        page.wait_for_timeout(5000)
        for seconds in range(5, 5 + 15 * ROUNDS, 15):
            began = self.now(page)
            relay.rate = 1_000_000
            down = self.wait_for_width(page, SMALL, 5)
            page.wait_for_timeout(seconds * 1000)
            self.assertEqual(self.width(page), SMALL)
            relay.rate = 0
            up = self.wait_for_width(page, SOURCE, 30)
            page.wait_for_timeout(3000)
            pause = self.longest_pause(page, began)
            print(
                f"\nnarrow for {seconds} s: down in {down:.1f} s, up in {up:.1f} s, pauses up to {pause:.2f} s"
            )
            self.assertLess(pause, 1)
