"""A viewer by TCP that reads slowly: it is not queued for, and goes on from a keyframe."""

from typing import Any

from twisted.internet.address import IPv4Address

from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.framing import Unframer, frame
from oxidecast.webrtc.tcp import Connection
from tests.outputs.webrtc.stage import Browser
from tests.outputs.webrtc.test_output import WebRTCCase
from tests.webrtc.test_tcp import Wire


class TestSlowReaders(WebRTCCase):
    def setUp(self) -> None:
        super().setUp()
        self.on_air()
        self.unframer = Unframer()
        self.viewer, _ = self.watch()
        self.send(3)
        self.assertEqual(self.viewer.figures.stalls, 0)

    def watch(self) -> tuple[Viewer, Browser]:
        """As `connect`, by TCP."""
        made = self.port.connections.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40_000))
        assert made is not None
        self.connection: Connection = made
        made.makeConnection(Wire())
        viewer, browser = self.join()
        for datagram in (browser.check(), *browser.start(self.clock.seconds())):
            self.tell(datagram)
        self.deliver()
        return viewer, browser

    def tell(self, datagram: bytes) -> None:
        self.connection.dataReceived(frame(datagram, len(datagram)))

    def deliver(self) -> None:
        connection: Any = getattr(self, "connection", None)
        while connection is not None and connection.transport.value():
            data = connection.transport.value()
            connection.transport.clear()
            for datagram in self.unframer.receive(data):
                for answer in self.browser.receive(datagram, self.clock.seconds()):
                    self.tell(answer)

    def assert_whole(self) -> None:
        """No number was left out, and no frame is broken."""
        numbers = [packet.sequence_number for packet in self.video(self.browser)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        frames = self.frames(self.browser)
        self.assertEqual([frame.after_loss for frame in frames], [False] * len(frames))

    def test_nothing_is_begun_while_there_is_no_room(self) -> None:
        before = len(self.browser.rtp)
        self.connection.pauseProducing()
        self.send(5)
        self.assertEqual(len(self.browser.rtp), before)
        self.assertEqual(self.viewer.figures.stalls, 1)

    def test_after_a_short_while_nothing_is_missing(self) -> None:
        self.send(8)
        before = len(self.frames(self.browser))
        self.connection.pauseProducing()
        self.send(5, gop=100)
        self.connection.resumeProducing()
        self.send(5, gop=100)
        self.assertEqual(len(self.frames(self.browser)) - before, 10)
        self.assert_whole()

    def test_after_a_long_while_it_goes_on_from_a_keyframe(self) -> None:
        before = len(self.frames(self.browser))
        self.connection.pauseProducing()
        self.send(40)
        self.connection.resumeProducing()
        self.send(2)
        frames = self.frames(self.browser)[before:]
        self.assertTrue(frames[0].keyframe)
        self.assertLess(len(frames), 15)
        assert self.viewer.pictures.feed is not None
        self.assertEqual(frames[-1].timestamp, self.viewer.pictures.feed.frames[-1].timestamp)
        self.assert_whole()

    def test_it_may_stall_in_the_middle_of_catching_up(self) -> None:
        self.connection.pauseProducing()
        self.send(6)
        self.connection.resumeProducing()
        self.clock.advance(0.02)
        self.connection.pauseProducing()
        self.send(3)
        self.connection.resumeProducing()
        self.send(2)
        self.assert_whole()
