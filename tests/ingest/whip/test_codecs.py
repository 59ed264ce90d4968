"""Every codec of WebRTC by WHIP: what a publisher sends is in the stream as it was coded."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from oxidecast.formats import rtp_av1, rtp_h264, rtp_hevc, rtp_vp8, rtp_vp9
from oxidecast.formats.rtp_runs import MARKER, PADDING
from oxidecast.media import Codec, Track, av1, h264, hevc, nal
from tests.formats.material import stream as material
from tests.formats.test_rtp_vpx import pictures
from tests.ingest.whip.stage import LIMIT, VIDEO, WHIPCase
from tests.streams.stage import PICTURE

_NAMES = {Codec.HEVC: "H265", Codec.AV1: "AV1", Codec.VP9: "VP9", Codec.VP8: "VP8"}


def coded(codec: Codec) -> tuple[Track | None, list[tuple[bytes, int, bool]]]:
    """A track, and pictures in the order of decoding: payload, when it is shown (in ticks), whether it is a
    keyframe."""
    if codec is Codec.VP8:
        frames = pictures("libvpx")[:6]
        return None, [(frame, number * PICTURE, not number) for number, frame in enumerate(frames)]
    track, packets = material(codec, frames=12, size=128)
    return track, [(packet.payload, packet.pts, packet.keyframe) for packet in packets]


def packetizer(codec: Codec, track: Track | None) -> Callable[[bytes], Any]:
    data = track.extradata if track is not None else b""
    if codec is Codec.H264:
        sets = h264.parse_configuration(data)
        return lambda frame: rtp_h264.packetize(frame, LIMIT, (*sets.sps, *sets.pps))
    if codec is Codec.HEVC:
        more = hevc.parse_configuration(data)
        return lambda frame: rtp_hevc.packetize(frame, LIMIT, (*more.vps, *more.sps, *more.pps))
    if codec is Codec.AV1:
        return lambda frame: rtp_av1.packetize(frame, LIMIT, av1.parse_configuration(data))
    module = rtp_vp9 if codec is Codec.VP9 else rtp_vp8
    return lambda frame: module.packetize(frame, LIMIT)


class TestCodecs(WHIPCase):
    def publish_all(self, codec: Codec) -> list[tuple[bytes, int, bool]]:
        track, frames = coded(codec)
        packetize = packetizer(codec, track)
        name = _NAMES.get(codec)
        self.connect(**({"codec": f"H264>{name}", "other": "96 VP8>96 X"} if name else {}))
        for payload, at, _ in frames:
            for run in packetize(payload):
                for first, body in run.payloads:
                    body = body[: -body[-1]] if first & PADDING else body
                    self.rtp(VIDEO, body, at, bool(first & MARKER))
            self.sound(self.sounds * 960)
            self.sounds += 1
            self.pass_by(1 / 30)
        return frames

    def test_each_as_it_was_coded(self) -> None:
        for codec in (Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.VP8):
            with self.subTest(codec):
                frames = self.publish_all(codec)
                (track, sound) = self.stream.source.tracks
                self.assertEqual((track.codec, sound.codec), (codec, Codec.OPUS))
                self.assertEqual((track.width, track.height), (128, 96 if codec is Codec.VP8 else 128))
                self.assertTrue(track.codec_string)
                came = self.output.opened[-1].reader.of(True)
                self.assertEqual([packet.keyframe for packet in came], [keyframe for *_, keyframe in frames])
                for packet, (payload, *_) in zip(came, frames, strict=True):
                    self.assertEqual(self.essence(codec, packet.payload), self.essence(codec, payload))
                times = [packet.dts for packet in came]
                self.assertEqual(times, sorted(set(times)))
                # Pictures are as far from each other as they were, whatever the order in which they are decoded.
                apart = {
                    after.pts - before.pts for before, after in pairwise(sorted(came, key=lambda p: p.pts))
                }
                self.assertLessEqual(max(apart), 3 * PICTURE)
                self.stream.end("next")
                self.streams.clear()
                self.sounds = 0

    @staticmethod
    def essence(codec: Codec, payload: bytes) -> list[bytes]:
        """What of a picture is decoded: slices, for codecs of NAL units; OBUs but sequence headers."""
        if codec is Codec.H264:
            return [unit for unit in nal.nal_units(payload) if 0 < unit[0] & 31 < 6]
        if codec is Codec.HEVC:
            return [unit for unit in nal.nal_units(payload) if unit[0] >> 1 & 63 < 32]
        if codec is Codec.AV1:
            return [unit for kind, unit in av1.obus(av1.strip(payload)) if kind != av1.SEQUENCE_HEADER]
        return [payload]
