from fractions import Fraction

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import framed
from oxidecast.formats.framed import LONGEST_FRAME, FramedPacket, FrameReader
from oxidecast.formats.framed_messages import (
    MAX_FEEDS,
    AudioFeed,
    Discontinuity,
    End,
    FeedEnded,
    FeedFigures,
    Figures,
    Job,
    KeyframeWanted,
    Ready,
    Resumed,
    Thumbnail,
    Tile,
    Trouble,
    VideoFeed,
)
from oxidecast.media import Codec, RemoteProtocolError, Track

TRACK = Track(
    id=1,
    codec=Codec.H264,
    extradata=b"\x01\x64\x00\x1f",
    codec_string="avc1.64001f",
    width=1280,
    height=720,
    frame_rate=Fraction(30000, 1001),
)
PACKET = FramedPacket(1, -5, 2**40, True, b"payload", 1024)

MESSAGES = (
    Job(
        videos=(
            VideoFeed(feed=1, width=640, height=360, framerate=29.97, bitrate=500_000, options={"bf": "2"}),
        ),
        audios=(AudioFeed(feed=128, codec="opus", bitrate=64_000),),
        thumbnail_every=10.0,
    ),
    Discontinuity(3),
    KeyframeWanted(feed=2),
    Resumed(until=9, made={1: 5, 2: -7}),
    End(),
    Ready(("network", "files")),
    Trouble("a sentence", fatal=True, feed=1),
    FeedEnded(feed=5),
    Figures(read=5, cpu=1.5, feeds=(FeedFigures(feed=1, busy=0.5),)),
    Thumbnail(pts=-5, width=640, height=360, jpeg=b"\xff\xd8"),
    Thumbnail(pts=5, width=640, height=360, jpeg=b"\xff", tile=Tile(width=160, height=90, jpeg=b"\xd8")),
    Tile(width=160, height=90, jpeg=b"\xff\xd8"),
)


def frame(packet: FramedPacket) -> bytes:
    return framed.packet(*msgspec.structs.astuple(packet))


def read(data: bytes) -> list[object]:
    return list(FrameReader().receive(data))


class TestFrames(SynchronousTestCase):
    def test_a_track_arrives_as_it_was(self) -> None:
        self.assertEqual(read(framed.track(TRACK)), [TRACK])

    def test_a_packet_arrives_as_it_was(self) -> None:
        self.assertEqual(read(frame(PACKET)), [PACKET])

    def test_frames_cut_anywhere_arrive_whole(self) -> None:
        data = framed.track(TRACK) + frame(PACKET) + frame(PACKET)
        for at in range(len(data)):
            reader = FrameReader()
            self.assertEqual(
                [*reader.receive(data[:at]), *reader.receive(data[at:])], [TRACK, PACKET, PACKET]
            )

    def test_an_empty_payload_is_one(self) -> None:
        self.assertEqual(read(framed.packet(2, 0, 0, True, b""))[0].payload, b"")  # type: ignore[attr-defined]

    def test_who_stops_reading_goes_on_where_it_stopped(self) -> None:
        reader = FrameReader()
        events = reader.receive(frame(PACKET) + framed.track(TRACK))
        self.assertEqual(next(events), PACKET)
        events.close()
        self.assertEqual(list(reader.receive(b"")), [TRACK])


class TestMessages(SynchronousTestCase):
    def test_each_arrives_as_it_was(self) -> None:
        for message in MESSAGES:
            self.assertEqual(read(framed.message(message)), [message])

    def test_they_keep_their_place_among_packets(self) -> None:
        data = frame(PACKET) + framed.message(MESSAGES[0]) + framed.track(TRACK)
        self.assertEqual(read(data), [PACKET, MESSAGES[0], TRACK])

    def test_one_that_is_none(self) -> None:
        good = framed.message(MESSAGES[0])[5:]
        beyond = msgspec.msgpack.encode({"type": "KeyframeWanted", "feed": 256})
        for body in (b"", b"\xc0", b"\x91" * 5000, good[:-1], good + b"\0", b"\x81\xa4type\xa3New", beyond):
            data = b"M" + len(body).to_bytes(4, "big") + body
            self.assertIn("message", str(self.assertRaises(RemoteProtocolError, read, data)))

    def test_too_many_feeds(self) -> None:
        feed = AudioFeed(feed=1, codec="aac")
        data = framed.message(Job(audios=(feed,) * (MAX_FEEDS + 1)))
        self.assertRaises(RemoteProtocolError, read, data)

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(range(8)), st.integers(0), st.integers(0, 255))
    def test_a_changed_byte_is_refused_or_read(self, which: int, at: int, value: int) -> None:
        data = bytearray(framed.message(MESSAGES[which]))
        data[5 + at % (len(data) - 5)] = value
        try:
            read(bytes(data))
        except RemoteProtocolError:
            pass

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_body(self, body: bytes) -> None:
        try:
            read(b"M" + len(body).to_bytes(4, "big") + body)
        except RemoteProtocolError:
            pass


class TestNonsense(SynchronousTestCase):
    def refusal(self, data: bytes) -> str:
        return str(self.assertRaises(RemoteProtocolError, read, data))

    def test_an_unknown_kind(self) -> None:
        self.assertIn("unknown kind", self.refusal(b"X\0\0\0\0"))

    def test_a_length_beyond_the_bound_is_refused_before_it_is_read(self) -> None:
        self.assertIn("longer", self.refusal(b"P" + (LONGEST_FRAME + 1).to_bytes(4, "big")))

    def test_a_packet_shorter_than_its_head(self) -> None:
        self.refusal(b"P\0\0\0\3abc")

    def test_a_track_that_is_none(self) -> None:
        for body in (b"", b"\xc0", b"\x81\xa2id\xa1x", b"\x91" * 5000):
            self.assertIn("track", self.refusal(b"T" + len(body).to_bytes(4, "big") + body))

    def test_a_frame_rate_over_zero(self) -> None:
        body = msgspec.msgpack.encode(
            {**msgspec.to_builtins(TRACK, enc_hook=lambda f: [30, 0]), "extradata": b""}
        )
        self.refusal(b"T" + len(body).to_bytes(4, "big") + body)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=6))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        reader = FrameReader()
        try:
            for chunk in chunks:
                list(reader.receive(chunk))
        except RemoteProtocolError:
            pass
