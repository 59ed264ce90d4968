"""AMF0 both ways, AMF3 in, and what hostile peers send instead."""

import struct
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.amf import MAX_DEPTH, MAX_VALUES, Date, EcmaArray, decode_all, encode
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

WIRE = [
    ("number", "003ff8000000000000", 1.5),
    ("boolean true", "0101", True),
    ("boolean false", "0100", False),
    ("string", "020003" + b"abc".hex(), "abc"),
    ("object", "03000161" + "0101" + "000009", {"a": True}),
    ("empty object", "03000009", {}),
    ("null", "05", None),
    ("ECMA array", "0800000001000161" + "05" + "000009", EcmaArray(a=None)),
    ("strict array", "0a00000002" + "05" + "0101", [None, True]),
    ("date", "0b" + struct.pack(">dh", 1000.0, 0).hex(), Date(1000.0, 0)),
]
READ_ONLY = [
    ("undefined", "06", None),
    ("unsupported", "0d", None),
    ("long string", "0c00000003" + b"abc".hex(), "abc"),
    ("XML document", "0f00000004" + b"<a/>".hex(), "<a/>"),
    ("typed object", "10000154" + "000161" + "0101" + "000009", {"a": True}),
    ("an empty name that is no end", "030000" + "05" + "000009", {"": None}),
    ("a count that is wrong", "08ffffffff" + "000161" + "05" + "000009", {"a": None}),
    ("broken UTF-8", "020002" + "c328", "\ufffd("),
    ("AMF3 undefined", "1100", None),
    ("AMF3 null", "1101", None),
    ("AMF3 false", "1102", False),
    ("AMF3 true", "1103", True),
    ("AMF3 integer of one byte", "110405", 5.0),
    ("AMF3 integer of two bytes", "11048100", 128.0),
    ("AMF3 integer of four bytes", "1104" + "bfffffff", 268435455.0),
    ("AMF3 negative integer", "1104" + "ffffffff", -1.0),
    ("AMF3 double", "1105" + struct.pack(">d", 2.5).hex(), 2.5),
    ("AMF3 string", "110607" + b"abc".hex(), "abc"),
    ("AMF3 date", "110801" + struct.pack(">d", 7.0).hex(), Date(7.0)),
    ("AMF3 array", "1109050104" + "01" + "03", [1.0, True]),
    ("AMF3 array with names", "110903" + "0361" + "03" + "01" + "0402", {"a": True, "0": 2.0}),
    ("AMF3 anonymous dynamic object", "110a0b01" + "0361" + "0403" + "01", {"a": 3.0}),
    ("AMF3 sealed object", "110a1301" + "0361" + "03", {"a": True}),
    ("AMF3 byte array", "110c05" + "beef", b"\xbe\xef"),
    ("AMF3 string reference", "1109050106" + "03" + "61" + "0600", ["a", "a"]),
    (
        "AMF3 traits reference",
        "11090501" + "0a1301" + "0361" + "03" + "0a01" + "02",
        [{"a": True}, {"a": False}],
    ),
]
REFUSED = [
    ("a number cut short", "003ff8", "number runs past the end"),
    ("a string cut short", "020010" + "61", "string runs past the end"),
    ("a long string of 4 GiB", "0cffffffff" + "61", "announces 4294967295 bytes"),
    ("a long string over what is there", "0c00010000" + "61", "long string runs past the end"),
    ("a strict array of 4 billion", "0affffffff" + "05", "more elements than the message has bytes"),
    ("an object without an end", "03000161" + "05", "property name length runs past the end"),
    ("a reference", "070000", "reference is not accepted"),
    ("a movie clip", "04", "marker 0x04 is unknown"),
    ("an unknown marker", "ff", "marker 0xff is unknown"),
    ("an AMF3 object reference", "110a00", "is a reference"),
    ("an AMF3 string that was not sent", "110602", "refers to a string that was not sent"),
    ("AMF3 traits that were not sent", "110a05", "refers to traits that were not sent"),
    ("an AMF3 externalizable object", "110a0701", "externalizable"),
    ("an AMF3 vector", "110d01", "AMF3 marker 0x0d is not accepted"),
    ("AMF3 traits of millions", "110a" + "fffffffb" + "01", "more elements than the message has bytes"),
    ("an AMF3 integer cut short", "1104ff", "AMF3 integer runs past the end"),
]


