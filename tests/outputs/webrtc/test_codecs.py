"""Which codec a viewer is sent, and that each comes as it was published."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_av1 import AV1Depacketizer
from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_h264 import H264Depacketizer
from oxidecast.formats.rtp_hevc import HEVCDepacketizer
from oxidecast.formats.rtp_vp8 import VP8Depacketizer
from oxidecast.formats.rtp_vp9 import VP9Depacketizer
from oxidecast.formats.sdp_offer import Offer
from oxidecast.formats.sdp_offer import parse as parse_offer
from oxidecast.media import Codec, Packet, RemoteProtocolError, Track, nal, vp8
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.payloads import packetize
from oxidecast.outputs.webrtc.pictures import REPLAY_PAUSE
from oxidecast.outputs.webrtc.stream import NotCarried, NotNow
from oxidecast.streams.wanting import Planned, RenditionSpec
from tests.formats.material import stream as material
from tests.formats.test_rtcp import feedback
from tests.formats.test_rtp_vpx import pictures
from tests.media.fuzz import FUZZ, mutated
from tests.outputs.webrtc.stage import ADDRESS, offer
from tests.outputs.webrtc.test_output import OPUS, WebRTCCase
from tests.streams.stage import PICTURE, Encoder

EVERYTHING = """a=rtpmap:106 H265/90000
a=rtcp-fb:106 nack
a=rtcp-fb:106 nack pli
a=fmtp:106 level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST
a=rtpmap:107 H265/90000
a=fmtp:107 level-id=93;profile-id=2;tier-flag=0;tx-mode=SRST
a=rtpmap:35 AV1/90000
a=fmtp:35 level-idx=5;profile=0;tier=0
a=rtpmap:36 AV1/90000
a=fmtp:36 level-idx=5;profile=1;tier=0
a=rtpmap:98 VP9/90000
a=fmtp:98 profile-id=0
a=rtpmap:100 VP9/90000
a=fmtp:100 profile-id=2
""".replace("\n", "\r\n")
FIRST = "a=rtpmap:102 H264/90000\r\n"

_DEPACKETIZERS: dict[Codec, type[Depacketizer]] = {
    Codec.H264: H264Depacketizer,
    Codec.HEVC: HEVCDepacketizer,
    Codec.AV1: AV1Depacketizer,
    Codec.VP9: VP9Depacketizer,
    Codec.VP8: VP8Depacketizer,
}


def everything(**changes: str) -> str:
    """An offer of all that there is."""
    numbers = "96 97 102>96 97 106 107 35 36 98 100 102"
    return offer(numbers=numbers, more=f"{FIRST}>{EVERYTHING}{FIRST}", **changes)


def only(*names: str) -> Offer:
    """An offer of the codecs with these names."""
    text = everything()
    for name in {"H264", "H265", "AV1", "VP9", "VP8"} - set(names):
        text = text.replace(f" {name}/90000", " nothing/90000")
    return parse_offer(text)


def track(codec: Codec, codec_string: str) -> Track:
    return Track(id=1, codec=codec, extradata=b"", codec_string=codec_string)


def published(codec: Codec) -> tuple[Track, list[Packet]]:
    """A track and a group of twelve pictures that are decoded in the order in which they are shown."""
    if codec is Codec.VP8:
        frames = [*pictures("libvpx")[:6], *pictures("libvpx")[7:12], pictures("libvpx")[5]]
        made = [
            Packet(vp8.track(frames[0]), 0, 0, PICTURE, vp8.is_keyframe(frame), frame) for frame in frames
        ]
        return vp8.track(frames[0]), made
    own, packets = material(codec, frames=12, size=128)
    return msgspec.structs.replace(own, id=1), packets


class TestChoices(SynchronousTestCase):
    def test_the_decoder_that_is_nearest(self) -> None:
        offered = parse_offer(everything())
        for codec, codec_string, payload_type in (
            (Codec.H264, "avc1.42c01e", 102),
            (Codec.H264, "avc1.4d401e", 105),
            (Codec.H264, "avc1.64001f", 105),
            (Codec.H264, "avc1.7a001f", 105),
            (Codec.HEVC, "hvc1.1.6.L93.B0", 106),
            (Codec.HEVC, "hvc1.2.4.L93.B0", 107),
            (Codec.HEVC, "hvc1.A4.4.L93.B0", None),
            (Codec.AV1, "av01.0.04M.08", 35),
            (Codec.AV1, "av01.1.04M.08", 36),
            (Codec.AV1, "av01.2.04M.08", None),
            (Codec.VP9, "vp09.00.31.08", 98),
            (Codec.VP9, "vp09.02.31.10", 100),
            (Codec.VP9, "vp09.01.31.08", None),
            (Codec.VP8, "vp8", 96),
        ):
            with self.subTest(codec_string):
                agreed = negotiation.agree(offered, track(codec, codec_string), True)
                found = agreed.video.codec.payload_type if agreed.video is not None else None
                self.assertEqual(found, payload_type)
                self.assertEqual(
                    negotiation.takes(offered, track(codec, codec_string)), payload_type is not None
                )

    def test_what_an_offer_says_nothing_of_is_the_least(self) -> None:
        offered = parse_offer(
            everything(a="level-id=93;profile-id=1;>x=", b="level-idx=5;profile=0;>x=", c="profile-id=0>x=")
        )
        for codec, codec_string in (
            (Codec.HEVC, "hvc1.1.6.L93.B0"),
            (Codec.AV1, "av01.0.04M.08"),
            (Codec.VP9, "vp09.00.31.08"),
        ):
            self.assertTrue(negotiation.takes(offered, track(codec, codec_string)), codec)
        odd = parse_offer(everything(a="profile-id=>profile-id=x", b="profile=>profile=x"))
        self.assertFalse(negotiation.takes(odd, track(Codec.HEVC, "hvc1.1.6.L93.B0")))

    def test_an_offer_without_the_codec(self) -> None:
        agreed = negotiation.agree(
            parse_offer(offer(h264="H264>H263")), track(Codec.H264, "avc1.42c01e"), True
        )
        self.assertIsNone(agreed.video)
        assert agreed.audio is not None
        self.assertEqual(agreed.audio.codec.name, "opus")

    def test_what_pictures_are_made_into(self) -> None:
        for names, codec in (
            (("H264", "VP8", "AV1"), Codec.H264),
            (("VP8", "AV1"), Codec.VP8),
            (("AV1", "VP9"), None),
        ):
            self.assertEqual(negotiation.repaired(only(*names)), codec)
        one_unit_a_packet = parse_offer(offer(a="packetization-mode=1>packetization-mode=0"))
        self.assertEqual(negotiation.repaired(one_unit_a_packet), Codec.VP8)


class TestEachCodec(WebRTCCase):
    """Each is sent as it is, to who offers it."""

    def begin(self, codec: Codec) -> list[Packet]:
        own, self.group = published(codec)
        self.encoder.connect(own, OPUS)
        self.codec = codec
        self.forward(18)
        return self.group

    def forward(self, count: int) -> None:
        for _ in range(count):
            packet, at = self.group[self.count % len(self.group)], self.count * PICTURE
            self.encoder.publication.packet(1, at, at, packet.keyframe, packet.payload)
            self.encoder.publication.packet(2, at, at, True, b"\xfc\xff\xfe", 960)
            self.count += 1
            self.clock.advance(1 / 30)
            self.deliver()

    def came(self, number: int) -> list[Any]:
        """The frames of the packets with this payload type."""
        depacketizer, frames = _DEPACKETIZERS[self.codec](), []
        for packet in self.browser.rtp:
            if packet.payload_type == number:
                frames += depacketizer.receive(
                    packet.sequence_number, packet.timestamp, bool(packet.marker), packet.payload
                )
        return frames

    def test_as_it_was_published(self) -> None:
        for codec, number in (
            (Codec.H264, 102),
            (Codec.HEVC, 106),
            (Codec.AV1, 35),
            (Codec.VP9, 98),
            (Codec.VP8, 96),
        ):
            with self.subTest(codec):
                group = self.begin(codec)
                viewer, _ = self.connect(offer=f"{offer()}>{everything()}")
                self.forward(12)
                frames = self.came(number)
                begins = max(place for place in range(18) if group[place % len(group)].keyframe)
                sent = [group[place % len(group)] for place in range(begins, 30)]
                self.assertEqual(
                    [frame.keyframe for frame in frames], [packet.keyframe for packet in sent], codec
                )
                self.assertFalse(any(frame.after_loss for frame in frames))
                for frame, packet in zip(frames, sent, strict=True):
                    self.assertEqual(*map(self.essence(codec), (frame.payload, packet.payload)))
                # What is sent again to who asks for a keyframe is behind what was there.
                self.clock.advance(REPLAY_PAUSE)
                ssrc = next(one.ssrc for one in self.browser.rtp if one.payload_type == number)
                self.port.datagram(self.browser.say(feedback(206, 1, ssrc=ssrc)), ADDRESS)
                self.forward(12)
                self.assertEqual(viewer.figures.replays, 1)
                stamps = [frame.timestamp for frame in self.came(number)]
                self.assertEqual(stamps, sorted(set(stamps)))
                self.stream.end("next")
                self.deliver()
                self.count, self.encoder = 0, Encoder(self)

    @staticmethod
    def essence(codec: Codec) -> Callable[[bytes], list[bytes]]:
        """What of a payload travels: slices, for codecs of NAL units."""

        def units(payload: bytes) -> list[bytes]:
            if codec is Codec.H264:
                return [unit for unit in nal.nal_units(payload) if 0 < unit[0] & 31 < 6]
            if codec is Codec.HEVC:
                return [unit for unit in nal.nal_units(payload) if unit[0] >> 1 & 63 < 32]
            return [payload]

        return units

    def test_a_frame_that_is_none_of_its_codec_is_left_out(self) -> None:
        self.begin(Codec.VP9)
        viewer, _ = self.connect(offer=f"{offer()}>{everything()}")
        at = self.count * PICTURE
        self.encoder.publication.packet(1, at, at, False, b"\x00\x01")
        self.count += 1
        self.forward(3)
        self.assertTrue(viewer.peer.is_connected)
        self.assertEqual([slot.state for slot in self.stream.outputs], ["running"])

    def test_another_codec_is_another_session(self) -> None:
        self.begin(Codec.VP8)
        viewer, _ = self.connect(offer=f"{offer()}>{everything()}")
        self.encoder.publication.close("gone")
        self.count += 90
        self.encoder = Encoder(self)
        own, self.group = published(Codec.VP9)
        self.encoder.connect(own, OPUS)
        self.count = 12 * (self.count // 12 + 1)
        self.forward(2)
        self.assertFalse(viewer.peer.is_open)


class TestRepair(WebRTCCase):
    """Who does not offer the source's codec is sent a rendition of the ladder."""

    def setUp(self) -> None:
        super().setUp()
        self.on_air(3)
        self.wanted: list[RenditionSpec] = []
        self.stream.planned = {
            "720p": Planned(
                name="720p", width=1280, height=720, frame_rate=None, peak=1, average=1, codecs=()
            )
        }

    def ask(self, offered: Offer, rendition: str = "") -> Deferred[Any]:
        return Deferred.fromCoroutine(self.shown.pictures(rendition, offered))

    def test_in_the_codec_that_it_offers(self) -> None:
        for names, rendition, name in (
            (("VP8", "AV1"), "", "720p:vp8"),
            (("VP8",), "720p", "720p:vp8"),
            (("H264", "VP8"), "720p", "720p:live"),
        ):
            asked = self.ask(only(*names), rendition)
            self.assertNoResult(asked)
            codec = Codec.VP8 if name.endswith("vp8") else Codec.H264
            self.assertIn(RenditionSpec("720p", True, codec), self.stream.wanted)
            made = published(codec)[0]
            self.stream.add_rendition(name, (made,), listed=False)
            source = self.successResultOf(asked)
            self.assertEqual(source.feed.name, name)
            self.shown.let_go(source)
            self.assertEqual(self.stream.wanted, {})
            self.stream.remove_rendition(name, "next")

    def test_who_offers_what_the_source_is_needs_no_repair(self) -> None:
        source = self.successResultOf(self.ask(only("H264")))
        self.assertEqual((source.feed.name, self.stream.wanted), ("source", {}))

    def test_what_nobody_can_make_for_it(self) -> None:
        failure = self.failureResultOf(self.ask(only("AV1")), NotCarried)
        self.assertEqual(failure.value.code, "no_codec")
        self.assertIn("are H.264 (avc1.", str(failure.value))
        self.stream.planned = {}
        failure = self.failureResultOf(self.ask(only("VP8")), NotCarried)
        self.assertIn("transcoding profile", str(failure.value))
        self.assertEqual((self.shown._feeds, self.stream.wanted), ({}, {}))

    def test_a_rendition_that_does_not_come(self) -> None:
        asked = self.ask(only("VP8"))
        self.clock.advance(60)
        self.assertIn("did not start in time", str(self.failureResultOf(asked, NotNow).value))
        self.assertEqual(self.stream.wanted, {})

    def test_what_the_publisher_sends_besides_is_taken_as_it_is(self) -> None:
        own = published(Codec.H264)[0]
        self.stream.add_rendition("layer.2", (own,))
        self.stream.add_rendition("720p:live", (own,), listed=False)
        for rendition, name in (("layer.2", "layer.2"), ("720p:live", "source"), ("nothing", "source")):
            source = self.successResultOf(self.ask(only("H264"), rendition))
            self.assertEqual(source.feed.name, name)
            self.shown.let_go(source)


class TestFuzz(SynchronousTestCase):
    """A publisher's mistakes are its own: no bytes make the packetizers raise anything else, nor payloads too long."""

    @FUZZ
    @given(st.sampled_from(sorted(_DEPACKETIZERS)), st.integers(0, 2), st.data())
    def test_any_payload(self, codec: Codec, place: int, data: st.DataObject) -> None:
        own, group = published(codec)
        payload = data.draw(mutated(group[place].payload))
        try:
            made = packetize(Packet(own, 0, 0, PICTURE, False, payload), 80)
        except RemoteProtocolError:
            return
        for run in made:
            self.assertLessEqual({len(body) for _, body in run.payloads[:-1]}, {run.size})
            self.assertLessEqual(max(len(body) for _, body in run.payloads), min(run.size, 80))
