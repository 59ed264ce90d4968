"""Report blocks and transport-wide feedback, read by aiortc and by a reader of the test's own."""

from aiortc.rtp import RtcpReceiverInfo
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import LocalProtocolError
from oxidecast.webrtc.reception import Reception, transport_feedback
from tests.media.fuzz import FUZZ


def read(data: bytes) -> list[float | None]:
    """Arrivals in seconds, from the first number on, None where lost."""
    assert len(data) == 4 * (int.from_bytes(data[2:4], "big") + 1)
    count, at = int.from_bytes(data[14:16], "big"), 20
    time = int.from_bytes(data[16:19], "big", signed=True) * 256
    symbols: list[int] = []
    while len(symbols) < count:
        chunk = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if chunk >> 15:
            assert chunk >> 14 & 1
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
        else:
            symbols += [chunk >> 13] * (chunk & 0x1FFF)
    out: list[float | None] = []
    for symbol in symbols[:count]:
        if symbol:
            time += int.from_bytes(data[at : at + symbol], "big", signed=symbol == 2)
            at += symbol
        out.append(time / 4000 if symbol else None)
    assert len(data) - at < 4
    return out


class Reports(SynchronousTestCase):
    def test_losses_over_the_wrap(self) -> None:
        reception = Reception(90_000)
        for n in range(65_530, 65_550):
            if n not in (65_533, 65_540, 65_541, 65_542, 65_543):
                reception.packet(n & 0xFFFF, n * 3000, n / 30)
        reception.sender_report(0x0102030405060708, 10.0)
        info = RtcpReceiverInfo.parse(reception.block(7, 10.5))
        self.assertEqual((info.ssrc, info.fraction_lost, info.packets_lost), (7, 64, 5))
        self.assertEqual((info.highest_sequence, info.jitter), (65_549, 0))
        self.assertEqual((info.lsr, info.dlsr), (0x03040506, 32_768))
        reception.packet(65_550 & 0xFFFF, 0, 2_185)
        self.assertEqual(RtcpReceiverInfo.parse(reception.block(7, 11)).fraction_lost, 0)

    def test_jitter_settles_at_how_far_packets_stray(self) -> None:
        reception = Reception(90_000)
        for n in range(500):
            reception.packet(n, (n * 3000 + 0xFFFFF000) & 0xFFFFFFFF, n / 30 + (n % 2) / 100)
        self.assertIn(reception.jitter, range(897, 903))

    def test_before_the_first_packet(self) -> None:
        self.assertEqual(Reception(48_000).block(7, 0), bytes((0, 0, 0, 7)) + bytes(20))


class Feedback(SynchronousTestCase):
    def test_what_it_cannot_say(self) -> None:
        for first, arrivals in ((0, {}), (5, {4: 1.0}), (0, {600: 1.0}), (0, {0: 0.0, 1: 9.0})):
            with self.assertRaises(LocalProtocolError):
                transport_feedback(1, 2, 0, first, arrivals)

    @FUZZ
    @given(
        st.integers(0, 1 << 20),
        st.lists(st.none() | st.integers(0, 20_000), min_size=1, max_size=100),
        st.integers(0, 300),
    )
    def test_any_arrivals(self, first: int, ticks: list[int | None], hole: int) -> None:
        whole = [*ticks, *[None] * hole, 4_000]
        arrivals = {first + n: tick / 4000 for n, tick in enumerate(whole) if tick is not None}
        came = read(transport_feedback(1, 2, 3, first, arrivals))
        self.assertEqual(len(came), len(whole))
        for expected, got in zip(whole, came, strict=True):
            self.assertEqual(expected is None, got is None)
            if expected is not None and got is not None:
                self.assertEqual(expected / 4000, got)
