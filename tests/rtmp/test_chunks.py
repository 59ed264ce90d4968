"""Chunks: every header form, every size, interleaved, split, and hostile."""

import time
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp.chunks import ChunkReader, ChunkWriter, whole_message
from oxidecast.rtmp.messages import Message

TYPES = st.sampled_from([8, 9, 18, 20])
TIMES = st.one_of(
    st.integers(0, 200), st.sampled_from([0xFFFFFE, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF])
)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([2, 3, 4, 63, 64, 319, 320, 65599]),
        TYPES,
        st.integers(0, 2),
        TIMES,
        st.integers(0, 700).map(lambda size: bytes(n * 31 + size & 0xFF for n in range(size))),
    ),
    max_size=12,
)


def header(
    form: int, csid: int, time: int = 0, length: int = 0, type_id: int = 9, stream_id: int = 1
) -> bytes:
    """A message header as the specification draws it."""
    head = bytes((form << 6 | csid,))
    if form < 3:
        head += min(time, 0xFFFFFF).to_bytes(3, "big")
    if form < 2:
        head += length.to_bytes(3, "big") + bytes((type_id,))
    if form < 1:
        head += stream_id.to_bytes(4, "little")
    return head + (time.to_bytes(4, "big") if time >= 0xFFFFFF else b"")


def set_chunk_size(size: int) -> bytes:
    return header(0, 2, 0, 4, 1, 0) + size.to_bytes(4, "big")


