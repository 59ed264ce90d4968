"""The RTMP port on a clock: a real client session talks to it through a transport in memory."""

import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oxidecast.delivery.certificates import Source
from oxidecast.delivery.proxied import Proxies
from oxidecast.delivery.tls import Certificates
from oxidecast.interfaces import Refused
from oxidecast.media import RemoteProtocolError
from oxidecast.rtmp import events
from oxidecast.rtmp.client import ClientSession
from oxidecast.rtmp.server import (
    EARLY_BYTES,
    FAREWELL,
    LEFTOVER,
    REFUSED_AT_ONCE,
    IMediaSink,
    RTMPConnection,
    RTMPPort,
)
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings.errors import StartError
from oxidecast.settings.sections import TlsSettings
from tests.delivery.secure import CLIENT, Authority, Client, HouseClock, trusting

KEY = "very-secret-key"
PICTURE = b"\x17\x01\x00\x00\x00picture"
DONE = Failure(ConnectionDone())


@implementer(IMediaSink)
class Sink:
    """Notes what a publisher sends."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.error: Exception | None = None

    def video(self, timestamp: int, body: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.got.append(("video", timestamp, body))

    def audio(self, timestamp: int, body: bytes) -> None:
        self.got.append(("audio", timestamp, body))

    def metadata(self, values: Mapping[str, Any]) -> None:
        self.got.append(("metadata", dict(values)))

    def stopped(self, reason: str) -> None:
        self.got.append(("stopped", reason))


class Transport(StringTransport):
    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def abortConnection(self) -> None:
        self.aborted = True

    def loseWriteConnection(self) -> None:
        self.disconnecting = True


class Peer:
    """A client and the server's connection to it."""

    def __init__(self, port: RTMPPort, address: str = "192.0.2.1", purpose: Any = "publish") -> None:
        connection = port.buildProtocol(IPv4Address("TCP", address, 5000))
        assert connection is not None
        self.connection: RTMPConnection = connection
        self.transport = Transport()
        self.client = ClientSession(purpose, app="live", tc_url="rtmp://h/live", name=KEY)
        self.told: list[Any] = []
        self._in_flight = b""
        self.connection.makeConnection(self.transport)

    def talk(self) -> "Peer":
        """Carry bytes both ways until nobody has any; what is sent while reading rests waits, as in a socket."""
        while True:
            self._in_flight += self.client.take_output()
            up = b""
            if self.transport.producerState == "producing" or self.transport.disconnecting:
                up, self._in_flight = self._in_flight, b""
                if up:
                    self.connection.dataReceived(up)
            down = self.transport.value()
            self.transport.clear()
            self.told += self.client.receive(down)
            if not up and not down:
                return self

    def video(self, timestamp: int = 0) -> None:
        self.client.send_video(timestamp, PICTURE)
        self.talk()

    def lose(self) -> None:
        self.connection.connectionLost(DONE)

    @property
    def codes(self) -> list[str]:
        return [event.code for event in self.told if hasattr(event, "code")]

    @property
    def aborted(self) -> bool:
        return self.transport.aborted

    @property
    def closing(self) -> bool:
        return bool(self.transport.disconnecting)


class ServerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sink = Sink()
        self.asked: list[events.PublishRequested] = []
        self.answer: Any = None
        self.port = self.make()

    def make(self, **settings: Any) -> RTMPPort:
        port = RTMPPort(RtmpSettings(**settings), self.clock)
        port.publish_gate = self.gate
        return port

    async def gate(self, connection: RTMPConnection, request: events.PublishRequested) -> Sink:
        self.asked.append(request)
        if isinstance(self.answer, Deferred):
            await self.answer
        elif self.answer is not None:
            raise self.answer
        return self.sink

    def publisher(self) -> Peer:
        peer = Peer(self.port).talk()
        self.assertEqual([type(event) for event in peer.told], [events.Started])
        return peer


