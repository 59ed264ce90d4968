"""Every first octet goes where RFC 7983 sends it."""

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.demux import Kind, classify


class Demultiplexing(SynchronousTestCase):
    def test_first_octets(self) -> None:
        ranges = [
            (0, 3, Kind.STUN),
            (4, 19, Kind.OTHER),
            (20, 63, Kind.DTLS),
            (64, 127, Kind.OTHER),
            (128, 191, Kind.RTP),
            (192, 255, Kind.OTHER),
        ]
        for first, last, kind in ranges:
            for octet in range(first, last + 1):
                self.assertIs(classify(bytes((octet, 96, 0, 0))), kind, octet)

    def test_rtcp_is_told_from_rtp_by_its_packet_type(self) -> None:
        for packet_type in range(256):
            expected = Kind.RTCP if 192 <= packet_type <= 223 else Kind.RTP
            self.assertIs(classify(bytes((0x80, packet_type, 0, 0))), expected, packet_type)

    def test_an_empty_datagram_and_one_of_one_octet_are_nothing(self) -> None:
        for datagram in (b"", b"\x00", b"\x16", b"\x80"):
            self.assertIs(classify(datagram), Kind.OTHER)
