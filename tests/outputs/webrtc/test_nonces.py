"""A viewer's whole life, and no index of its keys serves twice: losses, keyframes, other renditions, round numbers."""

import random
from unittest import mock

from oxidecast.outputs.webrtc.feed import Feed
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc import alerts
from oxidecast.webrtc.srtp import Profile, gcm
from tests.formats.test_rtcp import feedback
from tests.outputs.webrtc.stage import ADDRESS, Browser
from tests.outputs.webrtc.test_output import WebRTCCase
from tests.webrtc.srtp.test_nonces import RecordedKey

DEEDS = 400


class TestNonces(WebRTCCase):
    def setUp(self) -> None:
        super().setUp()
        RecordedKey.used, RecordedKey.repeated = set(), []
        for module in (gcm, alerts):
            patch = mock.patch.object(module, "AESGCM", RecordedKey)
            patch.start()
            self.addCleanup(patch.stop)
        self.on_the_wire: dict[tuple[int, int], bytes] = {}
        """Of the current viewer, by SSRC and 48-bit index (of SRTCP by its 31 bits): the datagram."""
        self.newest: dict[int, int] = {}

    def deliver(self) -> None:
        """As before; but media is noted by what its nonce is made of, since no receiver could follow the leaps."""
        media = [datagram for _, datagram in self.socket.sent if datagram[0] >= 128]
        self.socket.sent = [sent for sent in self.socket.sent if sent[1][0] < 128]
        for datagram in media:
            self.note(datagram)
        super().deliver()

    def note(self, datagram: bytes) -> None:
        if 192 <= datagram[1] < 224:
            trailer = datagram[-4:] if self.profile is Profile.AES_128_GCM else datagram[-14:-10]
            ssrc, index = -1 - int.from_bytes(datagram[4:8], "big"), int.from_bytes(trailer, "big")
        else:
            ssrc, sequence = int.from_bytes(datagram[8:12], "big"), int.from_bytes(datagram[2:4], "big")
            newest = self.newest.get(ssrc, sequence)
            index = newest + (sequence - newest & 0xFFFF)  # each stream's packets leave in order
            self.newest[ssrc] = index
        self.assertNotIn((ssrc, index), self.on_the_wire)
        self.on_the_wire[ssrc, index] = datagram

    def live(self, profile: Profile, seed: int) -> None:
        """Anything, in any order."""
        self.profile = profile
        self.on_the_wire, self.newest = {}, {}
        viewer, browser = self.connect(profile)
        other = Feed(
            self.shown.stream.renditions["source"],
            self.clock.seconds,
            self.shown._zero,
            lambda feed: None,
            lambda *_: None,
        )
        other.start(None)
        self.addCleanup(other.stop)
        fate = random.Random(seed)
        for _ in range(DEEDS):
            self.port.datagram(browser.check(), ADDRESS)
            deed = fate.randrange(12)
            if deed < 5:
                self.send(fate.randrange(1, 4))
            elif deed == 5:
                self.clock.advance(fate.random() * 2)
                self.deliver()
            elif deed == 6:
                self.answer(browser, feedback(206, 1, ssrc=viewer.pictures.video.ssrc))  # type: ignore[union-attr]
            elif deed == 7:
                feeds = [*self.shown._feeds.values(), other]
                viewer.pictures.watch(fate.choice(feeds))
                self.deliver()
            elif deed == 8:
                self.leap(viewer, fate)
            else:
                self.miss(viewer, browser, fate)
        self.assertTrue(viewer.peer.is_connected)
        self.assertGreater(viewer.figures.resent, 10)
        if profile is Profile.AES_128_GCM:
            self.assertGreater(max(index for ssrc, index in self.on_the_wire if ssrc >= 0), 2 << 16, "rounds")
        viewer.pictures.watch(next(iter(self.shown._feeds.values())))
        viewer.end("enough")
        self.deliver()

    def leap(self, viewer: Viewer, fate: random.Random) -> None:
        """What an hour or ten sends, without its packets: numbers go round."""
        stream = fate.choice([viewer.pictures.video, viewer._audio, viewer.pictures.resend])
        assert stream is not None
        count = fate.choice((1, 1_000, 0xFFFF - stream.next_index & 0xFFFF, 0xFF00))
        if self.profile is not Profile.AES_128_GCM:
            count = min(count, 1_000)  # libsrtp counts rounds by itself, and loses count in larger leaps
        stream._reserve(count)
        if stream.ssrc in self.newest:
            self.newest[stream.ssrc] += count

    def miss(self, viewer: Viewer, browser: Browser, fate: random.Random) -> None:
        """Ask for packets: those of late, and such as nobody was ever sent."""
        assert viewer.pictures.video is not None
        first = viewer.pictures.video.next_index - fate.choice((1, 5, 30, 2_000, 40_000, -3)) & 0xFFFF
        mask = fate.choice((0, 1, 0xFFFF))
        data = first.to_bytes(2, "big") + mask.to_bytes(2, "big")
        for _ in range(fate.choice((1, 1, 3))):  # a receiver asks again while its packet is under way
            self.answer(browser, feedback(205, 1, data, viewer.pictures.video.ssrc))

    def answer(self, browser: Browser, packet: bytes) -> None:
        self.port.datagram(browser.say(packet), ADDRESS)
        self.deliver()

    def test_no_index_serves_twice(self) -> None:
        self.on_air(30)
        for seed, profile in enumerate((Profile.AES_128_GCM, Profile.AES_128_CM_SHA1_80) * 2):
            with self.subTest(seed=seed, profile=profile):
                self.live(profile, seed)
        self.assertEqual(RecordedKey.repeated, [])
        self.assertGreater(len(RecordedKey.used), 2_000)
