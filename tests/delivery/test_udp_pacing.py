"""What leaves when: flows of either kind under the tick, on a clock that the tests turn."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.constant_rate import MIN_RATE, ConstantRate
from oxidecast.delivery.pacing import DATAGRAM, SLOW, TICK, Flow, Pacer, PacketQueue
from oxidecast.delivery.send_clock import JUMP, MAX_RATE, PCR, WINDOW, SendClock
from oxidecast.delivery.variable_rate import FILL, MAX_BACKLOG, SPREAD, VariableRate
from oxidecast.formats.mpegts import NULL_PACKET, PACKET_SIZE, TSWriter
from oxidecast.media import TICKS, Codec, LocalProtocolError, Track
from oxidecast.metrics.lateness import Lateness
from tests.formats.material import stream

RATE = 5_000_000
FRAME = RATE // 25 // 8 // PACKET_SIZE * PACKET_SIZE
"""One of 25 frames a second, in transport packets."""
EPSILON = 1e-6


def track() -> Track:
    return stream(Codec.H264)[0]


def frame(size: int, number: int = 0) -> bytes:
    """Transport packets that can be told from each other."""
    assert size % PACKET_SIZE == 0
    return b"".join(
        b"G\x41\x00\x10" + b"%8d %8d" % (number, index) + bytes(167) for index in range(size // PACKET_SIZE)
    )


class Sent(NamedTuple):
    at: float
    data: bytes
    size: int


class Sink:
    """Notes what is sent, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sent: list[Sent] = []

    def send(self, data: bytes, size: int) -> None:
        self.sent.append(Sent(self._clock.seconds(), data, size))

    def packets(self) -> Iterator[tuple[float, int, bytes]]:
        """(when, PID, packet)."""
        for at, data, _ in self.sent:
            for start in range(0, len(data), PACKET_SIZE):
                packet = data[start : start + PACKET_SIZE]
                yield at, (packet[1] & 0x1F) << 8 | packet[2], packet

    def media(self) -> bytes:
        return b"".join(packet for _, pid, packet in self.packets() if pid == 0x100)

    def nulls(self) -> int:
        return sum(packet == NULL_PACKET for _, _, packet in self.packets())

    def clocks(self) -> list[tuple[float, int]]:
        found = []
        for at, pid, packet in self.packets():
            if pid == 0x1001:
                value = int.from_bytes(packet[6:12], "big")
                found.append((at, (value >> 15) * 300 + (value & 0x1FF)))
        return found

    def times(self, pid: int) -> list[float]:
        return [at for at, other, _ in self.packets() if other == pid]


class PacingTestCase(SynchronousTestCase):
    def near(self, found: float, expected: float, within: float) -> None:
        self.assertLessEqual(abs(found - expected), within, f"{found} is not {expected}")