class TestPublishing(ServerCase):
    def test_the_sink_of_these_tests_is_one(self) -> None:
        verifyObject(IMediaSink, self.sink)

    def test_media_reaches_the_sink(self) -> None:
        peer = self.publisher()
        peer.client.send_metadata(0, {"width": 640.0})
        peer.client.send_audio(1, b"\xaf\x01sound")
        peer.video(2)
        self.assertEqual(
            self.sink.got,
            [("metadata", {"width": 640.0}), ("audio", 1, b"\xaf\x01sound"), ("video", 2, PICTURE)],
        )

    def test_the_gate_gets_the_key(self) -> None:
        self.publisher()
        self.assertEqual([request.key for request in self.asked], [KEY])

    def test_the_end_of_publishing_is_told_and_publishing_again_is_possible(self) -> None:
        peer = self.publisher()
        peer.client.stop()
        peer.talk()
        self.assertEqual(self.sink.got, [("stopped", "it stopped publishing")])
        self.assertFalse(peer.closing)

    def test_a_lost_connection_stops_the_sink_once(self) -> None:
        peer = self.publisher()
        peer.lose()
        self.assertEqual(self.sink.got, [("stopped", "the connection was lost")])
        self.assertEqual((self.port.connections, self.clock.getDelayedCalls()), (0, []))

    def test_playing_is_refused_with_a_sentence_where_nobody_plays(self) -> None:
        peer = Peer(self.port, purpose="play").talk()
        self.assertEqual(peer.codes, ["NetStream.Play.StreamNotFound"])
        self.assertTrue(peer.closing)

    def test_publishing_is_refused_where_nobody_takes_publishers(self) -> None:
        self.port.publish_gate = None
        peer = Peer(self.port).talk()
        self.assertEqual(peer.codes, ["NetStream.Publish.BadName"])


