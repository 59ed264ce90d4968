"""fMP4 against PyAV, which must read back what was written, and a box parser, which must add it all up."""

import io
import struct
from collections.abc import Iterator
from itertools import accumulate, pairwise

import av
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.fmp4 import carries, fragment, init_segment, timescale
from oxidecast.media import Codec, LocalProtocolError, Packet, Track
from tests.formats.material import boxes, find_box, muxed, stream

CARRIED = [codec for codec in Codec if codec is not Codec.VP8]
SYNC, NON_SYNC = 0x02000000, 0x01010000


def pictures(*times: tuple[int, int], keyframes: tuple[int, ...] = (0,)) -> tuple[Track, list[Packet]]:
    """A video track of packets at these (dts, pts), each of its own size."""
    track = Track(id=1, codec=Codec.H264, extradata=b"\x01", codec_string="avc1", width=64, height=48)
    ends = [dts for dts, _ in times[1:]] + [times[-1][0] + 3000]
    return track, [
        Packet(track, dts, pts, end - dts, index in keyframes, bytes([index]) * (index + 1))
        for index, ((dts, pts), end) in enumerate(zip(times, ends, strict=True))
    ]


def sound(
    rate: int = 44_100, count: int = 40, start: int = 0, frame: int = 1024
) -> tuple[Track, list[Packet]]:
    """An AAC track whose ticks were rounded from sample counts, as ingest does it."""
    track = Track(
        id=2, codec=Codec.AAC, extradata=b"\x12\x10", codec_string="mp4a.40.2", sample_rate=rate, channels=2
    )
    times = [start + round(index * frame * 90_000 / rate) for index in range(count + 1)]
    return track, [Packet(track, dts, dts, end - dts, True, bytes(7)) for dts, end in pairwise(times)]


def cut(packets: list[Packet], count: int) -> Iterator[list[Packet]]:
    return (packets[at : at + count] for at in range(0, len(packets), count))


class Traf:
    """One track's run as the boxes tell it, defaults filled in."""

    def __init__(self, data: bytes, body: bytes) -> None:
        (tfhd_kind, tfhd), (tfdt_kind, tfdt), (trun_kind, trun) = boxes(body)
        assert (tfhd_kind, tfdt_kind, trun_kind) == (b"tfhd", b"tfdt", b"trun")
        flags, self.track_id, duration, default = struct.unpack(">4I", tfhd)
        assert flags == 0x020028
        version, self.start = struct.unpack(">IQ", tfdt)
        assert version == 1 << 24
        present, count, offset = struct.unpack_from(">IIi", trun)
        assert present >> 24 == 1
        at = 12
        first = None
        if present & 0x4:
            first, at = struct.unpack_from(">I", trun, at)[0], at + 4
        self.durations, self.sizes, self.flags, self.offsets = [], [], [], []
        for index in range(count):
            values = {0x100: duration, 0x200: 0, 0x400: default, 0x800: 0}
            for bit in values:
                if present & bit:
                    values[bit] = struct.unpack_from(">i" if bit == 0x800 else ">I", trun, at)[0]
                    at += 4
            self.durations.append(values[0x100])
            self.sizes.append(values[0x200])
            self.flags.append(first if first is not None and index == 0 else values[0x400])
            self.offsets.append(values[0x800])
        assert at == len(trun)
        ends = list(accumulate(self.sizes, initial=offset))
        self.payloads = [data[a:b] for a, b in pairwise(ends)]
        self.end = self.start + sum(self.durations)


def parse(data: bytes) -> list[Traf]:
    """The runs of a fragment that holds nothing but moof and mdat."""
    (moof_kind, moof), (mdat_kind, mdat) = boxes(data)
    assert (moof_kind, mdat_kind) == (b"moof", b"mdat")
    (_, mfhd), *trafs = boxes(moof)
    assert len(mfhd) == 8
    runs = [Traf(data, body) for _, body in trafs]
    assert b"".join(payload for run in runs for payload in run.payloads) == mdat
    return runs


