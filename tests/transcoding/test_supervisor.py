"""The supervisor on a clock, its child played by the test."""

from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.formats.framed_messages import (
    Discontinuity,
    End,
    FeedEnded,
    FeedFigures,
    Figures,
    Job,
    KeyframeWanted,
    Ready,
    Resumed,
    Thumbnail,
    Trouble,
)
from oxidecast.media import Packet, Track
from oxidecast.transcoding.supervisor import (
    DEATHS_WITHIN,
    END_WITHIN,
    FIRST_WAIT,
    HEALTHY,
    LONGEST_WAIT,
    MOST_DEATHS,
    Supervisor,
)
from oxidecast.transcoding.watch import ASLEEP_AT_START, LOOK_EVERY, SILENT, SILENT_AT_START, STUCK
from tests.streams.stage import AUDIO, VIDEO, picture, sound
from tests.transcoding.child import frame, small


class Pipe:
    """The child's standard input."""

    producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer


class Process:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pipes = {0: Pipe()}
        self.signals: list[str] = []
        self.gone = False
        self.reader = FrameReader()
        self.heard: list[Any] = []

    def write(self, data: bytes) -> None:
        self.heard += self.reader.receive(data)

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)


class Listener:
    """What the supervisor told, in one list."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def track(self, track: Track) -> None:
        self.heard.append(track)

    def packet(self, packet: FramedPacket) -> None:
        self.heard.append(packet)

    def discontinuity(self, number: int) -> None:
        self.heard.append("discontinuity")

    def feed_ended(self, feed: int) -> None:
        self.heard.append(("ended", feed))

    def thumbnail(self, thumbnail: Thumbnail) -> None:
        self.heard.append(thumbnail)

    def figures(self, figures: Figures) -> None:
        self.heard.append(figures)

    def trouble(self, trouble: Trouble) -> None:
        self.heard.append(trouble.sentence)

    def gave_up(self, reason: str) -> None:
        self.heard.append(f"gave up: {reason}")


JOB = Job(videos=(small(1),))
MADE = FramedPacket(1, 1, 1, True, b"made", 0)


class SupervisorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.processes: list[tuple[Any, Process]] = []
        self.spawn_error: OSError | None = None
        self.memory: int | None = 1 << 20
        self.asleep: int | None = None
        self.listener = Listener()
        reactor = SimpleNamespace(
            callLater=self.clock.callLater, seconds=self.clock.seconds, spawnProcess=self.spawn
        )
        self.supervisor = Supervisor(
            reactor,
            "show",
            self.listener,
            max_waiting=1000,
            memory_of=lambda pid: self.memory,
            asleep_of=lambda pid: self.asleep,
        )

    def spawn(self, protocol: Any, executable: str, arguments: list[str], env: Any) -> None:
        if self.spawn_error is not None:
            raise self.spawn_error
        process = Process(1000 + len(self.processes))
        self.processes.append((protocol, process))
        protocol.makeConnection(process)

    def begin(self) -> Process:
        self.supervisor.track(VIDEO)
        self.supervisor.track(AUDIO)
        self.supervisor.start(JOB)
        return self.process

    @property
    def process(self) -> Process:
        return self.processes[-1][1]

    def say(self, *items: Any) -> None:
        self.processes[-1][0].outReceived(b"".join(map(frame, items)))

    def end(self, reason: Any = None) -> None:
        protocol, process = self.processes[-1]
        process.gone = True
        protocol.processEnded(Failure(reason or ProcessTerminated(signal=11)))

    def take(self) -> list[Any]:
        heard, self.listener.heard = self.listener.heard, []
        return heard

    def feed(self, *packets: Packet) -> None:
        for packet in packets:
            self.supervisor.packet(packet)

    def pass_time(self, seconds: float, *said: Any) -> None:
        """In steps of a look; the child says something at each."""
        for step in range(round(seconds / LOOK_EVERY)):
            if said and step * LOOK_EVERY % 1 == 0:
                self.say(*said)
            self.clock.advance(LOOK_EVERY)


class TestTraffic(SupervisorCase):
    def test_a_child_is_told_the_job_and_the_tracks_first(self) -> None:
        process = self.begin()
        self.assertEqual(process.heard, [JOB, VIDEO, AUDIO])
        self.assertEqual((self.supervisor.state, self.supervisor.pid), ("running", 1000))

    def test_packets_follow_from_a_keyframe_on(self) -> None:
        process = self.begin()
        self.feed(sound(0), picture(0), picture(10, keyframe=True), sound(20), picture(30))
        self.assertEqual(
            [(packet.track_id, packet.dts) for packet in process.heard[3:]], [(1, 10), (2, 20), (1, 30)]
        )

    def test_sound_alone_needs_no_keyframe(self) -> None:
        self.supervisor.track(AUDIO)
        self.supervisor.start(JOB)
        self.feed(sound(5))
        self.assertEqual(self.process.heard[-1].dts, 5)

    def test_what_the_child_makes_is_told(self) -> None:
        self.begin()
        figures, image = Figures(read=1), Thumbnail(pts=1, width=64, height=36, jpeg=b"jpeg")
        self.say(
            Ready(("network",)),
            VIDEO,
            MADE,
            figures,
            image,
            FeedEnded(feed=9),
            Discontinuity(1),
            Trouble("so"),
        )
        self.assertEqual(self.take(), [VIDEO, MADE, figures, image, ("ended", 9), "discontinuity", "so"])
        self.assertEqual((self.supervisor.confined, self.supervisor.latest), (("network",), figures))

    def test_changes_are_passed_on(self) -> None:
        process = self.begin()
        self.feed(picture(0, keyframe=True))
        other = Job(videos=(small(2),))
        self.supervisor.job(other)
        self.supervisor.keyframe(2)
        self.supervisor.discontinuity()
        self.feed(picture(10), picture(20, keyframe=True))
        self.assertEqual(process.heard[4:7], [other, KeyframeWanted(feed=2), Discontinuity(1)])
        self.assertEqual([packet.dts for packet in process.heard[7:]], [20])

    def test_a_child_that_does_not_read_loses_whole_groups(self) -> None:
        process = self.begin()
        pipe = process.pipes[0].producer
        pipe.pauseProducing()
        self.feed(picture(0, keyframe=True, size=300), *(picture(at, size=300) for at in range(1, 9)))
        self.supervisor.keyframe(1)
        self.assertLess(self.supervisor.waiting, 1000)
        self.assertEqual(self.supervisor.dropped, 9)
        self.feed(picture(10, keyframe=True, size=300))
        pipe.resumeProducing()
        self.assertEqual(process.heard[3], KeyframeWanted(feed=1))
        self.assertEqual([packet.dts for packet in process.heard[4:]], [10])
        self.assertEqual(self.supervisor.waiting, 0)

    def test_a_pipe_that_fills_again_while_it_empties(self) -> None:
        process = self.begin()
        pipe = process.pipes[0].producer
        pipe.pauseProducing()
        self.feed(*(picture(at, keyframe=True, size=100) for at in range(5)))
        write = process.write

        def once(data: bytes) -> None:
            write(data)
            pipe.pauseProducing()

        process.write = once  # type: ignore[method-assign]
        pipe.resumeProducing()
        self.assertEqual(len(process.heard), 4)
        self.assertGreater(self.supervisor.waiting, 400)


class TestDeath(SupervisorCase):
    def made(self, pts: int, feed: int = 1) -> FramedPacket:
        return FramedPacket(feed, pts, pts, False, b"made", 0)

    def resumed(self) -> tuple[Resumed, list[int]]:
        """What the latest child was told of where to go on, and the packets that it was sent."""
        assert self.process.heard[:3] == [JOB, VIDEO, AUDIO]
        return self.process.heard[3], [packet.dts for packet in self.process.heard[4:]]

    def test_a_dead_child_is_followed_by_another_that_goes_on_where_it_was(self) -> None:
        self.begin()
        self.feed(picture(0, keyframe=True), picture(10), picture(20, keyframe=True), sound(25), picture(30))
        self.say(VIDEO, self.made(0), self.made(30), self.made(20))
        self.take()
        self.end()
        self.assertEqual(self.take(), ["the transcoder's child died: signal 11"])
        self.assertEqual((self.supervisor.state, self.supervisor.pid), ("waiting", None))
        self.feed(picture(40), picture(50, keyframe=True))
        self.clock.advance(FIRST_WAIT)
        self.feed(picture(60))
        self.assertEqual(self.resumed(), (Resumed(until=50, made={1: 30}), [20, 25, 30, 40, 50, 60]))
        self.assertEqual(self.supervisor.restarts, 1)

    def test_what_a_child_could_not_begin_with_is_not_sent_again(self) -> None:
        self.begin()
        self.feed(picture(0, keyframe=True))
        self.say(self.made(0))
        for _ in range(2):
            self.end()
            self.feed(picture(10))
            self.clock.advance(LONGEST_WAIT)
        self.assertEqual(self.process.heard, [JOB, VIDEO, AUDIO])
        self.feed(picture(20), picture(30, keyframe=True))
        self.assertEqual([packet.dts for packet in self.process.heard[3:]], [30])
        # But for the newest of what has come meanwhile.
        self.end()
        self.feed(picture(40, keyframe=True), picture(50, keyframe=True), picture(60))
        self.clock.advance(LONGEST_WAIT)
        self.assertEqual(self.resumed(), (Resumed(until=60, made={1: 0}), [50, 60]))

    def test_a_minute_in_which_every_child_dies_is_survived(self) -> None:
        self.begin()
        for tick in range(120):
            self.feed(picture(tick, keyframe=True))
            if self.supervisor.state == "running":
                self.end()
            self.clock.advance(0.5)
        self.pass_time(LONGEST_WAIT)
        self.assertEqual(self.supervisor.state, "running")

    def test_only_what_is_made_now_says_where_to_go_on(self) -> None:
        self.begin()
        self.feed(picture(0, keyframe=True))
        self.say(self.made(0), self.made(9, feed=128))
        self.supervisor.job(JOB)
        self.end()
        self.clock.advance(FIRST_WAIT)
        self.assertEqual(self.resumed()[0], Resumed(until=0, made={1: 0}))
        self.supervisor.job(Job(videos=(small(2),)))
        self.say(self.made(0))
        self.assertEqual(self.supervisor._made, {})

    def test_a_new_beginning_of_the_source_is_told_once_whatever_becomes_of_the_child(self) -> None:
        self.begin()
        self.feed(picture(0, keyframe=True))
        self.say(self.made(0))
        self.take()
        # It dies before it has answered.
        self.supervisor.discontinuity()
        self.feed(picture(50, keyframe=True))
        self.assertEqual(self.take(), [])
        self.end()
        self.assertEqual(self.take()[0], "discontinuity")
        # It is not there.
        self.supervisor.discontinuity()
        self.assertEqual(self.take(), ["discontinuity"])
        self.feed(picture(90, keyframe=True))
        self.clock.advance(FIRST_WAIT)
        self.assertEqual(self.resumed(), (Resumed(until=90), [90]))
        self.assertEqual(self.take(), [])
        # It answers.
        self.supervisor.discontinuity()
        self.say(self.made(90))
        self.take()
        self.say(Discontinuity(3))
        self.end()
        self.assertEqual(self.take(), ["discontinuity", "the transcoder's child died: signal 11"])

    def test_one_that_made_nothing_leaves_no_discontinuity(self) -> None:
        self.begin()
        self.end(ProcessTerminated(exitCode=1))
        self.assertEqual(self.take(), ["the transcoder's child died: exit code 1"])

    def test_one_that_is_given_up_keeps_nothing(self) -> None:
        self.begin()
        for _ in range(MOST_DEATHS):
            self.end()
            self.feed(picture(0, keyframe=True))
            self.clock.advance(LONGEST_WAIT)
        self.supervisor.restart()
        self.assertEqual(self.process.heard, [JOB, VIDEO, AUDIO])

    def test_waits_double_up_to_a_bound_and_then_it_is_given_up(self) -> None:
        self.begin()
        waits = []
        for _ in range(MOST_DEATHS - 1):
            self.end()
            waits.append(self.supervisor._wait / 2)
            self.clock.advance(LONGEST_WAIT)
        self.assertEqual(waits[:3], [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT])
        self.assertLessEqual(self.supervisor._wait, LONGEST_WAIT)
        self.end()
        self.assertEqual(self.take()[-1], "gave up: signal 11")
        self.clock.advance(DEATHS_WITHIN)
        self.assertEqual((len(self.processes), self.supervisor.state), (MOST_DEATHS, "given up"))
        self.supervisor.restart()
        self.assertEqual((len(self.processes), self.supervisor.state), (MOST_DEATHS + 1, "running"))

    def test_deaths_far_apart_are_forgiven(self) -> None:
        self.begin()
        for _ in range(2 * MOST_DEATHS):
            self.pass_time(HEALTHY + DEATHS_WITHIN / MOST_DEATHS, Figures())
            self.end()
            self.assertEqual(self.supervisor._wait, 2 * FIRST_WAIT)
            self.clock.advance(FIRST_WAIT)
        self.assertEqual(self.supervisor.state, "running")

    def test_one_that_cannot_be_started(self) -> None:
        self.spawn_error = OSError("no memory")
        self.supervisor.start(JOB)
        self.assertEqual(self.take(), [], "who starts it is told later")
        self.clock.advance(0)
        self.assertIn("no memory", self.take()[-1])
        self.spawn_error = None
        self.clock.advance(FIRST_WAIT)
        self.assertEqual(self.supervisor.state, "running")

    def test_one_that_cannot_be_started_is_stopped(self) -> None:
        self.spawn_error = OSError("no memory")
        self.supervisor.start(JOB)
        self.successResultOf(self.supervisor.stop())
        self.clock.advance(10)
        self.assertEqual((self.supervisor.state, self.take()), ("stopped", []))

    def test_nonsense_from_the_child_is_its_death(self) -> None:
        self.begin()
        self.processes[-1][0].outReceived(b"X" * 20)
        self.assertEqual(self.process.signals, ["KILL"])
        self.end()
        self.assertIn("nonsense", self.take()[-1])

    def test_its_own_last_words_are_the_reason(self) -> None:
        self.begin()
        self.say(Trouble("the encoder is gone", fatal=True))
        self.end(ProcessTerminated(exitCode=3))
        self.assertEqual(self.take()[-1], "the transcoder's child died: the encoder is gone")

    def test_a_dead_childs_leftovers_are_not_heard(self) -> None:
        self.begin()
        old = self.processes[-1][0]
        self.end()
        self.clock.advance(FIRST_WAIT)
        self.take()
        old.outReceived(frame(MADE))
        self.assertEqual(self.take(), [])


class TestWatch(SupervisorCase):
    def test_a_child_that_never_speaks(self) -> None:
        self.begin()
        self.pass_time(SILENT_AT_START - 1)
        self.assertEqual(self.process.signals, [])
        self.pass_time(1)
        self.assertEqual(self.process.signals, ["KILL"])

    def test_a_child_that_hangs_before_its_first_word(self) -> None:
        self.begin()
        for used in (1, 2, None, 2):
            self.asleep = used
            self.pass_time(ASLEEP_AT_START)
            self.assertEqual(self.process.signals, [])
        self.pass_time(LOOK_EVERY)
        self.end(ProcessTerminated(signal=9))
        self.assertIn("done nothing for 3 seconds before its first word", self.take()[-1])

    def test_a_child_that_has_spoken_may_sleep(self) -> None:
        self.begin()
        self.asleep = 7
        self.pass_time(30, Figures())
        self.assertEqual(self.process.signals, [])

    def test_a_child_that_falls_silent(self) -> None:
        self.begin()
        self.pass_time(30, Figures())
        # The last word was a second before.
        self.pass_time(SILENT - 3 * LOOK_EVERY)
        self.assertEqual(self.process.signals, [])
        self.pass_time(LOOK_EVERY)
        self.end(ProcessTerminated(signal=9))
        self.assertEqual(
            self.take()[-1], f"the transcoder's child died: it has said nothing for {SILENT} seconds"
        )

    def test_a_reactor_that_stood_still_kills_nobody(self) -> None:
        self.begin()
        self.say(Figures())
        self.clock.advance(120)
        self.assertEqual(self.process.signals, [])

    def test_a_feed_that_holds_pictures_and_makes_none(self) -> None:
        self.begin()
        self.pass_time(
            STUCK + 1, Figures(feeds=(FeedFigures(feed=1, queue=16), FeedFigures(feed=2, queue=1))), MADE
        )
        self.assertEqual(self.process.signals, ["KILL"])
        self.end()
        self.assertIn("feed 2", self.take()[-1])

    def test_a_feed_without_pictures_may_be_quiet(self) -> None:
        """A source that cannot be decoded is no fault of the child's."""
        self.begin()
        self.pass_time(5 * STUCK, Figures(feeds=(FeedFigures(feed=1, queue=0),)))
        self.assertEqual(self.process.signals, [])

    def test_a_child_that_does_not_read(self) -> None:
        self.begin()
        self.process.pipes[0].producer.pauseProducing()
        self.feed(picture(0, keyframe=True))
        self.pass_time(STUCK + 1, Figures(read=5))
        self.assertEqual(self.process.signals, ["KILL"])

    def test_a_child_that_reads_slowly(self) -> None:
        self.begin()
        self.process.pipes[0].producer.pauseProducing()
        self.feed(picture(0, keyframe=True))
        for read in range(5 * STUCK):
            self.pass_time(1, Figures(read=read))
        self.assertEqual(self.process.signals, [])

    def test_a_child_that_takes_too_much_memory(self) -> None:
        self.begin()
        self.memory = 3 << 30
        self.pass_time(1, Figures())
        self.assertEqual(self.process.signals, ["KILL"])
        self.end(ProcessTerminated(signal=9))
        self.assertIn("3072 MiB of memory, above 2048", self.take()[-1])

    def test_where_the_system_tells_no_memory(self) -> None:
        self.begin()
        self.memory = None
        self.pass_time(5, Figures())
        self.assertEqual(self.process.signals, [])


