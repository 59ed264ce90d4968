"""AV1 in RTP: real pictures and made-up ones there and back, and the header by the letter of the format."""

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_av1 import AV1Depacketizer, packetize
from oxidecast.formats.rtp_frames import CodedFrame
from oxidecast.formats.rtp_runs import MARKER, PADDING, Run
from oxidecast.media import av1
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.track import Codec
from tests.formats.material import stream
from tests.media.fuzz import FUZZ, mutated

LIMIT = 1_172
Datagram = tuple[int, int, bool, bytes]


def obu(kind: int, body: bytes) -> bytes:
    """An OBU with its size."""
    size = len(body)
    coded = bytearray()
    while size > 0x7F:
        coded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((kind << 3 | 2,)) + bytes(coded) + bytes((size,)) + body


def picture(size: int, fill: int = 1) -> bytes:
    """A FRAME that is no keyframe."""
    return obu(av1.FRAME, b"\x30" + bytes((fill & 0x7F,)) * size)


def payloads(runs: list[Run]) -> list[bytes]:
    return [
        payload[: -payload[-1]] if first & PADDING else payload
        for run in runs
        for first, payload in run.payloads
    ]


def sent(units: list[bytes], limit: int = LIMIT) -> list[Datagram]:
    datagrams: list[Datagram] = []
    for number, unit in enumerate(units):
        made = packetize(unit, limit)
        markers = [bool(first & MARKER) for run in made for first, _ in run.payloads]
        for marker, payload in zip(markers, payloads(made), strict=True):
            datagrams.append((len(datagrams), number * 3000, marker, payload))
    return datagrams


def received(datagrams: list[Datagram]) -> list[CodedFrame]:
    depacketizer = AV1Depacketizer()
    return [unit for datagram in datagrams for unit in depacketizer.receive(*datagram)]


class Packetizing(SynchronousTestCase):
    def test_one_obu_without_its_size(self) -> None:
        self.assertEqual(payloads(packetize(obu(av1.FRAME, b"\x30abc"), LIMIT)), [b"\x10\x30\x30abc"])

    def test_two_obus_have_a_length_between_them(self) -> None:
        coded = obu(av1.FRAME_HEADER, b"\x30h") + obu(4, b"tiles")
        self.assertEqual(payloads(packetize(coded, LIMIT)), [b"\x20\x03\x18\x30h\x20tiles"])

    def test_delimiters_are_left_out(self) -> None:
        coded = obu(av1.TEMPORAL_DELIMITER, b"") + obu(av1.FRAME, b"\x30abc")
        self.assertEqual(payloads(packetize(coded, LIMIT)), [b"\x10\x30\x30abc"])

    def test_pieces_are_equal_and_say_that_they_go_on(self) -> None:
        (run,) = packetize(picture(4_000), LIMIT)
        self.assertEqual([payload[0] for _, payload in run.payloads], [0x50, 0xD0, 0xD0, 0x90])
        self.assertLessEqual(run.size - len(run.payloads[-1][1]), 8)

    def test_a_keyframe_begins_a_sequence_and_gets_its_header(self) -> None:
        track, packets = stream(Codec.AV1, frames=4, size=64)
        header = av1.parse_configuration(track.extradata)
        bare = b"".join(unit for kind, unit in av1.obus(packets[0].payload) if kind != av1.SEQUENCE_HEADER)
        made = payloads(packetize(bare, LIMIT, header))
        self.assertEqual(made[0][0] & 0x88, 0x08)
        (unit,) = received([(n, 0, n == len(made) - 1, payload) for n, payload in enumerate(made)])
        self.assertEqual(av1.sequence_header(unit.payload), header)
        self.assertTrue(unit.keyframe)

    def test_a_limit_without_sense_is_our_mistake(self) -> None:
        with self.assertRaisesRegex(LocalProtocolError, "63 bytes"):
            packetize(picture(500), 63)


class ThereAndBack(SynchronousTestCase):
    def test_real_pictures(self) -> None:
        _, packets = stream(Codec.AV1, frames=8, size=128)
        for limit in (64, 200, LIMIT):
            units = received(sent([packet.payload for packet in packets], limit))
            self.assertEqual([unit.payload for unit in units], [av1.strip(p.payload) for p in packets])
            self.assertEqual([unit.keyframe for unit in units], [p.keyframe for p in packets])

    @FUZZ
    @given(
        st.lists(st.lists(st.integers(0, 700), min_size=1, max_size=7), max_size=6),
        st.sampled_from((64, 65, 100, 200)),
        st.integers(0, 1 << 32),
    )
    def test_with_losses(self, shapes: list[list[int]], limit: int, seed: int) -> None:
        units = [
            picture(sizes[0], n) + b"".join(obu(4, bytes((n,)) * size) for size in sizes[1:])
            for n, sizes in enumerate(shapes)
        ]
        whole = sent(units, limit)
        self.assertTrue(all(len(payload) <= limit for *_, payload in whole))
        self.assertEqual([unit.payload for unit in received(whole)], units)
        noise = random.Random(seed)
        kept = [datagram for datagram in whole if noise.random() > 0.15]
        seen = {n for n, *_ in kept}
        intact = [n for n, _ in enumerate(units) if all(s in seen for s, t, *_ in whole if t == n * 3000)]
        came = received(kept)
        self.assertEqual([unit.timestamp // 3000 for unit in came], intact)
        for unit, number in zip(came, intact, strict=True):
            self.assertEqual(unit.payload, units[number])


class HostileBytes(SynchronousTestCase):
    def test_what_is_refused(self) -> None:
        for payload, sentence in (
            (b"\x10", "0 OBU elements, not 1"),
            (b"\x20\x01a", "1 OBU elements, not 2"),
            (b"\x20\x05a", "leads out"),
            (b"\x00\x00", "empty"),
            (b"\x00\xff\xff\xff\xff\x01", "cut short or above 28 bits"),
        ):
            with self.subTest(payload), self.assertRaisesRegex(RemoteProtocolError, sentence):
                AV1Depacketizer().receive(0, 0, True, payload)

    @FUZZ
    @given(
        st.lists(
            st.tuples(mutated(b"\x10\x30\x30abc", b"\x20\x03\x18\x30h\x20t", b"\x50\x30"), st.booleans())
        )
    )
    def test_any_payloads(self, hostile: list[tuple[bytes, bool]]) -> None:
        depacketizer = AV1Depacketizer()
        for sequence, (payload, marker) in enumerate(hostile):
            try:
                depacketizer.receive(sequence, 0, marker, payload)
            except RemoteProtocolError:
                pass
