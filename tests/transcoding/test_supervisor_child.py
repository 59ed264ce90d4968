"""The supervisor with its real child: killed, stopped, crashed by its input, and gone when it should be."""

import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import AudioFeed, Job
from oxidecast.media import TICKS, Packet
from oxidecast.transcoding.process import asleep
from oxidecast.transcoding.supervisor import Supervisor
from tests.transcoding.child import small
from tests.transcoding.clips import Clip, clip, plain, video
from tests.transcoding.test_supervisor import Listener
from tests.transcoding.test_worker_faults import damaged

PATIENCE = 60.0
"""Seconds until a test gives up; none of them takes as long unless something is broken."""

JOB = Job(videos=(small(1),), audios=(AudioFeed(feed=128, codec="aac", bitrate=64_000),))


class Source:
    """A clip that is sent over and over in real time, as a stream sends it: its time goes on."""

    def __init__(self, supervisor: Supervisor, material: Clip) -> None:
        self._supervisor = supervisor
        self._clip = material
        self._length = round((material.packets[-1].pts - material.packets[0].pts) / TICKS + 0.5) * TICKS
        self._at = self._round = 0
        self._began = reactor.seconds()  # type: ignore[attr-defined]
        self._loop = LoopingCall(self._send)
        for track in material.tracks:
            supervisor.track(track)

    def start(self) -> None:
        self._loop.start(0.02)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def _send(self) -> None:
        now = (reactor.seconds() - self._began + 0.3) * TICKS  # type: ignore[attr-defined]
        packets, tracks = self._clip.packets, {track.id: track for track in self._clip.tracks}
        while True:
            packet = packets[self._at]
            shift = self._round * self._length
            if packet.dts - packets[0].dts + shift > now:
                return
            self._supervisor.packet(
                Packet(
                    tracks[packet.track_id],
                    packet.dts + shift,
                    packet.pts + shift,
                    3000,
                    packet.keyframe,
                    packet.payload,
                ),
                packet.samples,
            )
            self._at += 1
            if self._at == len(packets):
                self._at, self._round = 0, self._round + 1


class SupervisedCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.listener = Listener()
        self.source: Source | None = None

    def begin(self, material: Clip | None = None, **more: Any) -> Supervisor:
        supervisor = Supervisor(reactor, "show", self.listener, **more)
        self.source = Source(supervisor, material or plain())
        supervisor.start(JOB)
        self.source.start()
        self.addCleanup(supervisor.stop)
        self.addCleanup(self.source.stop)
        return supervisor

    async def until(self, what: Callable[[], object]) -> None:
        """Wait for it."""
        ends = reactor.seconds() + PATIENCE  # type: ignore[attr-defined]
        while not what():
            self.assertLess(reactor.seconds(), ends, self.listener.heard[-5:])  # type: ignore[attr-defined]
            await deferLater(reactor, 0.05)  # type: ignore[arg-type]

    def pictures(self) -> list[FramedPacket]:
        return [one for one in self.listener.heard if isinstance(one, FramedPacket) and one.track_id == 1]

    async def forgotten(self) -> None:
        """Wait for pictures that are made from now on."""
        self.listener.heard.clear()
        await self.until(self.pictures)

    def assert_gone(self, pid: int) -> None:
        self.assertFalse(psutil.pid_exists(pid), pid)


