"""The port on real sockets: what the kernel, curl, TLS and slow readers make of it."""

import gc
import hashlib
import os
import shutil
import socket
import ssl
import struct
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from twisted.internet import reactor as default_reactor
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.server import Request

from oxidecast.delivery.certificates import Source
from oxidecast.delivery.hot import HotAnswer
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.sink import PIECE, SocketSink, TransportSink
from oxidecast.delivery.tls import Certificates
from oxidecast.settings.sections import TlsSettings
from tests.delivery.secure import Authority
from tests.delivery.serving import PLAYLIST, PREFIX, SEGMENT, Server, body_of, field_of, request, status

reactor: Any = default_reactor


class SocketTestCase(TestCase):
    limits = HTTPLimits()
    timeout = 20

    def setUp(self) -> None:
        self.server = Server(self.limits, clock=reactor)
        self.listen()

    def listen(self) -> None:
        port = reactor.listenTCP(0, self.server.factory, backlog=256, interface="127.0.0.1")
        self.port = port.getHost().port
        self.addCleanup(self.stop, port)

    async def _stop(self, port: Any) -> None:
        await port.stopListening()
        await self.server.factory.stop(0)

    def stop(self, port: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop(port))

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A blocking client socket: only its connect and small sends may be used outside a thread."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        self.addCleanup(client.close)
        return client

    async def read_all(self, client: socket.socket, pause: float = 0) -> bytes:
        def read() -> bytes:
            received = bytearray()
            while data := client.recv(65536):
                received += data
                if pause:
                    time.sleep(pause)
            return bytes(received)

        return await deferToThread(read)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not happen")

    async def curl(self, *arguments: str) -> bytes:
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        output, errors, code = await getProcessOutputAndValue(curl, ("-sS", "-m", "10", *arguments))
        self.assertEqual((code, errors), (0, b""))
        return output

    async def shout_over(self, secured: Callable[[socket.socket], socket.socket]) -> None:
        """A resource takes the transport, as autobahn's does; early and late bytes reach its protocol."""

        class Shout(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data.upper())

        def take(cold: Request) -> None:
            transport, cold.channel.transport = cold.channel.transport, None
            shout = Shout()
            setattr(
                transport, "wrappedProtocol" if isinstance(transport, ProtocolWrapper) else "protocol", shout
            )
            shout.makeConnection(transport)
            transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\n")

        self.server.manual.act = take
        raw = self.connect()

        def talk() -> bytes:
            client = secured(raw)
            client.sendall(request(b"/manual", b"Upgrade: websocket", b"Connection: Upgrade") + b"early ")
            received = b""
            while not received.endswith(b"EARLY "):
                received += client.recv(65536)
            client.sendall(b"late")
            received += client.recv(65536)
            client.close()
            return received

        self.assertTrue((await deferToThread(talk)).endswith(b"\r\n\r\nEARLY LATE"))
        await self.until(lambda: not self.server.factory.channels)

    def url(self, path: bytes) -> str:
        return f"http://127.0.0.1:{self.port}{path.decode()}"