def read(data: bytes, index: int = 0) -> list[tuple[int, int, bool, bytes]]:
    with av.open(io.BytesIO(data)) as container:
        source = container.streams[index]
        return [(p.dts, p.pts, p.is_keyframe, bytes(p)) for p in container.demux(source) if p.size]


def units(track: Track, packets: list[Packet]) -> list[tuple[int, int, bool, bytes]]:
    scale = timescale(track)
    return [
        (round(p.dts * scale / 90_000), round(p.pts * scale / 90_000), p.keyframe, p.payload) for p in packets
    ]


class ReadBackTests(SynchronousTestCase):
    """PyAV reads the very packets that were written: bytes, dts, pts, keyframes."""

    def test_each_codec_alone(self) -> None:
        for codec in CARRIED:
            with self.subTest(codec=codec.value):
                track, packets = stream(codec)
                data = init_segment([track]) + b"".join(
                    fragment(number, {track: part}) for number, part in enumerate(cut(packets, 7), 1)
                )
                self.assertEqual(read(data), units(track, packets))

    def test_each_codec_is_recognised_with_its_configuration(self) -> None:
        names = {Codec.MP3: "mp3", Codec.AV1: "av1"}
        for codec in CARRIED:
            with self.subTest(codec=codec.value):
                track, packets = stream(codec)
                data = init_segment([track]) + fragment(1, {track: packets})
                with av.open(io.BytesIO(data)) as container:
                    source = container.streams[0]
                    name = source.codec_context.codec.canonical_name
                    self.assertEqual(name, names.get(codec, codec.value))
                    if codec in (Codec.H264, Codec.HEVC, Codec.AV1, Codec.AAC):
                        self.assertEqual(bytes(source.codec_context.extradata), track.extradata)
                    if codec.is_video:
                        self.assertEqual((source.width, source.height), (track.width, track.height))
                    else:
                        self.assertEqual((source.rate, source.channels), (track.sample_rate, track.channels))

    def test_pictures_and_sound_decode_from_a_muxed_file(self) -> None:
        (video, pictures_), (audio, sounds) = stream(Codec.H264), stream(Codec.AAC)
        data = init_segment([video, audio]) + fragment(1, {video: pictures_, audio: sounds})
        with av.open(io.BytesIO(data)) as container:
            self.assertEqual(sum(1 for _ in container.decode(video=0)), len(pictures_))
        with av.open(io.BytesIO(data)) as container:
            self.assertEqual(sum(1 for _ in container.decode(audio=0)), len(sounds))

    def test_a_muxed_file_in_many_fragments(self) -> None:
        (video, pictures_), (audio, sounds) = stream(Codec.HEVC), stream(Codec.OPUS)
        data = init_segment([video, audio])
        for number, part in enumerate(cut(muxed((video, pictures_), (audio, sounds)), 9), 1):
            samples = {t: [p for p in part if p.track == t] for t in (video, audio)}
            data += fragment(
                number, {t: packets for t, packets in samples.items() if packets}, styp=True, utc=1e9
            )
        self.assertEqual(read(data, 0), units(video, pictures_))
        self.assertEqual(read(data, 1), units(audio, sounds))

    def test_a_timeline_far_from_zero_keeps_its_place(self) -> None:
        start = 2**40
        track, packets = pictures((start, start), (start + 3000, start + 3000))
        _, extradata_source = stream(Codec.H264)
        track = extradata_source[0].track
        packets = [Packet(track, p.dts, p.pts, p.duration, p.keyframe, p.payload) for p in packets]
        self.assertEqual(read(init_segment([track]) + fragment(1, {track: packets}))[0][0], start)


