"""ICE-TCP: whose a connection is, when it ends, and how much is kept for who does not read."""

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.settings.errors import StartError
from oxidecast.webrtc import port as port_module
from oxidecast.webrtc import stun, tcp
from oxidecast.webrtc.certificate import Fingerprint
from oxidecast.webrtc.framing import Unframer, frame
from oxidecast.webrtc.ice import CONSENT_TIMEOUT
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.port import WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings
from oxidecast.webrtc.tcp import CHECK_WITHIN, GOODBYE, MAX_STRANGE, OVERFLOW, Connection
from tests.outputs.webrtc.stage import MemorySocket
from tests.webrtc.test_ice import check

NOBODY = (Fingerprint("sha-256", "00" + ":00" * 31),)


class Wire(StringTransport):
    """A transport that says when it holds too much, as those of sockets do."""

    aborted = False
    socket: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        raise OSError("it is gone")

    def abortConnection(self) -> None:
        self.aborted = True
        self.connected = False


class User:
    """Of a peer."""

    reason = ""

    def closed(self, reason: str) -> None:
        self.reason = reason

    def connected(self, *told: object) -> None: ...

    def rtp(self, packet: bytes) -> None: ...

    def rtcp(self, packet: bytes) -> None: ...


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(port_module, "DatagramSocket", MemorySocket)
        self.patch(tcp, "MAX_STRANGERS", 3)
        self.reactor = MemoryReactorClock()
        self.port = WebRTCPort(WebrtcSettings(max_sessions=4), self.reactor)
        self.port.used = True
        self.port.startService()
        self.addCleanup(self.port.stopService)
        self.user = User()
        self.peer = self.open(self.user)

    def open(self, user: User) -> Peer:
        return self.port.open("peer", NOBODY, user, "192.0.2.7")

    def connect(self) -> Connection:
        """A stranger."""
        made = self.port.connections.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40_000))
        assert made is not None
        made.makeConnection(Wire())
        return made

    def known(self) -> Connection:
        """A connection of the peer's, which it has chosen."""
        made = self.connect()
        self.say(made, check(self.peer.ice.local))
        self.assertTrue(made.is_known)
        made.transport.clear()
        return made

    def say(self, connection: Connection, *datagrams: bytes) -> None:
        for datagram in datagrams:
            connection.dataReceived(frame(datagram, len(datagram)))

    def heard(self, connection: Connection) -> list[bytes]:
        found = Unframer().receive(connection.transport.value())
        connection.transport.clear()
        return found

    def pass_time(self, seconds: float) -> None:
        self.reactor.pump([1.0] * int(seconds))


class TestListening(Case):
    def test_it_is_on_the_number_of_udp_for_both_families(self) -> None:
        number, factory, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((number, interface), (MemorySocket.port, "::"))
        self.assertIs(factory, self.port.connections)

    def test_a_number_that_another_program_has_is_a_sentence(self) -> None:
        def taken(port: int, *_: object, **__: object) -> None:
            raise CannotListenError("", port, OSError(98, "Address already in use"))

        self.patch(self.reactor, "listenTCP", taken)
        port = WebRTCPort(WebrtcSettings(port=8189), self.reactor)
        port.used = True
        with self.assertRaisesRegex(StartError, "cannot use TCP port 8189 of this machine: Address already"):
            port.startService()


