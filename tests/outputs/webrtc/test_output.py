"""WebRTC as a plugin of a real hub, and a browser of our own before it: signalling, media, what is lost, the end."""

import itertools
import random
from types import SimpleNamespace
from typing import Any

import msgspec
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from prometheus_client.exposition import generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor
from zope.interface.verify import verifyObject

from oxidecast.formats.rtcp import Goodbye, SenderReport, parse
from oxidecast.formats.rtp_h264 import H264Depacketizer
from oxidecast.formats.sdp_offer import parse as parse_offer
from oxidecast.interfaces import IMeasured, IOutput, IOutputStream, IReloadable, ITotals
from oxidecast.media import Codec, Packet
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.output import WebRTCOutput
from oxidecast.outputs.webrtc.pictures import REPLAY_PAUSE
from oxidecast.outputs.webrtc.qualities import WITHIN
from oxidecast.outputs.webrtc.resending import MAX_RESENT
from oxidecast.outputs.webrtc.stream import NotCarried, NotNow, WebRTCStream
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc import port as port_module
from oxidecast.webrtc.datagrams import READS
from oxidecast.webrtc.ice import CONSENT_TIMEOUT
from oxidecast.webrtc.port import PortFull, WebRTCPort
from oxidecast.webrtc.settings import TurnServer, WebrtcSettings
from oxidecast.webrtc.signalling import ice_servers
from oxidecast.webrtc.srtp import Profile
from tests.formats.material import stream as material
from tests.formats.test_rtcp import feedback
from tests.outputs.webrtc.stage import ADDRESS, BROWSER, Browser, MemorySocket, offer
from tests.streams.stage import PICTURE, Encoder, HubCase, planned

TRACK, PACKETS = material(Codec.H264, frames=24, size=128)
OPUS, SOUNDS = material(Codec.OPUS, frames=24)

SOUND = 1800
"""Ticks of 20 ms, as Opus comes."""