class InitSegmentTests(SynchronousTestCase):
    def test_one_track_is_a_cmaf_file_and_several_are_not(self) -> None:
        video, audio = stream(Codec.H264)[0], stream(Codec.AAC)[0]
        self.assertIn(b"cmfc", find_box(init_segment([video]), b"ftyp"))
        self.assertNotIn(b"cmfc", find_box(init_segment([video, audio]), b"ftyp"))

    def test_every_track_has_a_trex(self) -> None:
        tracks = [stream(Codec.H264)[0], stream(Codec.AAC)[0]]
        entries = list(boxes(find_box(init_segment(tracks), b"moov", b"mvex")))
        self.assertEqual([(kind, body[7]) for kind, body in entries], [(b"trex", 1), (b"trex", 2)])

    def test_a_rate_beyond_16_bits_is_left_to_the_configuration(self) -> None:
        track, packets = sound(rate=96_000)
        data = init_segment([track]) + fragment(1, {track: packets})
        self.assertEqual([p[0] for p in read(data)[:3]], [0, 1024, 2048])

    def test_vp8_is_named_as_not_carried(self) -> None:
        track = Track(id=1, codec=Codec.VP8, extradata=b"", codec_string="vp8", width=64, height=64)
        with self.assertRaisesRegex(LocalProtocolError, "vp8"):
            init_segment([track])
        self.assertEqual([codec for codec in Codec if not carries(codec)], [Codec.VP8])

    def test_misuse_is_refused(self) -> None:
        good = stream(Codec.H264)[0]
        twin = Track(
            id=1, codec=Codec.AAC, extradata=b"\x12\x10", codec_string="mp4a.40.2", sample_rate=44_100
        )
        for tracks, sentence in [
            ([], "positive and distinct"),
            ([good, twin], "positive and distinct"),
            ([Track(id=0, codec=Codec.MP3, extradata=b"", codec_string="mp4a.6B")], "positive and distinct"),
            ([Track(id=1, codec=Codec.AAC, extradata=b"", codec_string="mp4a.40.2")], "configuration of aac"),
            ([Track(id=1, codec=Codec.H264, extradata=b"x", codec_string="avc1")], "0x0"),
            ([Track(id=1, codec=Codec.AC3, extradata=b"", codec_string="ac-3", sample_rate=96_000)], "96000"),
        ]:
            with self.subTest(sentence), self.assertRaisesRegex(LocalProtocolError, sentence):
                init_segment(tracks)


class FragmentTests(SynchronousTestCase):
    def test_durations_are_the_steps_of_dts_and_the_last_is_the_packets_own(self) -> None:
        track, packets = pictures((0, 0), (2970, 2970), (6030, 6030))
        (run,) = parse(fragment(1, {track: packets}))
        self.assertEqual(run.durations, [2970, 3060, 3000])

    def test_a_known_follower_overrules_the_last_duration(self) -> None:
        track, packets = pictures((0, 0), (2970, 2970), (6030, 6030))
        (run,) = parse(fragment(1, {track: packets}, following={track: 9000}))
        self.assertEqual(run.end, 9000)

    def test_b_frames_have_signed_offsets(self) -> None:
        track, packets = pictures((6000, 6000), (9000, 15000), (12000, 9000), (15000, 12000))
        (run,) = parse(fragment(1, {track: packets}))
        self.assertEqual(run.offsets, [0, 6000, -3000, -3000])

    def test_keyframes_are_marked_wherever_they_stand(self) -> None:
        times = [(0, 0), (3000, 3000), (6000, 6000)]
        for keyframes in [(), (0,), (1,), (0, 2), (0, 1, 2)]:
            with self.subTest(keyframes=keyframes):
                track, packets = pictures(*times, keyframes=keyframes)
                (run,) = parse(fragment(1, {track: packets}))
                self.assertEqual(run.flags, [SYNC if i in keyframes else NON_SYNC for i in range(3)])

    def test_a_sound_frame_costs_four_bytes_of_header(self) -> None:
        track, packets = sound(rate=44_100)
        fixed = len(fragment(1, {track: packets[:1]})) - 4 - len(packets[0].payload)
        self.assertEqual(
            len(fragment(1, {track: packets})), fixed + sum(4 + len(packet.payload) for packet in packets)
        )

    def test_producer_reference_time_is_ntp(self) -> None:
        track, packets = pictures((9000, 9000))
        kind, body = next(boxes(fragment(1, {track: packets}, utc=1.5)))
        flags, track_id, ntp, media = struct.unpack(">IIQQ", body)
        self.assertEqual((kind, flags & 0xFFFFFF, track_id, media), (b"prft", 24, 1, 9000))
        self.assertEqual(ntp, (2_208_988_801 << 32) + (1 << 31))

    def test_a_segment_begins_with_styp(self) -> None:
        track, packets = pictures((0, 0))
        self.assertEqual(next(kind for kind, _ in boxes(fragment(1, {track: packets}, styp=True))), b"styp")

    def test_misuse_is_refused(self) -> None:
        track, packets = pictures((0, 0), (3000, 3000))
        for samples, sequence in [
            ({}, 1),
            ({track: []}, 1),
            ({track: packets[::-1]}, 1),
            ({track: pictures((-3000, 0))[1]}, 1),
            ({track: pictures((0, 2**33))[1]}, 1),
            ({track: packets}, 2**32),
        ]:
            with self.subTest(samples=samples), self.assertRaises(LocalProtocolError):
                fragment(sequence, samples)


