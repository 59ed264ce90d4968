"""The PROXY protocol: the specification's examples, pieces, and garbage."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.proxy_header import LINE, MOST, SIGNATURE, ProxyHeader, parse
from oxidecast.media.errors import RemoteProtocolError


def binary(addresses: bytes, family: int = 0x11, command: int = 0x21, tlvs: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses + tlvs)) + addresses + tlvs


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


V4 = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + struct.pack("!HH", 56324, 443)
V6 = bytes.fromhex("20010db8000000000000000000000001" * 2) + struct.pack("!HH", 4711, 443)

GOOD = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", ProxyHeader("192.0.2.1", 56324)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", ProxyHeader("2001:db8::1", 4711)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ProxyHeader("192.0.2.1", 1)),
    (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ProxyHeader()),
    (binary(V4), ProxyHeader("192.0.2.1", 56324)),
    (binary(V6, 0x21), ProxyHeader("2001:db8::1", 4711)),
    (binary(V4, tlvs=tlv(4, b"padding") + tlv(0x20, b"\1\0\0\0\0")), ProxyHeader("192.0.2.1", 56324, True)),
    (binary(V4, tlvs=tlv(0x20, b"\0\0\0\0\0")), ProxyHeader("192.0.2.1", 56324, False)),
    (binary(b"", 0x00, 0x20), ProxyHeader()),
    (binary(V4, 0x11, 0x20), ProxyHeader()),
    (binary(b"", 0x00), ProxyHeader()),
    (binary(bytes(216), 0x31), ProxyHeader()),
]


class ProxyHeaderTests(SynchronousTestCase):
    def test_headers(self) -> None:
        for data, header in GOOD:
            self.assertEqual(parse(data), (header, len(data)))
            self.assertEqual(parse(data + b"GET / HTTP/1.1\r\n"), (header, len(data)))

    def test_in_pieces(self) -> None:
        for data, _ in GOOD:
            for end in range(len(data)):
                self.assertIsNone(parse(data[:end]))

    def test_what_is_none(self) -> None:
        for data, words in (
            (b"G", "does not begin"),
            (b"PROXX", "does not begin"),
            (b"\x16\x03\x01", "does not begin"),
            (b"\r\n\r\n\0\r\nQUIT\r", "does not begin"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1  10.0.0.1 56324 443\r\n", "malformed"),
            (b"PROXY TCP4 2001:db8::1 10.0.0.1 1 2\r\n", "addresses"),
            (b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n", "addresses"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n", "ports"),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n", "malformed"),
            (b"PROXY TCP4 " + b"1" * LINE, "too long"),
            (binary(V4, command=0x11), "version"),
            (binary(V4, command=0x22), "version"),
            (binary(V4, 0x12), "TCP"),
            (binary(V4[:11]), "too short"),
            (binary(V6[:12], 0x21), "too short"),
            (binary(V4, tlvs=b"\x20\0"), "within a TLV"),
            (binary(V4, tlvs=b"\x20\0\5\1"), "within a TLV"),
            (binary(V4, tlvs=bytes(MOST)), "longer"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, words):
                parse(data)

    def test_a_length_that_is_too_much_is_not_waited_for(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "longer"):
            parse(SIGNATURE + b"\x21\x11\xff\xff")


class FuzzTests(SynchronousTestCase):
    @given(
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x20"]),
        st.binary(max_size=300),
    )
    def test_anything(self, start: bytes, rest: bytes) -> None:
        try:
            parsed = parse(start + rest)
        except RemoteProtocolError:
            return
        if parsed is not None:
            self.assertLessEqual(parsed[1], len(start + rest))

    @given(
        st.sampled_from([data for data, _ in GOOD]), st.integers(0, 300), st.binary(min_size=1, max_size=1)
    )
    def test_one_byte_changed(self, data: bytes, place: int, byte: bytes) -> None:
        place %= len(data)
        try:
            parse(data[:place] + byte + data[place + 1 :])
        except RemoteProtocolError:
            pass
