"""Multicast sockets on real interfaces: a loopback and a wire between two hosts, each test's own."""

import random
import socket
import subprocess
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.udp import LAST_RETRY, LOG_INTERVAL, MAX_BATCH, MulticastSocket, SendOptions
from oxidecast.media import LocalProtocolError
from tests.delivery.receiving import Receiver
from tests.e2e.netns import LINK, RECEIVER_4, SENDER_4, SENDER_6, Host, Network

GROUP, PORT, SIZE = "239.255.7.1", 30_000, 1316
SSM_4, GROUP_6, SSM_6 = "232.1.2.3", "ff15::7", "ff35::7"
SO_NO_CHECK = 11
"""Without checksums Linux refuses to cut batches, and sends single datagrams all the same."""


def datagrams(count: int, size: int = SIZE, seed: int = 1) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(count)]


class UDPTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def sender(
        self, host: Host, group: str = GROUP, interface: str = LINK, port: int = PORT, **options: Any
    ) -> MulticastSocket:
        with host.entered():
            sender = MulticastSocket(group, port, interface, SendOptions(**options), self.clock.seconds)
        self.addCleanup(sender.close)
        return sender

    def receiver(
        self, host: Host, group: str = GROUP, interface: str = LINK, source: str = "", port: int = PORT
    ) -> Receiver:
        with host.entered():
            receiver = Receiver(group, port, interface, source)
        self.addCleanup(receiver.close)
        return receiver

    def lines(self, text: str) -> int:
        return sum(text in str(event.get("log_format")) for event in self.events)


class LoopbackTests(UDPTestCase):
    """One host, without a wire."""

    def setUp(self) -> None:
        super().setUp()
        self.host = Host("a")
        self.addCleanup(self.host.remove)

    def test_the_same_leaves_in_batches_and_singly(self) -> None:
        receiver = self.receiver(self.host, interface="lo")
        sender = self.sender(self.host, interface="127.0.0.1")
        sent = [*datagrams(MAX_BATCH * 2 + 3), b"the last one is shorter"]
        self.assertTrue(sender.segmenting)
        sender.send(b"".join(sent), SIZE)
        self.assertEqual([one.data for one in receiver.read(len(sent))], sent)
        sender.segmenting = False
        sender.send(b"".join(sent), SIZE)
        self.assertEqual([one.data for one in receiver.read(len(sent))], sent)
        self.assertEqual((sender.packets, sender.bytes), (2 * len(sent), 2 * len(b"".join(sent))))

    def test_datagrams_of_any_size_and_sizes_in_turn(self) -> None:
        receiver = self.receiver(self.host, interface="lo")
        sender = self.sender(self.host, interface="127.0.0.1", buffer_size=4 << 20)
        for size in (188, 1316, 1328, 12, 7 * 1316, 188):
            sent = datagrams(60, size, seed=size)
            sender.send(b"".join(sent), size)
            self.assertEqual([one.data for one in receiver.read(len(sent))], sent)
        self.assertEqual(sender.errors, {})

    def test_what_the_kernel_refuses_to_cut_leaves_singly_from_then_on(self) -> None:
        receiver = self.receiver(self.host, interface="lo")
        sender = self.sender(self.host, interface="127.0.0.1")
        assert sender._socket is not None
        sender._socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        sent = datagrams(5)
        for _ in range(3):
            sender.send(b"".join(sent), SIZE)
        self.assertEqual([one.data for one in receiver.read(15)], sent * 3)
        self.assertFalse(sender.segmenting)
        self.assertEqual((sender.packets, sender.dropped, sender.errors), (15, 0, {}))
        self.assertEqual(self.lines("no segmentation offload"), 1)

    def test_what_can_never_work_is_refused(self) -> None:
        for group, port, interface, options in (
            ("10.0.0.1", PORT, "", {}),
            ("somewhere", PORT, "", {}),
            (GROUP, 0, "", {}),
            (GROUP, PORT, "", {"ttl": 256}),
            (GROUP, PORT, "", {"dscp": 64}),
            (GROUP_6, PORT, "10.0.0.1", {}),
        ):
            with self.assertRaises(LocalProtocolError):
                MulticastSocket(group, port, interface, SendOptions(**options), self.clock.seconds)

    def test_nothing_leaves_after_close(self) -> None:
        receiver = self.receiver(self.host, interface="lo")
        sender = self.sender(self.host, interface="127.0.0.1")
        sender.close()
        sender.send(b"x" * 188, 188)
        self.assertEqual((receiver.read(), sender.dropped), ([], 1))


