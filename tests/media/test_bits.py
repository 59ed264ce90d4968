"""The bit reader, and emulation prevention."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.bits import BitReader, unescape
from oxidecast.media.errors import RemoteProtocolError
from tests.media.fuzz import FUZZ

EXP_GOLOMB = [
    ("1", 0, 0),
    ("010", 1, 1),
    ("011", 2, -1),
    ("00100", 3, 2),
    ("00101", 4, -2),
    ("0001000", 7, 4),
]


def bits(text: str) -> BitReader:
    text += "0" * (-len(text) % 8)
    return BitReader(int(text, 2).to_bytes(len(text) // 8, "big"), "test")


class BitReaderTests(SynchronousTestCase):
    def test_exp_golomb_codes_are_those_of_the_table(self) -> None:
        for code, unsigned, signed in EXP_GOLOMB:
            self.assertEqual((bits(code).ue(), bits(code).se()), (unsigned, signed), code)

    def test_the_largest_exp_golomb_number_is_read(self) -> None:
        self.assertEqual(bits("0" * 31 + "1" * 32).ue(), 2**32 - 2)

    def test_more_zeros_than_any_number_has_are_refused(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "above 32 bits"):
            BitReader(bytes(100), "test").ue()

    def test_fields_are_read_across_bytes(self) -> None:
        reader = BitReader(b"\xab\xcd\xef", "test")
        self.assertEqual([reader.u(4), reader.u(12), reader.u(1), reader.flag()], [0xA, 0xBCD, 1, True])

    def test_align_goes_to_the_next_byte_and_stays_on_one(self) -> None:
        reader = BitReader(b"\xff\x01", "test")
        reader.skip(3)
        reader.align()
        reader.align()
        self.assertEqual(reader.u(8), 1)

    def test_each_read_beyond_the_end_is_the_peers_fault(self) -> None:
        for read in (
            lambda r: r.u(9),
            lambda r: r.skip(9),
            lambda r: (r.skip(8), r.flag()),
            lambda r: r.ue(),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "test"):
                read(BitReader(b"\x00", "test"))

    @FUZZ
    @given(st.binary(max_size=40), st.lists(st.integers(0, 64)))
    def test_u_reads_what_the_bits_say(self, data: bytes, sizes: list[int]) -> None:
        text = "".join(f"{byte:08b}" for byte in data)
        reader, at = BitReader(data, "test"), 0
        for size in sizes:
            if at + size > len(text):
                break
            self.assertEqual(reader.u(size), int(text[at : at + size] or "0", 2))
            at += size


class UnescapeTests(SynchronousTestCase):
    @FUZZ
    @given(st.lists(st.sampled_from([0, 1, 3, 255]), max_size=60).map(bytes))
    def test_it_undoes_the_escaping_of_the_standard(self, raw: bytes) -> None:
        escaped, zeros = bytearray(), 0
        for byte in raw:
            if zeros == 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        self.assertEqual(unescape(bytes(escaped)), raw)
