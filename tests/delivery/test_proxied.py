"""Clients behind proxies: by header fields on the HTTP port, and by the PROXY protocol on any."""

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from oxidecast.delivery.proxied import (
    HEADER_TIMEOUT,
    MOST_WAITING,
    ClientAddress,
    Proxies,
    ProxyProtocolFactory,
)
from tests.delivery.serving import CLIENT, PLAYLIST, PREFIX, Server, body_of, status
from tests.formats.test_proxy_header import V4, binary, tlv

PLAYLIST_PATH = PREFIX + b"playlist.m3u8"
BEHIND = b"X-Forwarded-For: 203.0.113.7"


class HeaderTests(SynchronousTestCase):
    def server(self, *networks: str, headers: str = "x-forwarded") -> Server:
        server = Server(proxies=Proxies(networks, headers))
        self.seen: list[tuple[str, bool, str | None]] = []

        def act(request: Request) -> None:
            self.seen.append((request.getClientAddress().host, request.isSecure(), request.getHeader("host")))
            request.finish()

        server.manual.act = act
        return server

    def test_a_cold_request_has_the_clients_address_scheme_and_host(self) -> None:
        connection = self.server("192.0.2.0/24").connect()
        connection.get(b"/manual", BEHIND, b"X-Forwarded-Proto: https", b"X-Forwarded-Host: tv.example")
        self.assertEqual(self.seen, [("203.0.113.7", True, "tv.example")])

    def test_a_hot_request_has_the_clients_address(self) -> None:
        server = self.server("192.0.2.0/24")
        server.connect().get(PLAYLIST_PATH, BEHIND)
        self.assertEqual(server.shelf.requests[0].client, ClientAddress("203.0.113.7"))

    def test_each_request_of_a_connection_has_its_own_client(self) -> None:
        server = self.server("192.0.2.0/24")
        connection = server.connect()
        connection.get(b"/manual", BEHIND, b"X-Forwarded-Proto: https")
        connection.get(b"/manual", b"X-Forwarded-For: 203.0.113.8")
        connection.get(b"/manual")
        self.assertEqual(
            self.seen,
            [("203.0.113.7", True, "test"), ("203.0.113.8", False, "test"), (CLIENT.host, False, "test")],
        )

    def test_repeated_requests_too(self) -> None:
        server = self.server("192.0.2.0/24")
        connection = server.connect()
        for number in (7, 7, 8, 7):
            connection.get(PLAYLIST_PATH, b"X-Forwarded-For: 203.0.113.%d" % number)
        connection.get(PLAYLIST_PATH + b"?other", b"X-Forwarded-For: 203.0.113.7")
        hosts = [request.client.host for request in server.shelf.requests]  # type: ignore[attr-defined]
        self.assertEqual([host[-1] for host in hosts], ["7", "7", "8", "7", "7"])

    def test_nobody_else_is_believed(self) -> None:
        for networks in ((), ("198.51.100.0/24",)):
            server = self.server(*networks)
            connection = server.connect()
            connection.get(b"/manual", BEHIND, b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.example")
            connection.get(PLAYLIST_PATH, BEHIND)
            self.assertEqual(self.seen, [(CLIENT.host, False, "test")])
            self.assertEqual(server.shelf.requests[0].client, CLIENT)

    def test_only_the_form_that_the_settings_name(self) -> None:
        both = (BEHIND, b"Forwarded: for=203.0.113.99;proto=https")
        self.server("192.0.2.0/24").connect().get(b"/manual", *both)
        self.assertEqual(self.seen, [("203.0.113.7", False, "test")])
        self.server("192.0.2.0/24", headers="forwarded").connect().get(b"/manual", *both)
        self.assertEqual(self.seen, [("203.0.113.99", True, "test")])

    def test_a_header_that_means_nothing_is_refused_and_the_connection_goes_on(self) -> None:
        for path in (PLAYLIST_PATH, b"/manual"):
            server = self.server("192.0.2.0/24")
            connection = server.connect()
            self.assertEqual(status(connection.get(path, b"X-Forwarded-For: banana")), 400)
            self.assertEqual(body_of(connection.get(PLAYLIST_PATH, BEHIND)), PLAYLIST)
            self.assertEqual(self.seen, [])

    def test_a_changed_setting_holds_for_new_connections(self) -> None:
        server = self.server()
        server.factory.proxies = Proxies(["192.0.2.0/24"])
        server.connect().get(b"/manual", BEHIND)
        self.assertEqual(self.seen[0][0], "203.0.113.7")

    def test_the_host_of_a_hot_answer_is_counted_nowhere(self) -> None:
        server = self.server("192.0.2.0/24")
        connection = server.connect()
        connection.get(PLAYLIST_PATH, BEHIND, b"X-Forwarded-Host: tv.example")
        connection.get(b"/manual", BEHIND)
        self.assertEqual(self.seen, [("203.0.113.7", False, "test")])


class Recorder(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Recorders(Factory[Recorder]):
    noisy = False

    def __init__(self) -> None:
        self.built: list[tuple[Any, Recorder]] = []
        self.full = False

    def buildProtocol(self, addr: Any) -> Recorder | None:
        if self.full:
            return None
        self.built.append((addr, Recorder()))
        return self.built[-1][1]


PROXY = IPv4Address("TCP", "192.0.2.7", 40000)
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.7 4711 80\r\n"


class ProxyProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.inner = Recorders()
        self.port = ProxyProtocolFactory(self.inner, Proxies(["192.0.2.0/24"]), self.clock)

    def connect(self, peer: Any = PROXY) -> Any:
        transport: Any = StringTransport(peerAddress=peer)
        transport.protocol = self.port.buildProtocol(peer)
        transport.protocol.makeConnection(transport)
        return transport

    def test_the_factory_is_told_the_client(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(LINE + b"GET /")
        ((client, protocol),) = self.inner.built
        self.assertEqual(client, ClientAddress("203.0.113.7", 4711))
        self.assertEqual(protocol.received, b"GET /")
        self.assertIs(protocol.transport, transport)
        self.assertIs(transport.protocol, protocol)
        self.assertEqual((self.clock.getDelayedCalls(), self.port.waiting), ([], set()))

    def test_tls_that_ends_at_the_proxy_is_told_and_tls_that_does_not_is_ours_to_know(self) -> None:
        for flags, secure in ((b"\1", True), (b"\0", None)):
            self.connect().protocol.dataReceived(binary(V4, tlvs=tlv(0x20, flags + bytes(4))))
            self.assertEqual(self.inner.built[-1][0], ClientAddress("192.0.2.1", 56324, secure))

    def test_in_single_bytes(self) -> None:
        transport = self.connect()
        for place in range(len(LINE)):
            self.assertEqual(self.inner.built, [])
            transport.protocol.dataReceived(LINE[place : place + 1])
        self.assertEqual(len(self.inner.built), 1)

    def test_a_health_check_is_the_proxys_own(self) -> None:
        self.connect().protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        self.assertEqual(self.inner.built[0][0], PROXY)

    def test_a_proxy_must_say_it(self) -> None:
        for data in (b"GET / HTTP/1.1\r\n", b"\x03" + bytes(100), b"PROXY TCP4 x\r\n"):
            transport = self.connect()
            transport.protocol.dataReceived(data)
            self.assertTrue(transport.disconnected)
        self.assertEqual((self.inner.built, self.port.waiting), ([], set()))

    def test_nobody_else_can_say_it(self) -> None:
        peer = IPv4Address("TCP", "198.51.100.1", 1)
        self.connect(peer).protocol.dataReceived(LINE)
        ((client, protocol),) = self.inner.built
        self.assertEqual((client, protocol.received), (peer, LINE))

    def test_it_is_waited_for_only_so_long(self) -> None:
        transport = self.connect()
        for _ in range(5):
            transport.protocol.dataReceived(b"PROXY TCP4 "[:1] if not transport.protocol._data else b"")
            self.clock.advance(HEADER_TIMEOUT / 5)
        self.assertTrue(transport.disconnected)
        self.assertEqual(self.port.waiting, set())

    def test_only_so_many_wait(self) -> None:
        transports = [self.connect() for _ in range(MOST_WAITING)]
        self.assertIsNone(self.port.buildProtocol(PROXY))
        transports[0].protocol.connectionLost()
        self.connect()
        self.clock.advance(HEADER_TIMEOUT)

    def test_a_factory_that_is_full(self) -> None:
        self.inner.full = True
        transport = self.connect()
        transport.protocol.dataReceived(LINE)
        self.assertTrue(transport.disconnected)

    def test_the_factory_starts_and_stops_with_it(self) -> None:
        calls: list[str] = []
        self.inner.startFactory = lambda: calls.append("start")  # type: ignore[method-assign]
        self.inner.stopFactory = lambda: calls.append("stop")  # type: ignore[method-assign]
        self.port.doStart()
        self.port.doStop()
        self.assertEqual(calls, ["start", "stop"])
