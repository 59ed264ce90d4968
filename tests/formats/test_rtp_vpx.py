"""VP8 and VP9 in RTP: real pictures there and back, descriptors by the letter, and aiortc's reading of ours."""

import random
from fractions import Fraction
from functools import cache

import av
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import rtp_vp8, rtp_vp9
from oxidecast.formats.rtp_frames import CodedFrame, Depacketizer
from oxidecast.formats.rtp_runs import MARKER, PADDING, Run
from oxidecast.formats.rtp_vp8 import VP8Depacketizer
from oxidecast.formats.rtp_vp9 import VP9Depacketizer
from oxidecast.media import vp8, vp9
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from tests.media.fuzz import FUZZ, mutated

Datagram = tuple[int, int, bool, bytes]


@cache
def pictures(encoder: str) -> list[bytes]:
    """Frames of noise, 128 by 96, every sixth a keyframe."""
    coder = av.CodecContext.create(encoder, "w")
    coder.width, coder.height, coder.pix_fmt = 128, 96, "yuv420p"
    coder.time_base = Fraction(1, 30)
    coder.options = {"deadline": "realtime", "cpu-used": "8", "g": "6", "lag-in-frames": "0"}
    noise = random.Random(1)
    made = []
    for number in range(13):
        frame = av.VideoFrame(128, 96, "yuv420p")
        for plane in frame.planes:
            plane.update(noise.randbytes(plane.buffer_size))
        frame.pts = number
        made += coder.encode(frame)
    return [bytes(packet) for packet in (*made, *coder.encode(None))]


def payloads(made: list[Run]) -> list[tuple[bool, bytes]]:
    return [
        (bool(first & MARKER), payload[: -payload[-1]] if first & PADDING else payload)
        for run in made
        for first, payload in run.payloads
    ]


def sent(module: object, units: list[bytes], limit: int) -> list[Datagram]:
    datagrams: list[Datagram] = []
    for number, unit in enumerate(units):
        for marker, payload in payloads(module.packetize(unit, limit)):  # type: ignore[attr-defined]
            datagrams.append((len(datagrams), number * 3000, marker, payload))
    return datagrams


def received(depacketizer: Depacketizer, datagrams: list[Datagram]) -> list[CodedFrame]:
    return [unit for datagram in datagrams for unit in depacketizer.receive(*datagram)]


CASES = (
    ("libvpx", rtp_vp8, VP8Depacketizer, vp8),
    ("libvpx-vp9", rtp_vp9, VP9Depacketizer, vp9),
)


class ThereAndBack(SynchronousTestCase):
    def test_real_pictures(self) -> None:
        for encoder, module, kind, media in CASES:
            units = pictures(encoder)
            for limit in (64, 1172):
                whole = sent(module, units, limit)
                self.assertTrue(all(len(payload) <= limit for *_, payload in whole))
                came = received(kind(), whole)
                self.assertEqual([unit.payload for unit in came], units)
                self.assertEqual([unit.keyframe for unit in came], [media.is_keyframe(u) for u in units])
                self.assertTrue(came[0].keyframe)

    def test_aiortc_reads_vp8_alike(self) -> None:
        frame = pictures("libvpx")[0]
        pieces = []
        for number, (_, payload) in enumerate(payloads(rtp_vp8.packetize(frame, 300))):
            descriptor, rest = VpxPayloadDescriptor.parse(payload)
            self.assertEqual((descriptor.partition_start, descriptor.picture_id), (int(not number), None))
            pieces.append(rest)
        self.assertEqual(b"".join(pieces), frame)

    @FUZZ
    @given(st.sampled_from(CASES), st.integers(0, 1 << 32))
    def test_with_losses(self, case: tuple[str, object, type[Depacketizer], object], seed: int) -> None:
        encoder, module, kind, _ = case
        units = pictures(encoder)
        whole = sent(module, units, 1000)
        noise = random.Random(seed)
        kept = [datagram for datagram in whole if noise.random() > 0.1]
        seen = {n for n, *_ in kept}
        intact = [n for n, _ in enumerate(units) if all(s in seen for s, t, *_ in whole if t == n * 3000)]
        came = received(kind(), kept)
        self.assertEqual([unit.timestamp // 3000 for unit in came], intact)
        self.assertEqual([unit.payload for unit in came], [units[n] for n in intact])


class Descriptors(SynchronousTestCase):
    def test_vp8_all_that_a_descriptor_can_hold(self) -> None:
        frame = pictures("libvpx")[0]
        for head in (b"\x10", b"\x90\x80\x11", b"\x90\xf0\x91\x22\x01\x02"):
            with self.subTest(head):
                (unit,) = VP8Depacketizer().receive(0, 0, True, head + frame)
                self.assertEqual(unit.payload, frame)

    def test_vp9_all_that_a_descriptor_can_hold(self) -> None:
        frame = pictures("libvpx-vp9")[0]
        structure = b"\x18" + bytes(4) + b"\x02\x04\x01\x00"
        for head in (
            b"\x0c",
            b"\x8c\x05",
            b"\xac\x85\x06\x00\x07",
            b"\xfc\x05\x00\x03\x02",
            b"\x8e\x05" + structure,
        ):
            with self.subTest(head):
                (unit,) = VP9Depacketizer().receive(0, 0, True, head + frame)
                self.assertEqual(unit.payload, frame)

    def test_spatial_layers_become_a_superframe_that_decodes(self) -> None:
        key, delta = pictures("libvpx-vp9")[:2]
        depacketizer = VP9Depacketizer()
        self.assertEqual(depacketizer.receive(0, 0, False, b"\xac\x05\x00\x00" + key), [])
        (unit,) = depacketizer.receive(1, 0, True, b"\xec\x05\x03\x00" + delta)
        self.assertTrue(unit.keyframe)
        decoder = av.CodecContext.create("vp9", "r")
        self.assertTrue(decoder.decode(av.Packet(unit.payload)) + decoder.decode(None))

    def test_sizes(self) -> None:
        key, delta = pictures("libvpx")[:2]
        track = vp8.track(key)
        self.assertEqual((track.width, track.height, track.codec_string), (128, 96, "vp8"))
        self.assertIsNone(vp8.in_band(key, track))
        self.assertIsNone(vp8.in_band(delta, track))
        with self.assertRaisesRegex(RemoteProtocolError, "no keyframe"):
            vp8.size(delta)

    def test_a_limit_without_sense_is_our_mistake(self) -> None:
        for _, module, *_ in CASES:
            with self.assertRaisesRegex(LocalProtocolError, "63 bytes"):
                module.packetize(b"abc", 63)  # type: ignore[attr-defined]


class HostileBytes(SynchronousTestCase):
    @FUZZ
    @given(
        st.sampled_from((VP8Depacketizer, VP9Depacketizer)),
        st.lists(
            st.tuples(mutated(b"\x90\xf0\x91\x22\x01\x02xyz", b"\xfe\x05\x00\x03\x02\x18"), st.booleans())
        ),
    )
    def test_any_payloads(self, kind: type[Depacketizer], hostile: list[tuple[bytes, bool]]) -> None:
        depacketizer = kind()
        for sequence, (payload, marker) in enumerate(hostile):
            try:
                depacketizer.receive(sequence, 0, marker, payload)
            except RemoteProtocolError:
                pass

    @FUZZ
    @given(mutated(b"\x10\x02\x00\x9d\x01\x2a\x80\x00\x60\x00"))
    def test_any_vp8_frame(self, payload: bytes) -> None:
        try:
            vp8.track(payload)
        except RemoteProtocolError:
            pass
