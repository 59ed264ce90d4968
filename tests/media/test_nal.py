"""NAL units between lengths and start codes."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import nal
from oxidecast.media.errors import RemoteProtocolError
from tests.media.fuzz import FUZZ

UNITS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


class LengthTests(SynchronousTestCase):
    @FUZZ
    @given(UNITS)
    def test_units_come_out_as_they_went_in(self, units: list[bytes]) -> None:
        self.assertEqual(list(nal.nal_units(nal.length_prefixed(units))), units)

    @FUZZ
    @given(UNITS, st.integers(1, 4))
    def test_short_lengths_are_widened(self, units: list[bytes], size: int) -> None:
        short = b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)
        self.assertEqual(nal.four_byte_lengths(short, size), nal.length_prefixed(units))

    def test_a_length_that_leads_out_is_refused(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "leads 1 bytes out"):
            list(nal.nal_units(b"\x00\x00\x00\x02\x65"))

    def test_a_length_cut_short_is_refused(self) -> None:
        for size in (2, 3, 4):
            with self.assertRaisesRegex(RemoteProtocolError, "cut short"):
                nal.length_prefixed(nal.nal_units(nal.four_byte_lengths(b"\x00", size)))
        with self.assertRaisesRegex(RemoteProtocolError, "cut short"):
            nal.spans(b"\x00\x00\x00")

    def test_more_units_than_a_frame_can_have_are_refused(self) -> None:
        for read in (
            lambda: nal.spans(bytes(4 * (nal.MAX_UNITS + 1))),
            lambda: nal.four_byte_lengths(bytes(nal.MAX_UNITS + 1), 1),
            lambda: nal.split_annexb(b"\x00\x00\x01\x09" * (nal.MAX_UNITS + 1)),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "more than 2048"):
                read()


class AnnexBTests(SynchronousTestCase):
    def test_start_codes_of_both_sizes_and_padding(self) -> None:
        data = b"\x00\x00\x00\x01\x67\x42\x00\x00\x01\x68\xce\x00\x00\x00\x00\x00\x01\x65\x88\x00\x00"
        self.assertEqual(nal.split_annexb(data), [b"\x67\x42", b"\x68\xce", b"\x65\x88"])

    def test_what_comes_before_the_first_start_code_is_no_unit(self) -> None:
        self.assertEqual(nal.split_annexb(b"junk"), [])
        self.assertEqual(nal.split_annexb(b"junk\x00\x00\x01\x65"), [b"\x65"])

    @FUZZ
    @given(st.binary(max_size=200))
    def test_hostile_bytes_raise_nothing_else(self, data: bytes) -> None:
        for read in (nal.spans, nal.from_annexb, lambda d: nal.four_byte_lengths(d, 2)):
            try:
                read(data)
            except RemoteProtocolError:
                pass
