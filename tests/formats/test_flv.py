"""FLV tags, legacy and enhanced, and the file."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import flv
from oxidecast.formats.flv import AudioTag, Kind, VideoTag, audio, video
from oxidecast.media import Codec, LocalProtocolError, RemoteProtocolError

VIDEO = [
    ("an AVC header", "1700000000" + "aa", VideoTag(Codec.H264, Kind.SEQUENCE_HEADER, True, b"\xaa")),
    ("an AVC keyframe", "1701000050" + "aa", VideoTag(Codec.H264, Kind.FRAMES, True, b"\xaa", 80)),
    ("an AVC frame", "2701000000" + "aa", VideoTag(Codec.H264, Kind.FRAMES, False, b"\xaa")),
    ("a negative offset", "2701fffff6" + "aa", VideoTag(Codec.H264, Kind.FRAMES, False, b"\xaa", -10)),
    ("the end of AVC", "1702000000", VideoTag(Codec.H264, Kind.SEQUENCE_END, True, b"")),
    ("an unknown AVC packet", "1709000000", VideoTag(Codec.H264, Kind.OTHER, True, b"")),
    ("legacy HEVC", "1c01000001" + "aa", VideoTag(Codec.HEVC, Kind.FRAMES, True, b"\xaa", 1)),
    ("a seek command", "5700", VideoTag(Codec.H264, Kind.OTHER, False, b"\x00")),
    ("H.263", "12" + "aa", VideoTag("Sorenson H.263", Kind.FRAMES, True, b"\xaa")),
    ("an unknown codec", "1f" + "aa", VideoTag("video codec 15", Kind.FRAMES, True, b"\xaa")),
    (
        "an HEVC header",
        "90" + b"hvc1".hex() + "aa",
        VideoTag(Codec.HEVC, Kind.SEQUENCE_HEADER, True, b"\xaa"),
    ),
    (
        "HEVC frames",
        "a1" + b"hvc1".hex() + "fffffe" + "aa",
        VideoTag(Codec.HEVC, Kind.FRAMES, False, b"\xaa", -2),
    ),
    ("HEVC frames X", "93" + b"hvc1".hex() + "aa", VideoTag(Codec.HEVC, Kind.FRAMES, True, b"\xaa")),
    (
        "enhanced AVC",
        "91" + b"avc1".hex() + "000003" + "aa",
        VideoTag(Codec.H264, Kind.FRAMES, True, b"\xaa", 3),
    ),
    ("AV1 frames", "91" + b"av01".hex() + "aa", VideoTag(Codec.AV1, Kind.FRAMES, True, b"\xaa")),
    ("VP9 frames", "a1" + b"vp09".hex() + "aa", VideoTag(Codec.VP9, Kind.FRAMES, False, b"\xaa")),
    ("VP8 frames", "a1" + b"vp08".hex() + "aa", VideoTag(Codec.VP8, Kind.FRAMES, False, b"\xaa")),
    ("the end of AV1", "92" + b"av01".hex(), VideoTag(Codec.AV1, Kind.SEQUENCE_END, True, b"")),
    ("HDR metadata", "94" + b"hvc1".hex() + "aa", VideoTag(Codec.HEVC, Kind.METADATA, True, b"\xaa")),
    ("AV1 in TS", "95" + b"av01".hex() + "aa", VideoTag("av01 as MPEG-2 TS", Kind.OTHER, True, b"\xaa")),
    ("VVC", "93" + b"vvc1".hex() + "aa", VideoTag("VVC", Kind.FRAMES, True, b"\xaa")),
    ("a FourCC no one knows", "93" + b"zzzz".hex(), VideoTag("codec zzzz", Kind.FRAMES, True, b"")),
    ("a FourCC of no letters", "93" + "00ff1b0a", VideoTag("codec 00ff1b0a", Kind.FRAMES, True, b"")),
    ("an enhanced seek command", "d100", VideoTag("a seek command", Kind.OTHER, False, b"\x00")),
    (
        "a nanosecond offset",
        "97" + "02" + "00c350" + "01" + b"av01".hex() + "aa",
        VideoTag(Codec.AV1, Kind.FRAMES, True, b"\xaa", 0, 50_000),
    ),
    (
        "a long modifier nobody knows",
        "97" + "ff" + "0103" + "bb" * 260 + "f1" + b"av01".hex() + "aa",
        VideoTag(Codec.AV1, Kind.FRAMES, True, b"\xaa"),
    ),
    (
        "one of several tracks",
        "96" + "01" + b"avc1".hex() + "07" + "000002" + "aa",
        VideoTag(Codec.H264, Kind.FRAMES, True, b"\xaa", 2, 0, 7),
    ),
    (
        "many tracks",
        "96" + "11" + b"av01".hex() + "00" + "000001" + "aa" + "01" + "000002" + "bbcc",
        VideoTag(
            codec=Codec.AV1,
            kind=Kind.FRAMES,
            keyframe=True,
            payload=b"\xaa",
            more=(VideoTag(Codec.AV1, Kind.FRAMES, True, b"\xbb\xcc", track_id=1),),
        ),
    ),
    (
        "many tracks of many codecs",
        "96" + "20" + b"av01".hex() + "00" + "000001" + "aa" + b"hvc1".hex() + "01" + "000001" + "bb",
        VideoTag(
            codec=Codec.AV1,
            kind=Kind.SEQUENCE_HEADER,
            keyframe=True,
            payload=b"\xaa",
            more=(VideoTag(Codec.HEVC, Kind.SEQUENCE_HEADER, True, b"\xbb", track_id=1),),
        ),
    ),
]
AUDIO = [
    ("an AAC header", "af00" + "1210", AudioTag(Codec.AAC, Kind.SEQUENCE_HEADER, b"\x12\x10")),
    ("AAC", "af01" + "aa", AudioTag(Codec.AAC, Kind.FRAMES, b"\xaa")),
    ("MP3", "2f" + "aa", AudioTag(Codec.MP3, Kind.FRAMES, b"\xaa")),
    ("MP3 of 8 kHz", "e2" + "aa", AudioTag(Codec.MP3, Kind.FRAMES, b"\xaa")),
    ("Speex", "b2" + "aa", AudioTag("Speex", Kind.FRAMES, b"\xaa")),
    ("an unknown codec", "c2" + "aa", AudioTag("audio codec 12", Kind.FRAMES, b"\xaa")),
    ("an Opus header", "90" + b"Opus".hex() + "aa", AudioTag(Codec.OPUS, Kind.SEQUENCE_HEADER, b"\xaa")),
    ("enhanced AAC", "91" + b"mp4a".hex() + "aa", AudioTag(Codec.AAC, Kind.FRAMES, b"\xaa")),
    ("enhanced MP3", "91" + b".mp3".hex() + "aa", AudioTag(Codec.MP3, Kind.FRAMES, b"\xaa")),
    ("AC-3", "91" + b"ac-3".hex() + "aa", AudioTag(Codec.AC3, Kind.FRAMES, b"\xaa")),
    ("FLAC", "91" + b"fLaC".hex() + "aa", AudioTag("FLAC", Kind.FRAMES, b"\xaa")),
    ("a channel layout", "94" + b"Opus".hex() + "aa", AudioTag(Codec.OPUS, Kind.CHANNELS, b"\xaa")),
    ("a nanosecond offset", "9702000005" + "01" + b"Opus".hex(), AudioTag(Codec.OPUS, Kind.FRAMES, b"", 5)),
    (
        "one of several tracks",
        "95" + "01" + b"mp4a".hex() + "02" + "aa",
        AudioTag(Codec.AAC, Kind.FRAMES, b"\xaa", track_id=2),
    ),
]
REFUSED_VIDEO = [
    ("nothing", "", "empty"),
    ("half an AVC header", "170100", "shorter than its header"),
    ("half a FourCC", "936176", "shorter than its FourCC"),
    ("half a composition time", "91" + b"hvc1".hex() + "00", "composition time"),
    ("a modifier past the end", "97" + "10" + "00", "ModEx runs past the end"),
    ("a modifier and nothing more", "97", "ModEx runs past the end"),
    (
        "endless modifiers",
        "97" + "0000" + "07" + "0000" + "07" * 1 + "000007" * 20,
        "ModEx packets stand before",
    ),
    ("multitrack and nothing more", "96", "shorter than its header"),
    ("multitrack in multitrack", "9606", "holds a multitrack tag"),
    ("an unknown multitrack type", "9631", "multitrack type 3"),
    ("a track longer than the tag", "9611" + b"av01".hex() + "00" + "00ffff" + "aa", "longer than the tag"),
    ("a track without its id", "9611" + b"av01".hex(), "ends before its track id"),
    ("33 tracks", "9611" + b"av01".hex() + "00000000" * 33, "more than 32 tracks"),
]


class VideoTags(SynchronousTestCase):
    def test_are_read(self) -> None:
        for name, body, tag in VIDEO:
            with self.subTest(name):
                assert video(bytes.fromhex(body)) == tag

    def test_that_are_broken_are_refused_by_name(self) -> None:
        for name, body, sentence in REFUSED_VIDEO:
            with self.subTest(name):
                error = self.assertRaises(RemoteProtocolError, video, bytes.fromhex(body))
                assert sentence in str(error), error

    def test_survive_the_round_trip(self) -> None:
        for codec in Codec:
            if not codec.is_video:
                continue
            for kind in (Kind.SEQUENCE_HEADER, Kind.FRAMES, Kind.SEQUENCE_END):
                for enhanced in (False, True):
                    times = (
                        (0, -40, 80) if kind is Kind.FRAMES and codec in (Codec.H264, Codec.HEVC) else (0,)
                    )
                    for time in times:
                        body = flv.video_body(
                            codec, kind, b"xyz", keyframe=True, composition_time=time, enhanced=enhanced
                        )
                        with self.subTest(f"{codec} {kind} {time} {enhanced}"):
                            assert video(body) == VideoTag(codec, kind, True, b"xyz", time)

    def test_are_written_as_old_players_know_them(self) -> None:
        assert flv.video_body(Codec.H264, Kind.FRAMES, b"x", keyframe=False) == b"\x27\x01\x00\x00\x00x"

    def test_that_cannot_be_said_are_our_fault(self) -> None:
        for codec, kind, time in [
            (Codec.AAC, Kind.FRAMES, 0),
            (Codec.H264, Kind.OTHER, 0),
            (Codec.H264, Kind.FRAMES, 1 << 23),
        ]:
            with self.assertRaises(LocalProtocolError):
                flv.video_body(codec, kind, b"", keyframe=True, composition_time=time)

    @given(st.binary(max_size=64) | st.sampled_from(VIDEO).map(lambda row: bytes.fromhex(row[1])[:-1]))
    @settings(max_examples=200, deadline=None)
    def test_raise_nothing_but_the_named_error(self, body: bytes) -> None:
        for read in (video, audio):
            try:
                read(body)
            except RemoteProtocolError:
                pass

    @given(st.binary(max_size=60), st.sampled_from([0x96, 0x97, 0xA6, 0x95]))
    @settings(max_examples=200, deadline=None)
    def test_with_modifiers_and_tracks_raise_nothing_but_the_named_error(
        self, body: bytes, first: int
    ) -> None:
        for read in (video, audio):
            try:
                read(bytes((first,)) + body)
            except RemoteProtocolError:
                pass


class AudioTags(SynchronousTestCase):
    def test_are_read(self) -> None:
        for name, body, tag in AUDIO:
            with self.subTest(name):
                assert audio(bytes.fromhex(body)) == tag

    def test_that_are_broken_are_refused_by_name(self) -> None:
        for body, sentence in [(b"", "empty"), (b"\xaf", "shorter than its header"), (b"\x91Op", "FourCC")]:
            error = self.assertRaises(RemoteProtocolError, audio, body)
            assert sentence in str(error), error

    def test_survive_the_round_trip(self) -> None:
        for codec in Codec:
            if codec.is_video:
                continue
            for kind in (Kind.SEQUENCE_HEADER, Kind.FRAMES, Kind.SEQUENCE_END):
                with self.subTest(f"{codec} {kind}"):
                    assert audio(flv.audio_body(codec, kind, b"xyz")) == AudioTag(codec, kind, b"xyz")

    def test_that_cannot_be_said_are_our_fault(self) -> None:
        self.assertRaises(LocalProtocolError, flv.audio_body, Codec.H264, Kind.FRAMES, b"")
        self.assertRaises(LocalProtocolError, flv.audio_body, Codec.AAC, Kind.METADATA, b"")


class Files(SynchronousTestCase):
    def test_are_read_as_they_were_written(self) -> None:
        tags = [
            flv.FileTag(9, 0, b"a"),
            flv.FileTag(8, 0x12345678, b""),
            flv.FileTag(18, 0xFFFFFFFF, b"x" * 500),
        ]
        data = flv.file_header(audio=True, video=True)
        data += b"".join(flv.file_tag(tag.type_id, tag.timestamp, tag.body) for tag in tags)
        assert list(flv.file_tags(data)) == tags

    def test_say_what_they_hold(self) -> None:
        assert flv.file_header(audio=True, video=True) == b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
        assert flv.file_header(audio=False, video=True)[4] == 1

    def test_tell_each_tags_size_behind_it(self) -> None:
        assert flv.file_tag(9, 0, b"abc")[-4:] == (14).to_bytes(4, "big")

    def test_refuse_a_body_of_more_than_24_bits(self) -> None:
        self.assertRaises(LocalProtocolError, flv.file_tag, 9, 0, bytes(1 << 24))

    @given(st.binary(max_size=80), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_of_garbage_raise_nothing_but_the_named_error(self, data: bytes, signed: bool) -> None:
        try:
            list(flv.file_tags((b"FLV\x01" if signed else b"") + data))
        except RemoteProtocolError:
            pass
