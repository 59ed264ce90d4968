"""The test pattern's publisher, with its child process played by the test."""

from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from oxidecast.formats import framed
from oxidecast.ingest.testpattern.ingest import RESTART_AFTER, PatternIngest, PatternSettings
from oxidecast.interfaces import IIngest, IPublisher
from tests.streams.stage import AUDIO, VIDEO, HubCase


class Process:
    def __init__(self) -> None:
        self.signals: list[str] = []
        self.gone = False

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)


class PatternCase(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.spawned: list[tuple[Any, list[str]]] = []
        self.spawn_error: OSError | None = None
        reactor = SimpleNamespace(callLater=self.clock.callLater, spawnProcess=self.spawn)
        self.services: Any = SimpleNamespace(reactor=reactor, hub=self.hub)
        self.pattern = self.make(stream_key="key-of-show")

    def make(self, **settings: Any) -> PatternIngest:
        return PatternIngest(PatternSettings(**settings), self.services)

    def spawn(self, protocol: Any, executable: str, arguments: list[str], env: Any) -> None:
        if self.spawn_error is not None:
            raise self.spawn_error
        protocol.makeConnection(Process())
        self.spawned.append((protocol, arguments))

    def begin(self) -> Any:
        self.pattern.startService()
        self.clock.advance(0)
        return self.spawned[-1][0]

    def end(self, child: Any) -> None:
        child.transport.gone = True
        child.processEnded(Failure(ProcessDone(None)))


class TestPattern(PatternCase):
    def test_it_is_an_ingest_and_a_publisher(self) -> None:
        verifyObject(IIngest, self.pattern)
        verifyObject(IPublisher, self.pattern)

    def test_without_a_key_it_does_nothing(self) -> None:
        self.make().startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_key_is_in_no_argument_of_the_child_and_in_no_repr(self) -> None:
        self.begin()
        self.assertNotIn("key-of-show", " ".join(self.spawned[0][1]))
        self.assertNotIn("key-of-show", repr(self.pattern._settings))

    def test_what_the_child_sends_is_published(self) -> None:
        child = self.begin()
        child.outReceived(framed.track(VIDEO) + framed.track(AUDIO))
        child.outReceived(framed.packet(1, 0, 0, True, b"picture"))
        self.assertEqual(self.stream.state, "live")
        self.assertEqual(self.reader.packets[0].payload, b"picture")

    def test_nonsense_from_the_child_ends_it(self) -> None:
        child = self.begin()
        child.outReceived(b"X" * 20)
        self.assertEqual(child.transport.signals, ["KILL"])

    def test_a_child_that_dies_is_started_again(self) -> None:
        self.end(self.begin())
        self.clock.advance(RESTART_AFTER)
        self.assertEqual(len(self.spawned), 2)

    def test_a_refused_key_is_tried_again(self) -> None:
        info = self.keys.infos.pop("key-of-show")
        self.pattern.startService()
        self.clock.advance(0)
        self.assertEqual(self.spawned, [])
        self.keys.infos["key-of-show"] = info
        self.clock.advance(RESTART_AFTER)
        self.assertEqual(len(self.spawned), 1)

    def test_a_child_that_cannot_be_started_is_tried_again_and_leaves_nothing_behind(self) -> None:
        self.spawn_error = OSError("no memory")
        self.pattern.startService()
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.hub.streams, {})
        self.spawn_error = None
        self.clock.advance(RESTART_AFTER)
        self.assertEqual(len(self.spawned), 1)

    def test_it_does_not_fight_an_encoder_for_the_key(self) -> None:
        child = self.begin()
        child.outReceived(framed.track(VIDEO) + framed.track(AUDIO) + framed.packet(1, 0, 0, True, b"p"))
        encoder = self.live()
        self.assertEqual(child.transport.signals, ["KILL"])
        self.end(child)
        encoder.send(300)
        self.assertEqual((encoder.stopped, len(self.spawned)), ([], 1))
        encoder.publication.close("gone")
        self.clock.advance(RESTART_AFTER)
        self.assertEqual(len(self.spawned), 2)

    def test_stopping_waits_for_the_child(self) -> None:
        child = self.begin()
        stopped = self.pattern.stopService()
        self.assertNoResult(stopped)
        self.assertEqual(child.transport.signals, ["KILL"])
        self.end(child)
        self.successResultOf(stopped)
        self.clock.advance(100)
        self.assertEqual(len(self.spawned), 1)

    def test_stopping_while_it_waits_to_try_again(self) -> None:
        self.end(self.begin())
        self.assertIsNone(self.pattern.stopService())
        self.clock.advance(100)
        self.assertEqual(len(self.spawned), 1)

    def test_killing_a_child_that_is_gone_is_nothing(self) -> None:
        child = self.begin()
        child.transport.gone = True
        child.kill()
