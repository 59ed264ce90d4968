"""fMP4 as whole files: their own time, their length, their index; and reading back what was written."""

import io
import struct

import av
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.fmp4 import Reference, fragment, init_segment, segment_index, timescale
from oxidecast.formats.fmp4.reading import read_fragment, read_movie
from oxidecast.media import TICKS, Codec, RemoteProtocolError
from tests.formats.material import boxes, find_box, stream

VIDEO, PICTURES = stream(Codec.H264, frames=48)
AUDIO, SOUNDS = stream(Codec.AAC, frames=60)
REFERENCE = Reference(1000, 2 * TICKS, True)


def moof(data: bytes) -> bytes:
    return find_box(data, b"moof")


class TestOrigin(SynchronousTestCase):
    def test_time_begins_at_the_origin(self) -> None:
        samples = {VIDEO: PICTURES, AUDIO: SOUNDS}
        late = {
            track: [type(one)(track, one.dts + 10**9, one.pts + 10**9, *rest(one)) for one in packets]
            for track, packets in samples.items()
        }
        self.assertEqual(fragment(1, late, origin=10**9), fragment(1, samples))


def rest(one: object) -> list[object]:
    return [getattr(one, name) for name in ("duration", "keyframe", "payload")]


class TestLength(SynchronousTestCase):
    def test_it_can_be_put_in_later(self) -> None:
        tracks = (VIDEO, AUDIO)
        before, after = init_segment(tracks, 0), init_segment(tracks, 12 * 3600 * TICKS)
        self.assertEqual(len(before), len(after))
        self.assertEqual(find_box(after, b"moov", b"mvex", b"mehd")[4:], struct.pack(">Q", 12 * 3600 * TICKS))
        self.assertNotIn(b"mehd", init_segment(tracks))
        at = read_movie(find_box(after, b"moov")).duration_at
        assert at is not None
        self.assertEqual(find_box(after, b"moov")[at : at + 8], struct.pack(">Q", 12 * 3600 * TICKS))


class TestIndex(SynchronousTestCase):
    def entries(self, index: bytes) -> list[tuple[int, int, int]]:
        kinds = [kind for kind, _ in boxes(index)]
        self.assertEqual(kinds, [b"sidx", b"free"])
        body = find_box(index, b"sidx")
        first, count = struct.unpack_from(">Q", body, 20)[0], struct.unpack_from(">H", body, 30)[0]
        self.assertEqual(first, len(find_box(index, b"free")) + 8, "the fragments begin behind the filling")
        return list(struct.iter_unpack(">III", body[32 : 32 + 12 * count]))

    def test_it_fills_its_room(self) -> None:
        for count in (0, 1, 2, 79, 80, 81, 1000):
            self.assertEqual(len(segment_index(1, TICKS, [REFERENCE] * count, 1024)), 1024)

    def test_every_fragment_is_in_it_while_there_is_room(self) -> None:
        entries = self.entries(segment_index(1, TICKS, [REFERENCE, Reference(7, 5, False)], 1024))
        self.assertEqual(entries, [(1000, 180_000, 0x80000000), (7, 5, 0)])

    def test_beyond_it_several_share_an_entry(self) -> None:
        references = [Reference(number, 3, number % 2 == 0) for number in range(1, 500)]
        entries = self.entries(segment_index(1, TICKS, references, 1024))
        self.assertEqual(sum(size for size, _, _ in entries), sum(one.size for one in references))
        self.assertEqual(sum(length for _, length, _ in entries), 3 * 499)
        self.assertLessEqual(len(entries), 81)

    def test_times_of_sound_do_not_drift(self) -> None:
        entries = self.entries(segment_index(2, 44_100, [Reference(1, 2091, True)] * 70, 1024))
        self.assertEqual(sum(length for _, length, _ in entries), (70 * 2091 * 44_100 + 45_000) // 90_000)

    def test_what_cannot_be_said_is_filling(self) -> None:
        for reference in (Reference(1 << 31, 1, True), Reference(1, 1 << 32, True)):
            index = segment_index(1, TICKS, [reference], 1024)
            self.assertEqual([kind for kind, _ in boxes(index)], [b"free"])
        self.assertRaises(ValueError, segment_index, 1, TICKS, [REFERENCE], 59)

    def test_a_player_knows_the_length_and_finds_the_end_without_reading_all(self) -> None:
        pieces, references = [], []
        for start in range(0, 48, 12):
            part = PICTURES[start : start + 12]
            pieces.append(fragment(start + 1, {VIDEO: part}))
            references.append(Reference(len(pieces[-1]), 12 * 3000, True))
        head = init_segment((VIDEO,), 48 * 3000)
        file = _Watched(head + segment_index(1, timescale(VIDEO), references, 4096) + b"".join(pieces))
        with av.open(file) as container:
            self.assertEqual(container.streams[0].duration, 48 * 3000)
            file.reads.clear()
            container.seek(1_300_000)
            frame = next(container.decode(video=0))
            self.assertGreaterEqual(frame.time, 1.1)
        middle = len(head) + 4096 + len(pieces[0]) + 100
        self.assertFalse(any(start <= middle < end for start, end in file.reads), file.reads)


class _Watched(io.BytesIO):
    """Notes what is read, in small pieces, so that what is skipped shows."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.reads.append((start, start + len(data)))
        return data


class TestReading(SynchronousTestCase):
    def test_a_movie(self) -> None:
        movie = read_movie(find_box(init_segment((AUDIO, VIDEO)), b"moov"))
        self.assertEqual((movie.scales, movie.lead, movie.duration_at), ({1: 90_000, 2: 48_000}, 1, None))
        self.assertEqual(read_movie(find_box(init_segment((AUDIO,)), b"moov")).lead, 2)

    def test_a_fragment(self) -> None:
        for first in (0, 1):
            data = fragment(7, {VIDEO: PICTURES[first:], AUDIO: SOUNDS})
            runs = read_fragment(moof(data), {1: 90_000, 2: 48_000})
            end = PICTURES[-1].dts + PICTURES[-1].duration
            self.assertEqual(runs[1], (PICTURES[first].dts, end, not first))
            self.assertEqual((runs[2].start, runs[2].keyframe), (SOUNDS[0].dts, True))
            self.assertLess(abs(runs[2].end - SOUNDS[-1].dts - SOUNDS[-1].duration), 3)

    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        for read in (read_movie, lambda body: read_fragment(body, {1: 90_000})):
            try:
                read(data)
            except RemoteProtocolError:
                pass

    @given(st.data())
    def test_what_was_written_with_bytes_changed(self, data: st.DataObject) -> None:
        movie = bytearray(find_box(init_segment((VIDEO, AUDIO), 5), b"moov"))
        body = bytearray(moof(fragment(1, {VIDEO: PICTURES, AUDIO: SOUNDS})))
        for target in (movie, body):
            for _ in range(data.draw(st.integers(1, 5))):
                target[data.draw(st.integers(0, len(target) - 1))] = data.draw(st.integers(0, 255))
        for read in (lambda: read_movie(bytes(movie)), lambda: read_fragment(bytes(body), {1: 1, 2: 2})):
            try:
                read()
            except RemoteProtocolError:
                pass
