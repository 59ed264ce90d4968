"""Our RTP payloads read by GStreamer, and GStreamer's by us: a second opinion on every codec that it knows.

Packets travel by pipes, framed as RFC 4571 has it, so nothing runs in real time. (AV1 is tried with a browser, in the
end-to-end tests.)
"""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import rtp_h264, rtp_hevc, rtp_vp8, rtp_vp9
from oxidecast.formats.rtp import RTPPacket
from oxidecast.formats.rtp_frames import CodedFrame, Depacketizer
from oxidecast.formats.rtp_runs import Run
from oxidecast.media import Codec, Packet, h264, hevc, nal
from tests.formats.material import stream as material
from tests.formats.test_rtp_vpx import pictures

LIMIT = 500
TYPE = 96

Packetize = Callable[[bytes], list[Run]]


def gstreamer(pipeline: str, data: bytes) -> bytes:
    """What comes out of a pipeline of elements between standard input and output."""
    done = subprocess.run(
        ["gst-launch-1.0", "-q", "fdsrc", "fd=0", "!", *pipeline.split(), "!", "fdsink", "fd=1"],
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wire(frames: list[bytes], packetize: Packetize) -> bytes:
    """RTP packets of frames, each behind its length."""
    out, sequence = [], 0
    for number, frame in enumerate(frames):
        for run in packetize(frame):
            for first, payload in run.payloads:
                head = (first | TYPE).to_bytes(2, "big") + sequence.to_bytes(2, "big")
                packet = head + (3_000 * number).to_bytes(4, "big") + b"ssrc" + payload
                out.append(len(packet).to_bytes(2, "big") + packet)
                sequence += 1
    return b"".join(out)


def unwired(data: bytes) -> Iterator[RTPPacket]:
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        yield RTPPacket.parse(data[2:end])
        data = data[end:]


def received(depacketizer: Depacketizer, data: bytes) -> list[CodedFrame]:
    first, frames = None, []
    for packet in unwired(data):
        first = packet.sequence if first is None else first
        number = (packet.sequence - first) & 0xFFFF
        frames += depacketizer.receive(number, packet.timestamp, packet.marker, packet.payload)
    return frames


def annexb(packets: list[Packet], sets: tuple[bytes, ...]) -> bytes:
    return b"".join(
        b"\0\0\0\1" + unit
        for number, packet in enumerate(packets)
        for unit in (*(sets if number == 0 else ()), *nal.nal_units(packet.payload))
    )


class TestNALCodecs(SynchronousTestCase):
    CASES = (
        (Codec.H264, "h264", rtp_h264, rtp_h264.H264Depacketizer, lambda unit: 0 < unit[0] & 31 < 6),
        (Codec.HEVC, "h265", rtp_hevc, rtp_hevc.HEVCDepacketizer, lambda unit: unit[0] >> 1 & 63 < 32),
    )

    def setUp(self) -> None:
        configuration = h264.parse_configuration(material(Codec.H264, frames=12, size=128)[0].extradata)
        other = hevc.parse_configuration(material(Codec.HEVC, frames=12, size=128)[0].extradata)
        self.sets = {
            Codec.H264: (*configuration.sps, *configuration.pps),
            Codec.HEVC: (*other.vps, *other.sps, *other.pps),
        }

    def test_it_reads_ours(self) -> None:
        for codec, name, module, _, is_slice in self.CASES:
            with self.subTest(codec):
                _, packets = material(codec, frames=12, size=128)
                sets = self.sets[codec]
                sent = wire(
                    [packet.payload for packet in packets],
                    lambda frame, module=module, sets=sets: module.packetize(frame, LIMIT, sets),  # type: ignore[misc]
                )
                caps = f"media=video,clock-rate=90000,encoding-name={name.upper()},payload={TYPE}"
                came = gstreamer(
                    f"application/x-rtp-stream,{caps} ! rtpstreamdepay ! rtp{name}depay "
                    f"! video/x-{name},stream-format=byte-stream,alignment=nal",
                    sent,
                )
                units = list(nal.nal_units(nal.from_annexb(came)))
                for one in sets:
                    self.assertIn(one, units)
                expected = [
                    unit for packet in packets for unit in nal.nal_units(packet.payload) if is_slice(unit)
                ]
                self.assertEqual([unit for unit in units if is_slice(unit)], expected)

    def test_we_read_its(self) -> None:
        for codec, name, _, depacketizer, is_slice in self.CASES:
            for mode in ("zero-latency", f"max{'-stap' * (codec is Codec.H264)}"):
                with self.subTest(codec=codec, mode=mode):
                    _, packets = material(codec, frames=12, size=128)
                    came = gstreamer(
                        f"{name}parse ! rtp{name}pay mtu={LIMIT} config-interval=-1 aggregate-mode={mode} "
                        "! rtpstreampay",
                        annexb(packets, self.sets[codec]),
                    )
                    frames = received(depacketizer(), came)
                    self.assertEqual(len(frames), len(packets))
                    for frame, packet in zip(frames, packets, strict=True):
                        self.assertEqual(frame.keyframe, packet.keyframe)
                        found, expected = (
                            [unit for unit in nal.nal_units(payload) if is_slice(unit)]
                            for payload in (frame.payload, packet.payload)
                        )
                        self.assertEqual(found, expected)


class TestVPX(SynchronousTestCase):
    CASES: tuple[tuple[str, str, Any, type[Depacketizer]], ...] = (
        ("libvpx", "vp8", rtp_vp8, rtp_vp8.VP8Depacketizer),
        ("libvpx-vp9", "vp9", rtp_vp9, rtp_vp9.VP9Depacketizer),
    )

    def test_it_reads_ours(self) -> None:
        for encoder, name, module, _ in self.CASES:
            with self.subTest(name):
                frames = pictures(encoder)
                sent = wire(frames, lambda frame, module=module: module.packetize(frame, LIMIT))  # type: ignore[misc]
                caps = f"media=video,clock-rate=90000,encoding-name={name.upper()},payload={TYPE}"
                came = gstreamer(f"application/x-rtp-stream,{caps} ! rtpstreamdepay ! rtp{name}depay", sent)
                self.assertEqual(came, b"".join(frames))

    def test_we_read_its(self) -> None:
        for encoder, name, _, depacketizer in self.CASES:
            with self.subTest(name):
                frames = pictures(encoder)
                came = gstreamer(
                    f"ivfparse ! rtp{name}pay mtu={LIMIT} picture-id-mode=15-bit ! rtpstreampay",
                    ivf(name, frames),
                )
                found = received(depacketizer(), came)
                self.assertEqual([frame.payload for frame in found], frames)
                self.assertEqual([frame.keyframe for frame in found][:7], [True, *[False] * 5, True])


def ivf(name: str, frames: list[bytes]) -> bytes:
    """The container that libvpx's own tools write."""
    head = b"DKIF\0\0\x20\0" + {"vp8": b"VP80", "vp9": b"VP90"}[name]
    head += (128).to_bytes(2, "little") + (96).to_bytes(2, "little")
    head += b"".join(value.to_bytes(4, "little") for value in (30, 1, len(frames), 0))
    return head + b"".join(
        len(frame).to_bytes(4, "little") + number.to_bytes(8, "little") + frame
        for number, frame in enumerate(frames)
    )
