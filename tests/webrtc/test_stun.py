"""STUN against the published vectors (RFC 5769), against aioice, and against hostile bytes."""

import os
import random

from aioice import stun as aioice_stun
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc import stun
from tests.media.fuzz import FUZZ, mutated

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
KEY = stun.IntegrityKey("VOkJxbRl1RmTxUk/WvJxBt")
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e2074657374"
    "20636c69656e74002400046e0001ff80290008932ff9b151263b36000600096576"
    "746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571"
    "a280280004e57a3bcf"
)
RESPONSE_4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f72"
    "20002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06b"
    "e7d780280004c07d4c96"
)
RESPONSE_6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf1"
    "1784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


class Vectors(SynchronousTestCase):
    """RFC 5769, 2.1 to 2.3."""

    def test_the_request_is_read_and_its_integrity_holds(self) -> None:
        message = stun.parse(REQUEST)
        self.assertEqual((message.kind, message.transaction), (stun.BINDING_REQUEST, TRANSACTION))
        self.assertEqual(message.attributes[stun.USERNAME], b"evtj:h6vY")
        self.assertEqual(message.attributes[stun.PRIORITY], bytes.fromhex("6e0001ff"))
        self.assertTrue(KEY.verifies(message))

    def test_the_responses_hold_the_address(self) -> None:
        for vector, host in (
            (RESPONSE_4, "192.0.2.1"),
            (RESPONSE_6, "2001:db8:1234:5678:11:2233:4455:6677"),
        ):
            message = stun.parse(vector)
            self.assertTrue(KEY.verifies(message))
            name, value = stun.xor_mapped_address(host, 32853, TRANSACTION)
            self.assertEqual(message.attributes[name], value)

    def test_another_password_does_not_verify(self) -> None:
        self.assertFalse(stun.IntegrityKey("VOkJxbRl1RmTxUk/WvJxBu").verifies(stun.parse(REQUEST)))


class AgainstAioice(SynchronousTestCase):
    def test_it_reads_what_we_build(self) -> None:
        built = stun.build(
            stun.BINDING_RESPONSE,
            TRANSACTION,
            [stun.xor_mapped_address("198.51.100.7", 50000, TRANSACTION)],
            KEY,
        )
        read = aioice_stun.parse_message(built)
        read.check_message_integrity(b"VOkJxbRl1RmTxUk/WvJxBt")
        self.assertEqual(read.attributes["XOR-MAPPED-ADDRESS"], ("198.51.100.7", 50000))

    def test_it_reads_our_errors(self) -> None:
        built = stun.build(stun.BINDING_ERROR, TRANSACTION, [stun.error_code(487, "Role Conflict")], KEY)
        read = aioice_stun.parse_message(built)
        read.check_message_integrity(b"VOkJxbRl1RmTxUk/WvJxBt")
        self.assertEqual(read.attributes["ERROR-CODE"], (487, "Role Conflict"))

    def test_we_read_what_it_builds(self) -> None:
        request = aioice_stun.Message(
            message_method=aioice_stun.Method.BINDING, message_class=aioice_stun.Class.REQUEST
        )
        request.attributes["USERNAME"] = "local:remote"
        request.attributes["PRIORITY"] = 12345
        request.attributes["ICE-CONTROLLING"] = 77
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(b"VOkJxbRl1RmTxUk/WvJxBt")
        request.add_fingerprint()
        message = stun.parse(bytes(request))
        self.assertTrue(KEY.verifies(message))
        self.assertEqual(
            set(message.attributes),
            {stun.USERNAME, stun.PRIORITY, stun.ICE_CONTROLLING, stun.USE_CANDIDATE},
        )


class Addresses(SynchronousTestCase):
    def test_an_ipv4_address_of_a_dual_stack_socket_is_told_as_ipv4(self) -> None:
        self.assertEqual(
            stun.xor_mapped_address("::ffff:192.0.2.1", 1, TRANSACTION),
            stun.xor_mapped_address("192.0.2.1", 1, TRANSACTION),
        )

    def test_a_scope_is_left_out(self) -> None:
        self.assertEqual(
            stun.xor_mapped_address("fe80::1%eth0", 1, TRANSACTION),
            stun.xor_mapped_address("fe80::1", 1, TRANSACTION),
        )

    def test_a_name_is_our_mistake(self) -> None:
        with self.assertRaisesRegex(LocalProtocolError, "no IP address"):
            stun.xor_mapped_address("localhost", 1, TRANSACTION)


def header(kind: int, length: int, cookie: int = stun.MAGIC_COOKIE) -> bytes:
    return kind.to_bytes(2, "big") + length.to_bytes(2, "big") + cookie.to_bytes(4, "big") + TRANSACTION


