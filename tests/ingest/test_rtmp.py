"""RTMP publishers on their way into a stream: what real encoders sent, replayed through the port into a real hub."""

from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from oxidecast.ingest.rtmp import RTMPFeed, RTMPIngest
from oxidecast.interfaces import IIngest, IOutput
from oxidecast.media import TICKS, Codec, RemoteProtocolError
from oxidecast.rtmp.events import AudioReceived, MetadataReceived, VideoReceived
from oxidecast.rtmp.server import RTMPPort
from oxidecast.rtmp.settings import RtmpSettings
from tests.rtmp.test_captures import NAMES, capture, replay
from tests.rtmp.test_server import Transport
from tests.streams.stage import Encoder, HubCase, WatchingOutput, info

MIDST = 40_000
DONE = Failure(ConnectionDone())


class PortCase(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = RTMPPort(RtmpSettings(bind_address="127.0.0.1:1935"), self.clock)
        self.services: Any = SimpleNamespace(hub=self.hub, ports={"rtmp": self.port})
        self.ingest = RTMPIngest(self.port.settings, self.services)
        self.keys.infos["a-stream-key"] = self.keys.infos["obs-key"] = info("show")

    def connect(self, data: bytes) -> tuple[Any, Transport]:
        connection = self.port.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        assert connection is not None
        transport = Transport()
        connection.makeConnection(transport)
        for at in range(0, len(data), 4096):
            connection.dataReceived(data[at : at + 4096])
        return connection, transport

    def replay(self, name: str, size: int = 1 << 20) -> tuple[Any, Transport]:
        """`size` leaves the encoder in the midst of its work."""
        events, _, _ = replay(capture(name))
        key = next(event.key for event in events if hasattr(event, "key"))
        self.keys.infos[key] = info("show")
        return self.connect(capture(name)[:size])


class TestCaptures(PortCase):
    def test_every_encoder_gives_a_stream_with_its_tracks(self) -> None:
        expected = {
            "ffmpeg5-h264-aac": (Codec.H264, Codec.AAC),
            "ffmpeg9-h264-aac": (Codec.H264, Codec.AAC),
            "ffmpeg9-hevc-opus": (Codec.HEVC, Codec.OPUS),
            "ffmpeg9-av1": (Codec.AV1,),
            "ffmpeg9-multitrack": (Codec.H264, Codec.AAC),
            "obs29-h264-aac": (Codec.H264, Codec.AAC),
        }
        self.assertEqual(set(expected), set(NAMES))
        for name, codecs in expected.items():
            with self.subTest(name):
                connection, _ = self.replay(name)
                self.assertEqual(tuple(track.codec for track in self.stream.source.tracks), codecs)
                self.assertEqual(self.reader.words, [])
                connection.connectionLost(DONE)
                self.stream.end("next")
                self.output.opened.clear()

    def test_times_rise_and_sound_has_the_length_of_its_samples(self) -> None:
        for name in NAMES:
            with self.subTest(name):
                self.replay(name)
                for kind in (True, False):
                    packets = self.reader.of(kind)
                    times = [packet.dts for packet in packets]
                    self.assertEqual(times, sorted(set(times)))
                    self.assertTrue(all(packet.pts >= packet.dts for packet in packets))
                sounds = self.reader.of(False)
                if sounds and sounds[0].track.codec is Codec.AAC:
                    rate = sounds[0].track.sample_rate
                    spans = {packet.duration for packet in sounds}
                    self.assertLessEqual(spans, {1024 * TICKS // rate, 1024 * TICKS // rate + 1})
                self.stream.end("next")
                self.output.opened.clear()

    def test_pictures_are_length_prefixed_without_delimiters(self) -> None:
        self.replay("ffmpeg5-h264-aac")
        for packet in self.reader.of(True):
            payload, at = packet.payload, 0
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 4], "big")
                self.assertNotEqual(payload[at + 4] & 31, 9)
                at += 4 + size
            self.assertEqual(at, len(payload))

    def test_of_several_tracks_of_a_kind_the_first_is_carried(self) -> None:
        self.replay("ffmpeg9-multitrack")
        self.assertEqual([track.id for track in self.stream.source.tracks], [1, 2])
        self.assertEqual(self.stream.source.tracks[0].width, 320)

    def test_the_frame_rate_of_the_metadata_is_taken_where_the_codec_says_none(self) -> None:
        self.replay("obs29-h264-aac")
        self.assertIsNotNone(self.stream.source.tracks[0].frame_rate)


class TestLife(PortCase):
    def test_a_lost_connection_is_waited_for(self) -> None:
        connection, _ = self.replay("ffmpeg5-h264-aac", MIDST)
        connection.connectionLost(DONE)
        self.assertEqual(self.stream.state, "waiting")

    def test_a_publisher_that_is_taken_over_reads_bad_name(self) -> None:
        _, transport = self.replay("ffmpeg5-h264-aac", MIDST)
        transport.clear()
        self.live()
        self.assertIn(b"NetStream.Publish.BadName", transport.value())
        self.assertTrue(transport.disconnecting)

    def test_shutdown_and_other_stops_have_their_own_codes(self) -> None:
        for end, code in (
            (lambda: self.hub.close(), b"NetConnection.Connect.AppShutdown"),
            (lambda: self.stream.end("stopped"), b"NetStream.Publish.Denied"),
        ):
            self.hub._open = True
            _, transport = self.replay("ffmpeg5-h264-aac", MIDST)
            transport.clear()
            end()
            self.assertIn(code, transport.value())

    def test_a_newcomer_that_is_replaced_reads_it(self) -> None:
        self.live()
        _, transport = self.replay("ffmpeg5-h264-aac", 4500)
        self.assertNotIn(b"NetStream.Publish.BadName", transport.value())
        Encoder(self).connect()
        self.assertIn(b"NetStream.Publish.BadName", transport.value())

    def test_a_wrong_key_reaches_nothing(self) -> None:
        del self.keys.infos["a-stream-key"]
        _, transport = self.connect(capture("ffmpeg5-h264-aac"))
        self.assertIn(b"NetStream.Publish.BadName", transport.value())
        self.assertEqual(self.hub.streams, {})

    def test_addresses_are_for_people(self) -> None:
        verifyObject(IIngest, self.ingest)
        self.assertEqual(list(self.ingest.addresses()), ["rtmp://HOST:1935/live"])


class FeedCase(PortCase):
    """An `RTMPFeed` with nothing before it."""

    def setUp(self) -> None:
        super().setUp()
        self.feed = self.new_feed()
        events, _, _ = replay(capture("ffmpeg5-h264-aac"))
        self.videos = [event for event in events if isinstance(event, VideoReceived)]
        self.audios = [event for event in events if isinstance(event, AudioReceived)]
        self.metadata = next(event.values for event in events if isinstance(event, MetadataReceived))

    def new_feed(self) -> RTMPFeed:
        encoder = Encoder(self)
        feed = RTMPFeed(SimpleNamespace(stop_publishing=encoder.stop))  # type: ignore[arg-type]
        feed.begin(self.publish(encoder))
        return feed

    def play(self, videos: int = 12, audios: int = 3) -> None:
        for event in self.audios[:audios]:
            self.feed.audio(event.timestamp, event.payload)
        for event in self.videos[:videos]:
            self.feed.video(event.timestamp, event.payload)


class TestFeed(FeedCase):
    def test_metadata_says_what_to_wait_for(self) -> None:
        for values, codecs in (
            ({"videocodecid": 7.0}, [Codec.H264]),
            ({"hasVideo": True, "hasAudio": False}, [Codec.H264]),
        ):
            self.feed = self.new_feed()
            self.feed.metadata(values)
            self.play(audios=0)
            self.assertEqual([track.codec for track in self.stream.source.tracks], codecs)
            self.stream.end("next")

    def test_nonsense_in_metadata_is_ignored(self) -> None:
        for rate in (float("nan"), float("inf"), -1.0, 0.0, 1e-300, 1e300, "30", None, {}):
            self.feed.metadata({"framerate": rate})
        self.assertIsNone(self.feed._frame_rate)

    def test_a_frame_rate_is_a_near_fraction(self) -> None:
        self.feed.metadata({"framerate": 29.97002997})
        self.assertEqual(self.feed._frame_rate, Fraction(30000, 1001))

    def test_a_codec_that_is_not_carried_is_named_and_the_rest_goes_on(self) -> None:
        self.feed.audio(0, b"\xb2speex")
        self.feed.metadata({"videocodecid": 7.0})
        self.play(audios=0)
        self.assertIn("Speex", self.stream.notices["rtmp:audio"])
        self.assertEqual(len(self.stream.source.tracks), 1)

    def test_the_notice_goes_when_a_codec_comes_that_is(self) -> None:
        self.feed.audio(0, b"\xb2speex")
        self.play()
        self.assertEqual(self.stream.notices, {})

    def test_frames_before_their_configuration_are_left_out(self) -> None:
        for event in self.videos[1:]:
            self.feed.video(event.timestamp, event.payload)
        self.assertIsNone(self.hub.find("show"))

    def test_32_bits_of_milliseconds_wrap_without_a_jump(self) -> None:
        base = 2**32 - 300
        for event in self.audios[:40]:
            self.feed.audio((base + event.timestamp) % 2**32, event.payload)
        for event in self.videos[:12]:
            self.feed.video((base + event.timestamp) % 2**32, event.payload)
        times = [packet.dts for packet in self.reader.of(True)]
        self.assertEqual({later - earlier for earlier, later in pairwise(times)}, {9000})
        self.assertEqual(self.stream.publication.jumps, 0)  # type: ignore[union-attr]

    def test_b_frames_keep_their_order(self) -> None:
        self.play()
        pictures = self.reader.of(True)
        self.assertNotEqual([p.pts for p in pictures], sorted(p.pts for p in pictures))

    def test_after_it_stopped_nothing_reaches_the_stream(self) -> None:
        self.play()
        self.feed.stopped("gone")
        self.feed.stopped("gone again")
        count = len(self.reader.packets)
        self.play()
        self.feed.metadata(self.metadata)
        self.assertEqual(len(self.reader.packets), count)

    def test_being_stopped_after_it_left_tells_nobody(self) -> None:
        told: list[str] = []
        self.feed._connection = SimpleNamespace(stop_publishing=lambda *a: told.append(a[0]))  # type: ignore
        self.feed.stopped("gone")
        self.feed.stop("taken_over", "No.")
        self.assertEqual(told, [])

    def test_a_codec_that_changes_without_configuration_is_left_out(self) -> None:
        self.play()
        count = len(self.reader.of(True))
        self.feed.video(5000, b"\x91hvc1\x00\x00\x00\x00\x00\x00\x02&\x01")  # Enhanced RTMP: HEVC frames
        self.assertEqual(len(self.reader.of(True)), count)

    def test_mp3_needs_no_configuration(self) -> None:
        frame = b"\xff\xfb\x90\x00" + bytes(413)
        self.feed.metadata({"audiocodecid": 2.0})
        for number in range(3):
            self.feed.audio(number * 26, b"\x2f" + frame)
        self.assertEqual(self.stream.source.tracks[0].codec, Codec.MP3)
        self.assertEqual(self.reader.packets[0].duration, 1152 * TICKS // 44100)

    def test_a_second_output_sees_the_same_packets(self) -> None:
        second = WatchingOutput()
        self.add("second", IOutput, second)
        self.play()
        for one, other in zip(self.reader.packets, second.opened[0].reader.packets, strict=True):
            self.assertIs(one, other)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.booleans(),
                st.integers(0, 2**32 - 1),
                st.integers(0, 30),
                st.integers(0, 400),
                st.binary(max_size=8),
            ),
            max_size=30,
        )
    )
    def test_spoilt_messages_raise_nothing_but_the_named_error(self, messages: Any) -> None:
        self.feed = self.new_feed()
        self.play(2, 2)
        for video, timestamp, which, at, junk in messages:
            events = self.videos if video else self.audios
            body = bytearray(events[which % len(events)].payload)
            body[at % len(body) : at % len(body) + len(junk)] = junk
            try:
                (self.feed.video if video else self.feed.audio)(timestamp, bytes(body))
            except RemoteProtocolError:
                pass
        for stream in list(self.hub.streams.values()):
            stream.end("next")
        self.output.opened.clear()
