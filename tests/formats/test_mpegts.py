"""MPEG-TS byte for byte against a strict parser of the tests' own; PyAV and ffmpeg must get back what was
written."""

import io
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import av
import imageio_ffmpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.mpegts import NULL_PACKET, PACKET_SIZE, TSWriter, carries, obstacle
from oxidecast.formats.mpegts.writer import LEAD
from oxidecast.media import Codec, LocalProtocolError, Packet, Track, aac, h264, hevc
from tests.formats.material import muxed, stream

CARRIED = [Codec.H264, Codec.HEVC, Codec.AAC, Codec.MP3, Codec.AC3, Codec.OPUS]
CYCLE = 1 << 33
NULL_PID = 0x1FFF


@dataclass
class Unit:
    """One PES packet, or one section, as the transport packets told it."""

    pid: int
    data: bytes = b""
    pcrs: list[int] = field(default_factory=list)
    random_access: bool = False
    discontinuity: bool = False
    expected: int = 0

    pts: int = -1
    dts: int = -1
    stream_id: int = 0
    payload: bytes = b""

    def finish(self) -> None:
        if self.pid in (0, 0x11, 0x1000):
            assert self.data[0] == 0, "pointer field"
            length = 3 + (int.from_bytes(self.data[2:4], "big") & 0xFFF)
            self.payload = self.data[1 : 1 + length]
            assert set(self.data[1 + length :]) <= {0xFF}, "what follows a section is stuffing"
            assert crc(self.payload) == 0
            return
        data = self.data
        assert data[:3] == b"\x00\x00\x01"
        self.stream_id = data[3]
        length = int.from_bytes(data[4:6], "big")
        if length:
            assert length == len(data) - 6, "PES_packet_length"
        else:
            assert self.stream_id == 0xE0, "only video may leave its length out"
        assert data[6] == 0x84
        assert data[8] == {0x80: 5, 0xC0: 10}[data[7]]
        self.pts = stamp(data[9:14], data[7] >> 6)
        self.dts = stamp(data[14:19], 1) if data[7] == 0xC0 else self.pts
        self.payload = data[9 + data[8] :]


def stamp(data: bytes, prefix: int) -> int:
    value = int.from_bytes(data, "big")
    assert value >> 36 == prefix
    assert value >> 32 & 1 and value >> 16 & 1 and value & 1, "marker bits"
    return value >> 33 - 30 & 0x1C0000000 | value >> 2 & 0x3FFF8000 | value >> 1 & 0x7FFF


def crc(data: bytes) -> int:
    """Zero over a section with its CRC (H.222.0, annex A), by bits as the annex draws it."""
    register = [1] * 32
    for byte in data:
        for bit in range(7, -1, -1):
            feedback = register[31] ^ (byte >> bit & 1)
            register = [feedback, *register[:31]]
            for tap in (1, 2, 4, 5, 7, 8, 10, 11, 12, 16, 22, 23, 26):
                register[tap] ^= feedback
    return sum(register)


class Parser:
    """Reads transport packets and objects to whatever H.222.0 does not allow a writer."""

    def __init__(self) -> None:
        self.counters: dict[int, int] = {}
        self.units: list[Unit] = []
        self.clocks: list[int] = []
        self._open: dict[int, Unit] = {}

    def feed(self, data: bytes) -> "Parser":
        assert len(data) % PACKET_SIZE == 0
        for at in range(0, len(data), PACKET_SIZE):
            self._packet(data[at : at + PACKET_SIZE])
        return self

    def _packet(self, packet: bytes) -> None:
        sync, first, low, last = packet[:4]
        assert sync == 0x47, "sync byte"
        assert not first & 0xA0, "no transport error, no priority"
        start, pid = bool(first & 0x40), (first & 0x1F) << 8 | low
        if pid == NULL_PID:
            return
        assert not last & 0xC0, "not scrambled"
        adaptation, has_payload, counter = last >> 4 & 2, last >> 4 & 1, last & 15
        assert adaptation or has_payload
        if pid in self.counters:
            assert counter == self.counters[pid] + has_payload & 15, "continuity counter"
        self.counters[pid] = counter
        body, flags, pcr = packet[4:], 0, None
        if adaptation:
            length, body = body[0], body[1:]
            assert length <= (182 if has_payload else 183)
            assert has_payload or length == 183
            content, body = body[:length], body[length:]
            if content:
                flags, stuffing = content[0], content[1:]
                assert not flags & 0x2F
                if flags & 0x10:
                    value = int.from_bytes(stuffing[:6], "big")
                    assert value >> 9 & 0x3F == 0x3F
                    assert value & 0x1FF < 300
                    pcr, stuffing = (value >> 15) * 300 + (value & 0x1FF), stuffing[6:]
                assert set(stuffing) <= {0xFF}, "stuffing bytes"
        if pcr is not None:
            self.clocks.append(pcr)
        if not has_payload:
            return
        assert body, "a payload has at least one byte"
        if start:
            assert len(body) >= 14, "the PES header is whole in its first packet"
            self._close(pid)
            self._open[pid] = Unit(
                pid,
                random_access=bool(flags & 0x40),
                discontinuity=bool(flags & 0x80),
                pcrs=[] if pcr is None else [pcr],
            )
            self.units.append(self._open[pid])
        else:
            assert not flags, "flags stand in the first packet"
        self._open[pid].data += body

    def _close(self, pid: int) -> None:
        if unit := self._open.pop(pid, None):
            unit.finish()

    def finish(self) -> "Parser":
        for pid in list(self._open):
            self._close(pid)
        return self

    def of(self, pid: int) -> list[Unit]:
        return [unit for unit in self.units if unit.pid == pid]


