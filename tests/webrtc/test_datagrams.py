"""The UDP socket, for real on loopback: runs arrive as single datagrams, cut by the kernel or by us."""

import errno
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc import datagrams
from oxidecast.webrtc.datagrams import DatagramSocket, route_addresses
from oxidecast.webrtc.ice import Address


class Refusing:
    """A socket whose `sendmsg` fails."""

    def __init__(self, inner: socket.socket, number: int) -> None:
        self._inner = inner
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sendmsg(self, *args: Any) -> int:
        raise OSError(self._number, "refused")


class TestDatagramSocket(SynchronousTestCase):
    def setUp(self) -> None:
        self.socket = DatagramSocket("127.0.0.1", 0)
        self.addCleanup(self.socket.close)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.peer.close)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(5)
        self.address: Address = self.peer.getsockname()

    def received(self, count: int) -> list[bytes]:
        return [self.peer.recv(2048) for _ in range(count)]

    def test_a_run_comes_as_datagrams(self) -> None:
        run = b"a" * 1000 + b"b" * 1000 + b"c" * 10
        self.assertTrue(self.socket.send(run, 1000, self.address))
        self.assertEqual(self.received(3), [b"a" * 1000, b"b" * 1000, b"c" * 10])
        self.assertEqual((self.socket.calls, self.socket.bytes, self.socket.dropped), (1, 2010, 0))

    def test_a_kernel_that_cannot_cut_is_asked_once(self) -> None:
        self.socket._socket = Refusing(self.socket._socket, errno.EIO)  # type: ignore[assignment]
        for _ in range(2):
            self.assertTrue(self.socket.send(b"a" * 20, 10, self.address))
        self.assertEqual(self.received(4), [b"a" * 10] * 4)
        self.assertFalse(self.socket.segmenting)
        self.assertEqual(self.socket.errors["EIO"], 1)

    def test_one_viewer_that_cannot_be_sent_runs_is_no_reason_for_all(self) -> None:
        self.socket._socket = Refusing(self.socket._socket, errno.EINVAL)  # type: ignore[assignment]
        self.assertTrue(self.socket.send(b"a" * 20, 10, self.address))
        self.assertEqual(self.received(2), [b"a" * 10] * 2)
        self.assertTrue(self.socket.segmenting)

    def test_a_full_queue_loses_and_says_so(self) -> None:
        self.socket._socket = Refusing(self.socket._socket, errno.EAGAIN)  # type: ignore[assignment]
        self.assertFalse(self.socket.send(b"a" * 20, 10, self.address))
        self.assertEqual(self.socket.dropped, 2)

    def test_reading_is_bounded(self) -> None:
        self.patch(datagrams, "READS", 3)
        for number in range(5):
            self.peer.sendto(bytes((number,)), ("127.0.0.1", self.socket.port))
        seen: list[bytes] = []
        for _ in range(3):
            self.socket.read(lambda datagram, source: seen.append(datagram))
            if len(seen) >= 5:
                break
        self.assertEqual(b"".join(seen), bytes(range(5)))

    def test_a_port_that_is_taken(self) -> None:
        with self.assertRaises(OSError):
            DatagramSocket("127.0.0.1", self.socket.port)

    def test_both_families_on_one_port(self) -> None:
        self.patch(datagrams, "_bound", lambda host, port: datagrams._open(socket.AF_INET6, "::1", port))
        try:
            six = DatagramSocket("", 0)
        except OSError:
            return  # a machine without IPv6
        self.addCleanup(six.close)
        self.assertTrue(six.has_ipv6)

    def test_addresses_of_this_machine(self) -> None:
        for text in route_addresses():
            self.assertIn(socket.getaddrinfo(text, 0)[0][0], (socket.AF_INET, socket.AF_INET6))
