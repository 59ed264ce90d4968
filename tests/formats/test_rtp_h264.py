"""H.264 in RTP: against aiortc's reading and writing, there and back, and with losses."""

import random

from aiortc.codecs.h264 import H264Encoder, h264_depayload
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_frames import MAX_FRAME, CodedFrame
from oxidecast.formats.rtp_h264 import H264Depacketizer, packetize
from oxidecast.formats.rtp_runs import MARKER, PADDING, Run
from oxidecast.media import h264, nal
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.packet import Packet
from oxidecast.media.track import Codec, Track
from tests.formats.material import stream
from tests.media.fuzz import FUZZ, mutated

LIMIT = 1_172
SPS, PPS = b"\x67sps", b"\x68pps"
Datagram = tuple[int, int, bool, bytes]
"""Sequence, timestamp, marker, payload."""


def picture(size: int, kind: int = 1, fill: int = 0x9A) -> bytes:
    """A slice that begins a picture."""
    return bytes((0x60 | kind, 0x88)) + bytes((fill,)) * (size - 2)


def frame(*units: bytes) -> bytes:
    return nal.length_prefixed(units)


def payloads(runs: list[Run]) -> list[bytes]:
    """What a receiver sees: without padding."""
    return [
        payload[: -payload[-1]] if first & PADDING else payload
        for run in runs
        for first, payload in run.payloads
    ]


def sent(frames: list[bytes], limit: int = LIMIT) -> list[Datagram]:
    """Frames as datagrams, 3000 ticks apart."""
    datagrams: list[Datagram] = []
    for number, coded in enumerate(frames):
        made = packetize(coded, limit)
        markers = [bool(first & MARKER) for run in made for first, _ in run.payloads]
        for marker, payload in zip(markers, payloads(made), strict=True):
            datagrams.append((len(datagrams), number * 3000, marker, payload))
    return datagrams


def received(datagrams: list[Datagram]) -> list[CodedFrame]:
    depacketizer = H264Depacketizer()
    return [unit for datagram in datagrams for unit in depacketizer.receive(*datagram)]


def film() -> tuple[Track, list[Packet]]:
    return stream(Codec.H264, frames=20, size=256)


