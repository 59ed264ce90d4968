"""DTLS records: cutting what comes and what goes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.records import MAX_DATAGRAM, MTU, Message, Record, datagrams, split
from tests.media.fuzz import FUZZ


def record(body: bytes, content: int = 22, version: int = 0xFEFD, epoch: int = 0) -> bytes:
    head = bytes((content,)) + version.to_bytes(2, "big") + epoch.to_bytes(2, "big") + bytes(6)
    return head + len(body).to_bytes(2, "big") + body


def message(kind: int, body: bytes, length: int | None = None, offset: int = 0) -> bytes:
    whole = len(body) if length is None else length
    return (
        bytes((kind,))
        + whole.to_bytes(3, "big")
        + bytes(2)
        + offset.to_bytes(3, "big")
        + len(body).to_bytes(3, "big")
        + body
    )


class Splitting(SynchronousTestCase):
    def test_records_of_a_datagram(self) -> None:
        datagram = record(b"one") + record(b"second", 23, epoch=1)
        self.assertEqual(
            [(each.content, each.epoch, each.body) for each in split(datagram)],
            [(22, 0, b"one"), (23, 1, b"second")],
        )

    def test_what_is_behind_a_bad_record_is_dropped(self) -> None:
        good = record(b"good")
        for bad in (
            record(b"x", content=19),
            record(b"x", content=24),
            record(b"x", version=0x0303),
            record(b""),
        ):
            self.assertEqual([each.data for each in split(good + bad + good)], [good], bad)

    def test_a_record_cut_short_is_dropped(self) -> None:
        good = record(b"good")
        for end in range(len(good)):
            self.assertEqual([each.data for each in split(good + good[:end])], [good], end)

    def test_a_giant_is_not_looked_at(self) -> None:
        self.assertEqual(list(split(record(bytes(MAX_DATAGRAM)))), [])

    @FUZZ
    @given(st.binary(max_size=300))
    def test_any_bytes(self, datagram: bytes) -> None:
        for hostile in (datagram, record(datagram) if datagram else b""):
            for each in split(hostile):
                each.messages()
                each.begins(Message.CLIENT_HELLO)


class Messages(SynchronousTestCase):
    def read(self, body: bytes) -> list[int] | None:
        return Record(22, 0, record(body)).messages()

    def test_types_of_several_messages(self) -> None:
        self.assertEqual(self.read(message(11, b"abc") + message(16, b"")), [11, 16])

    def test_a_fragment(self) -> None:
        self.assertEqual(self.read(message(11, b"abc", length=9, offset=6)), [11])

    def test_headers_that_lie(self) -> None:
        for body in (
            message(11, b"abc", length=2),
            message(11, b"abc", length=9, offset=7),
            message(11, b"", length=9),
            message(11, b"abc", length=16_385),
            message(11, b"abc")[:-1],
            message(11, b"abc") + b"tail",
        ):
            self.assertIsNone(self.read(body))


class Cutting(SynchronousTestCase):
    @FUZZ
    @given(st.lists(st.integers(1, MTU - 13), max_size=12))
    def test_whole_records_in_full_datagrams(self, sizes: list[int]) -> None:
        records = [record(bytes((n,)) * size) for n, size in enumerate(sizes)]
        cut = datagrams(b"".join(records))
        self.assertEqual([each.data for part in cut for each in split(part)], records)
        for part, following in pairwise(cut):
            self.assertLessEqual(len(part), MTU)
            first = next(split(following))
            self.assertGreater(len(part) + len(first.data), MTU)