def parse(*data: bytes) -> Parser:
    parser = Parser()
    for part in data:
        parser.feed(part)
    return parser.finish()


def in_stream(packet: Packet) -> bytes:
    """What the transport stream holds for a packet."""
    payload = packet.payload
    match packet.track.codec:
        case Codec.H264:
            return h264.annexb(payload, packet.track)
        case Codec.HEVC:
            return hevc.annexb(payload, packet.track)
        case Codec.AAC:
            return aac.adts_header(packet.track, len(payload)) + payload
        case Codec.OPUS:
            size = len(payload)
            return b"\x7f\xe0" + b"\xff" * (size // 255) + bytes([size % 255]) + payload
    return payload


def demuxed(data: bytes) -> dict[int, list[tuple[int, int, bytes]]]:
    """By PID, each access unit that PyAV finds, in our own time."""
    found: dict[int, list[tuple[int, int, bytes]]] = {}
    with av.open(io.BytesIO(data), format="mpegts") as container:
        for packet in container.demux():
            if packet.size:
                times = (packet.dts - LEAD, packet.pts - LEAD)
                found.setdefault(packet.stream.id, []).append((*times, bytes(packet)))
    return found


def expected(packets: list[Packet]) -> list[tuple[int, int, bytes]]:
    # FFmpeg takes the control header off Opus.
    return [(p.dts, p.pts, p.payload if p.track.codec is Codec.OPUS else in_stream(p)) for p in packets]


def shifted(packets: list[Packet], ticks: int) -> list[Packet]:
    return [Packet(p.track, p.dts + ticks, p.pts + ticks, p.duration, p.keyframe, p.payload) for p in packets]


class ReadBackTests(SynchronousTestCase):
    def test_each_codec_alone_in_several_segments(self) -> None:
        for codec in CARRIED:
            with self.subTest(codec=codec.value):
                track, packets = stream(codec)
                writer = TSWriter([track])
                data = b"".join(writer.segment(packets[at : at + 7]) for at in range(0, len(packets), 7))
                self.assertEqual(demuxed(data), {0xFF + track.id: expected(packets)})

    def test_each_codec_is_recognised(self) -> None:
        names = {Codec.MP3: "mp3"}
        for codec in CARRIED:
            with self.subTest(codec=codec.value):
                track, packets = stream(codec)
                with av.open(io.BytesIO(TSWriter([track]).segment(packets)), format="mpegts") as container:
                    source = container.streams[0]
                    self.assertEqual(source.codec_context.codec.canonical_name, names.get(codec, codec.value))

    def test_pictures_and_sound_decode(self) -> None:
        video, audio = stream(Codec.H264), stream(Codec.AAC)
        data = TSWriter([video[0], audio[0]]).segment(muxed(video, audio))
        for index, packets in enumerate([video[1], audio[1]]):
            with av.open(io.BytesIO(data), format="mpegts") as container:
                frames = list(container.decode(container.streams[index]))
                self.assertGreaterEqual(len(frames), len(packets) - 1)

    def test_opus_of_many_channels_and_sizes(self) -> None:
        track, packets = stream(Codec.OPUS)
        sizes = [1, 254, 255, 256, 510, 1275]
        odd = [
            Packet(track, p.dts, p.pts, p.duration, True, (p.payload * 20)[:size])
            for p, size in zip(packets, sizes, strict=False)
        ]
        units = parse(TSWriter([track]).segment(odd)).of(0x101)
        self.assertEqual([unit.payload for unit in units], [in_stream(p) for p in odd])

    def test_ffmpeg_finds_no_break_in_continuity(self) -> None:
        video, audio = stream(Codec.H264), stream(Codec.AAC)
        packets = muxed(video, audio)
        writer = TSWriter([video[0], audio[0]], service="Café", provider="Test")
        data = b"".join(writer.segment(packets[at : at + 11]) for at in range(0, len(packets), 11))
        program = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.ts"
            path.write_bytes(data)
            command = [program, "-v", "debug", "-i", str(path), "-map", "0", "-c", "copy", "-f", "null", "-"]
            log = subprocess.run(
                command, capture_output=True, timeout=20, check=True, stdin=subprocess.DEVNULL
            )
        text = log.stderr.decode("utf-8", "replace")
        self.assertNotIn("Continuity check failed", text)
        self.assertNotIn("corrupt", text)
        self.assertIn("Café", text)

    @given(
        steps=st.lists(st.integers(500, 9000), min_size=30, max_size=30),
        offsets=st.lists(st.integers(0, 9000), min_size=30, max_size=30),
        codec=st.sampled_from([Codec.H264, Codec.HEVC]),
        sound=st.sampled_from([Codec.AAC, Codec.MP3, Codec.AC3, Codec.OPUS]),
        gaps=st.lists(st.sampled_from([0, 0, 0, 1, 5000]), min_size=20, max_size=20),
        start=st.integers(0, CYCLE - 40_000_000),
        cuts=st.integers(1, 60),
    )
    @settings(max_examples=25, deadline=None)
    def test_any_times_come_back(
        self,
        steps: list[int],
        offsets: list[int],
        codec: Codec,
        sound: Codec,
        gaps: list[int],
        start: int,
        cuts: int,
    ) -> None:
        (video, pictures), (audio, sounds) = stream(codec), stream(sound)
        retimed, dts = [], start
        for p, step, offset in zip(pictures, steps, offsets, strict=False):
            retimed.append(Packet(video, dts, dts + offset, step, p.keyframe, p.payload))
            dts += step
        gapped, dts = [], start + 100
        for p, gap in zip(sounds, gaps, strict=False):
            gapped.append(Packet(audio, dts, dts, p.duration, True, p.payload))
            dts += p.duration + gap
        writer = TSWriter([video, audio])
        packets = muxed((video, retimed), (audio, gapped))
        data = b"".join(writer.segment(packets[at : at + cuts]) for at in range(0, len(packets), cuts))
        found = demuxed(data)
        self.assertEqual(found[0x100], expected(retimed))
        self.assertEqual([unit for *_, unit in found[0x101]], [unit for *_, unit in expected(gapped)])
        for (dts, *_), p in zip(found[0x101], gapped, strict=True):
            # Inside a bundle a receiver counts samples; a tick of gap is lost until the next one.
            self.assertLessEqual(abs(dts - p.dts), 8)


class StrictTests(SynchronousTestCase):
    """The bytes, by the tests' own parser."""

    def test_a_segment_begins_with_its_tables(self) -> None:
        track, packets = stream(Codec.H264)
        parser = parse(TSWriter([track], service="One").segment(packets))
        self.assertEqual([unit.pid for unit in parser.units[:4]], [0, 0x1000, 0x11, 0x100])

    def test_the_tables_say_what_travels_where(self) -> None:
        tracks = [replace(stream(codec)[0], id=number) for number, codec in enumerate(CARRIED, 1)]
        parser = parse(TSWriter(tracks).tables())
        pat, pmt = (unit.payload for unit in parser.units)
        self.assertEqual(pat[:-4].hex(), "00b00d0001c100000001f000")
        self.assertEqual(
            pmt[:-4].hex(),
            "02b041"
            + "0001c10000"
            + "e100f000"  # PCR on the first video track
            + "1be100f000"
            + "24e101f006"
            + "0504"
            + b"HEVC".hex()
            + "0fe102f000"
            + "03e103f000"
            + "81e104f006"
            + "0504"
            + b"AC-3".hex()
            + "06e105f00a"
            + "0504"
            + b"Opus".hex()
            + "7f028002",
        )

    def test_slow_mp3_is_mpeg2_audio(self) -> None:
        track = Track(id=1, codec=Codec.MP3, extradata=b"", codec_string="mp4a.69", sample_rate=22_050)
        (_, pmt) = parse(TSWriter([track]).tables()).units
        self.assertEqual(pmt.payload[12], 0x04)

    def test_names_are_bounded_and_printable(self) -> None:
        track = stream(Codec.H264)[0]
        for name, written in [
            ("One", b"One"),
            ("Café", b"\x15Caf\xc3\xa9"),
            ("a\nb\x00\x85c", b"abc"),
            ("x" * 500, b"x" * 64),
            ("é" * 500, b"\x15" + b"\xc3\xa9" * 31),
            ("\ud800é", b"\x15\xc3\xa9"),
        ]:
            with self.subTest(name=name):
                *_, sdt = parse(TSWriter([track], service=name, provider="é" * 99).tables()).units
                provider = b"\x15" + b"\xc3\xa9" * 31
                names = bytes([1, len(provider)]) + provider + bytes([len(written)]) + written
                self.assertEqual(sdt.payload[:3].hex()[:2], "42")
                self.assertTrue(sdt.payload[:-4].endswith(b"\x48" + bytes([len(names)]) + names))

    def test_frames_carry_times_clock_and_random_access(self) -> None:
        track, packets = stream(Codec.H264)
        units = parse(TSWriter([track]).segment(packets)).of(0x100)
        self.assertEqual([unit.dts - LEAD for unit in units], [p.dts for p in packets])
        self.assertEqual([unit.pts - LEAD for unit in units], [p.pts for p in packets])
        self.assertEqual([unit.pcrs for unit in units], [[p.dts * 300] for p in packets])
        self.assertEqual([unit.random_access for unit in units], [p.keyframe for p in packets])
        self.assertEqual([unit.payload for unit in units], [in_stream(p) for p in packets])

    def test_times_wrap_at_33_bits(self) -> None:
        track, packets = stream(Codec.H264)
        packets = shifted(packets, 3 * CYCLE - 30_000)
        units = parse(TSWriter([track]).segment(packets)).of(0x100)
        self.assertEqual([unit.dts for unit in units], [(p.dts + LEAD) % CYCLE for p in packets])
        self.assertEqual([unit.pts for unit in units], [(p.pts + LEAD) % CYCLE for p in packets])
        self.assertEqual([unit.pcrs for unit in units], [[p.dts % CYCLE * 300] for p in packets])
        self.assertLess(units[-1].dts, units[0].dts)

    def test_sound_shares_pes_packets_of_up_to_100_ms(self) -> None:
        video, audio = stream(Codec.H264), stream(Codec.AAC)
        units = parse(TSWriter([video[0], audio[0]]).segment(muxed(video, audio))).of(0x101)
        self.assertEqual(b"".join(unit.payload for unit in units), b"".join(map(in_stream, audio[1])))
        self.assertEqual([unit.dts - LEAD for unit in units], [p.dts for p in audio[1][::4]])

    def test_a_gap_in_sound_begins_a_new_pes_packet(self) -> None:
        track, packets = stream(Codec.AAC)
        packets = packets[:2] + shifted(packets[2:4], 10)
        units = parse(TSWriter([track]).segment(packets)).of(0x101)
        self.assertEqual([unit.dts - LEAD for unit in units], [packets[0].dts, packets[2].dts])

    def test_sound_alone_carries_the_clock(self) -> None:
        track, packets = stream(Codec.AAC)
        parser = parse(TSWriter([track]).segment(packets))
        self.assertEqual(parser.clocks, [p.dts * 300 for p in packets[::4]])
        self.assertTrue(all(unit.random_access for unit in parser.of(0x101)))

    def test_a_clock_of_its_own_may_leave_between_any_two_packets(self) -> None:
        video = stream(Codec.H264)
        writer = TSWriter([video[0]], own_clock=True)
        frames = b"".join(writer.write(packet) for packet in video[1])
        clocks = [writer.clock(pcr) for pcr in range(0, 3_000, 1_000)]
        parser = parse(
            writer.tables(), clocks[0], frames[:PACKET_SIZE], clocks[1], frames[PACKET_SIZE:], clocks[2]
        )
        self.assertEqual(parser.clocks, [0, 1_000, 2_000])
        self.assertEqual(len(parser.of(0x100)), len(video[1]))
        self.assertIn(bytes.fromhex("f001 f000"), writer.tables(), "the PMT names its PID")

    def test_a_clock_of_its_own_tells_a_discontinuity_once(self) -> None:
        writer = TSWriter([stream(Codec.H264)[0]], own_clock=True)
        writer.discontinuity()
        self.assertEqual([bool(writer.clock(0)[5] & 0x80) for _ in range(2)], [True, False])

    def test_counters_live_as_long_as_the_writer(self) -> None:
        video, audio = stream(Codec.H264), stream(Codec.AAC)
        writer = TSWriter([video[0], audio[0]])
        parts = []
        for packet in muxed(video, audio):
            parts += [writer.tables(), writer.write(packet), writer.clock(packet.dts * 300), NULL_PACKET]
        parser = parse(*parts)
        self.assertEqual(len(parser.of(0x100)), len(video[1]))
        self.assertEqual(len(parser.of(0x101)), len(audio[1]))
        self.assertEqual(parser.clocks, [p.dts * 300 for p in muxed(video, audio)])

    def test_a_discontinuity_is_told_once_on_every_pid(self) -> None:
        video, audio = stream(Codec.H264), stream(Codec.AAC)
        writer = TSWriter([video[0], audio[0]])
        before = [writer.write(video[1][0]), writer.write(audio[1][0])]
        writer.discontinuity()
        after = [writer.write(video[1][n]) + writer.write(audio[1][n]) for n in (1, 2)]
        parser = parse(*before, *after)
        for pid in (0x100, 0x101):
            self.assertEqual([unit.discontinuity for unit in parser.of(pid)], [False, True, False])

    def test_a_change_of_tracks_is_a_new_version_and_counters_go_on(self) -> None:
        (video, pictures), (audio, sounds) = stream(Codec.H264), stream(Codec.AAC)
        writer = TSWriter([video])
        parts = [writer.segment(pictures[:3])]
        writer.change([video, audio])
        parts += [writer.tables()]
        writer.switch()
        parts += [writer.segment(pictures[3:6] + sounds[:1])]
        parser = parse(*parts)
        self.assertEqual([unit.payload[5] >> 1 & 31 for unit in parser.of(0x1000)], [0, 0, 1])
        self.assertEqual(len(parser.of(0x101)), 1)

    def test_a_writer_goes_on_where_another_stopped(self) -> None:
        (video, pictures), (audio, _) = stream(Codec.H264), stream(Codec.AAC)
        first = TSWriter([video], version=31)
        parts = [first.segment(pictures[:3])]
        parts += [TSWriter([video, audio], after=first).segment(pictures[3:6])]
        parser = parse(*parts)  # which sees to the counters
        self.assertEqual([unit.payload[5] >> 1 & 31 for unit in parser.of(0x1000)], [31, 0])

    def test_what_cannot_travel_is_said_of_the_track(self) -> None:
        aac, opus = stream(Codec.AAC)[0], stream(Codec.OPUS)[0]
        for track, words in (
            (stream(Codec.AV1)[0], "MPEG-TS cannot carry av1"),
            (replace(aac, extradata=b"\x11\xe0"), "channel configuration 12"),
            (replace(opus, channels=9), "at most 8 channels"),
            (replace(stream(Codec.H264)[0], extradata=b"v1"), "avcC has 2 bytes"),
        ):
            self.assertIn(words, obstacle(track))
        for codec in (Codec.H264, Codec.HEVC, Codec.AAC, Codec.MP3, Codec.AC3, Codec.OPUS):
            self.assertEqual(obstacle(stream(codec)[0]), "")

    def test_a_frame_beyond_64_kib_leaves_its_length_out(self) -> None:
        track = stream(Codec.H264)[0]
        size = 200_000
        big = Packet(track, 0, 0, 3000, False, (size - 4).to_bytes(4, "big") + b"\x41" + bytes(size - 5))
        (unit,) = parse(TSWriter([track]).write(big, pcr=0)).units
        self.assertEqual(unit.data[4:6], b"\0\0")
        self.assertEqual(unit.payload, in_stream(big))

    @given(
        sizes=st.lists(st.integers(1, 800) | st.integers(1, 60_000), min_size=1, max_size=12),
        pcrs=st.lists(st.none() | st.integers(0, 2**60), min_size=12, max_size=12),
        marks=st.lists(st.booleans(), min_size=24, max_size=24),
        start=st.integers(0, 2**62),
    )
    @settings(max_examples=80, deadline=None)
    def test_any_sizes_fill_whole_packets(
        self, sizes: list[int], pcrs: list[int | None], marks: list[bool], start: int
    ) -> None:
        track = stream(Codec.H264)[0]
        writer, parser, packets = TSWriter([track]), Parser(), []
        for n, size in enumerate(sizes):
            unit = b"\x41" + bytes([n]) * (size - 1)
            payload = size.to_bytes(4, "big") + unit
            packets.append(Packet(track, start + n, start + 2 * n, 1, marks[n], payload))
            if marks[12 + n]:
                writer.discontinuity()
            parser.feed(writer.write(packets[-1], pcr=pcrs[n]))
        units = parser.finish().of(0x100)
        self.assertEqual([unit.payload for unit in units], [in_stream(p) for p in packets])
        self.assertEqual([unit.random_access for unit in units], marks[: len(sizes)])
        self.assertEqual([unit.discontinuity for unit in units], marks[12 : 12 + len(sizes)])
        self.assertEqual(parser.clocks, [p % (CYCLE * 300) for p in pcrs[: len(sizes)] if p is not None])
        self.assertEqual([unit.pts for unit in units], [(p.pts + LEAD) % CYCLE for p in packets])

    def test_every_length_around_a_packet_is_stuffed_right(self) -> None:
        track = Track(id=1, codec=Codec.MP3, extradata=b"", codec_string="mp4a.6B", sample_rate=48_000)
        for pcr in (None, 0):
            writer, parser = TSWriter([track]), Parser()
            packets = [Packet(track, n, n, 1, True, bytes(n)) for n in range(1, 400)]
            for packet in packets:
                parser.feed(writer.write(packet, pcr=pcr))
            units = parser.finish().of(0x100)
            self.assertEqual([unit.payload for unit in units], [p.payload for p in packets])


class MisuseTests(SynchronousTestCase):
    def test_codecs_without_a_binding_are_named(self) -> None:
        for codec in (Codec.AV1, Codec.VP9, Codec.VP8):
            track = Track(id=1, codec=codec, extradata=b"", codec_string="", width=64, height=64)
            self.assertFalse(carries(codec))
            with self.subTest(codec=codec), self.assertRaisesRegex(LocalProtocolError, codec.value):
                TSWriter([track])

    def test_tracks_must_be_some_distinct_and_few(self) -> None:
        track = stream(Codec.AAC)[0]
        many = [replace(track, id=number) for number in range(1, 60)]
        for tracks, sentence in [
            ([], "tracks"),
            ([track, track], "id of its own"),
            (many, "exceeds"),
            ([replace(track, id=0x2000)], "PIDs"),
        ]:
            with self.subTest(sentence), self.assertRaisesRegex(LocalProtocolError, sentence):
                TSWriter(tracks)

    def test_a_refused_change_changes_nothing(self) -> None:
        track, packets = stream(Codec.AAC)
        writer = TSWriter([track])
        with self.assertRaises(LocalProtocolError):
            writer.change([track, track])
        self.assertEqual(writer.segment(packets), TSWriter([track]).segment(packets))

    def test_a_packet_of_another_track_is_refused(self) -> None:
        track = stream(Codec.AAC)[0]
        for stranger in (stream(Codec.H264)[1][0], stream(Codec.AAC, rate=44_100)[1][0]):
            with self.assertRaisesRegex(LocalProtocolError, "not one of those"):
                TSWriter([track]).write(stranger)

    def test_sound_beyond_a_pes_packet_is_refused(self) -> None:
        track = stream(Codec.MP3)[0]
        with self.assertRaisesRegex(LocalProtocolError, "65535"):
            TSWriter([track]).write(Packet(track, 0, 0, 1, True, bytes(70_000)))

    def test_more_opus_channels_than_the_descriptor_knows(self) -> None:
        track = Track(id=1, codec=Codec.OPUS, extradata=b"", codec_string="Opus", channels=9)
        with self.assertRaisesRegex(LocalProtocolError, "8 channels"):
            TSWriter([track])
