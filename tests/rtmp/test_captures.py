"""What real encoders sent, replayed: whole, split and spoilt.

`tests/rtmp/peer.py` makes the captures of ffmpeg; that of OBS 29 is the beginning of a longer one.
"""

import time
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import flv
from oxidecast.formats.flv import Kind
from oxidecast.media import Codec, RemoteProtocolError
from oxidecast.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    MetadataReceived,
    PublishRequested,
    ServerEvent,
    VideoReceived,
)
from oxidecast.rtmp.session import ServerSession
from tests.rtmp.peer import CAPTURES, DATA, accept

HANDSHAKE = 1 + 2 * 1536
NAMES = [*CAPTURES, "obs29-h264-aac"]


def capture(name: str) -> bytes:
    return (DATA / f"{name}.bin").read_bytes()


def replay(*pieces: bytes) -> tuple[list[ServerEvent], bytes, str]:
    """The events, the answers, and the error at the end, if there is one."""
    session, events, answers = ServerSession(random=bytes(1528)), [], b""
    try:
        for piece in pieces:
            for event in session.receive(piece):
                events.append(event)
                accept(session, event)
            answers += session.take_output()
    except RemoteProtocolError as error:
        return events, answers + session.take_output(), str(error)
    return events, answers, ""


class Captures(SynchronousTestCase):
    def test_hold_the_codecs_they_are_named_for(self) -> None:
        for name, video, audio in [
            ("ffmpeg5-h264-aac", Codec.H264, Codec.AAC),
            ("ffmpeg9-h264-aac", Codec.H264, Codec.AAC),
            ("ffmpeg9-hevc-opus", Codec.HEVC, Codec.OPUS),
            ("ffmpeg9-av1", Codec.AV1, None),
            ("ffmpeg9-multitrack", Codec.H264, Codec.AAC),
            ("obs29-h264-aac", Codec.H264, Codec.AAC),
        ]:
            with self.subTest(name):
                events, _, error = replay(capture(name))
                assert error == ""
                pictures = [flv.video(event.payload) for event in events if isinstance(event, VideoReceived)]
                sounds = [flv.audio(event.payload) for event in events if isinstance(event, AudioReceived)]
                assert {tag.codec for tag in pictures} == {video}
                assert {tag.codec for tag in sounds} == ({audio} if audio else set())
                assert pictures[0].kind is Kind.SEQUENCE_HEADER
                assert sum(tag.kind is Kind.FRAMES and tag.track_id == 0 for tag in pictures) >= 10
                assert any(tag.keyframe for tag in pictures if tag.kind is Kind.FRAMES)

    def test_name_the_key_and_the_picture(self) -> None:
        for name in NAMES:
            with self.subTest(name):
                events, _, _ = replay(capture(name))
                connect, publish, metadata = events[:3]
                assert isinstance(connect, ConnectRequested) and connect.app == "live"
                assert isinstance(publish, PublishRequested) and publish.key == "a-stream-key"
                width = 640.0 if "obs" in name else 320.0
                assert isinstance(metadata, MetadataReceived) and metadata.values["width"] == width

    def test_carry_a_second_track(self) -> None:
        events, _, _ = replay(capture("ffmpeg9-multitrack"))
        pictures = [flv.video(event.payload) for event in events if isinstance(event, VideoReceived)]
        sounds = [flv.audio(event.payload) for event in events if isinstance(event, AudioReceived)]
        assert {tag.track_id for tag in pictures} == {tag.track_id for tag in sounds} == {0, 1}
        assert {tag.codec for tag in pictures} == {Codec.H264}

    def test_are_written_again_as_the_encoder_wrote_them(self) -> None:
        events, _, _ = replay(capture("ffmpeg9-hevc-opus"))
        for event in events:
            if isinstance(event, VideoReceived):
                tag = flv.video(event.payload)
                assert isinstance(tag.codec, Codec)
                again = flv.video_body(
                    tag.codec,
                    tag.kind,
                    tag.payload,
                    keyframe=tag.keyframe,
                    composition_time=tag.composition_time,
                )
                assert flv.video(again) == tag

    def test_give_the_same_byte_by_byte(self) -> None:
        for name in NAMES:
            with self.subTest(name):
                data = capture(name)
                once, piecemeal = replay(data), replay(*(data[n : n + 1] for n in range(len(data))))
                assert piecemeal[0] == once[0]
                assert piecemeal[2] == once[2] == ""

    def test_give_the_same_split_at_every_byte(self) -> None:
        data = capture("ffmpeg9-h264-aac")[: HANDSHAKE + 1500]  # the talk, and the first messages of media
        once = replay(data)
        for split in range(len(data) - 1500, len(data)):
            assert replay(data[:split], data[split:]) == once
        for split in range(0, HANDSHAKE, 97):
            assert replay(data[:split], data[split:]) == once


class SpoiltCaptures(SynchronousTestCase):
    """Whatever is done to them: the named error or none, in bounded time and memory."""

    @given(st.data())
    @settings(max_examples=120, deadline=None)
    def test_raise_nothing_but_the_named_error(self, data: st.DataObject) -> None:
        wire = bytearray(capture(data.draw(st.sampled_from(NAMES)))[: HANDSHAKE + 6000])
        for _ in range(data.draw(st.integers(1, 5))):
            position = data.draw(st.integers(HANDSHAKE, len(wire) - 1))
            match data.draw(st.integers(0, 2)):
                case 0:
                    wire[position] = data.draw(st.integers(0, 255))
                case 1:
                    del wire[position : position + data.draw(st.integers(1, 40))]
                case _:
                    wire[position:position] = data.draw(st.binary(max_size=20))
            if len(wire) <= HANDSHAKE + 1:
                break
        events, _, error = replay(bytes(wire))
        step = data.draw(st.integers(1, 3000))
        again = replay(*(bytes(wire[n : n + step]) for n in range(0, len(wire), step)))
        assert (again[0], again[2]) == (events, error)
        for event in events:
            try:
                if isinstance(event, VideoReceived):
                    flv.video(event.payload)
                elif isinstance(event, AudioReceived):
                    flv.audio(event.payload)
            except RemoteProtocolError:
                pass

    def test_cost_bounded_memory_where_they_announce_16_mib_on_many_chunk_streams(self) -> None:
        data = capture("ffmpeg9-h264-aac")
        start = b"".join(
            bytes((csid,)) + bytes(3) + b"\x7f\xff\xff\x09" + b"\x01\0\0\0" + bytes(60_000)
            for csid in range(10, 60)
        )
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        _, _, error = replay(data[:20_000], start)
        assert error != ""
        assert tracemalloc.get_traced_memory()[1] < 8 << 20

    def test_cost_bounded_time_where_every_chunk_has_one_byte(self) -> None:
        data = capture("ffmpeg9-h264-aac")
        talk = data[: HANDSHAKE + 600]
        started = time.process_time()
        replay(talk, b"\x02\0\0\0\0\0\4\1\0\0\0\0" + b"\0\0\0\1", b"\xc3" * 100_000)
        assert time.process_time() - started < 2
