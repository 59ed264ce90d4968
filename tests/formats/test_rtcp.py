"""RTCP: aiortc reads what is written and writes what is read; what does not add up is refused."""

import struct
from unittest import TestCase

from aiortc import rtp
from hypothesis import given
from hypothesis import strategies as st

from oxidecast.formats import rtcp
from oxidecast.media import RemoteProtocolError
from tests.media.fuzz import FUZZ, mutated

PLI, FIR, REMB = 1, 4, 15


def feedback(kind: int, count: int, information: bytes = b"", ssrc: int = 7) -> bytes:
    body = (1).to_bytes(4, "big") + ssrc.to_bytes(4, "big") + information
    return bytes((0x80 | count, kind)) + (len(body) // 4).to_bytes(2, "big") + body


CHROMIUM = tuple(
    bytes.fromhex(packet)
    for packet in (
        "81c90007 1a2b3c4d 00000007 00000000 00010123 00000011 a1b2c3d4 00008000 8fce0005 1a2b3c4d 00000000"
        "52454d42 0112c4b4 00000007",
        "81ce0002 1a2b3c4d 00000007",
        "81cd0003 1a2b3c4d 00000007 01f40005",
        "84ce0004 1a2b3c4d 00000000 00000007 05000000",
        "80c80006 00000007 e1d2c3b4 a5968778 00112233 00000010 00002000 81ca0003 00000007 01025858 00000000",
        "81cb0001 00000007",
    )
)
"""A report with an estimate, PLI, NACK, FIR, a sender's report with its name, a goodbye: as browsers write them."""


class TestReading(TestCase):
    def test_a_report_of_a_receiver(self) -> None:
        block = rtp.RtcpReceiverInfo(
            ssrc=7, fraction_lost=64, packets_lost=-3, highest_sequence=9, jitter=90, lsr=5, dlsr=6
        )
        data = bytes(rtp.RtcpRrPacket(ssrc=1, reports=[block]))
        self.assertEqual(rtcp.parse(data), [rtcp.Report(7, 0.25, -3, 90, 5, 6)])

    def test_a_report_of_who_sends_too(self) -> None:
        sender = rtp.RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=2, packet_count=3, octet_count=4)
        block = rtp.RtcpReceiverInfo(
            ssrc=7, fraction_lost=0, packets_lost=2, highest_sequence=9, jitter=0, lsr=0, dlsr=0
        )
        data = bytes(rtp.RtcpSrPacket(ssrc=1, sender_info=sender, reports=[block]))
        self.assertEqual(rtcp.parse(data), [rtcp.Report(7, 0.0, 2, 0, 0, 0), rtcp.SenderReport(1, 1, 2)])

    def test_missed_packets(self) -> None:
        data = feedback(205, 1, b"\xff\xfe\0\2\0\x28\0\0")
        self.assertEqual(rtcp.parse(data), [rtcp.Nack(7, (65534, 0, 40))])

    def test_no_more_missed_packets_than_are_kept(self) -> None:
        (nack,) = rtcp.parse(feedback(205, 1, b"\0\0\xff\xff" * 400))
        assert isinstance(nack, rtcp.Nack)
        self.assertEqual(len(nack.sequences), rtcp.MAX_NACKED)

    def test_who_wants_a_keyframe(self) -> None:
        self.assertEqual(rtcp.parse(feedback(206, PLI)), [rtcp.KeyframeWanted(7)])
        intra = (9).to_bytes(4, "big") + bytes(4)
        self.assertEqual(rtcp.parse(feedback(206, FIR, intra, ssrc=0)), [rtcp.KeyframeWanted(9)])

    def test_what_a_receiver_thinks_of_its_network(self) -> None:
        information = rtp.pack_remb_fci(2_500_000, [7])
        (estimate,) = rtcp.parse(feedback(206, REMB, information, ssrc=0))
        assert isinstance(estimate, rtcp.Estimate)
        self.assertAlmostEqual(estimate.bitrate, 2_500_000, delta=20)

    def test_the_forms_that_browsers_send(self) -> None:
        kinds = [[type(item) for item in rtcp.parse(packet)] for packet in CHROMIUM]
        self.assertEqual(
            kinds,
            [
                [rtcp.Report, rtcp.Estimate],
                [rtcp.KeyframeWanted],
                [rtcp.Nack],
                [rtcp.KeyframeWanted],
                [rtcp.SenderReport],
                [rtcp.Goodbye],
            ],
        )

    def test_several_in_one_datagram(self) -> None:
        data = feedback(206, PLI) + bytes(rtp.RtcpByePacket(sources=[1]))
        self.assertEqual(rtcp.parse(data), [rtcp.KeyframeWanted(7), rtcp.Goodbye(1)])

    def test_what_nobody_asked_for_is_passed_over(self) -> None:
        self.assertEqual(rtcp.parse(feedback(205, 15, bytes(8)) + feedback(208, 1)), [])

    def test_when_a_sender_got_our_time(self) -> None:
        block = b"\5\0\0\6" + struct.pack(">IIIIII", 9, 5, 6, 10, 7, 8)
        data = feedback(207, 0, block)[:4] + b"\0\0\0\1" + b"\4\0\0\2" + bytes(8) + block
        data = b"\x80\xcf" + (len(data) // 4 - 1).to_bytes(2, "big") + data[4:]
        self.assertEqual(rtcp.parse(data), [rtcp.Echo(9, 5, 6), rtcp.Echo(10, 7, 8)])

    def test_what_does_not_add_up(self) -> None:
        for data, word in (
            (b"\x80\xc9\0\0", "fewer than 8"),
            (feedback(206, PLI) + b"\x80\xc9", "middle of a header"),
            (b"\x40" + feedback(206, PLI)[1:], "version is 1"),
            (feedback(206, PLI)[:-4], "out of its datagram"),
            (b"\x81\xc9\0\1\0\0\0\1", "report of 1 sources"),
            (b"\x82\xcb\0\1\0\0\0\1", "BYE of 2 sources"),
            (b"\xa1\xce\0\1\0\0\0\0", "padding length is 0"),
            (b"\x81\xce\0\1\0\0\0\0", "feedback has 4 bytes"),
            (b"\x80\xcf\0\2\0\0\0\1\5\0\0\3", "block leads 12 bytes out of it"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, word):
                rtcp.parse(data)

    @given(st.binary(max_size=200))
    def test_noise_is_refused_or_read(self, data: bytes) -> None:
        try:
            rtcp.parse(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(mutated(*CHROMIUM))
    def test_true_packets_with_faults_are_refused_or_read(self, data: bytes) -> None:
        try:
            rtcp.parse(data)
        except RemoteProtocolError:
            pass

    @given(st.lists(st.tuples(st.integers(192, 223), st.integers(0, 31), st.binary(max_size=40))))
    def test_packets_of_any_kind_are_refused_or_read(self, packets: list[tuple[int, int, bytes]]) -> None:
        data = b"".join(
            bytes((0x80 | count, kind, 0, len(body) // 4)) + body[: len(body) // 4 * 4]
            for kind, count, body in packets
        )
        try:
            rtcp.parse(data)
        except RemoteProtocolError:
            pass


class TestWriting(TestCase):
    def test_a_report(self) -> None:
        data = rtcp.sender_report(7, 1_800_000_000.5, (1 << 32) + 9, 3, 4, b"name")
        report, description = rtp.RtcpPacket.parse(data)
        assert isinstance(report, rtp.RtcpSrPacket)
        self.assertEqual(report.ssrc, 7)
        ntp = (1_800_000_000 + rtcp.UNIX_TO_NTP) << 32 | 1 << 31
        self.assertEqual(report.sender_info, rtp.RtcpSenderInfo(ntp, 9, 3, 4))
        assert isinstance(description, rtp.RtcpSdesPacket)
        self.assertEqual(description.chunks[0].items, [(1, b"name")])

    def test_a_goodbye(self) -> None:
        for name in (b"", b"a", b"ab", b"abc", b"abcd"):
            *_, bye = rtp.RtcpPacket.parse(rtcp.goodbye([7, 8], name))
            assert isinstance(bye, rtp.RtcpByePacket)
            self.assertEqual(bye.sources, [7, 8])


class TestWhatAReceiverSays(TestCase):
    """Against aiortc's reading."""

    def test_a_report_with_its_description(self) -> None:
        block = struct.pack(">IIIIII", 7, 64 << 24 | 3, 9, 90, 5, 6)
        report, description = rtp.RtcpPacket.parse(rtcp.receiver_report(1, [block], b"name"))
        assert isinstance(report, rtp.RtcpRrPacket) and isinstance(description, rtp.RtcpSdesPacket)
        self.assertEqual((report.ssrc, report.reports[0].ssrc, report.reports[0].fraction_lost), (1, 7, 64))
        self.assertEqual(description.chunks[0].items, [(1, b"name")])

    def test_missed_packets_and_keyframes(self) -> None:
        (said,) = rtp.RtcpPacket.parse(rtcp.nack(1, 7, [65_534, 0, 14, 40, 41]))
        assert isinstance(said, rtp.RtcpRtpfbPacket)
        self.assertEqual((said.ssrc, said.media_ssrc), (1, 7))
        self.assertEqual([number & 0xFFFF for number in said.lost], [65_534, 0, 14, 40, 41])
        self.assertEqual(rtcp.nack(1, 7, []), b"")
        (said,) = rtp.RtcpPacket.parse(rtcp.picture_loss(1, 7))
        assert isinstance(said, rtp.RtcpPsfbPacket)
        self.assertEqual((said.fmt, said.media_ssrc), (1, 7))

    def test_the_way_there_and_back(self) -> None:
        data = rtcp.reference_time(3, 1000.0)
        self.assertEqual(data[:12], b"\x80\xcf\0\4\0\0\0\3\4\0\0\2")
        said = int.from_bytes(data[14:18], "big")
        for answer in (rtcp.Echo(3, said, 65_536 // 4), rtcp.Report(3, 0.0, 0, 0, said, 65_536 // 4)):
            trip = rtcp.round_trip(answer, 1000.3)
            assert trip is not None
            self.assertAlmostEqual(trip, 0.05, 4)
            self.assertIsNone(rtcp.round_trip(answer, 1100.0), "a clock was set")
        self.assertIsNone(rtcp.round_trip(rtcp.Echo(3, 0, 0), 1000.3), "nothing was heard of us yet")

    def test_an_estimate(self) -> None:
        (said,) = rtp.RtcpPacket.parse(rtcp.estimate(1, 50_000_000, [7, 8]))
        assert isinstance(said, rtp.RtcpPsfbPacket)
        bitrate, ssrcs = rtp.unpack_remb_fci(said.fci)
        self.assertEqual(ssrcs, [7, 8])
        self.assertLess(abs(bitrate - 50_000_000), 500)

    @given(st.lists(st.integers(0, 65_535), max_size=60, unique=True))
    def test_all_that_is_asked_for_is_read_again(self, sequences: list[int]) -> None:
        data = rtcp.nack(1, 7, sequences)
        if sequences:
            (found,) = rtcp.parse(data)
            assert isinstance(found, rtcp.Nack)
            self.assertEqual(set(found.sequences), set(sequences))