class FlowTestCase(PacingTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.sink = Sink(self.clock)
        self.send_clock = SendClock()
        self.pacer = Pacer(self.clock)
        self.number = 0

    def variable(self, size: int = DATAGRAM) -> VariableRate:
        writer = TSWriter([track()], own_clock=True)
        flow = VariableRate("news", writer, self.send_clock, [self.sink], self.clock.seconds, size)
        self.pacer.add(flow)
        return flow

    def constant(self, rate: int = RATE, burst: int = 7, size: int = DATAGRAM) -> ConstantRate:
        writer = TSWriter([track()], own_clock=True)
        flow = ConstantRate(
            "news", writer, self.send_clock, [self.sink], self.clock.seconds, size, rate=rate, burst=burst
        )
        self.pacer.add(flow)
        return flow

    def run_for(self, seconds: float, step: float = TICK) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def play(self, flow: Flow, frames: int, size: int = FRAME) -> bytes:
        """25 frames a second."""
        put = []
        for _ in range(frames):
            self.send_clock.heard(self.number * TICKS // 25, self.clock.seconds())
            put.append(frame(size, self.number))
            flow.put(put[-1])
            self.number += 1
            self.run_for(0.04)
        return b"".join(put)

    def intervals(self, times: list[float]) -> list[float]:
        return [after - before for before, after in pairwise(times)]

    def datagrams(self, since: float = 0.0) -> list[int]:
        return [len(data) // size for at, data, size in self.sink.sent if at >= since]


class VariableRateTests(FlowTestCase):
    def test_a_steady_source_leaves_evenly_in_full_datagrams(self) -> None:
        flow = self.variable()
        put = self.play(flow, 50)
        self.run_for(0.3)
        self.assertEqual(self.sink.media(), put)
        steady = [sent for sent in self.sink.sent if 1000.5 < sent.at < 1001.9]
        self.assertLessEqual({len(sent.data) // DATAGRAM for sent in steady}, {4, 5, 6})
        self.assertLessEqual(max(self.intervals([sent.at for sent in steady])), SLOW + EPSILON)
        self.assertTrue(all(NULL_PACKET not in sent.data for sent in steady))

    def test_a_keyframe_is_spread(self) -> None:
        flow = self.variable()
        self.play(flow, 10)
        start = self.clock.seconds()
        self.play(flow, 1, 10 * FRAME)
        self.play(flow, 10)
        fair = (10 * FRAME + 3 * FRAME) * SLOW / SPREAD / DATAGRAM
        self.assertLess(max(self.datagrams(start)), 1.2 * fair)

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(1, 400), st.integers(0, 30)), min_size=1, max_size=30),
        st.sampled_from([188, 564, 1316, 9 * 188]),
    )
    def test_all_leaves_in_order_within_the_bound_in_full_datagrams(
        self, puts: list[tuple[int, int]], size: int
    ) -> None:
        self.setUp()
        flow = self.variable(size)
        self.send_clock.heard(0, self.clock.seconds())
        due: list[float] = []
        media = []
        for number, (packets, wait) in enumerate(puts):
            media.append(frame(packets * PACKET_SIZE, number))
            flow.put(media[-1])
            due += [self.clock.seconds() + 0.2] * packets
            self.run_for(wait * TICK)
        self.run_for(0.25)
        self.assertEqual(self.sink.media(), b"".join(media))
        self.assertTrue(all(at <= by for at, by in zip(self.sink.times(0x100), due, strict=True)))
        self.assertTrue(all(len(data) % size == 0 for _, data, _ in self.sink.sent))

    def test_too_little_for_a_datagram_waits_no_longer_than_allowed(self) -> None:
        flow = self.variable()
        for _ in range(50):
            self.run_for(0.095)
            put = self.clock.seconds()
            flow.put(frame(2 * PACKET_SIZE))
            self.run_for(FILL + TICK)
            waited = self.sink.times(0x100)[-1] - put
            self.assertLessEqual(waited, FILL + EPSILON)

    def test_the_clock_tells_the_time_of_sending_every_20_to_40_ms(self) -> None:
        flow = self.variable()
        self.play(flow, 25)
        clocks = self.sink.clocks()
        for at, pcr in clocks:
            self.near(pcr / PCR, at - 1000, within=EPSILON)
        intervals = self.intervals([at for at, _ in clocks])
        self.assertGreaterEqual(min(intervals), 0.02)
        self.assertLessEqual(max(intervals), 0.04)

    def test_the_tables_leave_every_100_ms(self) -> None:
        self.play(self.variable(), 25)
        for pid in (0, 0x1000):
            self.assertLessEqual(max(self.intervals(self.sink.times(pid))), 0.1 + EPSILON)

    def test_tables_and_clock_go_on_while_the_publisher_is_away(self) -> None:
        flow = self.variable()
        self.play(flow, 1)
        self.run_for(SPREAD)
        self.sink.sent.clear()
        self.run_for(1)
        self.run_for(1)
        self.assertGreater(len(self.sink.times(0)), 18)
        self.assertGreater(len(self.sink.clocks()), 50)
        self.assertEqual(set(self.datagrams()), {1})

    def test_nothing_leaves_before_the_first_packet(self) -> None:
        self.variable()
        self.run_for(1)
        self.assertEqual(self.sink.sent, [])

    def test_a_process_that_stood_still_catches_up_smoothly(self) -> None:
        flow = self.variable()
        self.play(flow, 25)
        put = [frame(FRAME, number) for number in range(100, 103)]
        self.clock.advance(0.1)
        for data in put:
            flow.put(data)
        start = self.clock.seconds()
        self.run_for(0.2)
        self.assertTrue(self.sink.media().endswith(b"".join(put)))
        self.assertLessEqual(max(self.datagrams(start)), 3 * 5)
        self.assertGreater(flow.lateness.maximum, 0.08)

    def test_packets_that_come_before_the_tick_do_not_let_go_what_is_overdue(self) -> None:
        flow = self.variable()
        self.play(flow, 25)
        start = self.clock.seconds()
        self.clock.rightNow += 0.1
        flow.put(frame(FRAME))
        self.run_for(0.2)
        self.assertLessEqual(max(self.datagrams(start)), 3 * 5)

    def test_a_fast_flow_is_served_at_every_tick(self) -> None:
        flow = self.variable()
        self.play(flow, 25, 4 * FRAME)
        self.assertEqual(flow.interval, TICK)
        self.assertLess(max(self.datagrams(1000.5)), 13)

    def test_memory_is_bounded(self) -> None:
        flow = self.variable()
        flow.put(frame(PACKET_SIZE) * (MAX_BACKLOG // PACKET_SIZE))
        self.assertFalse(flow.admits(PACKET_SIZE))
        self.assertEqual(flow.overruns, 1)


class ConstantRateTests(FlowTestCase):
    def test_the_rate_is_exact_whatever_the_source_brings(self) -> None:
        flow = self.constant()
        self.play(flow, 20, FRAME // 3)
        self.play(flow, 20, FRAME // 2)
        self.play(flow, 20, 4 * PACKET_SIZE)
        seconds = self.clock.seconds() - self.sink.sent[0].at
        self.near(sum(self.datagrams()), seconds * RATE / 8 / DATAGRAM, within=6)

    def test_all_arrives_in_order_among_null_packets(self) -> None:
        flow = self.constant()
        put = self.play(flow, 25, FRAME // 2)
        self.assertEqual(self.sink.media(), put)
        self.assertEqual(flow.nulls, self.sink.nulls() * PACKET_SIZE)

    def test_no_burst_is_longer_than_the_interval(self) -> None:
        self.play(self.constant(), 25, FRAME // 2)
        self.assertLessEqual(set(self.datagrams()), {4, 5})
        self.assertLessEqual(max(self.intervals([sent.at for sent in self.sink.sent])), SLOW + EPSILON)

    def test_a_burst_of_one_hands_over_single_datagrams(self) -> None:
        self.play(self.constant(burst=1), 25, FRAME // 2)
        self.assertEqual(set(self.datagrams()), {1})
        times = [sent.at for sent in self.sink.sent]
        self.assertLessEqual(max(times.count(at) for at in set(times)), 3)

    def test_a_slow_flow_keeps_each_datagrams_own_time(self) -> None:
        """The clock of a datagram is its planned time: who sends it with others of a tick is a tick early."""
        for rate in (320_000, 600_000, 1_000_000, 2_000_000):
            with self.subTest(rate=rate):
                self.setUp()
                flow = self.constant(rate)
                self.play_finely(flow, seconds=3)
                clocks = [(at, value / PCR) for at, value in self.sink.clocks()]
                self.assertLessEqual(max(self.intervals([value for _, value in clocks])), 0.04)
                early = [value - at for at, value in clocks]
                self.assertLess(max(early) - min(early), 0.004)
                seconds = self.clock.seconds() - self.sink.sent[0].at
                self.near(sum(self.datagrams()), seconds * rate / 8 / DATAGRAM, within=2)

    def play_finely(self, flow: Flow, seconds: float) -> None:
        """A clock as fine as a real reactor's timers."""
        self.send_clock.heard(0, self.clock.seconds())
        flow.put(frame(4 * PACKET_SIZE))
        self.run_for(seconds, step=0.001)

    def test_what_has_a_time_leaves_then_and_before_what_waits(self) -> None:
        flow = self.constant()
        self.send_clock.heard(0, self.clock.seconds())
        late, line = frame(PACKET_SIZE, 7), frame(FRAME * 4, 1)
        at = self.clock.seconds() + 0.05
        flow.put_at(late, at)
        flow.put(line)
        self.run_for(0.1)
        (sent,) = [when for when, _, packet in self.sink.packets() if packet == late]
        self.near(sent, at, within=SLOW + EPSILON)
        self.assertGreater(flow.backlog, 0)

    def test_other_tables_wait_for_what_was_put_before(self) -> None:
        for make in (self.constant, self.variable):
            with self.subTest(make=make.__name__):
                self.setUp()
                flow = make()
                self.send_clock.heard(0, self.clock.seconds())
                switched: list[float] = []
                flow.put(frame(FRAME * 2, 1))
                flow.switch(lambda at=switched: at.append(self.clock.seconds()))  # type: ignore[misc]
                flow.put(frame(FRAME * 2, 2))
                self.run_for(0.5)
                old, new = (
                    [at for at, _, packet in self.sink.packets() if packet[4:12] == b"%8d" % number]
                    for number in (1, 2)
                )
                self.assertEqual(len(switched), 1)
                self.assertLessEqual(max(old), switched[0])
                tables = [at for at in self.sink.times(0) if at >= switched[0]]
                self.assertLessEqual(switched[0], tables[0])
                self.assertLessEqual(tables[0], min(new))

    def test_each_clock_is_the_time_of_its_own_place(self) -> None:
        self.play(self.constant(), 50, FRAME // 2)
        place = {}
        for number, (_, pid, packet) in enumerate(self.sink.packets()):
            if pid == 0x1001:
                value = int.from_bytes(packet[6:12], "big")
                place[number] = (value >> 15) * 300 + (value & 0x1FF)
        (first, base), *others = place.items()
        for number, pcr in others:
            ideal = base + (number - first) * PACKET_SIZE * 8 / RATE * PCR
            self.near(pcr, ideal, within=1)
        ticks = self.intervals(list(place.values()))
        self.assertLessEqual(max(ticks) / PCR, 0.04)
        self.assertGreaterEqual(min(ticks) / PCR, 0.02)

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 30)), min_size=1, max_size=30))
    def test_what_is_admitted_leaves_within_700_ms(self, puts: list[tuple[int, int]]) -> None:
        self.setUp()
        flow = self.constant(rate=2_000_000)
        self.send_clock.heard(0, self.clock.seconds())
        due: list[float] = []
        flow.put(frame(PACKET_SIZE))
        due.append(self.clock.seconds() + 0.7)
        for number, (packets, wait) in enumerate(puts):
            if flow.admits(packets * (PACKET_SIZE - 4)):
                flow.put(frame(packets * PACKET_SIZE, number))
                due += [self.clock.seconds() + 0.7] * packets
            self.run_for(wait * TICK)
        self.run_for(0.8)
        self.assertTrue(all(at <= by for at, by in zip(self.sink.times(0x100), due, strict=True)))

    def test_a_source_above_the_rate_is_refused_and_told(self) -> None:
        flow = self.constant()
        for number in range(100):
            if flow.admits(2 * FRAME):
                flow.put(frame(2 * FRAME, number))
            self.run_for(0.04)
        self.assertGreater(flow.overruns, 30)
        self.assertEqual(flow.nulls, 0)
        self.assertEqual(flow.stats()["overruns"], flow.overruns)

    def test_a_process_that_stood_still_catches_up_at_twice_the_rate(self) -> None:
        flow = self.constant()
        self.play(flow, 25, FRAME // 2)
        self.clock.advance(0.1)
        start = self.clock.seconds()
        self.run_for(0.3)
        self.assertLessEqual(max(self.datagrams(start)), 10)
        seconds = self.clock.seconds() - self.sink.sent[0].at
        self.near(sum(self.datagrams()), seconds * RATE / 8 / DATAGRAM, within=6)
        self.assertEqual(flow.skipped, 0)

    def test_a_process_that_stood_still_for_long_gives_the_time_up(self) -> None:
        flow = self.constant()
        self.play(flow, 25, FRAME // 2)
        self.clock.advance(3)
        start = self.clock.seconds()
        self.run_for(1)
        self.near(flow.skipped, 3, within=0.05)
        self.near(sum(self.datagrams(start)), RATE / 8 / DATAGRAM, within=12)

    def test_a_small_datagram_is_filled_by_more_than_the_tables(self) -> None:
        flow = self.constant(size=PACKET_SIZE, rate=int(MIN_RATE) + 1)
        put = self.play(flow, 25, PACKET_SIZE)
        self.assertEqual(self.sink.media(), put)

    def test_a_rate_without_room_for_media_is_refused(self) -> None:
        self.assertRaises(LocalProtocolError, self.constant, rate=100_000)
        self.assertRaises(LocalProtocolError, self.constant, burst=0)
        self.assertRaises(LocalProtocolError, self.constant, size=1000)


class PacerTests(FlowTestCase):
    def test_one_timer_serves_all(self) -> None:
        for _ in range(10):
            self.play(self.variable(), 1)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_no_timer_fires_for_nothing(self) -> None:
        flow = self.variable()
        self.play(flow, 5)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), flow.at)

    def test_many_slow_flows_take_turns(self) -> None:
        flows = [self.variable() for _ in range(40)]
        for _ in range(10):
            for flow in flows:
                flow.put(frame(FRAME))
            self.run_for(0.04)
        times = {round(sent.at / TICK) % 2 for sent in self.sink.sent}
        self.assertEqual(times, {0, 1})
        self.assertEqual(len({round(flow.at / TICK) % 2 for flow in flows}), 2)

    def test_without_flows_there_is_no_timer(self) -> None:
        flow = self.variable()
        self.pacer.remove(flow)
        self.pacer.remove(flow)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_flow_that_fails_leaves_the_others_alone(self) -> None:
        bad, good = self.variable(), self.variable()
        self.patch(bad, "_stream", None)
        put = b""
        for flow in (bad, good):
            flow.put(frame(FRAME))
        put = self.play(good, 5)
        self.run_for(0.2)
        self.assertTrue(self.sink.media().endswith(put))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_lateness_is_what_the_plan_says(self) -> None:
        flow = self.constant()
        self.play(flow, 5)
        self.assertLess(flow.lateness.maximum, EPSILON)
        self.clock.advance(SLOW + 0.003)
        spacing = DATAGRAM * 8 / RATE
        self.assertGreater(flow.lateness.maximum, 0.003 - spacing)
        self.assertLessEqual(flow.lateness.maximum, 0.003 + TICK + EPSILON)


class SendClockTests(PacingTestCase):
    def test_it_runs_with_real_time_from_the_first_frame(self) -> None:
        clock = SendClock()
        self.assertFalse(clock.heard(90_000, 50.0))
        self.assertEqual(clock.pcr(50.5), PCR * 3 // 2)

    def test_late_frames_do_not_move_it(self) -> None:
        clock = SendClock()
        for number in range(3_000):
            late = 0.15 if number % 50 else 0.0
            self.assertFalse(clock.heard(number * 3_600, number / 25 + late))
        self.assertEqual(clock.rate, 0)
        self.near(clock.pcr(120.0) / PCR, 120, within=1e-4)

    def test_it_follows_a_publishers_crystal(self) -> None:
        for error in (60e-6, -60e-6):
            clock = SendClock()
            for number in range(25 * 600):
                self.assertFalse(clock.heard(number * 3_600, number / 25 * (1 + error)))
                self.assertLessEqual(abs(clock.rate), MAX_RATE)
            late = (clock.pcr(600.0 * (1 + error)) - 600 * PCR) / PCR
            self.assertLess(abs(late), 0.003)

    def test_it_never_goes_back_while_it_follows(self) -> None:
        clock, before = SendClock(), -1
        for number in range(25 * 60):
            clock.heard(number * 3_600, number / 25 * 1.0001)
            pcr = clock.pcr(number / 25 * 1.0001)
            self.assertGreater(pcr, before)
            before = pcr

    def test_it_jumps_at_once_to_media_from_the_future(self) -> None:
        clock = SendClock()
        clock.heard(0, 0.0)
        self.assertTrue(clock.heard(90_000, 1 - JUMP - 0.01))
        self.assertEqual(clock.pcr(1 - JUMP - 0.01), PCR)

    def test_it_jumps_when_even_the_earliest_come_too_late(self) -> None:
        clock = SendClock()
        jumps = [
            clock.heard(n * 3_600, n / 25 + (JUMP + 0.1) * (n > 0)) for n in range(round(25 * WINDOW * 3))
        ]
        self.assertEqual(sum(jumps), 1)


class QueueAndLatenessTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.data())
    def test_a_queue_gives_back_what_was_put_in_any_cut(
        self, parts: list[bytes], data: st.DataObject
    ) -> None:
        queue, taken = PacketQueue(), []
        for part in parts:
            queue.put(part)
        while queue.size:
            queue.take(data.draw(st.integers(1, queue.size)), taken)
        self.assertEqual(b"".join(taken), b"".join(parts))

    def test_quantiles(self) -> None:
        lateness = Lateness()
        self.assertEqual(lateness.quantile(0.99), 0)
        for _ in range(98):
            lateness.add(0.0004)
        lateness.add(0.004)
        lateness.add(3.0)
        self.assertEqual((lateness.quantile(0.5), lateness.quantile(0.99)), (0.0005, 0.005))
        self.assertEqual((lateness.quantile(1), lateness.maximum, lateness.count), (3.0, 3.0, 100))
        self.assertEqual(lateness.stats()["max_ms"], 3000)
