"""Announcements: exact bytes, malformed packets, addresses and intervals."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.sap import Announcement, SAPPacket, address, delay, interval
from oxidecast.media import LocalProtocolError, RemoteProtocolError
from tests.formats.test_sdp import session

SOURCES = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str)


class SAPPacketTests(SynchronousTestCase):
    def test_ipv4(self) -> None:
        packet = SAPPacket("192.0.2.7", 0xABCD, b"v=0\r\n")
        data = bytes.fromhex("20 00 abcd c0000207") + b"application/sdp\0v=0\r\n"
        self.assertEqual(bytes(packet), data)
        self.assertEqual(SAPPacket.parse(data), packet)

    def test_ipv6_deletion_with_authentication(self) -> None:
        packet = SAPPacket("2001:db8::7", 1, b"o=-", delete=True, authentication=b"12345678")
        data = (
            bytes.fromhex("34 02 0001 20010db8 00000000 00000000 00000007") + b"12345678application/sdp\0o=-"
        )
        self.assertEqual(bytes(packet), data)
        self.assertEqual(SAPPacket.parse(data), packet)

    def test_the_payload_type_may_be_left_out(self) -> None:
        packet = SAPPacket.parse(bytes.fromhex("20000001 c0000207") + b"v=0\r\no=x")
        self.assertEqual((packet.payload_type, packet.payload), ("application/sdp", b"v=0\r\no=x"))

    def test_what_is_malformed_is_named(self) -> None:
        for data, sentence in [
            ("", "has 0 bytes, less than its header"),
            ("200000", "has 3 bytes"),
            ("00000001 c0000207", "version is 0, not 1"),
            ("40000001 c0000207", "version is 2, not 1"),
            ("22000001 c0000207", "encrypted or compressed"),
            ("21000001 c0000207", "encrypted or compressed"),
            ("20000001 c00002", "truncated source"),
            ("30000001 c0000207", "truncated source"),
            ("20010001 c0000207 000000", "truncated source or authentication"),
            ("20ff0001 c0000207" + 1019 * "00", "truncated source or authentication"),
            ("20000001 c0000207", "payload type has no end"),
            ("20000001 c0000207 6170", "payload type has no end"),
            ("20000001 c0000207 ff00", "payload type has no end"),
            ("20000001 c0000207" + 256 * "61" + "00", "payload type has no end"),
        ]:
            with self.subTest(data=data), self.assertRaisesRegex(RemoteProtocolError, sentence):
                SAPPacket.parse(bytes.fromhex(data))

    def test_what_no_header_can_say_is_our_fault(self) -> None:
        for fields in [
            {"source": "somewhere"},
            {"hash": 0x10000},
            {"hash": -1},
            {"authentication": b"123"},
            {"authentication": bytes(4 * 256)},
            {"payload_type": "a\0b"},
            {"payload_type": "ä"},
            {"payload_type": "a" * 256},
        ]:
            packet = SAPPacket(**{"source": "192.0.2.7", "hash": 1, "payload": b"", **fields})
            with self.subTest(fields=fields), self.assertRaises(LocalProtocolError):
                bytes(packet)

    @given(SOURCES, st.integers(0, 0xFFFF), st.binary(max_size=50), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, source: str, number: int, payload: bytes, delete: bool) -> None:
        packet = SAPPacket(source, number, payload, delete)
        self.assertEqual(SAPPacket.parse(bytes(packet)), packet)

    @given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x20\0\0\1\0\0\0\0" + tail))
    @settings(max_examples=200, deadline=None)
    def test_any_bytes_parse_or_are_refused(self, data: bytes) -> None:
        try:
            packet = SAPPacket.parse(data)
        except RemoteProtocolError:
            return
        self.assertEqual(SAPPacket.parse(bytes(packet)), packet)


class AddressTests(SynchronousTestCase):
    def test_an_announcement_has_the_scope_of_its_session(self) -> None:
        for group, where in [
            ("239.255.0.1", "239.255.255.255"),
            ("239.192.0.1", "239.195.255.255"),
            ("239.1.2.3", "239.195.255.255"),
            ("224.2.128.1", "224.2.127.254"),
            ("232.1.2.3", "224.2.127.254"),
            ("ff15::1", "ff05::2:7ffe"),
            ("ff18::1", "ff08::2:7ffe"),
            ("ff3e::8000:1", "ff0e::2:7ffe"),
        ]:
            with self.subTest(group=group):
                self.assertEqual(address(group), where)

    def test_what_is_no_address_is_our_fault(self) -> None:
        self.assertRaises(LocalProtocolError, address, "239.255")


class IntervalTests(SynchronousTestCase):
    def test_the_bandwidth_is_shared(self) -> None:
        for count, size, seconds in [(1, 400, 300), (375, 400, 300), (376, 400, 300.8), (1000, 500, 1000)]:
            self.assertEqual(interval(count, size), seconds)

    def test_a_closed_network_may_say_it_more_often(self) -> None:
        self.assertEqual(interval(1, 400, shortest=5), 5)
        self.assertEqual(interval(100, 400, shortest=5), 80)
        self.assertEqual(interval(100, 400, bandwidth=64_000, shortest=5), 5)

    def test_announcers_do_not_fall_into_step(self) -> None:
        self.assertEqual([round(delay(300, draw), 6) for draw in (0, 0.5, 1)], [200, 300, 400])


class AnnouncementTests(SynchronousTestCase):
    def test_it_carries_the_description(self) -> None:
        announcement = Announcement(session())
        packet = SAPPacket.parse(announcement.announce)
        self.assertEqual((packet.source, packet.payload), ("192.0.2.7", bytes(session())))
        self.assertFalse(packet.delete)
        self.assertEqual(announcement.address, "239.255.255.255")

    def test_its_deletion_says_which(self) -> None:
        announcement = Announcement(session())
        packet = SAPPacket.parse(announcement.delete)
        self.assertEqual((packet.source, packet.hash, packet.delete), ("192.0.2.7", announcement.hash, True))
        self.assertEqual(packet.payload, b"o=- 12345 1700000000 IN IP4 192.0.2.7\r\n")

    def test_the_hash_is_stable_and_changes_with_the_description(self) -> None:
        hashes = {Announcement(session(title=title)).hash for title in ("a", "b", "c", "a")}
        self.assertEqual(len(hashes), 3)

    def test_no_two_announcements_share_a_hash(self) -> None:
        taken: set[int] = set()
        for _ in range(3):
            taken.add(Announcement(session(), taken).hash)
        self.assertEqual(len(taken), 3)

    def test_the_hash_is_never_zero(self) -> None:
        last = Announcement(session(), range(1, 0xFFFF)).hash
        self.assertEqual(last, 0xFFFF)
        with self.assertRaisesRegex(LocalProtocolError, "65,535"):
            Announcement(session(), range(1, 0x10000))
