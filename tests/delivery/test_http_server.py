"""The port as a whole: its limits, its clock and its end."""

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.http_server import REFUSED_AT_ONCE
from tests.delivery.serving import CLIENT, PREFIX, SEGMENT, Server, body_of, field_of, request, status
from tests.delivery.test_http import lost

PLAYLIST_PATH = PREFIX + b"playlist.m3u8"


class TimeoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()

    def test_half_a_head_is_given_its_time_from_the_first_byte(self) -> None:
        self.connection.get(PLAYLIST_PATH)
        for byte in request(b"/")[:11]:  # A byte a second does not help.
            self.assertFalse(self.connection.ended)
            self.connection.send(bytes([byte]))
            self.server.tick(1)
        self.assertEqual(status(self.connection.received()), 408)
        self.assertTrue(self.connection.ended)

    def test_a_connection_that_says_nothing_is_closed(self) -> None:
        self.server.tick(11)
        self.assertTrue(self.connection.ended)
        self.assertEqual(self.connection.received(), b"")

    def test_a_kept_connection_may_idle_longer(self) -> None:
        self.connection.get(PLAYLIST_PATH)
        self.server.tick(75)
        self.assertFalse(self.connection.ended)
        self.server.tick(1)
        self.assertTrue(self.connection.ended)

    def test_a_body_is_given_its_time(self) -> None:
        self.connection.send(request(b"/echo", b"Content-Length: 100", method=b"POST"))
        for _ in range(31):
            self.assertFalse(self.connection.ended)
            self.connection.send(b"x")
            self.server.tick(1)
        self.assertEqual(status(self.connection.received()), 408)

    def test_a_site_may_take_its_time(self) -> None:
        self.connection.send(request(b"/manual"))
        self.server.tick(1000)
        self.assertFalse(self.connection.ended)
        lost(self.connection)

    def test_a_reader_that_stalls_is_cut_off(self) -> None:
        for path in (PREFIX + b"segment.m4s", b"/manual"):
            connection = self.server.connect()
            connection.transport.producer.pauseProducing()
            self.server.manual.act = lambda request: request.write(SEGMENT)
            connection.send(request(path))
            self.server.tick(30)
            self.assertFalse(connection.ended, path)
            self.server.tick(1)
            self.assertTrue(connection.aborted, path)
            lost(connection)

    def test_a_slow_reader_is_not(self) -> None:
        self.connection.transport.producer.pauseProducing()
        self.connection.send(request(PREFIX + b"segment.m4s"))
        producer = self.connection.transport.producer
        write = self.connection.transport.write

        def write_and_fill(data: bytes) -> None:
            write(data)
            producer.pauseProducing()

        self.connection.transport.write = write_and_fill
        while len(self.connection.transport.value()) < len(SEGMENT):
            self.server.tick(29)
            self.assertFalse(self.connection.ended)
            producer.resumeProducing()
        self.assertEqual(body_of(self.connection.received()), SEGMENT)

    def test_a_closed_connection_that_lingers_is_cut_off(self) -> None:
        self.connection.send(b"garbage\r\n\r\n")
        self.server.tick(6)
        self.assertTrue(self.connection.aborted)

    def test_the_clock_rests_without_connections(self) -> None:
        self.assertEqual(len(self.server.clock.getDelayedCalls()), 1)
        lost(self.connection)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


class ConnectionLimitTests(SynchronousTestCase):
    def test_one_too_many_is_told_so(self) -> None:
        server = Server(HTTPLimits(max_connections=2))
        first, _ = server.connect(), server.connect()
        refused = server.connect()
        answer = refused.received()
        self.assertEqual((status(answer), field_of(answer, b"Retry-After")), (503, b"5"))
        self.assertTrue(refused.ended)
        self.assertEqual(server.counted, [("refused", "other", 503)])
        lost(first)
        self.assertEqual(server.connect().received(), b"")

    def test_those_refused_at_once_are_bounded(self) -> None:
        server = Server(HTTPLimits(max_connections=0))
        for _ in range(REFUSED_AT_ONCE):
            server.connect()
        self.assertIsNone(server.factory.buildProtocol(CLIENT))


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.idle, self.busy = self.server.connect(), self.server.connect()
        self.idle.get(PLAYLIST_PATH)
        self.busy.send(request(b"/manual"))

    def test_idle_connections_end_and_answers_in_flight_are_finished(self) -> None:
        stopped = self.server.factory.stop(3)
        self.assertTrue(self.idle.ended)
        lost(self.idle)
        self.assertNoResult(stopped)
        self.server.manual.requests[0].finish()
        self.assertEqual(field_of(self.busy.received(), b"Connection"), b"close")
        self.assertTrue(self.busy.ended)
        lost(self.busy)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_after_the_grace_time_the_rest_is_cut_off(self) -> None:
        stopped = self.server.factory.stop(3)
        self.server.tick(3)
        self.assertTrue(self.busy.aborted)
        for connection in (self.idle, self.busy):
            lost(connection)
        self.assertIsNone(self.successResultOf(stopped))

    def test_nobody_new_is_let_in(self) -> None:
        self.server.factory.stop(3)
        self.assertIsNone(self.server.factory.buildProtocol(CLIENT))

    def test_stopping_without_connections_is_done_at_once(self) -> None:
        self.assertIsNone(self.successResultOf(Server().factory.stop(3)))