class TestStop(SupervisorCase):
    def test_it_waits_for_the_last_packets(self) -> None:
        process = self.begin()
        stopped = self.supervisor.stop()
        self.assertIsInstance(process.heard[-1], End)
        self.say(MADE, End())
        self.assertNoResult(stopped)
        self.end(ProcessDone(None))
        self.successResultOf(stopped)
        self.assertEqual(self.take(), [MADE])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.supervisor.state, "stopped")

    def test_one_that_does_not_end_is_killed(self) -> None:
        process = self.begin()
        stopped = self.supervisor.stop()
        self.pass_time(END_WITHIN, Figures())
        self.assertEqual(process.signals, ["KILL"])
        self.assertNoResult(stopped)
        self.end()
        self.successResultOf(stopped)
        self.assertEqual((self.clock.getDelayedCalls(), len(self.processes)), ([], 1))

    def test_while_it_waits_to_try_again(self) -> None:
        self.begin()
        self.end()
        self.successResultOf(self.supervisor.stop())
        self.clock.advance(100)
        self.assertEqual(len(self.processes), 1)

    def test_twice(self) -> None:
        self.begin()
        self.assertIs(self.supervisor.stop(), self.supervisor.stop())
        self.end()

    def test_packets_after_it_are_nothing(self) -> None:
        process = self.begin()
        self.supervisor.stop()
        self.feed(picture(0, keyframe=True))
        self.assertIsInstance(process.heard[-1], End)
        self.end()
        self.feed(picture(0, keyframe=True))

    def test_a_receiver_that_stops_it_at_its_death(self) -> None:
        self.begin()
        self.listener.trouble = lambda trouble: self.supervisor.stop()  # type: ignore[method-assign, assignment]
        self.end()
        self.clock.advance(100)
        self.assertEqual((len(self.processes), self.supervisor.state), (1, "stopped"))
