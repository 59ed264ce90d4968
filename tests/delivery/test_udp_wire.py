"""The whole way in real time: packets, transport stream, pacing, socket, wire, and what a receiver makes of it."""

import io
from itertools import pairwise
from typing import Any

import av
import pytest
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from oxidecast.delivery.constant_rate import ConstantRate
from oxidecast.delivery.pacing import DATAGRAM, Flow, Pacer
from oxidecast.delivery.send_clock import PCR, SendClock
from oxidecast.delivery.udp import MulticastSocket, SendOptions
from oxidecast.delivery.variable_rate import SPREAD, VariableRate
from oxidecast.formats.mpegts import PACKET_SIZE, TSWriter
from oxidecast.media import TICKS, Codec
from tests.delivery.receiving import Received, Receiver
from tests.e2e.netns import LINK, Network
from tests.formats.material import stream

reactor: Any = default_reactor
GROUP, PORT, RATE = "239.255.8.1", 30_000, 2_000_000
LATE = 0.1
"""Seconds that this process may be late on a busy machine before a test blames the code."""


@pytest.mark.alone
class OnTheWireTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.network.remove)
        with self.network.receiver.entered():
            self.receiver = Receiver(GROUP, PORT, LINK)
        self.addCleanup(self.receiver.close)
        with self.network.sender.entered():
            self.sender = MulticastSocket(GROUP, PORT, LINK, SendOptions(), reactor.seconds)
        self.addCleanup(self.sender.close)
        self.pacer = Pacer(reactor)
        self.track, self.packets = stream(Codec.H264)
        self.writer = TSWriter([self.track], own_clock=True)
        self.clock = SendClock()

    def arguments(self) -> tuple[Any, ...]:
        return ("news", self.writer, self.clock, [self.sender], reactor.seconds, DATAGRAM)

    async def play(self, flow: Flow) -> list[Received]:
        """The packets at their own pace, and some time more."""
        self.pacer.add(flow)
        waiting = list(self.packets)
        began = reactor.seconds() - waiting[0].dts / TICKS

        def feed() -> None:
            now = reactor.seconds()
            while waiting and began + waiting[0].dts / TICKS <= now:
                packet = waiting.pop(0)
                self.clock.heard(packet.dts, now)
                flow.put(self.writer.write(packet))
            if not waiting:
                feeding.stop()

        feeding = LoopingCall(feed)
        await feeding.start(0.01)
        await deferLater(reactor, SPREAD + LATE)
        self.pacer.remove(flow)
        return self.receiver.read()

    def check(self, received: list[Received]) -> None:
        data = b"".join(one.data for one in received)
        self.assertEqual({len(one.data) for one in received}, {DATAGRAM})
        self.assertEqual(len(received), self.sender.packets)
        with av.open(io.BytesIO(data), format="mpegts") as container:
            found = [bytes(packet) for packet in container.demux() if packet.size]
        self.assertEqual(len(found), len(self.packets))
        counters: dict[int, int] = {}
        clocks = []
        for start in range(0, len(data), PACKET_SIZE):
            packet = data[start : start + PACKET_SIZE]
            pid = (packet[1] & 0x1F) << 8 | packet[2]
            if pid == 0x1001:
                value = int.from_bytes(packet[6:12], "big")
                clocks.append((received[start // DATAGRAM].at, (value >> 15) * 300 + (value & 0x1FF)))
            elif pid != 0x1FFF:
                self.assertEqual(packet[3] & 15, counters.get(pid, packet[3] - 1) + 1 & 15, f"PID {pid:#x}")
                counters[pid] = packet[3]
        for (at, pcr), (next_at, next_pcr) in pairwise(clocks):
            self.assertLess((next_pcr - pcr) / PCR, 0.04 + LATE)
            self.assertLess(abs(next_at - at - (next_pcr - pcr) / PCR), LATE)

    def test_variable_rate(self) -> Deferred[None]:
        async def run() -> None:
            self.check(await self.play(VariableRate(*self.arguments())))

        return Deferred.fromCoroutine(run())

    def test_constant_rate(self) -> Deferred[None]:
        async def run() -> None:
            received = await self.play(ConstantRate(*self.arguments(), rate=RATE))
            self.check(received)
            seconds = received[-1].at - received[0].at
            wanted = seconds * RATE / 8 / DATAGRAM
            self.assertLess(abs(len(received) - wanted), LATE * RATE / 8 / DATAGRAM)

        return Deferred.fromCoroutine(run())