REFUSED = [
    ("too short", header(1, 0)[:-1], "has 19 bytes"),
    ("too long", header(1, 1264) + bytes(1264), "has 1284 bytes"),
    ("a type with its first bit set", header(0x8001, 0), "two zero bits"),
    ("another cookie", header(1, 0, 1), "magic cookie is 0x00000001"),
    ("a length that lies", header(1, 4), "message length is 4 in a datagram with 0"),
    ("a length that is no multiple of four", header(1, 5) + bytes(5), "message length is 5"),
    ("an attribute that leads out", header(1, 4) + b"\x00\x06\x00\x01", "leads 1 bytes out"),
    ("a short integrity", header(1, 8) + b"\x00\x08\x00\x04" + bytes(4), "MESSAGE-INTEGRITY has 4 bytes"),
    ("a short fingerprint", header(1, 4) + b"\x80\x28\x00\x00", "FINGERPRINT has 0 bytes"),
    ("a wrong fingerprint", header(1, 8) + b"\x80\x28\x00\x04" + bytes(4), "not that of the message"),
    ("too many attributes", header(1, 132) + b"\xc0\x01\x00\x00" * 33, "more than 32 attributes"),
]


class HostileBytes(SynchronousTestCase):
    def test_what_is_refused(self) -> None:
        for name, datagram, sentence in REFUSED:
            with self.subTest(name), self.assertRaisesRegex(RemoteProtocolError, sentence):
                stun.parse(datagram)

    def test_an_attribute_behind_the_fingerprint_is_refused(self) -> None:
        built = stun.build(stun.BINDING_REQUEST, TRANSACTION, [(stun.FINGERPRINT, bytes(4))])
        longer = stun.build(stun.BINDING_REQUEST, TRANSACTION, [])
        fingerprinted = built[:2] + (16).to_bytes(2, "big") + longer[4:28] + b"\xc0\x01\x00\x04" + bytes(4)
        with self.assertRaises(RemoteProtocolError):
            stun.parse(fingerprinted)

    def test_what_stands_behind_the_integrity_is_not_believed(self) -> None:
        signed = stun.build(stun.BINDING_REQUEST, TRANSACTION, [(stun.USERNAME, b"a:b")], KEY)[:-8]
        smuggled = signed + b"\x00\x25\x00\x00"
        message = stun.parse(smuggled[:2] + (len(smuggled) - 20).to_bytes(2, "big") + smuggled[4:])
        self.assertTrue(KEY.verifies(message))
        self.assertNotIn(stun.USE_CANDIDATE, message.attributes)

    def test_of_two_equal_attributes_the_first_counts(self) -> None:
        built = stun.build(stun.BINDING_REQUEST, TRANSACTION, [(stun.USERNAME, b"a"), (stun.USERNAME, b"b")])
        self.assertEqual(stun.parse(built).attributes[stun.USERNAME], b"a")

    @FUZZ
    @given(mutated(REQUEST, RESPONSE_4, RESPONSE_6))
    def test_nothing_else_is_raised(self, datagram: bytes) -> None:
        try:
            message = stun.parse(datagram)
        except RemoteProtocolError:
            return
        KEY.verifies(message)

    @FUZZ
    @given(
        st.binary(min_size=12, max_size=12),
        st.lists(st.tuples(st.integers(0, 0x7FFF), st.binary(max_size=64)), max_size=8),
    )
    def test_round_trip(self, transaction: bytes, attributes: list[tuple[int, bytes]]) -> None:
        attributes = [(name, value) for name, value in attributes if name != stun.MESSAGE_INTEGRITY]
        message = stun.parse(stun.build(stun.BINDING_REQUEST, transaction, attributes, KEY))
        self.assertTrue(KEY.verifies(message))
        self.assertEqual(message.attributes, dict(reversed(attributes)))
        self.assertEqual(message.transaction, transaction)

    def test_a_message_with_a_changed_bit_in_front_of_the_fingerprint_never_verifies(self) -> None:
        built = stun.build(stun.BINDING_REQUEST, TRANSACTION, [(stun.USERNAME, b"evtj:h6vY")], KEY)
        for bit in range((len(built) - 8) * 8):
            changed = bytearray(built)
            changed[bit // 8] ^= 1 << bit % 8
            try:
                self.assertFalse(KEY.verifies(stun.parse(bytes(changed))), bit)
            except RemoteProtocolError:
                pass

    def test_a_hundred_thousand_random_datagrams(self) -> None:
        noise = random.Random(6)
        for _ in range(100_000):
            with self.assertRaises(RemoteProtocolError):
                stun.parse(noise.randbytes(noise.randrange(64)))

    def test_random_bodies_behind_a_right_header(self) -> None:
        for _ in range(2_000):
            size = 4 * (os.urandom(1)[0] % 32)
            try:
                stun.parse(header(1, size) + os.urandom(size))
            except RemoteProtocolError:
                pass
