"""The client session against the server session, by bytes alone."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import amf
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp.chunks import ChunkWriter
from oxidecast.rtmp.client import ClientSession
from oxidecast.rtmp.events import (
    AudioReceived,
    ClientEvent,
    ConnectRequested,
    MetadataReceived,
    PingAnswered,
    PlayRequested,
    PublishRequested,
    PublishStopped,
    Refused,
    ServerEvent,
    Started,
    StatusReceived,
    VideoReceived,
)
from oxidecast.rtmp.handshake import RANDOM
from oxidecast.rtmp.session import ServerSession
from tests.rtmp.peer import accept

Answer = Callable[[ServerSession, ServerEvent], None]


class Pair:
    """A client and a server, with nothing between them."""

    def __init__(self, client: ClientSession, answer: Answer = accept) -> None:
        self.client, self.server, self.answer = client, ServerSession(), answer
        self.told: list[ClientEvent] = []
        self.asked: list[ServerEvent] = []
        self.run()

    def run(self) -> "Pair":
        while True:
            up = self.client.take_output()
            for event in self.server.receive(up):
                self.asked.append(event)
                self.answer(self.server, event)
            down = self.server.take_output()
            self.told += self.client.receive(down)
            if not up and not down:
                return self


def publisher() -> ClientSession:
    return ClientSession("publish", app="live", tc_url="rtmp://h/live", name="key", random=bytes(RANDOM))


def player() -> ClientSession:
    return ClientSession("play", app="live", tc_url="rtmp://h/live", name="show")


class Publishing(SynchronousTestCase):
    def test_starts_and_brings_media(self) -> None:
        pair = Pair(publisher())
        assert pair.told == [Started(1)]
        assert [type(event) for event in pair.asked] == [ConnectRequested, PublishRequested]
        pair.client.send_metadata(0, {"width": 320.0})
        pair.client.send_video(40, b"\x17" * 100_000)
        pair.client.send_audio(41, b"\xaf\x01")
        pair.client.stop()
        assert pair.run().asked[2:] == [
            MetadataReceived(1, 0, {"width": 320.0}),
            VideoReceived(1, 40, b"\x17" * 100_000),
            AudioReceived(1, 41, b"\xaf\x01"),
            PublishStopped(1),
        ]

    def test_announces_its_codecs(self) -> None:
        event = Pair(publisher()).asked[0]
        assert isinstance(event, ConnectRequested)
        assert {"hvc1", "av01", "Opus"} <= set(event.four_ccs)

    def test_hears_a_refusal_of_the_connection(self) -> None:
        pair = Pair(publisher(), lambda server, event: server.reject_connect("Full."))
        assert pair.told == [Refused("NetConnection.Connect.Rejected", "Full.")]

    def test_hears_a_refusal_of_the_stream(self) -> None:
        def answer(server: ServerSession, event: ServerEvent) -> None:
            if isinstance(event, PublishRequested):
                server.reject_publish(event.stream_id, "No.")
            else:
                accept(server, event)

        assert Pair(publisher(), answer).told == [Refused("NetStream.Publish.BadName", "No.")]

    def test_hears_the_end(self) -> None:
        pair = Pair(publisher())
        pair.server.end_publish(1, "NetStream.Publish.Denied", "Taken over.")
        assert pair.run().told[1:] == [StatusReceived("NetStream.Publish.Denied", "error", "Taken over.")]

    def test_sends_no_media_before_it_started(self) -> None:
        self.assertRaises(LocalProtocolError, publisher().send_video, 0, b"x")


class Playing(SynchronousTestCase):
    def test_starts_and_brings_media(self) -> None:
        pair = Pair(player())
        assert pair.asked[1] == PlayRequested(1, "show", -1.0, -1.0, True, "live")
        assert pair.told == [
            StatusReceived("NetStream.Play.Reset", "status", "Playing and resetting."),
            Started(1),
        ]
        pair.server.send_metadata(1, 0, {"a": True})
        pair.server.send_video(1, 0xFFFFFFFF, b"v" * 9000)
        pair.server.send_audio(1, 3, b"a")
        pair.server.ping(5)
        assert pair.run().told[2:] == [
            MetadataReceived(1, 0, {"a": True}),
            VideoReceived(1, 0xFFFFFFFF, b"v" * 9000),
            AudioReceived(1, 3, b"a"),
        ]
        assert pair.asked[-1] == PingAnswered(5)


class HostileServers(SynchronousTestCase):
    @given(st.binary(max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_raise_nothing_but_the_named_error(self, data: bytes) -> None:
        client = publisher()
        try:
            list(client.receive(b"\x03" + bytes(3072) + data))
        except RemoteProtocolError:
            pass

    def test_cannot_give_an_impossible_stream(self) -> None:
        for number in (0, -1, float("nan"), float("inf"), 1e300):
            client = publisher()
            answer = ChunkWriter().message(3, 20, 0, 0, amf.encode("_result", 4, None, number))
            with self.assertRaisesRegex(RemoteProtocolError, "impossible stream id"):
                list(client.receive(b"\x03" + bytes(3072) + answer))