class WireTests(UDPTestCase):
    """Two hosts."""

    def setUp(self) -> None:
        super().setUp()
        self.network = Network()
        self.addCleanup(self.network.remove)

    def test_the_same_crosses_the_wire_in_batches_and_singly(self) -> None:
        receiver, sender = self.receiver(self.network.receiver), self.sender(self.network.sender)
        sent = datagrams(100)
        for segmenting in (True, False):
            sender.segmenting = segmenting
            sender.send(b"".join(sent), SIZE)
            self.assertEqual([one.data for one in receiver.read(len(sent))], sent)

    def test_this_host_hears_it_too_unless_loopback_is_off(self) -> None:
        here, there = self.receiver(self.network.sender), self.receiver(self.network.receiver)
        self.sender(self.network.sender, loopback=False).send(b"off".ljust(188), 188)
        self.sender(self.network.sender, loopback=True).send(b"on".ljust(188), 188)
        self.assertEqual([one.data.strip() for one in there.read(2)], [b"off", b"on"])
        self.assertEqual([one.data.strip() for one in here.read(1)], [b"on"])

    def test_ttl_and_class_of_service_are_as_set(self) -> None:
        for group in (GROUP, GROUP_6):
            receiver = self.receiver(self.network.receiver, group)
            self.sender(self.network.sender, group, ttl=7, dscp=34).send(b"x" * 3 * SIZE, SIZE)
            self.assertEqual([(one.ttl, one.dscp) for one in receiver.read(3)], [(7, 34)] * 3)

    def test_an_interface_is_named_by_name_or_address(self) -> None:
        for group, interfaces in ((GROUP, (LINK, SENDER_4, "")), (GROUP_6, (LINK, SENDER_6))):
            receiver = self.receiver(self.network.receiver, group)
            for interface in interfaces:
                sender = self.sender(self.network.sender, group, interface)
                sender.send(interface.encode().ljust(188), 188)
                self.assertEqual([one.data.decode().strip() for one in receiver.read(1)], [interface])

    def test_ipv6_datagrams_cross_in_batches(self) -> None:
        receiver = self.receiver(self.network.receiver, GROUP_6)
        sender = self.sender(self.network.sender, GROUP_6)
        sent = datagrams(20)
        sender.send(b"".join(sent), SIZE)
        self.assertEqual([one.data for one in receiver.read(len(sent))], sent)
        self.assertTrue(sender.segmenting)

    def test_a_link_local_ipv6_group_needs_only_the_interface(self) -> None:
        receiver = self.receiver(self.network.receiver, "ff12::7")
        self.sender(self.network.sender, "ff12::7").send(b"x" * 188, 188)
        self.assertEqual(len(receiver.read(1)), 1)

    def test_a_source_specific_join_that_names_our_address_receives(self) -> None:
        for group, address in ((SSM_4, SENDER_4), (SSM_6, SENDER_6)):
            sender = self.sender(self.network.sender, group, address)
            self.assertEqual(sender.source, address)
            ours = self.receiver(self.network.receiver, group, source=sender.source)
            sender.send(b"x" * 2 * SIZE, SIZE)
            self.assertEqual([one.source for one in ours.read(2)], [address] * 2)

    def test_a_source_specific_join_of_another_address_does_not(self) -> None:
        other = self.receiver(self.network.receiver, SSM_4, source="10.77.0.99")
        ours = self.receiver(self.network.receiver, SSM_4, source=SENDER_4)
        self.sender(self.network.sender, SSM_4).send(b"x" * SIZE, SIZE)
        self.assertEqual((len(ours.read(1)), other.read()), (1, []))

    def test_a_datagram_above_the_mtu_is_cut_by_the_network_layer(self) -> None:
        receiver, sender = self.receiver(self.network.receiver), self.sender(self.network.sender)
        for host in (self.network.sender, self.network.receiver):
            host.ip("link", "set", LINK, "mtu", "1280")
        sent = datagrams(5)
        sender.send(b"".join(sent), SIZE)
        self.assertEqual([one.data for one in receiver.read(len(sent))], sent)
        self.assertEqual((sender.segmenting, sender.errors), (False, {}))

    def test_an_interface_that_goes_down_and_up_again(self) -> None:
        for group in (GROUP, GROUP_6):
            receiver, sender = (
                self.receiver(self.network.receiver, group),
                self.sender(self.network.sender, group),
            )
            self.network.sender.ip("link", "set", LINK, "down")
            with self.network.sender.entered():
                for _ in range(100):
                    sender.send(b"x" * 2 * SIZE, SIZE)
                    self.clock.advance(0.1)
                self.assertEqual((sender.packets, sender.dropped), (0, 200))
                self.assertGreater(sum(sender.errors.values()), 0)
                self.assertLess(sum(sender.errors.values()), 10, "it is not opened at every send")
                self.network.sender.ip("link", "set", LINK, "up")
                self.network.sender.ip("address", "replace", f"{SENDER_6}/64", "dev", LINK, "nodad")
                self.clock.advance(LAST_RETRY)
                sender.send(b"y" * 2 * SIZE, SIZE)
            self.assertEqual((len(receiver.read(2)), sender.packets), (2, 2))
            self.assertTrue(sender.segmenting)

    def test_an_interface_that_is_made_anew(self) -> None:
        sender = self.sender(self.network.sender)
        self.network.cut()
        with self.network.sender.entered():
            sender.send(b"x" * SIZE, SIZE)
            self.assertEqual(sender.source, "")
            self.network.connect()
            receiver = self.receiver(self.network.receiver)
            self.clock.advance(LAST_RETRY)
            sender.send(b"x" * SIZE, SIZE)
        self.assertEqual((len(receiver.read(1)), sender.dropped, sender.source), (1, 1, SENDER_4))

    def test_an_interface_that_comes_later(self) -> None:
        self.network.cut()
        sender = self.sender(self.network.sender)
        self.assertEqual(sender.errors, {"ENODEV": 1})
        self.network.connect()
        receiver = self.receiver(self.network.receiver)
        self.clock.advance(1)
        with self.network.sender.entered():
            sender.send(b"x" * SIZE, SIZE)
        self.assertEqual(len(receiver.read(1)), 1)

    def test_errors_are_logged_once_a_minute(self) -> None:
        sender = self.sender(self.network.sender)
        self.network.cut()
        with self.network.sender.entered():
            for _ in range(250):
                sender.send(b"x" * SIZE, SIZE)
                self.clock.advance(LOG_INTERVAL / 100)
        self.assertEqual(self.lines("sending fails"), 3)

    def test_a_full_buffer_loses_datagrams_and_does_not_block(self) -> None:
        # A device that takes a datagram in a second keeps what is sent in the socket's buffer.
        self.network.sender.ip("link", "set", LINK, "txqueuelen", "1000")
        slow = ("tc", "qdisc", "add", "dev", LINK, "root", "tbf", "rate", "10kbit", "burst", "1540")
        subprocess.run([*self.network.sender.command, *slow, "limit", "10000000"], check=True)
        sender = self.sender(self.network.sender, buffer_size=20_000)
        sender.send(b"".join(datagrams(MAX_BATCH)), SIZE)
        for _ in range(50):
            sender.send(b"x" * SIZE, SIZE)
        self.assertEqual(set(sender.errors), {"EAGAIN"})
        self.assertEqual(sender.packets + sender.dropped, MAX_BATCH + 50)
        self.assertIsNotNone(sender._socket, "the socket itself is sound")

    def test_each_of_several_interfaces_has_a_socket(self) -> None:
        wire = self.sender(self.network.sender, interface=LINK)
        loop = self.sender(self.network.sender, interface="127.0.0.1")
        there = self.receiver(self.network.receiver)
        here = self.receiver(self.network.sender, interface="lo")
        for sender in (wire, loop):
            sender.send(sender.interface.encode().ljust(188), 188)
        self.assertEqual([one.data.strip() for one in there.read(1)], [LINK.encode()])
        self.assertEqual([one.data.strip() for one in here.read(1)], [b"127.0.0.1"])
        self.assertNotEqual(RECEIVER_4, wire.source)