class TCPTests(SocketTestCase):
    async def test_a_segment_arrives_whole_at_a_slow_reader(self) -> None:
        client = self.connect(receive_buffer=8192)
        client.sendall(request(PREFIX + b"segment.m4s") + request(PREFIX + b"gone", b"Connection: close"))
        answer = await self.read_all(client, pause=0.0005)
        self.assertTrue(body_of(answer).startswith(SEGMENT))
        self.assertTrue(answer.endswith(b"gone"))

    async def test_a_site_answer_arrives_whole_with_a_pull_producer(self) -> None:
        class Source:
            def __init__(self, request: Request) -> None:
                self.request = request
                self.left = 40

            def resumeProducing(self) -> None:
                self.left -= 1
                self.request.write(b"y" * 50_000)
                if not self.left:
                    self.request.unregisterProducer()
                    self.request.finish()

            def stopProducing(self) -> None:
                pass

        self.server.manual.act = lambda request: request.registerProducer(Source(request), False)
        client = self.connect(receive_buffer=8192)
        client.sendall(request(b"/manual", b"Connection: close"))
        self.assertEqual((await self.read_all(client)).count(b"y" * 50_000), 40)

    async def test_small_packets_are_not_delayed(self) -> None:
        self.connect()
        await self.until(lambda: len(self.server.factory.channels) == 1)
        (channel,) = self.server.factory.channels
        self.assertTrue(channel.transport.getTcpNoDelay())

    async def test_a_client_that_resets_in_mid_answer_does_no_harm(self) -> None:
        client = self.connect(receive_buffer=8192)
        client.sendall(request(PREFIX + b"segment.m4s"))
        await self.until(lambda: bool(self.server.counted))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await self.until(lambda: not self.server.factory.channels)

    async def test_a_waiting_answer_is_cancelled_when_the_client_leaves(self) -> None:
        client = self.connect()
        client.sendall(request(PREFIX + b"wait"))
        await self.until(lambda: bool(self.server.shelf.waiting))
        client.close()
        await self.until(lambda: self.server.shelf.cancelled == 1)

    async def test_a_refused_upload_can_read_why(self) -> None:
        client = self.connect()

        def upload() -> bytes:
            client.sendall(request(b"/echo", b"Content-Length: 3000000", method=b"POST") + b"x" * 3_000_000)
            return client.recv(65536)

        self.assertEqual(status(await deferToThread(upload)), 413)

    async def test_two_hundred_slow_readers_hold_one_segment_together(self) -> None:
        answer = HotAnswer(os.urandom(600_000), b"video/mp4")
        self.server.shelf.answers[b"fresh"] = answer
        clients = [self.connect(receive_buffer=2048) for _ in range(200)]
        await self.until(lambda: len(self.server.factory.channels) == 200)
        for channel in self.server.factory.channels:  # Else the kernel's own buffers would take it all.
            channel.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        gc.collect()
        before = psutil.Process().memory_info().rss
        for client in clients:
            client.sendall(request(PREFIX + b"fresh"))
        await self.until(lambda: len(self.server.counted) == 200)
        grown = psutil.Process().memory_info().rss - before
        waiting = sum(channel._sink.pending for channel in self.server.factory.channels)
        self.assertGreater(waiting, 200 * 400_000)
        self.assertLess(grown, 200 * 16_384)

    async def test_stopping_finishes_the_answers_in_flight(self) -> None:
        client, idle = self.connect(receive_buffer=8192), self.connect()
        client.sendall(request(PREFIX + b"segment.m4s"))
        await self.until(lambda: bool(self.server.counted))
        stopped = self.server.factory.stop(10)
        self.assertEqual(await self.read_all(idle), b"")
        self.assertEqual(body_of(await self.read_all(client)), SEGMENT)
        await stopped

    async def test_a_taken_connection_is_its_protocols_alone(self) -> None:
        await self.shout_over(lambda raw: raw)


class CurlTests(SocketTestCase):
    async def test_get_head_range_and_condition(self) -> None:
        url = self.url(PREFIX + b"segment.m4s")
        self.assertEqual(await self.curl(url), SEGMENT)
        self.assertEqual(status(await self.curl("-I", url)), 200)
        self.assertEqual(await self.curl("-r", "5-9", url), SEGMENT[5:10])
        self.assertEqual(await self.curl("-r", "-5", url), SEGMENT[-5:])
        self.assertEqual(await self.curl("-w", "%{http_code}", "-H", 'If-None-Match: "s1"', url), b"304")

    async def test_a_connection_is_reused(self) -> None:
        url = self.url(PREFIX + b"playlist.m3u8")
        self.assertEqual(
            await self.curl("-w", "%{num_connects}", url, url), PLAYLIST + b"1" + PLAYLIST + b"0"
        )

    async def test_uploads_with_and_without_continue_and_chunks(self) -> None:
        url = self.url(b"/echo")
        body = "z" * 50_000
        for extra in (
            (),
            ("-H", "Expect: 100-continue"),
            ("-H", "Transfer-Encoding: chunked"),
            ("-0",),
            ("--http2",),
        ):
            self.assertEqual(await self.curl(*extra, "-d", body, url), body.encode(), extra)

    async def test_http2_is_declined_and_the_request_answered(self) -> None:
        self.assertEqual(await self.curl("--http2", self.url(PREFIX + b"playlist.m3u8")), PLAYLIST)


class TightLimitTests(SocketTestCase):
    limits = HTTPLimits(max_connections=1, write_stall_timeout=1, linger_timeout=1)

    async def test_one_too_many_reads_its_503_though_it_has_sent_a_request(self) -> None:
        self.connect()
        refused = self.connect()
        refused.sendall(request(PREFIX + b"playlist.m3u8"))
        self.assertEqual(status(await self.read_all(refused)), 503)

    async def test_a_client_that_reads_nothing_is_cut_off(self) -> None:
        client = self.connect(receive_buffer=2048)
        await self.until(lambda: bool(self.server.factory.channels))
        client.sendall(request(PREFIX + b"segment.m4s") * 20)
        await self.until(lambda: not self.server.factory.channels)
        with self.assertRaises(ConnectionResetError):
            await self.read_all(client)


