"""HEVC in RTP: headers by the letter of RFC 7798, and frames there and back with losses."""

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_frames import CodedFrame
from oxidecast.formats.rtp_hevc import HEVCDepacketizer, packetize
from oxidecast.formats.rtp_runs import MARKER, PADDING, Run
from oxidecast.media import hevc, nal
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.track import Codec
from tests.formats.material import stream
from tests.media.fuzz import FUZZ, mutated

LIMIT = 1_172
SETS = (b"\x40\x01vps", b"\x42\x01sps", b"\x44\x01pps")
Datagram = tuple[int, int, bool, bytes]


def unit(kind: int, body: bytes) -> bytes:
    return bytes((kind << 1, 1)) + body


def picture(size: int, kind: int = 1, fill: int = 1) -> bytes:
    """A slice that begins a picture."""
    return unit(kind, b"\x80" + bytes((fill,)) * size)


def frame(*units: bytes) -> bytes:
    return nal.length_prefixed(units)


def payloads(runs: list[Run]) -> list[bytes]:
    return [
        payload[: -payload[-1]] if first & PADDING else payload
        for run in runs
        for first, payload in run.payloads
    ]


def sent(frames: list[bytes], limit: int = LIMIT) -> list[Datagram]:
    datagrams: list[Datagram] = []
    for number, coded in enumerate(frames):
        made = packetize(coded, limit)
        markers = [bool(first & MARKER) for run in made for first, _ in run.payloads]
        for marker, payload in zip(markers, payloads(made), strict=True):
            datagrams.append((len(datagrams), number * 3000, marker, payload))
    return datagrams


def received(datagrams: list[Datagram]) -> list[CodedFrame]:
    depacketizer = HEVCDepacketizer()
    return [came for datagram in datagrams for came in depacketizer.receive(*datagram)]


class Packetizing(SynchronousTestCase):
    def test_parameter_sets_go_together_before_a_keyframe(self) -> None:
        made = payloads(packetize(frame(picture(500, 19)), LIMIT, SETS))
        self.assertEqual(
            made,
            [b"\x60\x01" + b"".join(b"\x00\x05" + each for each in SETS), picture(500, 19)],
        )

    def test_fragment_headers(self) -> None:
        (run,) = packetize(frame(picture(3 * LIMIT, 19)), LIMIT)
        self.assertEqual(
            [payload[:3].hex() for _, payload in run.payloads], ["620193", "620113", "620113", "620153"]
        )
        self.assertFalse(any(first & PADDING for first, _ in run.payloads))

    def test_what_no_browser_needs_is_left_out(self) -> None:
        coded = frame(unit(35, b"\x50"), unit(39, b"sei"), picture(500), unit(40, b"sei"))
        self.assertEqual(payloads(packetize(coded, LIMIT)), [picture(500)])

    def test_a_limit_without_sense_is_our_mistake(self) -> None:
        with self.assertRaisesRegex(LocalProtocolError, "63 bytes"):
            packetize(frame(picture(500)), 63)


class ThereAndBack(SynchronousTestCase):
    def test_real_pictures(self) -> None:
        _, packets = stream(Codec.HEVC, frames=8, size=128)
        for limit in (64, 200, LIMIT):
            came = received(sent([packet.payload for packet in packets], limit))
            wanted = [
                frame(*(each for each in nal.nal_units(p.payload) if each[0] >> 1 not in (35, 38, 39, 40)))
                for p in packets
            ]
            self.assertEqual([each.payload for each in came], wanted)
            self.assertEqual([each.keyframe for each in came], [hevc.is_keyframe(w) for w in wanted])

    @FUZZ
    @given(
        st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=4), max_size=6), st.integers(0, 1 << 32)
    )
    def test_with_losses(self, shapes: list[list[int]], seed: int) -> None:
        frames = [
            frame(picture(sizes[0], 1, n), *(unit(1, bytes((n,)) * size) for size in sizes[1:]))
            for n, sizes in enumerate(shapes)
        ]
        whole = sent(frames, 100)
        self.assertEqual([each.payload for each in received(whole)], frames)
        noise = random.Random(seed)
        kept = [datagram for datagram in whole if noise.random() > 0.15]
        seen = {n for n, *_ in kept}
        intact = [n for n, _ in enumerate(frames) if all(s in seen for s, t, *_ in whole if t == n * 3000)]
        came = received(kept)
        self.assertEqual([each.timestamp // 3000 for each in came], intact)
        for each, number in zip(came, intact, strict=True):
            self.assertEqual(each.payload, frames[number])


class HostileBytes(SynchronousTestCase):
    def test_what_is_refused(self) -> None:
        for payload, sentence in (
            (b"\x02\x01", "fewer than 3"),
            (b"\x64\x01abc", "type 50"),
            (b"\x62\x01\x93", "no fragment"),
            (b"\x62\x01\xd3abc", "start and end"),
            (b"\x62\x01\xb1abc", "holds a unit of type 49"),
            (b"\x60\x01\x00\x09abc", "beyond its end"),
            (b"\x60\x01\x00\x01a", "without header"),
            (b"\x60\x01\x00\x02\x60\x01", "holds a unit of type 48"),
        ):
            with self.subTest(payload), self.assertRaisesRegex(RemoteProtocolError, sentence):
                HEVCDepacketizer().receive(0, 0, True, payload)

    @FUZZ
    @given(
        st.lists(
            st.tuples(mutated(b"\x62\x01\x93ab", b"\x62\x01\x53ab", b"\x60\x01\x00\x02ab"), st.booleans())
        )
    )
    def test_any_payloads(self, hostile: list[tuple[bytes, bool]]) -> None:
        depacketizer = HEVCDepacketizer()
        for sequence, (payload, marker) in enumerate(hostile):
            try:
                depacketizer.receive(sequence, 0, marker, payload)
            except RemoteProtocolError:
                pass