def read(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    return [plain(message) for message in ChunkReader().receive(data)]


def plain(message: Message) -> tuple[int, int, int, int, bytes]:
    return message.csid, message.type_id, message.stream_id, message.timestamp, message.payload


class Headers(SynchronousTestCase):
    """5.3.1.2, each form and what it leaves to the one before."""

    def test_of_all_forms(self) -> None:
        data = (
            header(0, 4, 1000, 2) + b"ab" + header(1, 4, 40, 3, 8) + b"cde" + header(2, 4, 20) + b"fgh"
            + header(3, 4) + b"ijk"
        )  # fmt: skip
        assert read(data) == [
            (4, 9, 1, 1000, b"ab"),
            (4, 8, 1, 1040, b"cde"),
            (4, 8, 1, 1060, b"fgh"),
            (4, 8, 1, 1080, b"ijk"),
        ]

    def test_of_form_3_behind_form_0_repeat_its_time_as_a_delta(self) -> None:
        assert [m[3] for m in read(header(0, 4, 23, 1) + b"a" + header(3, 4) + b"b")] == [23, 46]

    def test_of_form_1_may_begin_a_chunk_stream(self) -> None:
        assert read(header(1, 2, 0, 4, 3) + b"\0\0\0\1") == [(2, 3, 0, 0, b"\0\0\0\1")]

    def test_of_forms_2_and_3_may_not(self) -> None:
        for form in (2, 3):
            error = self.assertRaises(RemoteProtocolError, read, header(form, 4) + bytes(20))
            assert str(error) == f"chunk stream 4 begins with a header of format {form}"

    def test_of_two_and_three_bytes_name_high_chunk_streams(self) -> None:
        rest = header(0, 3, 0, 1)[1:] + b"x"
        for first, csid in [
            (b"\x00\x00", 64),
            (b"\x00\xff", 319),
            (b"\x01\x00\x01", 320),
            (b"\x01\xff\xff", 65599),
        ]:
            assert read(first + rest)[0][0] == csid

    def test_add_up_past_32_bits(self) -> None:
        data = header(0, 4, 0xFFFFFFF0, 1) + b"a" + header(2, 4, 0x20) + b"b"
        assert [m[3] for m in read(data)] == [0xFFFFFFF0, 0x10]


class ExtendedTimestamps(SynchronousTestCase):
    """5.3.1.3."""

    def test_are_repeated_on_each_chunk(self) -> None:
        stamp = b"\x01\x00\x00\x00"
        data = (
            header(0, 4, 0x1000000, 300)
            + b"a" * 128
            + b"\xc4"
            + stamp
            + b"b" * 128
            + b"\xc4"
            + stamp
            + b"c" * 44
        )
        assert read(data) == [(4, 9, 1, 0x1000000, b"a" * 128 + b"b" * 128 + b"c" * 44)]

    def test_that_are_not_repeated_are_payload(self) -> None:
        data = header(0, 4, 0x1000000, 300) + b"a" * 128 + b"\xc4" + b"b" * 128 + b"\xc4" + b"c" * 44
        assert read(data) == [(4, 9, 1, 0x1000000, b"a" * 128 + b"b" * 128 + b"c" * 44)]

    def test_may_be_deltas(self) -> None:
        data = header(0, 4, 5, 1) + b"a" + header(2, 4, 0x1000001) + b"b" + b"\xc4\x01\x00\x00\x01" + b"c"
        assert [m[3] for m in read(data)] == [5, 0x1000006, 0x2000007]

    def test_begin_at_0xffffff(self) -> None:
        for stamp in (0xFFFFFE, 0xFFFFFF):
            assert read(whole_message(4, 9, 1, stamp, b"x" * 200, 128))[0][3:] == (stamp, b"x" * 200)


class ChunkSizes(SynchronousTestCase):
    def test_change_between_messages(self) -> None:
        data = (
            set_chunk_size(3)
            + header(0, 4, 0, 7)
            + b"abc\xc4def\xc4g"
            + set_chunk_size(7)[:12]
            + b"\0\0\0\xc2\x0a"
        )
        assert read(data + header(0, 4, 0, 8) + b"abcdefgh") == [
            (4, 9, 1, 0, b"abcdefg"),
            (4, 9, 1, 0, b"abcdefgh"),
        ]

    def test_change_inside_a_message_of_another_chunk_stream(self) -> None:
        data = (
            header(0, 4, 0, 200) + b"a" * 128 + set_chunk_size(50) + b"\xc4" + b"b" * 50 + b"\xc4" + b"c" * 22
        )
        assert read(data) == [(4, 9, 1, 0, b"a" * 128 + b"b" * 50 + b"c" * 22)]

    def test_from_one_byte_to_16_mib_carry_the_same(self) -> None:
        payload = bytes(n % 251 for n in range(5000))
        for size in (1, 2, 127, 128, 129, 4096, 65536, 0xFFFFFF):
            writer, reader = ChunkWriter(), ChunkReader()
            data = (
                writer.set_chunk_size(size)
                + writer.message(6, 9, 1, 0, payload)
                + writer.message(6, 9, 1, 9, payload)
            )
            assert [m.payload for m in reader.receive(data)] == [payload, payload]

    def test_of_nothing_and_beyond_31_bits_are_refused(self) -> None:
        for size in (0, 0x80000000, 0xFFFFFFFF):
            error = self.assertRaises(RemoteProtocolError, read, set_chunk_size(size))
            assert str(error) == f"Set Chunk Size says {size}, which is not from 1 to 0x7FFFFFFF"

    def test_beyond_any_message_are_as_good_as_the_greatest(self) -> None:
        reader = ChunkReader()
        reader.receive(set_chunk_size(0x7FFFFFFF))
        assert reader.chunk_size == 0xFFFFFF

    def test_of_ours_are_checked(self) -> None:
        for size in (0, 0x1000000):
            self.assertRaises(LocalProtocolError, ChunkWriter().set_chunk_size, size)


class Interleaving(SynchronousTestCase):
    def test_of_two_messages(self) -> None:
        data = (
            header(0, 4, 0, 300) + b"a" * 128
            + header(0, 6, 0, 200, 8) + b"x" * 128
            + b"\xc4" + b"b" * 128
            + b"\xc6" + b"y" * 72
            + b"\xc4" + b"c" * 44
        )  # fmt: skip
        assert read(data) == [
            (6, 8, 1, 0, b"x" * 128 + b"y" * 72),
            (4, 9, 1, 0, b"a" * 128 + b"b" * 128 + b"c" * 44),
        ]

    def test_by_payload_that_looks_like_headers(self) -> None:
        writer = ChunkWriter(128)
        data = writer.message(4, 9, 1, 0, b"\xc4" * 1000)
        assert read(data) == [(4, 9, 1, 0, b"\xc4" * 1000)]

    def test_of_a_second_beginning_on_one_chunk_stream_is_refused(self) -> None:
        error = self.assertRaises(
            RemoteProtocolError, read, header(0, 4, 0, 300) + bytes(128) + header(0, 4, 0, 300) + bytes(128)
        )
        assert "inside another one" in str(error)

    def test_with_an_abort_begins_anew(self) -> None:
        data = (
            header(0, 4, 7, 300)
            + bytes(128)
            + header(0, 2, 0, 4, 2, 0)
            + b"\0\0\0\4"
            + header(0, 4, 9, 1)
            + b"x"
        )
        reader = ChunkReader()
        assert [plain(m) for m in reader.receive(data)] == [(4, 9, 1, 9, b"x")]
        assert reader.buffered == 0

    def test_with_an_abort_of_nothing_goes_on(self) -> None:
        assert read(header(0, 2, 0, 4, 2, 0) + b"\0\0\0\x09" + header(0, 4, 9, 1) + b"x") == [
            (4, 9, 1, 9, b"x")
        ]


class RoundTrips(SynchronousTestCase):
    @given(MESSAGES, st.sampled_from([1, 2, 128, 4096]), st.integers(1, 50))
    @settings(max_examples=150, deadline=None)
    def test_give_the_same_messages_however_they_are_split(
        self, sent: list[tuple[int, int, int, int, bytes]], size: int, step: int
    ) -> None:
        writer = ChunkWriter()
        data = writer.set_chunk_size(size) + b"".join(writer.message(*message) for message in sent)
        assert read(data) == sent
        reader = ChunkReader()
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        assert [plain(m) for piece in pieces for m in reader.receive(piece)] == sent
        assert reader.buffered == 0

    @given(MESSAGES)
    @settings(max_examples=50, deadline=None)
    def test_of_whole_messages_need_no_memory(self, sent: list[tuple[int, int, int, int, bytes]]) -> None:
        for csid, type_id, stream_id, stamp, payload in sent:
            data = whole_message(csid, type_id, stream_id, stamp, payload, 128)
            assert read(data) == [(csid, type_id, stream_id, stamp, payload)]

    def test_use_the_shortest_header(self) -> None:
        writer = ChunkWriter()
        sizes = [len(writer.message(4, 9, 1, time, b"x")) for time in (0, 40, 80, 100)]
        assert sizes == [13, 5, 2, 5]

    def test_of_what_does_not_fit_are_our_fault(self) -> None:
        self.assertRaises(LocalProtocolError, ChunkWriter().message, 1, 9, 1, 0, b"")
        self.assertRaises(LocalProtocolError, ChunkWriter().message, 65600, 9, 1, 0, b"")
        self.assertRaises(LocalProtocolError, ChunkWriter().message, 4, 9, 1, 0, bytes(1 << 24))


class Limits(SynchronousTestCase):
    def test_of_a_message(self) -> None:
        for data in (header(0, 4, 0, 1001), header(1, 4, 0, 1001)):
            reader = ChunkReader(max_message_size=1000)
            error = self.assertRaises(RemoteProtocolError, reader.receive, data)
            assert str(error) == "message length 1001 is over the limit of 1000"

    def test_of_a_message_hold_for_one_that_repeats_its_length(self) -> None:
        reader = ChunkReader()
        reader.receive(header(0, 4, 0, 100) + bytes(100))
        reader.max_message_size = 50
        self.assertRaises(RemoteProtocolError, reader.receive, b"\xc4" + bytes(100))

    def test_of_chunk_streams(self) -> None:
        data = b"".join(header(0, csid, 0, 0) for csid in range(3, 8))
        assert len(ChunkReader(max_chunk_streams=5).receive(data)) == 5
        error = self.assertRaises(RemoteProtocolError, ChunkReader(max_chunk_streams=4).receive, data)
        assert str(error) == "more than 4 chunk streams are in use"

    def test_of_unfinished_messages_over_all_chunk_streams(self) -> None:
        reader = ChunkReader(max_partial=1000)
        data = b"".join(header(0, csid, 0, 500) + bytes(128) for csid in range(3, 12))
        error = self.assertRaises(RemoteProtocolError, reader.receive, data)
        assert str(error) == "unfinished messages hold more than 1000 bytes"

    def test_are_not_eaten_up_by_finished_messages(self) -> None:
        reader = ChunkReader(max_partial=400)
        for _ in range(50):
            for start in (header(0, 4, 0, 300) + bytes(128), b"\xc4" + bytes(128), b"\xc4" + bytes(44)):
                reader.receive(start)
        assert reader.buffered == 0

    def test_of_memory_hold_whatever_is_announced(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        reader = ChunkReader(max_message_size=0xFFFFFF)
        reader.receive(b"".join(header(0, csid, 0, 0xFFFFFF) + bytes(128) for csid in range(3, 60)))
        assert tracemalloc.get_traced_memory()[1] < 200_000

    def test_of_time_hold_for_a_megabyte_in_single_bytes(self) -> None:
        data = whole_message(4, 9, 1, 0, bytes(1 << 20), 0xFFFFFF)
        reader = ChunkReader()
        reader.receive(set_chunk_size(0xFFFFFF))
        started = time.process_time()
        received = [m for start in range(len(data)) for m in reader.receive(data[start : start + 1])]
        assert len(received) == 1
        assert time.process_time() - started < 5  # quadratic would be minutes

    @given(st.binary(max_size=400), st.integers(1, 64))
    @settings(max_examples=200, deadline=None)
    def test_are_all_that_garbage_meets(self, data: bytes, step: int) -> None:
        def outcome(step: int) -> tuple[list[object], str]:
            reader, got = ChunkReader(max_message_size=500), []
            try:
                for start in range(0, len(data), step):
                    reader.feed(data[start : start + step])
                    got += [plain(message) for message in iter(reader.next_message, None)]
            except RemoteProtocolError as error:
                return got, str(error)
            return got, ""

        assert outcome(step) == outcome(len(data) or 1)