class Values(SynchronousTestCase):
    def test_are_read_from_the_wire(self) -> None:
        for name, wire, value in [*WIRE, *READ_ONLY]:
            with self.subTest(name):
                assert decode_all(bytes.fromhex(wire)) == [value]

    def test_are_written_as_they_were_read(self) -> None:
        for name, wire, _ in WIRE:
            with self.subTest(name):
                assert encode(*decode_all(bytes.fromhex(wire))) == bytes.fromhex(wire)

    def test_stand_one_after_the_other(self) -> None:
        assert decode_all(encode("connect", 1, {"app": "live"}, None)) == [
            "connect",
            1.0,
            {"app": "live"},
            None,
        ]

    def test_return_to_amf0_behind_an_amf3_value(self) -> None:
        assert decode_all(bytes.fromhex("1103" + "05")) == [True, None]

    def test_of_nothing_are_none(self) -> None:
        assert decode_all(b"") == []

    def test_keep_a_string_of_more_than_65535_bytes(self) -> None:
        assert decode_all(encode("x" * 70_000)) == ["x" * 70_000]

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
            ),
            max_leaves=20,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_survive_the_round_trip(self, value: object) -> None:
        assert decode_all(encode(value)) == [value]


class HostileValues(SynchronousTestCase):
    def test_are_refused_by_name(self) -> None:
        for name, wire, sentence in REFUSED:
            with self.subTest(name):
                error = self.assertRaises(RemoteProtocolError, decode_all, bytes.fromhex(wire))
                assert sentence in str(error), error

    def test_that_nest_70_000_deep_are_refused(self) -> None:
        for name, wire in [
            ("objects", b"\x03\x00\x01a" * 70_000),
            ("arrays", b"\x0a\x00\x00\x00\x01" * 70_000),
            ("AMF3 arrays", b"\x11" + b"\x09\x03\x01" * 70_000),
            ("AMF3 objects", b"\x11" + b"\x0a\x0b\x01\x03a" * 70_000),
            ("switches to AMF3", b"\x11\x09\x03\x01" + b"\x0a\x13\x01\x03a" * 70_000),
        ]:
            with self.subTest(name):
                error = self.assertRaises(RemoteProtocolError, decode_all, wire)
                assert str(error) == f"AMF values nest deeper than {MAX_DEPTH} levels"

    def test_of_the_greatest_depth_are_read(self) -> None:
        wire = b"\x0a\x00\x00\x00\x01" * MAX_DEPTH + b"\x05"
        assert len(decode_all(wire)) == 1

    def test_of_too_great_a_number_are_refused(self) -> None:
        error = self.assertRaises(RemoteProtocolError, decode_all, b"\x05" * (MAX_VALUES + 1))
        assert str(error) == f"AMF message holds more than {MAX_VALUES} values"

    def test_cost_no_memory_by_what_they_announce(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for wire in (b"\x0c\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff", b"\x11\x0c\xff\xff\xff\xff"):
            self.assertRaises(RemoteProtocolError, decode_all, wire)
        assert tracemalloc.get_traced_memory()[1] < 100_000

    @given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"\x11" + tail))
    @settings(max_examples=200, deadline=None)
    def test_raise_nothing_but_the_named_error(self, wire: bytes) -> None:
        try:
            decode_all(wire)
        except RemoteProtocolError:
            pass

    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_made_from_good_ones_raise_nothing_but_the_named_error(self, data: st.DataObject) -> None:
        wire = bytearray(b"".join(bytes.fromhex(wire) for _, wire, _ in [*WIRE, *READ_ONLY]))
        for _ in range(3):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
        try:
            decode_all(bytes(wire))
        except RemoteProtocolError:
            pass


class OurOwnValues(SynchronousTestCase):
    def test_that_amf0_cannot_say_are_our_fault(self) -> None:
        self.assertRaises(LocalProtocolError, encode, b"bytes")
        self.assertRaises(LocalProtocolError, encode, {"x" * 70_000: 1})

    def test_that_hold_themselves_are_our_fault(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        self.assertRaises(LocalProtocolError, encode, loop)