class WebRTCCase(HubCase):
    """A port on a socket in memory; `show` is live with pictures without B-frames, and Opus."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(port_module, "DatagramSocket", MemorySocket)
        self.readers: list[Any] = []
        self.patch(port_module, "route_addresses", lambda: ["192.0.2.1"])
        reactor: Any = SimpleNamespace(
            seconds=self.clock.seconds,
            callLater=self.clock.callLater,
            addReader=self.readers.append,
            removeReader=lambda reader: self.readers.remove(reader) if reader in self.readers else None,
            listenTCP=MemoryReactor().listenTCP,
        )
        self.port = WebRTCPort(WebrtcSettings(), reactor)
        services: Any = SimpleNamespace(reactor=reactor, hub=self.hub, ports={"webrtc": self.port})
        self.webrtc = WebRTCOutput(WebrtcSettings(), services)
        self.registry.running.remove(self.watching)
        self.add("webrtc", IOutput, self.webrtc)
        self.port.startService()
        self.addCleanup(self.port.stopService)
        self.count = self.sounds = 0
        self.opus = True
        self.encoder = Encoder(self)

    @property
    def socket(self) -> MemorySocket:
        return self.port.socket  # type: ignore[return-value]

    @property
    def shown(self) -> WebRTCStream:
        return self.webrtc.streams["show"]

    def on_air(self, pictures: int = 30, reordered: bool = False, opus: bool = True) -> None:
        self.opus = opus
        self.encoder.connect(*((TRACK, OPUS) if opus else (TRACK,)))
        self.send(pictures, reordered=reordered)

    def send(self, pictures: int, reordered: bool = False, gop: int = 12) -> None:
        """As an encoder would, in real time. The payloads are real, their order is not."""
        for _ in range(pictures):
            keyframe = self.count % gop == 0
            made: Packet = PACKETS[0] if keyframe else PACKETS[1 + self.count % 11]
            dts = self.count * PICTURE
            pts = dts + (2 * PICTURE if reordered and self.count % 3 == 1 else 0)
            publication = self.encoder.publication
            publication.packet(1, dts, pts, keyframe, made.payload)
            while self.opus and self.sounds * SOUND <= dts:
                publication.packet(2, self.sounds * SOUND, self.sounds * SOUND, True, SOUNDS[0].payload, 960)
                self.sounds += 1
            self.count += 1
            self.clock.advance(1 / 30)
            self.deliver()

    # -- a viewer

    def join(self, profile: Profile = Profile.AES_128_GCM, **changes: str) -> tuple[Viewer, Browser]:
        """A viewer that has its answer."""
        offered = parse_offer(offer(**changes))
        negotiation.check(offered)
        pictures = self.successResultOf(Deferred.fromCoroutine(self.shown.pictures("", offered)))
        sound = self.shown.sound()
        assert pictures.feed is not None
        track = pictures.feed.track(True)
        assert track is not None
        agreed = negotiation.agree(offered, track, sound.feed is not None)
        viewer = self.shown.viewer(agreed, pictures, sound)
        viewer.peer = self.port.open(agreed.ufrag, agreed.fingerprints, viewer, "192.0.2.7")
        self.webrtc.joined(viewer, self.shown, "192.0.2.7", "")
        self.webrtc.add(viewer)
        browser = Browser(agreed.answer(self.port.transport(viewer.peer)), profile, self.clock.seconds())
        self.browser = browser
        return viewer, browser

    def connect(self, profile: Profile = Profile.AES_128_GCM, **changes: str) -> tuple[Viewer, Browser]:
        """A viewer that watches."""
        viewer, browser = self.join(profile, **changes)
        self.port.datagram(browser.check(), ADDRESS)
        for datagram in browser.start(self.clock.seconds()):
            self.port.datagram(datagram, ADDRESS)
        self.deliver()
        return viewer, browser

    def deliver(self) -> None:
        """To the browser, and back what it answers."""
        while self.socket.sent:
            _, datagram = self.socket.sent.pop(0)
            for answer in self.browser.receive(datagram, self.clock.seconds()):
                self.port.datagram(answer, ADDRESS)

    def video(self, browser: Browser) -> list[Any]:
        return [packet for packet in browser.rtp if packet.payload_type in (102, 105)]

    def frames(self, browser: Browser) -> list[Any]:
        """What a receiver makes of the packets."""
        depacketizer, frames = H264Depacketizer(), []
        for packet in self.video(browser):
            frames += depacketizer.receive(
                packet.sequence_number, packet.timestamp, bool(packet.marker), packet.payload
            )
        return frames


class TestWatching(WebRTCCase):
    def test_it_provides_what_it_says(self) -> None:
        self.on_air()
        for interface in (IOutput, IMeasured, ITotals, IReloadable):
            verifyObject(interface, self.webrtc)
        verifyObject(IOutputStream, self.shown)

    def test_a_viewer_begins_with_the_last_keyframe_and_goes_on(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(10)
        frames = self.frames(browser)
        self.assertTrue(frames[0].keyframe)
        self.assertEqual(len(frames), 6 + 10, "those since the keyframe at 24, and what came then")
        self.assertFalse(any(frame.after_loss for frame in frames))
        stamps = [frame.timestamp for frame in frames]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual({b - a for a, b in zip(stamps[-10:], stamps[-9:], strict=False)}, {PICTURE})
        self.assertEqual(viewer.profile, "SRTP_AEAD_AES_128_GCM")

    def test_numbers_go_on_without_a_gap(self) -> None:
        self.on_air(30)
        _, browser = self.connect()
        self.send(30)
        numbers = [packet.sequence_number for packet in self.video(browser)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        self.assertLess(numbers[0], 1 << 14)

    def test_by_the_older_cipher(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect(Profile.AES_128_CM_SHA1_80)
        self.send(10)
        self.assertEqual(viewer.profile, "SRTP_AES128_CM_SHA1_80")
        self.assertEqual(len(self.frames(browser)), 16)

    def test_sound_is_counted_in_samples(self) -> None:
        self.on_air(30)
        _, browser = self.connect()
        self.send(10)
        stamps = [packet.timestamp for packet in browser.rtp if packet.payload_type == 111]
        self.assertEqual(
            len(stamps), 10, "all but those of a tenth of a second, until it is known to be live"
        )
        self.assertEqual({after - before for before, after in itertools.pairwise(stamps)}, {960})

    def test_a_sound_that_fits_no_datagram_is_left_out(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect(Profile.AES_128_CM_SHA1_80)
        at = self.sounds * SOUND
        self.encoder.publication.packet(2, at, at, True, SOUNDS[0].payload[:1] + bytes(2000), 960)
        self.send(10)
        self.assertTrue(viewer.peer.is_connected)
        self.assertGreater(len(self.frames(browser)), 10)

    def test_a_viewer_counts_from_the_handshake_to_the_end(self) -> None:
        self.on_air(30)
        viewer, _ = self.join()
        self.assertEqual(self.stream.viewer_count, 0)
        viewer.peer.close("never came")
        self.assertEqual(self.shown.viewers, {})
        viewer, browser = self.connect()
        self.send(10)
        self.assertEqual(self.stream.viewer_count, 1)
        assert viewer.counted is not None
        self.assertGreater(viewer.counted.bytes_sent, 1000)
        viewer.end("enough")
        self.deliver()
        self.assertEqual(self.stream.viewer_count, 0)
        self.assertIn(Goodbye(self.video(browser)[0].ssrc), parse(browser.rtcp[-1]))
        self.assertEqual((len(self.port), self.webrtc.sessions, self.shown._feeds), (0, {}, {}))

    def test_reports_say_when_pictures_and_sound_belong(self) -> None:
        self.on_air(30)
        _, browser = self.connect()
        self.send(40)
        ssrcs = [report.ssrc for report in parse(browser.rtcp[-1]) if isinstance(report, SenderReport)]
        self.assertEqual(
            ssrcs, list(dict.fromkeys(packet.ssrc for packet in [*self.video(browser), *browser.rtp]))
        )

    def test_answers_of_many_are_read_together(self) -> None:
        self.on_air(30)
        self.patch(port_module, "MANY", 2)
        self.port.doRead()
        self.assertEqual(self.readers, [self.port], "of few at once")
        first, _ = self.join()
        self.join()
        self.port.doRead()
        self.assertEqual(self.readers, [])
        self.socket.incoming = [b"\x00"] * (READS + 1)
        self.clock.advance(port_module.PAUSE)
        self.assertEqual(self.socket.incoming, [], "what is more than one turn reads does not wait")
        first.peer.close("enough")
        self.clock.advance(port_module.PAUSE)
        self.assertEqual(self.readers, [self.port])

    def test_of_the_offer_only_what_is_sent_is_kept(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(30)
        kept = viewer.agreed
        self.assertEqual((kept.mid, [medium.mid for medium, _ in kept.media]), ("0", ["0", "1"]))
        self.assertFalse(any(medium.codecs or medium.formats for medium, _ in kept.media))
        assert kept.video is not None and kept.audio is not None
        self.assertEqual({packet.ssrc for packet in browser.rtp}, {kept.video.ssrc, kept.audio.ssrc})

    def test_frames_are_made_once_for_all(self) -> None:
        self.on_air(30)
        self.connect()
        self.connect()
        self.assertEqual(len(self.shown._feeds), 1)
        (feed,) = self.shown._feeds.values()
        self.assertEqual(len(feed.watching), 2)


class TestLosses(WebRTCCase):
    def test_what_was_missed_comes_again_under_another_number(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(10)
        sent = self.video(browser)
        for missed in (sent[0], sent[-1]):  # of the beginning, and of what is live
            sequence = missed.sequence_number.to_bytes(2, "big")
            self.port.datagram(browser.say(feedback(205, 1, sequence + bytes(2), missed.ssrc)), ADDRESS)
            self.deliver()
            again = browser.rtp[-1]
            self.assertEqual(again.payload_type, {102: 103}.get(missed.payload_type, again.payload_type))
            self.assertEqual(again.payload, sequence + missed.payload)
            self.assertEqual((again.timestamp, again.marker), (missed.timestamp, missed.marker))
            self.assertNotEqual(again.ssrc, missed.ssrc)
        self.assertEqual((viewer.figures.nacks, viewer.figures.resent), (2, 2))

    def test_what_was_never_sent_does_not_come(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(10)
        last = self.video(browser)[-1]
        for sequence in (last.sequence_number + 1, last.sequence_number - 5000 & 0xFFFF):
            data = (sequence & 0xFFFF).to_bytes(2, "big") + bytes(2)
            self.port.datagram(browser.say(feedback(205, 1, data, last.ssrc)), ADDRESS)
        self.assertEqual(viewer.figures.resent, 0)

    def test_no_more_than_so_many_a_second(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(10)
        last = self.video(browser)[-1]
        data = (last.sequence_number.to_bytes(2, "big") + bytes(2)) * 300
        for _ in range(3):
            self.port.datagram(browser.say(feedback(205, 1, data, last.ssrc)), ADDRESS)
        self.assertEqual(viewer.figures.resent, MAX_RESENT)

    def test_who_wants_a_keyframe_gets_the_last_one_between_two_frames(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(4)
        before = len(self.frames(browser))
        ssrc = self.video(browser)[0].ssrc
        for _ in range(3):
            self.port.datagram(browser.say(feedback(206, 1, ssrc=ssrc)), ADDRESS)
        self.send(1)
        frames = self.frames(browser)
        self.assertTrue(frames[before].keyframe)
        stamps = [frame.timestamp for frame in frames]
        self.assertEqual(stamps, sorted(set(stamps)), "a receiver drops what is older than what it has")
        self.assertEqual((viewer.figures.keyframes_wanted, viewer.figures.replays), (3, 1))
        self.clock.pump([REPLAY_PAUSE / 20] * 20)
        self.port.datagram(browser.say(feedback(206, 1, ssrc=ssrc)), ADDRESS)
        self.assertEqual(viewer.figures.replays, 2)

    def test_noise_is_dropped(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        for datagram in (b"", b"\x80", b"\x80\xc9" + bytes(40), b"\x16" + bytes(60), b"\0\1" + bytes(18)):
            self.port.datagram(datagram, ADDRESS)
            self.port.datagram(datagram, ("198.51.100.9", 9))
        self.port.datagram(browser.say(b"\x80\xc9\0\1" + bytes(4) + b"\x80"), ADDRESS)
        self.send(5)
        self.assertTrue(viewer.peer.is_open)
        self.assertEqual(viewer.peer.unauthentic, 1)
        self.assertEqual(len(self.port), 1)

    def test_random_datagrams_make_nothing_and_hurt_nobody(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        noise = random.Random(6)
        for number in range(5000):
            datagram = bytes((noise.choice((0, 1, 20, 22, 63, 128, 144, 191, 255)),)) + noise.randbytes(
                noise.choice((1, 11, 19, 40, 100, 1200))
            )
            self.port.datagram(datagram, ADDRESS if number % 2 else ("198.51.100.9", number))
        self.socket.sent.clear()
        self.send(10)
        self.assertEqual(len(self.port), 1)
        self.assertEqual(len(self.frames(browser)), 16)
        self.assertTrue(viewer.peer.is_connected)

    def test_a_full_socket_loses_and_goes_on(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.socket.full, self.opus = True, False
        self.send(1)
        self.socket.full = False
        self.send(2)
        self.assertGreater(viewer.figures.dropped, 0)
        self.assertTrue(any(frame.after_loss for frame in self.frames(browser)))


class TestLife(WebRTCCase):
    def test_nothing_heard_is_the_end(self) -> None:
        self.on_air(30)
        viewer, _ = self.connect()
        self.clock.pump([1.0] * (int(CONSENT_TIMEOUT) + 1))
        self.assertFalse(viewer.peer.is_open)
        self.assertEqual((self.port.expired, self.stream.viewer_count), (1, 0))

    def test_a_viewer_may_move(self) -> None:
        self.on_air(30)
        _, browser = self.connect()
        self.send(10)
        there = ("198.51.100.3", 7)
        self.port.datagram(browser.check(), there)
        self.deliver()
        self.encoder.publication.packet(
            1, self.count * PICTURE, self.count * PICTURE, False, PACKETS[1].payload
        )
        self.assertEqual({to for to, _ in self.socket.sent}, {there})

    def test_a_restart_of_ice(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.port.restart(viewer.peer, "newufrag")
        browser.remote, browser.ufrag = viewer.peer.ice.local, "newufrag"
        self.port.datagram(browser.check(), ("198.51.100.3", 7))
        self.assertEqual(viewer.peer.address, ("198.51.100.3", 7))

    def test_the_stream_ends(self) -> None:
        self.on_air(30)
        _, browser = self.connect()
        self.send(1)
        self.stream.end("over")
        self.deliver()
        self.assertEqual(len(self.port), 0)
        self.assertTrue(any(isinstance(item, Goodbye) for item in parse(browser.rtcp[-1])))

    def test_the_publisher_comes_back(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(3)
        self.encoder.publication.close("gone")
        self.clock.advance(3)
        self.deliver()
        self.count += 90
        self.count -= self.count % 12
        self.sounds = self.count * PICTURE // SOUND + 1
        self.encoder = Encoder(self).connect(TRACK, OPUS)
        before = len(self.frames(browser))
        self.send(20)
        frames = self.frames(browser)
        self.assertTrue(viewer.peer.is_open)
        self.assertTrue(frames[before].keyframe)
        self.assertGreater(len(frames), before + 12)
        self.assertFalse(any(frame.after_loss for frame in frames))

    def test_the_handshake_is_repeated(self) -> None:
        self.on_air(30)
        viewer, browser = self.join()
        self.port.datagram(browser.check(), ADDRESS)
        self.socket.sent.clear()
        for datagram in browser.start(self.clock.seconds()):
            self.port.datagram(datagram, ADDRESS)
        self.socket.sent.clear()  # the server's flight is lost
        self.clock.advance(1)
        self.deliver()
        self.assertTrue(viewer.peer.is_connected)

    def test_another_certificate_is_no_peer(self) -> None:
        self.on_air(30)
        other = ":".join(["00"] * 32)
        viewer, browser = self.connect(fingerprint=f"{BROWSER.fingerprint.value}>{other}")
        self.assertFalse(viewer.peer.is_open)
        self.assertEqual((self.port.failed_handshakes, browser.rtp), (1, []))

    def test_no_more_than_there_is_room_for(self) -> None:
        self.on_air(30)
        self.port.settings = WebrtcSettings(max_sessions=3, max_sessions_per_address=2)
        self.join()
        self.join()
        with self.assertRaisesRegex(PortFull, "from your network"):
            self.join()
        self.port.settings = WebrtcSettings(max_sessions=2)
        with self.assertRaisesRegex(PortFull, "As many use WebRTC"):
            self.join()
        self.patch(port_module, "MAX_CONNECTING", 2)
        self.port.settings = WebrtcSettings()
        with self.assertRaisesRegex(PortFull, "connecting"):
            self.join()
        self.assertEqual(self.port.refused, 3)

    def test_figures(self) -> None:
        self.on_air(30)
        viewer, _ = self.connect()
        families = {family.name: family for family in self.webrtc.metrics(["show"])}
        self.assertEqual(families["oxidecast_webrtc_sessions"].samples[0].value, 1)
        self.assertEqual(families["oxidecast_webrtc_viewers"].samples[0].labels, {"stream": "show"})
        self.assertEqual(self.shown.stats()["viewers"], 1)
        viewer.end("enough")
        families = {family.name: family for family in self.webrtc.metrics(["show"])}
        self.assertEqual(families["oxidecast_webrtc_sessions_connected"].samples[0].value, 1)

    def test_how_a_viewer_is_served_is_told_and_kept(self) -> None:
        self.on_air(30)
        viewer, browser = self.connect()
        self.send(80)
        ssrc = self.video(browser)[0].ssrc
        lost = RtcpReceiverInfo(
            ssrc=ssrc, fraction_lost=64, packets_lost=3, highest_sequence=9, jitter=90, lsr=0, dlsr=0
        )
        self.port.datagram(browser.say(bytes(RtcpRrPacket(ssrc=1, reports=[lost]))), ADDRESS)
        self.port.datagram(browser.say(feedback(206, 1, ssrc=ssrc)), ADDRESS)
        viewer.switched("720p")
        self.send(40)
        session = viewer.counted
        assert session is not None
        self.assertEqual(session.rendition, "720p")
        self.assertEqual(session.startup_time, viewer.figures.first_picture)
        self.assertGreater(session.figures["bitrate"], 10_000)
        told = [session.figures[name] for name in ("lost", "loss", "keyframes_wanted", "switches")]
        self.assertEqual(told, [3, 0.25, 1, 1])
        packets = session.figures["packets"]
        self.assertLess(3, packets)
        for sums in (self.shown.stats(), self.webrtc.totals()):
            self.assertEqual((sums["lost"], sums["switches"], sums["worst_loss"]), (3, 1, 0.25))
        viewer.end("enough")
        sums = self.webrtc.totals()
        self.assertEqual((sums["lost"], sums["packets"], sums["sessions"]), (3, packets, 1))
        self.assertEqual((sums["bitrate"], sums["worst_loss"]), (0, 0.0))
        text = generate_latest(SimpleNamespace(collect=lambda: self.webrtc.metrics(["show"]))).decode()
        self.assertIn("oxidecast_webrtc_lost_total 3.0", text)
        self.assertIn('oxidecast_webrtc_first_picture_seconds_bucket{le="+Inf"} 1.0', text)


class TestWhatIsSent(WebRTCCase):
    def test_pictures_in_another_order_than_shown_are_not_carried(self) -> None:
        self.on_air(30, reordered=True)
        asked = self.shown.pictures("", parse_offer(offer()))
        failure = self.failureResultOf(Deferred.fromCoroutine(asked), NotCarried)
        self.assertIn("B-frames", str(failure.value))
        self.assertEqual(self.shown._feeds, {})

    def test_why_browsers_get_nothing_of_a_stream_that_has_a_profile(self) -> None:
        """It is no advice to give it one."""
        self.on_air(30, reordered=True)
        self.stream.plan({"720p": planned("720p")})
        late = Deferred.fromCoroutine(self.shown.pictures("", parse_offer(offer())))
        self.clock.advance(WITHIN)
        gone = Deferred.fromCoroutine(self.shown.pictures("720p", parse_offer(offer())))
        self.stream.left_out = {"720p": "the source is smaller"}
        self.stream.plan({})
        self.stream.left_out = {}
        self.stream.plan({"720p": planned("720p")})
        self.stream.info = msgspec.structs.replace(self.stream.info, transcoding_profiles=("720p",))
        full = Deferred.fromCoroutine(self.shown.pictures("720p", parse_offer(offer())))
        self.stream.plan({}, "the server is full")
        after = Deferred.fromCoroutine(self.shown.pictures("720p", parse_offer(offer())))
        for waiting, why in (
            (late, "did not start in time"),
            (gone, "source is smaller"),
            (full, "server is full"),
            (after, "server is full"),
        ):
            sentence = str(self.failureResultOf(waiting, NotNow).value)
            self.assertIn(why, sentence)
            self.assertNotIn("profile", sentence)
        self.assertEqual((self.shown._feeds, self.stream.wanted), ({}, {}))

    def test_who_watches_when_such_pictures_come_has_to_ask_again(self) -> None:
        self.on_air(30)
        viewer, _ = self.connect()
        self.send(6, reordered=True)
        self.assertFalse(viewer.peer.is_open)

    def test_offers_that_nothing_can_be_sent_to(self) -> None:
        for change, word in (
            ("a=recvonly>a=sendonly", "receive no video"),
            ("a=group:BUNDLE 0 1>a=x:y", "BUNDLE"),
            ("UDP/TLS/RTP/SAVPF>RTP/AVP", "protocol"),
            ("a=rtcp-mux>a=x:y", "rtcp-mux"),
            ("a=setup:actpass>a=setup:passive", "setup"),
            ("sha-256>sha-1", "fingerprint"),
            ("a=ice-ufrag:3Xyz\r\na=ice-pwd:abcdefghijklmnopqrstuvwx>a=x:y", "ice-ufrag"),
        ):
            with self.assertRaisesRegex(Exception, word):
                negotiation.check(parse_offer(offer(change=change)))

    def test_links(self) -> None:
        settings = WebrtcSettings(
            stun_servers=("stun:stun.example.com:3478",),
            turn_servers=(
                TurnServer(url="turn:turn.example.com?transport=udp", username='a"b', credential="c"),
            ),
        )
        self.assertEqual(
            ice_servers(settings),
            [
                '<stun:stun.example.com:3478>; rel="ice-server"',
                '<turn:turn.example.com?transport=udp>; rel="ice-server"; username="a\\"b"; credential="c"; '
                'credential-type="password"',
            ],
        )