class TestStrangers(Case):
    def assert_dropped(self, connection: Connection) -> None:
        self.assertTrue(connection.transport.aborted)
        self.assertEqual(self.port.connections._strangers.get(connection, self), self)

    def test_a_valid_check_is_answered_and_makes_it_a_sessions(self) -> None:
        connection = self.connect()
        self.say(connection, check(self.peer.ice.local))
        (answer,) = self.heard(connection)
        message = stun.parse(answer)
        self.assertEqual(message.kind, stun.BINDING_RESPONSE)
        mapped = stun.xor_mapped_address("192.0.2.7", 40_000, message.transaction)[1]
        self.assertEqual(message.attributes[stun.XOR_MAPPED_ADDRESS], mapped)
        self.assertTrue(connection.is_known)
        self.assertEqual(self.peer.address, connection.address)

    def test_an_invalid_check_is_answered_and_makes_nothing(self) -> None:
        connection = self.connect()
        self.say(connection, check(self.peer.ice.local, password="x" * 24))
        (answer,) = self.heard(connection)
        self.assertEqual(stun.parse(answer).kind, stun.BINDING_ERROR)
        self.assertFalse(connection.is_known)
        self.assertIsNone(self.peer.address)

    def test_who_only_tries_is_dropped(self) -> None:
        connection = self.connect()
        self.say(connection, *(check(self.peer.ice.local, password="x" * 24) for _ in range(MAX_STRANGE + 1)))
        self.assert_dropped(connection)
        self.assertEqual(len(self.heard(connection)), MAX_STRANGE)

    def test_what_is_no_check_ends_it_at_once(self) -> None:
        for data in (
            frame(b"\x16\xfe\xff", 3),
            frame(b"\x80\x60" + bytes(10), 12),
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            connection = self.connect()
            connection.dataReceived(data)
            self.assert_dropped(connection)
        self.assertEqual(self.port.connections.strangers_dropped, 3)

    def test_who_says_nothing_is_dropped(self) -> None:
        connection = self.connect()
        self.pass_time(CHECK_WITHIN)
        self.assertFalse(connection.transport.aborted)
        self.pass_time(2)
        self.assert_dropped(connection)

    def test_the_oldest_makes_room_for_a_newer_one(self) -> None:
        known = self.known()
        strangers = [self.connect() for _ in range(5)]
        self.assertEqual([one.transport.aborted for one in strangers], [True, True, False, False, False])
        self.assertFalse(known.transport.aborted)

    def test_there_are_never_more_than_the_sessions_need(self) -> None:
        for _ in range(2 * 4 + 3):
            self.known()
        self.assertIsNone(self.port.connections.buildProtocol(IPv4Address("TCP", "192.0.2.7", 1)))


class TestSessions(Case):
    def test_a_silent_connection_is_dropped(self) -> None:
        self.patch(tcp, "IDLE", 20.0)  # Nobody shakes hands here, and for longer than 30 s nobody may.
        used, other = self.known(), self.known()
        for _ in range(22):
            self.pass_time(1)
            self.say(used, check(self.peer.ice.local))
        self.assertFalse(used.transport.aborted)
        self.assertTrue(other.transport.aborted)

    def test_consent_ends_by_tcp_too(self) -> None:
        connection = self.known()
        self.pass_time(CONSENT_TIMEOUT + 1)
        self.assertTrue(self.user.reason)
        self.assertTrue(connection.transport.disconnecting)

    def test_the_end_of_a_session_ends_its_connections_when_all_is_sent(self) -> None:
        first, second = self.known(), self.known()
        self.peer.close("over")
        for connection in (first, second):
            self.assertTrue(connection.transport.disconnecting)
            self.assertFalse(connection.transport.aborted)
        self.say(first, check(self.peer.ice.local))
        self.assertEqual(self.heard(first), [])
        self.pass_time(GOODBYE + 2)
        self.assertTrue(first.transport.aborted)

    def test_a_lost_connection_is_no_address_any_more_and_another_may_come(self) -> None:
        connection = self.known()
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.peer.address)
        self.assertFalse(self.peer.send(b"media", 5))
        self.assertTrue(self.peer.is_open)
        again = self.known()
        self.assertEqual(self.peer.address, again.address)
        self.assertTrue(self.peer.send(b"media", 5))
        self.assertEqual(self.heard(again), [b"media"])

    def test_a_way_by_udp_takes_the_place_of_tcp(self) -> None:
        self.known()
        self.port.datagram(check(self.peer.ice.local), ("192.0.2.7", 40_000))
        self.assertEqual(self.peer.address, ("192.0.2.7", 40_000))

    def test_the_end_of_the_server_ends_all(self) -> None:
        connection, stranger = self.known(), self.connect()
        self.port.stopService()
        self.assertTrue(connection.transport.disconnecting)
        self.assertTrue(stranger.transport.aborted)
        self.port.startService()


class TestRoom(Case):
    def test_who_reads_slowly_has_no_room_for_another_frame(self) -> None:
        connection = self.known()
        self.assertTrue(self.peer.has_room)
        connection.pauseProducing()
        self.assertFalse(self.peer.has_room)
        self.assertTrue(self.peer.send(bytes(2400), 1200), "the rest of a frame is still taken")
        connection.resumeProducing()
        self.assertTrue(self.peer.has_room)

    def test_what_is_kept_is_bounded(self) -> None:
        connection = self.known()
        connection.pauseProducing()
        sent = [self.peer.send(bytes(100_000), 1000) for _ in range(50)]
        self.assertIn(False, sent)
        self.assertLess(len(connection.transport.value()), 1.01 * OVERFLOW)

    def test_answers_to_checks_are_bounded_too(self) -> None:
        connection = self.known()
        connection.pauseProducing()
        connection._behind = OVERFLOW
        self.say(connection, check(self.peer.ice.local))
        self.assertEqual(self.heard(connection), [])

    def test_udp_always_has_room(self) -> None:
        self.assertTrue(self.peer.has_room, "there is no way yet")
        self.port.datagram(check(self.peer.ice.local), ("192.0.2.7", 40_000))
        self.assertTrue(self.peer.has_room)
