"""RTP packets: exact bytes, each malformed case, and round trips."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp import MP2T, TS_DATAGRAM, RTPPacket, TSWrapper, element, nearest
from oxidecast.media import LocalProtocolError, RemoteProtocolError

PLAIN = bytes.fromhex("80 21 fffe 01020304 0a0b0c0d")
WORDS = st.integers(0, 3).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
PACKETS = st.builds(
    RTPPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=40),
    marker=st.booleans(),
    csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.none() | st.tuples(st.integers(0, 0xFFFF), WORDS),
    padding=st.integers(0, 255),
)


class RTPPacketTests(SynchronousTestCase):
    def test_a_plain_packet(self) -> None:
        packet = RTPPacket(MP2T, 0xFFFE, 0x01020304, 0x0A0B0C0D, b"media")
        self.assertEqual(bytes(packet), PLAIN + b"media")
        self.assertEqual(RTPPacket.parse(PLAIN + b"media"), packet)

    def test_every_field_of_the_header(self) -> None:
        data = bytes.fromhex("b2 e1 0001 00000002 00000003 00000004 00000005 bede 0001 01020304 aabb 0002")
        packet = RTPPacket.parse(data)
        self.assertEqual(
            packet,
            RTPPacket(97, 1, 2, 3, b"\xaa\xbb", True, (4, 5), (0xBEDE, b"\1\2\3\4"), padding=2),
        )
        self.assertEqual(bytes(packet), data)

    def test_what_is_malformed_is_named(self) -> None:
        for data, sentence in [
            ("", "has 0 bytes, less than its fixed header"),
            ("80210000 00000000 000000", "has 11 bytes"),
            ("40210000 00000000 00000000", "version is 1, not 2"),
            ("c0210000 00000000 00000000", "version is 3, not 2"),
            ("81210000 00000000 00000000", "truncated CSRC"),
            ("8f210000 00000000 00000000" + 59 * "00", "truncated CSRC"),
            ("90210000 00000000 00000000", "truncated extension header"),
            ("90210000 00000000 00000000 bede00", "truncated extension header"),
            ("90210000 00000000 00000000 bede0001 000000", "truncated extension"),
            ("90210000 00000000 00000000 bedeffff 00000000", "truncated extension"),
            ("a0210000 00000000 00000000", "padding length is 0"),
            ("a0210000 00000000 00000000 00", "padding length is 0"),
            ("a0210000 00000000 00000000 0003", "padding length is 3"),
            # The last byte belongs to the CSRC and not to any padding.
            ("a1210000 00000000 00000000 00000001", "padding length is 0"),
        ]:
            with self.subTest(data=data), self.assertRaisesRegex(RemoteProtocolError, sentence):
                RTPPacket.parse(bytes.fromhex(data))

    def test_what_no_header_can_say_is_our_fault(self) -> None:
        for fields in [
            {"payload_type": 128},
            {"payload_type": -1},
            {"sequence": 0x10000},
            {"sequence": -1},
            {"timestamp": 1 << 32},
            {"ssrc": -1},
            {"csrc": (0,) * 16},
            {"csrc": (1 << 32,)},
            {"extension": (0, b"123")},
            {"extension": (0x10000, b"")},
            {"extension": (0, bytes(4 * 0x10000))},
            {"padding": 256},
            {"payload": bytes(0xFFFF)},
        ]:
            packet = RTPPacket(**{"payload_type": 33, "sequence": 0, "timestamp": 0, "ssrc": 0, **fields})
            with self.subTest(fields=str(fields)[:60]), self.assertRaises(LocalProtocolError):
                bytes(packet)

    @given(PACKETS)
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, packet: RTPPacket) -> None:
        self.assertEqual(RTPPacket.parse(bytes(packet)), packet)

    @given(st.binary(max_size=80) | st.builds(lambda head, rest: bytes((0x80 | head,)) + rest,
                                              st.integers(0, 63), st.binary(max_size=80)))  # fmt: skip
    @example(bytes.fromhex("bf210000 00000000 00000000") + bytes(61) + b"\x01")
    @settings(max_examples=300, deadline=None)
    def test_any_bytes_parse_or_are_refused(self, data: bytes) -> None:
        try:
            packet = RTPPacket.parse(data)
        except RemoteProtocolError:
            return
        # Padding may hold anything, and the version's three flags are all that is left free: lengths agree.
        self.assertEqual(len(bytes(packet)), len(data))


class TSWrapperTests(SynchronousTestCase):
    def test_a_datagram_gets_twelve_bytes(self) -> None:
        datagram = b"\x47" * TS_DATAGRAM
        (packet,) = TSWrapper(0x0A0B0C0D, 0xFFFE).wrap([datagram], 0x01020304)
        self.assertEqual(packet, PLAIN + datagram)

    def test_numbers_and_times_go_on_and_wrap(self) -> None:
        wrapper = TSWrapper(7, 0xFFFE)
        first = wrapper.wrap([b"a", b"b"], 0xFFFFFFFF, 30)
        second = wrapper.wrap([b"c"], (1 << 32) + 59)
        packets = [RTPPacket.parse(data) for data in first + second]
        self.assertEqual([packet.sequence for packet in packets], [0xFFFE, 0xFFFF, 0])
        self.assertEqual([packet.timestamp for packet in packets], [0xFFFFFFFF, 29, 59])
        self.assertEqual({(p.payload_type, p.ssrc, p.marker) for p in packets}, {(33, 7, False)})
        self.assertEqual(b"".join(packet.payload for packet in packets), b"abc")
        self.assertEqual(wrapper.sequence, 1)

    def test_numbers_that_do_not_fit_are_refused(self) -> None:
        for ssrc, sequence in [(-1, 0), (1 << 32, 0), (0, -1), (0, 0x10000)]:
            with self.subTest(ssrc=ssrc, sequence=sequence), self.assertRaises(LocalProtocolError):
                TSWrapper(ssrc, sequence)


class NearestTests(SynchronousTestCase):
    def test_across_the_wrap_both_ways(self) -> None:
        for sequence, reference, number in [
            (5, 5, 5),
            (0, 0xFFFF, 0x10000),
            (0xFFFF, 0x10000, 0xFFFF),
            (3, 0x2FFFE, 0x30003),
            (0xFFFE, 0x30003, 0x2FFFE),
        ]:
            self.assertEqual(nearest(sequence, reference), number)


class ElementTests(SynchronousTestCase):
    def test_one_extension_is_found_among_others(self) -> None:
        words = bytes.fromhex("10aa 00 31beef 40cc 00 f0".replace(" ", ""))
        extension = 0xBEDE, words
        self.assertEqual(element(extension, 1), b"\xaa")
        self.assertEqual(element(extension, 3), b"\xbe\xef")
        self.assertEqual(element(extension, 4), b"\xcc")
        for number in (2, 5):
            self.assertEqual(element(extension, number), b"")
        self.assertEqual(element((0x1000, words), 3), b"")
        self.assertEqual(element(None, 3), b"")

    @given(st.binary(max_size=40), st.integers(1, 14))
    def test_any_words(self, words: bytes, number: int) -> None:
        self.assertLessEqual(len(element((0xBEDE, words), number)), 16)