class TestRefusal(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.answer = Refused("bad_key", "The stream key is not known.")

    def test_a_wrong_key_is_told_by_bad_name_and_the_connection_closes(self) -> None:
        peer = Peer(self.port).talk()
        self.assertEqual(
            peer.told, [events.Refused("NetStream.Publish.BadName", "The stream key is not known.")]
        )
        self.assertTrue(peer.closing)

    def test_who_does_not_read_the_refusal_is_cut_off(self) -> None:
        peer = Peer(self.port).talk()
        self.clock.advance(FAREWELL)
        self.assertTrue(peer.aborted)

    def test_who_only_sends_after_the_refusal_is_cut_off(self) -> None:
        peer = Peer(self.port).talk()
        peer.connection.dataReceived(bytes(LEFTOVER))
        self.assertFalse(peer.aborted)
        peer.connection.dataReceived(b"x")
        self.assertTrue(peer.aborted)

    def test_media_after_the_refusal_goes_nowhere(self) -> None:
        peer = Peer(self.port).talk()
        peer.connection.dataReceived(bytes(1000))
        self.assertEqual(self.sink.got, [])

    def test_no_log_line_holds_the_key(self) -> None:
        lines: list[str] = []

        def observer(event: Any) -> None:
            lines.append(repr(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        Peer(self.port).talk().lose()
        self.answer = RuntimeError("broken")
        Peer(self.port).talk().lose()
        self.answer = None
        peer = self.publisher()
        peer.connection.dataReceived(b"\xff" * 100)
        peer.lose()
        self.assertGreater(len(lines), 2)
        self.assertNotIn(KEY, "".join(lines))
        self.flushLoggedErrors(RuntimeError)

    def test_no_repr_holds_the_key(self) -> None:
        Peer(self.port).talk()
        self.assertNotIn(KEY, repr(self.asked[0]))


class TestDeciding(ServerCase):
    """A gate may take its time."""

    def setUp(self) -> None:
        super().setUp()
        self.answer = Deferred()

    def test_reading_rests_meanwhile_and_nothing_is_lost(self) -> None:
        peer = Peer(self.port).talk()
        self.assertEqual((peer.transport.producerState, peer.told), ("paused", []))
        self.answer.callback(None)
        peer.talk()
        self.assertEqual(peer.transport.producerState, "producing")
        peer.video()
        self.assertEqual(self.sink.got, [("video", 0, PICTURE)])

    def test_what_came_together_with_the_request_waits(self) -> None:
        peer = Peer(self.port).talk()
        peer.client._started, peer.client.stream_id = True, 1  # an encoder that does not wait for the answer
        peer.client.send_video(5, PICTURE)
        peer.connection.dataReceived(peer.client.take_output())
        self.assertEqual(self.sink.got, [])
        self.answer.callback(None)
        self.assertEqual(self.sink.got, [("video", 5, PICTURE)])

    def test_a_late_no_is_told(self) -> None:
        peer = Peer(self.port).talk()
        self.answer.errback(Refused("bad_key", "Not known."))
        peer.talk()
        self.assertEqual(peer.codes, ["NetStream.Publish.BadName"])
        self.assertTrue(peer.closing)

    def test_a_connection_lost_meanwhile_cancels_the_gate(self) -> None:
        cancelled: list[object] = []
        self.answer = Deferred(cancelled.append)
        Peer(self.port).talk().lose()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual((self.sink.got, self.clock.getDelayedCalls()), ([], []))

    def test_a_gate_that_answers_for_a_lost_connection_has_its_sink_stopped(self) -> None:
        self.answer = Deferred(lambda deferred: deferred.callback(None))
        Peer(self.port).talk().lose()
        self.assertEqual(self.sink.got, [("stopped", "the connection was lost")])

    def test_the_publish_timeout_goes_on_meanwhile(self) -> None:
        peer = Peer(self.port).talk()
        self.clock.advance(20)
        self.assertTrue(peer.closing)
        peer.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_gate_that_fails_ends_the_connection_and_nothing_else(self) -> None:
        peer, other = Peer(self.port).talk(), Peer(self.port, "192.0.2.2")
        self.answer.errback(RuntimeError("broken"))
        self.assertTrue(peer.aborted)
        self.assertFalse(other.aborted)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        peer.lose()
        self.assertEqual(self.port.connections, 1)

    def test_a_gate_that_fails_at_once_does_the_same(self) -> None:
        self.answer = RuntimeError("broken")
        peer = Peer(self.port).talk()
        self.assertTrue(peer.aborted)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class TestTimeouts(ServerCase):
    def test_silence_from_the_start(self) -> None:
        peer = Peer(self.port)
        self.clock.advance(9.9)
        self.assertFalse(peer.closing)
        self.clock.advance(0.2)
        self.assertTrue(peer.closing)

    def test_half_a_handshake_then_silence(self) -> None:
        peer = Peer(self.port)
        peer.connection.dataReceived(b"\x03" + bytes(700))
        self.clock.advance(10)
        self.assertTrue(peer.closing)

    def test_dripping_bytes_do_not_extend_the_handshake(self) -> None:
        peer = Peer(self.port)
        for _ in range(11):
            peer.connection.dataReceived(b"\x03")
            self.clock.advance(1)
        self.assertTrue(peer.closing)

    def test_connected_without_publishing(self) -> None:
        peer = Peer(self.port)
        peer.client._create_stream = lambda: None  # type: ignore[method-assign]
        peer.talk()
        self.clock.advance(19.9)
        self.assertFalse(peer.closing)
        self.clock.advance(0.2)
        self.assertTrue(peer.closing)

    def test_a_publisher_without_media(self) -> None:
        peer = self.publisher()
        self.clock.advance(20)
        self.assertEqual(self.sink.got, [("stopped", "no media within 20 s")])
        self.assertTrue(peer.closing)

    def test_media_keeps_a_publisher(self) -> None:
        peer = self.publisher()
        for _ in range(20):
            self.clock.advance(19)
            peer.video()
        self.assertFalse(peer.closing)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_talk_without_media_keeps_nobody(self) -> None:
        peer = self.publisher()
        for _ in range(4):
            self.clock.advance(5)
            peer.client.send_metadata(0, {})
            peer.talk()
        self.assertEqual(self.sink.got[-1], ("stopped", "no media within 20 s"))

    def test_a_connection_from_which_nothing_arrives_has_a_limit_of_its_own(self) -> None:
        self.port = self.make(connection_timeout=5.0, stream_timeout=60.0)
        peer = self.publisher()
        self.clock.advance(4)
        peer.client.send_metadata(0, {})
        peer.talk()
        self.clock.advance(4.9)
        self.assertFalse(peer.closing)
        self.clock.advance(0.2)
        self.assertEqual(self.sink.got[-1], ("stopped", "no sign of life within 5 s"))

    def test_publishing_again_has_a_limit(self) -> None:
        peer = self.publisher()
        peer.client.stop()
        peer.talk()
        self.clock.advance(20)
        self.assertTrue(peer.closing)


class TestEarlyBytes(ServerCase):
    def test_who_sends_much_before_it_publishes_is_told_off_once_and_cut(self) -> None:
        self.answer = Deferred()  # so that what comes stays bytes
        peer = Peer(self.port).talk()
        for _ in range(10):
            peer.connection.dataReceived(bytes(EARLY_BYTES // 2))
            self.clock.advance(1)
        self.assertTrue(peer.closing)
        self.assertTrue(peer.transport.aborted)

    def test_a_publisher_may_send_more(self) -> None:
        peer = self.publisher()
        for _ in range(3):
            peer.client.send_video(0, bytes(EARLY_BYTES))
        peer.talk()
        self.assertEqual((len(self.sink.got), peer.closing), (3, False))


class TestStopping(ServerCase):
    def test_a_publisher_is_told_why_and_nothing_comes_from_it_any_more(self) -> None:
        peer = self.publisher()
        peer.connection.stop_publishing("NetStream.Publish.BadName", "Another one took over.")
        peer.talk()
        self.assertEqual(peer.told[-1].code, "NetStream.Publish.BadName")
        self.assertEqual(peer.told[-1].description, "Another one took over.")
        self.assertTrue(peer.closing)
        peer.connection.dataReceived(bytes(100))
        self.assertEqual(self.sink.got, [])

    def test_stopping_twice_and_after_the_end_is_nothing(self) -> None:
        peer = self.publisher()
        for _ in range(2):
            peer.connection.stop_publishing("NetStream.Publish.BadName", "Over.")
        peer.lose()
        peer.connection.stop_publishing("NetStream.Publish.BadName", "Over.")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_inside_its_own_media(self) -> None:
        peer = self.publisher()
        self.sink.video = lambda timestamp, body: peer.connection.stop_publishing("c", "s")  # type: ignore
        peer.client.send_video(0, PICTURE)
        peer.client.send_audio(0, b"\xaf\x01s")
        peer.talk()
        self.assertEqual((peer.closing, self.sink.got), (True, []))

    def test_the_end_of_the_service_closes_connections(self) -> None:
        peer = self.publisher()
        self.port.stopService()
        self.assertTrue(peer.closing)


class TestFaults(ServerCase):
    def test_nonsense_ends_the_connection_and_stops_the_sink(self) -> None:
        peer = self.publisher()
        peer.connection.dataReceived(b"\xff" * 64)
        self.assertEqual(self.sink.got, [("stopped", "its connection broke the protocol")])
        self.assertTrue(peer.closing)

    def test_media_that_the_sink_cannot_read_ends_the_connection(self) -> None:
        peer = self.publisher()
        self.sink.error = RemoteProtocolError("the video tag is empty")
        peer.client.send_video(0, PICTURE)
        peer.talk()
        self.assertEqual(self.sink.got[-1][0], "stopped")
        self.assertTrue(peer.closing)

    def test_a_sink_that_fails_ends_only_its_connection(self) -> None:
        peer = self.publisher()
        self.sink.error = RuntimeError("broken")
        peer.client.send_video(0, PICTURE)
        peer.connection.dataReceived(peer.client.take_output())
        self.assertTrue(peer.aborted)
        self.assertEqual(self.sink.got, [("stopped", "its connection failed")])
        self.flushLoggedErrors(RuntimeError)

    def test_who_does_not_read_our_answers_is_not_read(self) -> None:
        peer = Peer(self.port)
        producer = peer.transport.producer
        producer.pauseProducing()
        self.assertEqual(peer.transport.producerState, "paused")
        producer.resumeProducing()
        self.assertEqual(peer.transport.producerState, "producing")

    def test_a_drained_socket_does_not_read_past_a_gate_that_decides(self) -> None:
        self.answer = Deferred()
        peer = Peer(self.port).talk()
        peer.transport.producer.resumeProducing()
        self.assertEqual(peer.transport.producerState, "paused")

    def test_an_answered_gate_does_not_read_from_a_congested_peer(self) -> None:
        self.answer = Deferred()
        peer = Peer(self.port).talk()
        peer.transport.producer.pauseProducing()
        self.answer.callback(None)
        self.assertEqual(peer.transport.producerState, "paused")


class TestLimits(ServerCase):
    def test_connections_in_all(self) -> None:
        self.port = self.make(max_connections=2)
        peers = [Peer(self.port, f"192.0.2.{number}") for number in range(2)]
        self.assertIsNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.9", 1)))
        self.assertEqual(self.port.refused, 1)
        peers[0].lose()
        self.assertIsNotNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.9", 1)))

    def test_connections_of_one_address(self) -> None:
        self.port = self.make(max_connections_per_address=2)
        peers = [Peer(self.port) for _ in range(2)]
        self.assertIsNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertIsNotNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.2", 1)))
        peers[0].lose()
        self.assertIsNotNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))

    def test_ten_thousand_connections_leave_nothing_behind(self) -> None:
        self.port = self.make(max_connections=10_000, max_connections_per_address=10_000)
        peers = [self.port.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)) for _ in range(10_000)]
        self.assertEqual(self.port.connections, 10_000)
        for peer in peers:
            assert peer is not None
            peer.connectionLost(DONE)
        self.assertEqual((self.port.connections, dict(self.port._by_network)), (0, {}))

    def test_addresses_of_one_ipv6_network_count_together(self) -> None:
        self.port = self.make(max_connections_per_address=2)
        for number in range(2):
            self.assertIsNotNone(self.port.buildProtocol(IPv6Address("TCP", f"2001:db8::{number}", 1)))
        self.assertIsNone(self.port.buildProtocol(IPv6Address("TCP", "2001:db8::ffff:1", 1)))
        self.assertIsNotNone(self.port.buildProtocol(IPv6Address("TCP", "2001:db8:0:1::1", 1)))

    def test_connects_that_come_too_often_are_told_when_to_try_again(self) -> None:
        asked: list[str] = []
        self.port.admit = lambda address: asked.append(address) or 7
        for purpose, code in (
            ("publish", "NetStream.Publish.BadName"),
            ("play", "NetStream.Play.StreamNotFound"),
        ):
            peer = Peer(self.port, purpose=purpose).talk()
            sentence = "Too many connections came from your network: try again in 7 s."
            self.assertEqual(peer.told, [events.Refused(code, sentence)])
            self.assertTrue(peer.closing)
        self.assertEqual((self.asked, asked, self.port.refused), ([], ["192.0.2.1"] * 2, 2))

    def test_only_some_of_them_at_once_are_told(self) -> None:
        self.port.admit = lambda address: 7
        peers = [Peer(self.port) for _ in range(REFUSED_AT_ONCE)]
        self.assertIsNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        peers[0].lose()
        Peer(self.port)

    def test_new_limits_hold_for_the_next_connection(self) -> None:
        Peer(self.port)
        self.port.settings = msgspec.structs.replace(self.port.settings, max_connections=1)
        self.assertIsNone(self.port.buildProtocol(IPv4Address("TCP", "192.0.2.2", 1)))


class TestPort(SynchronousTestCase):
    def test_the_proxy_protocol_needs_proxies(self) -> None:
        port = RTMPPort(RtmpSettings(proxy_protocol=True), MemoryReactorClock())
        port.publish_gate = lambda connection, request: None  # type: ignore
        with self.assertRaisesRegex(StartError, "trusted_proxies"):
            port.startService()

    def test_a_publisher_behind_a_proxy_has_its_own_address(self) -> None:
        reactor = MemoryReactorClock()
        port = RTMPPort(RtmpSettings(proxy_protocol=True), reactor, Proxies(["192.0.2.0/24"]))
        port.publish_gate = lambda connection, request: None  # type: ignore
        port.startService()
        factory = reactor.tcpServers[0][1]
        transport = Transport()
        before = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 5000))
        before.makeConnection(transport)
        before.dataReceived(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 1935\r\n")
        (connection,) = port._connections
        self.assertEqual(connection.address, "203.0.113.7")
        connection.connectionLost(DONE)

    def test_it_listens_where_the_settings_say_once_there_is_a_gate(self) -> None:
        reactor = MemoryReactorClock()
        port = RTMPPort(RtmpSettings(bind_address="127.0.0.1:1936"), reactor)
        port.startService()
        self.assertEqual((reactor.tcpServers, port.number), ([], 0))
        port.stopService()
        port.publish_gate = lambda connection, request: None  # type: ignore
        port.startService()
        self.assertEqual(reactor.tcpServers[0][0], 1936)
        self.assertEqual(reactor.tcpServers[0][3], "127.0.0.1")

    def test_a_port_that_is_taken_is_one_sentence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            port = RTMPPort(RtmpSettings(bind_address=f"127.0.0.1:{number}"), reactor)
            port.publish_gate = lambda connection, request: None  # type: ignore
            error = self.assertRaises(StartError, port.startService)
        self.assertIn(f"127.0.0.1:{number}", str(error))
        self.assertIn("rtmp.bind_address", str(error))

    def test_with_tls_it_listens_twice(self) -> None:
        memory = MemoryReactorClock()
        port = RTMPPort(RtmpSettings(tls_bind_address="127.0.0.1:1944"), memory)
        port.publish_gate = lambda connection, request: None  # type: ignore
        wrapped: Any = object()
        port.secure = lambda factory: wrapped if factory is port else None  # type: ignore
        port.startService()
        plain, secure = memory.tcpServers
        self.assertEqual((plain[0], plain[1]), (1935, port))
        self.assertEqual((secure[0], secure[1], secure[3]), (1944, wrapped, "127.0.0.1"))


class TestSecure(ServerCase):
    """The same port behind TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = self.house = HouseClock()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.root = Authority()
        self.root.issue("h").write(folder / "h.pem")
        self.certificates = Certificates(Source(TlsSettings(certificate_file="h.pem"), folder), self.house)
        self.port = self.make(max_connections_per_address=2)
        self.secured = self.certificates.wrap("rtmps", self.port)

    def client(self) -> Client:
        return Client(self.secured, trusting(self.root), "h")

    def test_a_publisher_is_taken(self) -> None:
        peer = self.client().handshake()
        session = ClientSession("publish", app="live", tc_url="rtmps://h/live", name=KEY)
        told: list[Any] = []
        while output := session.take_output():
            told += session.receive(peer.send(output))
        self.assertEqual([type(event) for event in told], [events.Started])
        session.send_video(0, PICTURE)
        peer.send(session.take_output())
        self.assertIn(("video", 0, PICTURE), self.sink.got)

    def test_the_limits_of_an_address_hold_for_both(self) -> None:
        first = self.client()
        plain = self.port.buildProtocol(IPv4Address("TCP", CLIENT.host, 1))
        self.assertIsNotNone(plain)
        self.assertIsNone(self.secured.buildProtocol(CLIENT))
        self.assertIsNone(self.port.buildProtocol(CLIENT))
        self.assertEqual((self.port.connections, self.port.refused), (2, 2))
        first.lose(DONE)
        self.assertIsNotNone(self.secured.buildProtocol(CLIENT))

    def test_one_that_never_speaks_tls_is_cut_off_in_time(self) -> None:
        client = self.client()
        self.house.pump([1] * 9)
        self.assertFalse(client.ended)
        self.house.pump([1] * 2)
        self.assertTrue(client.aborted)
        client.lose(DONE)
        self.assertEqual(self.port.connections, 0)
        self.house.advance(FAREWELL)
        self.assertEqual(self.house.getDelayedCalls(), [])

    def test_one_that_shakes_hands_and_says_nothing_has_no_more_time(self) -> None:
        client = self.client()
        self.house.advance(6)
        client.handshake()
        self.house.advance(5)
        client.answer()
        self.assertTrue(client.closed)
        self.house.advance(FAREWELL + 1)
        self.assertTrue(client.aborted)

    def test_plain_rtmp_is_closed(self) -> None:
        client = self.client()
        client.server.dataReceived(b"\x03" + bytes(1536))  # type: ignore[union-attr]
        self.assertTrue(client.ended)

    def test_a_web_client_is_closed_without_an_answer(self) -> None:
        client = self.client().handshake()
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(client.closed)
        self.assertEqual(client.received, b"")