class Packetizing(SynchronousTestCase):
    def test_a_unit_that_fits_is_a_payload(self) -> None:
        self.assertEqual(payloads(packetize(frame(picture(LIMIT)), LIMIT)), [picture(LIMIT)])

    def test_fragments_are_equal_and_as_few_as_can_be(self) -> None:
        (run,) = packetize(frame(picture(LIMIT + 1)), LIMIT)
        self.assertEqual([len(payload) for _, payload in run.payloads], [2 + LIMIT // 2, 2 + LIMIT // 2])
        for size in range(LIMIT + 1, 5 * LIMIT, 97):
            (run,) = packetize(frame(picture(size)), LIMIT)
            self.assertEqual(len(run.payloads), -(-(size - 1) // (LIMIT - 2)))
            self.assertLessEqual(run.size, LIMIT)
            self.assertLess(run.size - len(run.payloads[-1][1]), len(run.payloads))
            self.assertFalse(any(first & PADDING for first, _ in run.payloads))

    def test_fragment_headers(self) -> None:
        made = payloads(packetize(frame(picture(3 * LIMIT, h264.IDR)), LIMIT))
        self.assertEqual([payload[:2].hex() for payload in made], ["7c85", "7c05", "7c05", "7c45"])

    def test_parameter_sets_go_together_before_an_idr(self) -> None:
        made = payloads(packetize(frame(picture(500, h264.IDR)), LIMIT, (SPS, PPS)))
        self.assertEqual(made, [b"\x78\x00\x04" + SPS + b"\x00\x04" + PPS, picture(500, h264.IDR)])

    def test_a_frame_with_its_own_parameter_sets_keeps_them(self) -> None:
        made = payloads(packetize(frame(b"\x67own", b"\x68pps", picture(500, h264.IDR)), LIMIT, (SPS, PPS)))
        self.assertEqual(made[0], b"\x78\x00\x04\x67own\x00\x04\x68pps")

    def test_other_pictures_get_none(self) -> None:
        self.assertEqual(len(payloads(packetize(frame(picture(500)), LIMIT, (SPS, PPS)))), 1)

    def test_what_no_browser_needs_is_left_out(self) -> None:
        coded = frame(b"\x09\xf0", b"\x06sei", picture(500), b"\x0c\xff\xff")
        self.assertEqual(payloads(packetize(coded, LIMIT)), [picture(500)])
        self.assertEqual(packetize(frame(b"\x06sei"), LIMIT), [])

    def test_slices_are_one_run(self) -> None:
        coded = frame(*(picture(size) for size in (5_000, 4_700, 5_200)))
        self.assertEqual(len(packetize(coded, LIMIT)), 1)

    def test_a_limit_without_sense_is_our_mistake(self) -> None:
        with self.assertRaisesRegex(LocalProtocolError, "63 bytes"):
            packetize(frame(picture(500)), 63)

    def test_aiortc_reads_it(self) -> None:
        track, packets = film()
        sets = h264.parse_configuration(track.extradata)
        for packet in packets:
            made = packetize(packet.payload, 200, (*sets.sps, *sets.pps))
            read = b"".join(h264_depayload(payload) for payload in payloads(made))
            units = [unit for unit in nal.split_annexb(read) if unit[0] & 31 not in (h264.SPS, h264.PPS)]
            wanted = [
                unit
                for unit in nal.nal_units(packet.payload)
                if unit[0] & 31 not in (h264.SEI, h264.SPS, h264.PPS)
            ]
            self.assertEqual(units, wanted)


class Depacketizing(SynchronousTestCase):
    def test_what_aiortc_writes_is_read(self) -> None:
        _, packets = film()
        for packet in packets:
            units = list(nal.nal_units(packet.payload))
            written = H264Encoder._packetize(units)
            datagrams = [(n, 7, n == len(written) - 1, payload) for n, payload in enumerate(written)]
            (unit,) = received(datagrams)
            self.assertEqual(unit, CodedFrame(7, packet.payload, packet.keyframe, False))

    def test_a_sender_without_markers_is_read_a_frame_late(self) -> None:
        frames = [frame(picture(3_000, fill=n + 1)) for n in range(4)]
        datagrams = [(n, time, False, payload) for n, time, _, payload in sent(frames)]
        self.assertEqual([unit.payload for unit in received(datagrams)], frames[:3])

    def test_a_frame_with_a_hole_does_not_come_out_and_the_next_says_so(self) -> None:
        frames = [frame(picture(4_000, fill=n + 1)) for n in range(3)]
        whole = sent(frames)
        for missing in range(4, 8):
            units = received(whole[:missing] + whole[missing + 1 :])
            self.assertEqual([unit.payload for unit in units], [frames[0], frames[2]], missing)
            self.assertEqual([unit.after_loss for unit in units], [False, True], missing)

    def test_a_whole_frame_that_is_missing_is_noticed(self) -> None:
        frames = [frame(picture(500, fill=n + 1)) for n in range(3)]
        whole = sent(frames)
        self.assertEqual([unit.after_loss for unit in received([whole[0], whole[2]])], [False, True])

    def test_the_flag_is_for_one_frame(self) -> None:
        whole = sent([frame(picture(500, fill=n + 1)) for n in range(4)])
        self.assertEqual([unit.after_loss for unit in received([whole[0], *whole[2:]])], [False, True, False])

    def test_the_second_slice_of_a_frame_whose_first_is_missing_is_no_frame(self) -> None:
        first, second = picture(500), b"\x61\x40" + b"second" * 50
        whole = sent([frame(first), frame(first, second), frame(first)])
        units = received([whole[0], *whole[2:]])
        self.assertEqual([unit.timestamp for unit in units], [0, 6000])

    def test_who_joins_in_the_middle_of_a_frame_gets_the_next(self) -> None:
        whole = sent([frame(picture(500), b"\x61\x40second"), frame(picture(600))])
        self.assertEqual([unit.timestamp for unit in received(whole[1:])], [3000])

    def test_empty_payloads_are_probes(self) -> None:
        one, two = sent([frame(picture(100)), frame(picture(200))])
        for at in range(3):
            datagrams = [(n, time, marker, payload) for n, time, marker, payload in (one, two)]
            datagrams.insert(at, (0, 0, False, b""))
            renumbered = [(n, *fields) for n, (_, *fields) in enumerate(datagrams)]
            self.assertEqual([unit.after_loss for unit in received(renumbered)], [False, False], at)

    def test_a_loss_before_a_probe_is_noticed(self) -> None:
        one, _, three = sent([frame(picture(100 * n)) for n in (1, 2, 3)])
        units = received([one, (2, 0, False, b""), (3, *three[1:])])
        self.assertEqual([unit.after_loss for unit in units], [False, True])

    def test_parameter_sets_alone_are_no_frame(self) -> None:
        self.assertEqual(received([(0, 0, True, SPS), (1, 0, True, PPS)]), [])

    def test_delimiters_and_filler_are_left_out(self) -> None:
        datagrams = [(0, 0, False, b"\x09\xf0"), (1, 0, False, picture(100)), (2, 0, True, b"\x0c\xff")]
        self.assertEqual(received(datagrams)[0].payload, frame(picture(100)))

    def test_order_is_the_callers_duty(self) -> None:
        depacketizer = H264Depacketizer()
        depacketizer.receive(5, 0, True, picture(100))
        with self.assertRaisesRegex(LocalProtocolError, "5 comes after 5"):
            depacketizer.receive(5, 0, True, picture(100))

    def test_what_is_refused(self) -> None:
        for payload, sentence in (
            (b"\x00abc", "type 0"),
            (b"\x79abc", "type 25"),
            (b"\x7c\x85", "no fragment"),
            (b"\x7c\xc5abc", "start and end"),
            (b"\x7c\x9cabc", "holds a unit of type 28"),
            (b"\x78\x00\x09abc", "leads out of it"),
            (b"\x78\x00\x00", "empty"),
            (b"\x78\x00", "leads out of it|empty"),
            (b"\x78\x00\x01\x78", "holds a unit of type 24"),
        ):
            with self.subTest(payload), self.assertRaisesRegex(RemoteProtocolError, sentence):
                H264Depacketizer().receive(0, 0, True, payload)

    def test_aggregates_in_aggregates_do_not_recurse(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "type 24"):
            H264Depacketizer().receive(0, 0, True, b"\x78" + b"\x00\x04\x78" * 10_000)

    def test_a_frame_without_end_is_refused(self) -> None:
        depacketizer = H264Depacketizer()
        depacketizer.receive(0, 0, False, b"\x7c\x85" + bytes(1 << 20))
        with self.assertRaisesRegex(RemoteProtocolError, "more than"):
            for sequence in range(1, MAX_FRAME >> 19):
                depacketizer.receive(sequence, 0, False, b"\x7c\x05" + bytes(1 << 20))

    def test_units_without_end_are_refused(self) -> None:
        depacketizer = H264Depacketizer()
        with self.assertRaisesRegex(RemoteProtocolError, "units"):
            for sequence in range(nal.MAX_UNITS + 1):
                depacketizer.receive(sequence, 0, False, b"\x61")

    @FUZZ
    @given(
        st.lists(
            st.tuples(mutated(b"\x7c\x85ab", b"\x7c\x45ab", b"\x78\x00\x02ab", b"\x65\x88"), st.booleans())
        )
    )
    def test_any_payloads(self, hostile: list[tuple[bytes, bool]]) -> None:
        depacketizer = H264Depacketizer()
        for sequence, (payload, marker) in enumerate(hostile):
            try:
                depacketizer.receive(sequence * 2 if marker else sequence, 0, marker, payload)
            except (RemoteProtocolError, LocalProtocolError) as error:
                if isinstance(error, LocalProtocolError):
                    self.assertIn("comes after", str(error))

    @FUZZ
    @given(
        st.lists(st.lists(st.integers(2, 900), min_size=1, max_size=4), max_size=8), st.integers(0, 1 << 32)
    )
    def test_there_and_back_with_losses(self, shapes: list[list[int]], seed: int) -> None:
        frames = [
            frame(
                picture(sizes[0], fill=n + 1), *(b"\x61\x40" + bytes((n + 1,)) * size for size in sizes[1:])
            )
            for n, sizes in enumerate(shapes)
        ]
        whole = sent(frames, 100)
        self.assertEqual([unit.payload for unit in received(whole)], frames)
        noise = random.Random(seed)
        kept = [datagram for datagram in whole if noise.random() > 0.15]
        units = received(kept)
        seen = {n for n, *_ in kept}
        intact = [n for n, _ in enumerate(frames) if all(s in seen for s, t, *_ in whole if t == n * 3000)]
        came = [unit.timestamp // 3000 for unit in units]
        # A frame whose last packet arrived is known to have come. Nothing damaged ever comes out.
        self.assertEqual(came, intact)
        for unit, number in zip(units, came, strict=True):
            self.assertEqual(unit.payload, frames[number])
        for unit, before in zip(units[1:], came, strict=False):
            gap = unit.timestamp // 3000 != before + 1
            self.assertEqual(unit.after_loss, gap)