class SoundTimeTests(SynchronousTestCase):
    """Ticks are rounded, samples are not: the rounding must be undone, and never add up."""

    def test_frames_last_their_sample_count_at_every_rate(self) -> None:
        for rate in (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000):
            with self.subTest(rate=rate):
                track, packets = sound(rate=rate, count=500)
                (run,) = parse(fragment(1, {track: packets}))
                self.assertEqual(set(run.durations), {1024})

    @given(
        rate=st.sampled_from([11_025, 22_050, 44_100, 48_000, 96_000]),
        start=st.integers(0, 2**40),
        count=st.integers(1, 60),
        lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    )
    @settings(max_examples=60, deadline=None)
    def test_each_fragment_begins_where_the_last_ended(
        self, rate: int, start: int, count: int, lengths: list[int]
    ) -> None:
        track, packets = sound(rate=rate, start=start, count=count)
        end, at = None, 0
        for length in [*lengths, count]:
            if part := packets[at : at + length]:
                (run,) = parse(fragment(1, {track: part}))
                self.assertIn(end, (None, run.start))
                self.assertTrue(all(abs(duration - 1024) <= 1 for duration in run.durations))
                end, at = run.end, at + length

    @given(
        steps=st.lists(st.integers(1, 9000), min_size=1, max_size=40),
        offsets=st.lists(st.integers(-90_000, 90_000), min_size=40, max_size=40),
        keys=st.lists(st.booleans(), min_size=40, max_size=40),
        start=st.integers(0, 2**62),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_pictures_come_back(
        self, steps: list[int], offsets: list[int], keys: list[bool], start: int
    ) -> None:
        track, _ = pictures((0, 0))
        packets = []
        dts = start
        for step, offset, key in zip(steps, offsets, keys, strict=False):
            packets.append(Packet(track, dts, dts + offset, step, key, bytes(step % 50)))
            dts += step
        audio, sounds = sound()
        run, other = parse(fragment(7, {track: packets, audio: sounds}))
        self.assertEqual(run.start, start)
        self.assertEqual(run.durations, [p.duration for p in packets])
        self.assertEqual(run.offsets, [p.pts - p.dts for p in packets])
        self.assertEqual([f == SYNC for f in run.flags], [p.keyframe for p in packets])
        self.assertEqual(run.payloads, [p.payload for p in packets])
        self.assertEqual(other.payloads, [p.payload for p in sounds])