class TestChild(SupervisedCase):
    async def test_it_makes_pictures_and_sound_and_ends_without_a_trace(self) -> None:
        supervisor = self.begin()
        await self.until(lambda: len(self.pictures()) > 30)
        pid = supervisor.pid
        assert pid is not None
        self.assertEqual(psutil.Process(pid).nice(), psutil.Process().nice() + 5)
        self.assertEqual(supervisor.confined, ("network", "files"))
        self.source.stop()  # type: ignore[union-attr]
        await supervisor.stop()
        self.assert_gone(pid)
        self.assertEqual(
            {one.track_id for one in self.listener.heard if isinstance(one, FramedPacket)}, {1, 128}
        )
        self.assertEqual([one for one in self.listener.heard if isinstance(one, str)], [])

    async def test_one_that_hangs_before_its_first_word(self) -> None:
        supervisor = self.begin(command=(sys.executable, "-c", "import time; time.sleep(600)"))
        pid = supervisor.pid
        assert pid is not None
        await self.until(lambda: supervisor.restarts)
        self.assert_gone(pid)
        self.assertIn("before its first word", self.listener.heard[0])

    async def test_who_sleeps_and_who_does_not(self) -> None:
        works = psutil.Popen([sys.executable, "-c", "while True: pass"])
        sleeps = psutil.Popen(["sleep", "60"])
        for process in (works, sleeps):
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
        await self.until(lambda: asleep(sleeps.pid) is not None)
        self.assertEqual(asleep(sleeps.pid), asleep(sleeps.pid))
        await self.until(lambda: works.cpu_times().user > 0.1)
        self.assertIsNone(asleep(works.pid))
        os.kill(works.pid, signal.SIGSTOP)
        await self.until(lambda: asleep(works.pid) is not None)
        self.assertGreater(asleep(works.pid), 0)
        self.assertIsNone(asleep(2**22 + 1))

    async def test_it_is_given_no_secret_of_the_environment(self) -> None:
        for name in ("OXIDECAST_SERVER_SECRET_KEY", "DATABASE_URL", "PYTHONPATH"):
            self.patch(os, "environ", os.environ | {name: "of the server"})
        supervisor = self.begin()
        await self.until(lambda: supervisor.latest)
        has = psutil.Process(supervisor.pid).environ()
        self.assertEqual([name for name, value in has.items() if value == "of the server"], ["PYTHONPATH"])
        self.assertIn("PATH", has)

    async def test_sigkill(self) -> None:
        await self._survives(signal.SIGKILL, "signal 9")

    async def test_sigsegv(self) -> None:
        await self._survives(signal.SIGSEGV, "signal 11")

    async def test_sigstop(self) -> None:
        await self._survives(signal.SIGSTOP, "it has said nothing")

    async def _survives(self, how: signal.Signals, reason: str) -> None:
        supervisor = self.begin()
        await self.until(lambda: len(self.pictures()) > 5)
        pid = supervisor.pid
        assert pid is not None
        os.kill(pid, how)
        await self.until(lambda: supervisor.state == "waiting")
        self.assert_gone(pid)
        self.assertIn(reason, self.listener.heard[-1])
        before = self.pictures()
        await self.until(lambda: len(self.pictures()) > len(before) + 60)
        self.assertNotEqual(supervisor.pid, pid)
        after = self.pictures()[len(before) :]
        self.assertTrue(after[0].keyframe)
        self.assertGreater(min(one.pts for one in after), max(one.pts for one in before))
        # Two pictures may be lost that are shown before one that was coded before them.
        shown = sorted(one.pts for one in self.pictures()[:-3])
        self.assertLessEqual(max(b - a for a, b in pairwise(shown)), 4 * TICKS // 30)
        self.assertNotIn("discontinuity", self.listener.heard)

    async def test_a_child_that_is_larger_than_it_may_be(self) -> None:
        supervisor = self.begin(max_memory=10 << 20)
        await self.until(lambda: supervisor.state == "waiting")
        self.assertIn("MiB of memory, above 10", self.listener.heard[-1])

    async def test_a_damaged_stream_and_what_comes_after(self) -> None:
        material = plain()
        supervisor = self.begin(Clip(material.tracks, damaged(material.packets, seed=11, every=2)))
        await self.until(lambda: supervisor.latest is not None and supervisor.latest.read > 300)
        self.source.stop()  # type: ignore[union-attr]
        later = max(packet.pts for packet in self.pictures()) + 60 * TICKS if self.pictures() else 600 * TICKS
        self.listener.heard.clear()
        for track in material.tracks:
            supervisor.track(track)
        for packet in material.video:
            supervisor.packet(
                Packet(
                    material.tracks[0],
                    packet.dts + later,
                    packet.pts + later,
                    3000,
                    packet.keyframe,
                    packet.payload,
                )
            )
        await self.until(lambda: any(packet.pts >= later for packet in self.pictures()))

    async def test_another_size_in_mid_stream(self) -> None:
        supervisor = self.begin()
        await self.until(lambda: len(self.pictures()) > 5)
        pid = supervisor.pid
        self.source.stop()  # type: ignore[union-attr]
        for size, at in (((240, 180), 1000), ((320, 180), 2000)):
            other = clip(video(1, size=size, start=at * TICKS))
            supervisor.track(other.tracks[0])
            self.listener.heard.clear()
            for packet in other.video:
                supervisor.packet(
                    Packet(other.tracks[0], packet.dts, packet.pts, 3000, packet.keyframe, packet.payload)
                )
            await self.until(lambda at=at: any(packet.pts >= at * TICKS for packet in self.pictures()))
        self.assertEqual(supervisor.pid, pid)
        await supervisor.stop()


class TestOthers(SupervisedCase):
    async def test_a_program_that_is_no_child(self) -> None:
        supervisor = self.begin(command=("/bin/echo",))
        await self.until(lambda: supervisor.restarts)
        self.assertIn("nonsense", self.listener.heard[-1])

    async def test_a_child_that_does_not_end_is_killed(self) -> None:
        stubborn = (sys.executable, "-c", "import time; time.sleep(600)")
        supervisor = self.begin(command=stubborn)
        await self.until(lambda: supervisor.pid)
        pid = supervisor.pid
        await supervisor.stop()
        assert pid is not None
        self.assert_gone(pid)

    async def test_a_child_that_reads_nothing_holds_no_memory_here(self) -> None:
        """Its pipe fills, then our queue, and then whole groups are lost."""
        deaf = (sys.executable, "-c", "import time; time.sleep(600)")
        supervisor = self.begin(command=deaf, max_waiting=200_000)
        await self.until(lambda: supervisor.pid)
        self.source.stop()  # type: ignore[union-attr]
        track = plain().tracks[0]
        for number in range(500):
            supervisor.packet(Packet(track, number, number, 3000, number % 30 == 0, bytes(20_000)))
            self.assertLessEqual(supervisor.waiting, 210_000)
            if number % 50 == 0:
                await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        self.assertGreater(supervisor.dropped, 400)
        child: Any = supervisor._child
        self.assertLess(len(child.transport.pipes[0].dataBuffer), 200_000)
        os.kill(child.pid, signal.SIGKILL)