class TLSTests(SocketTestCase):
    def listen(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        Authority().issue("localhost").write(folder / "localhost.pem")
        source = Source(TlsSettings(certificate_directory=folder.name), folder.parent)
        secured = Certificates(source, reactor).wrap("https", self.server.factory)
        port = reactor.listenTCP(0, secured, backlog=256, interface="127.0.0.1")
        self.port = port.getHost().port
        self.addCleanup(self.stop, port)

    async def test_hot_and_cold_answers_arrive_encrypted(self) -> None:
        base = f"https://127.0.0.1:{self.port}"
        secure: list[bool] = []
        self.server.manual.act = lambda request: (secure.append(request.isSecure()), request.finish())
        self.assertEqual(await self.curl("-k", base + (PREFIX + b"segment.m4s").decode()), SEGMENT)
        self.assertEqual(await self.curl("-k", base + "/echo"), b"GET /echo")
        await self.curl("-k", base + "/manual")
        self.assertEqual(secure, [True])

    def secured(self, raw: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(raw)

    async def test_a_taken_connection_stays_encrypted(self) -> None:
        await self.shout_over(self.secured)

    async def test_a_slow_reader_holds_pieces_not_a_copy(self) -> None:
        raw = self.connect(receive_buffer=4096)

        client = await deferToThread(self.secured, raw)
        self.addCleanup(client.close)
        (channel,) = self.server.factory.channels
        self.assertIsInstance(channel._sink, TransportSink)
        # Else the kernel's own buffer would take it all.
        channel.transport.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sendall(request(PREFIX + b"segment.m4s", b"Connection: close"))
        await self.until(lambda: bool(self.server.counted))
        self.assertGreater(channel._sink.pending, len(SEGMENT) // 2)
        self.assertEqual(body_of(await self.read_all(client)), SEGMENT)

    async def test_slow_readers_hold_little_whatever_they_ask_for(self) -> None:
        raws = [self.connect(receive_buffer=4096) for _ in range(20)]
        clients = [await deferToThread(self.secured, raw) for raw in raws]
        for channel in self.server.factory.channels:
            channel.transport.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for client in clients:
            client.sendall(request(PREFIX + b"segment.m4s"))
        await self.until(lambda: len(self.server.counted) == 20)
        for channel in self.server.factory.channels:
            connection = channel.transport.transport
            held = len(connection.dataBuffer) + connection._tempDataLen
            self.assertGreater(channel._sink.pending, len(SEGMENT) // 2)
            self.assertLess(held, 2.5 * PIECE)
        for client in clients:
            client.close()
        await self.until(lambda: not self.server.factory.channels)

    async def test_small_packets_are_not_delayed(self) -> None:
        self.connect()
        await self.until(lambda: len(self.server.factory.channels) == 1)
        (channel,) = self.server.factory.channels
        self.assertTrue(channel.transport.getTcpNoDelay())

    async def test_autobahn_takes_over_and_talks(self) -> None:
        await talk_by_websocket(self, self.secured)


class UnixTests(SocketTestCase):
    def listen(self) -> None:
        self.path = self.mktemp()
        self.connected = UNIXServerEndpoint(reactor, self.path).listen(self.server.factory)
        self.connected.addCallback(lambda port: self.addCleanup(self.stop, port))

    async def test_a_unix_socket_serves_too(self) -> None:
        url = f"http://localhost{(PREFIX + b'segment.m4s').decode()}"
        self.assertEqual(await self.curl("--unix-socket", self.path, url), SEGMENT)


class SinkChoiceTests(SocketTestCase):
    async def test_only_a_plain_tcp_connection_is_written_directly(self) -> None:
        self.connect()
        await self.until(lambda: len(self.server.factory.channels) == 1)
        (channel,) = self.server.factory.channels
        self.assertIs(type(channel.transport), tcp.Server)
        self.assertIsInstance(channel._sink, SocketSink)


class WebSocketTests(SocketTestCase):
    async def test_autobahn_takes_over_and_talks(self) -> None:
        await talk_by_websocket(self, lambda raw: raw)


async def talk_by_websocket(case: SocketTestCase, secured: Callable[[socket.socket], socket.socket]) -> None:
    """autobahn's resource answers, plain and by TLS alike."""
    try:
        from autobahn.twisted.resource import WebSocketResource
        from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
    except ImportError:
        raise SkipTest("autobahn is not installed")

    class Loud(WebSocketServerProtocol):
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            self.sendMessage(payload.upper(), isBinary)

    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Loud
    case.server.root.putChild(b"ws", WebSocketResource(factory))
    raw = case.connect()
    key = b64encode(os.urandom(16))
    upgrade = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13")
    head = request(b"/ws", *upgrade, b"Sec-WebSocket-Key: " + key)
    frame = b"\x81\x82\x00\x00\x00\x00hi"

    def talk() -> bytes:
        client = secured(raw)
        client.sendall(head + frame)
        received = b""
        while not received.endswith(b"HI"):
            received += client.recv(65536)
        client.sendall(frame)
        received += client.recv(65536)
        client.close()
        return received

    answer = await deferToThread(talk)
    accept = b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    case.assertEqual((status(answer), field_of(answer, b"Sec-WebSocket-Accept")), (101, accept))
    case.assertTrue(answer.endswith(b"\x81\x02HI\x81\x02HI"))
    await case.until(lambda: not case.server.factory.channels)
