"""The channel on a transport in memory: what it answers, in which order, and what it never does."""

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from oxidecast.delivery.hot import HotAnswer, HotRequest
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.media.errors import LocalProtocolError
from tests.delivery.serving import (
    CLIENT,
    PLAYLIST,
    PREFIX,
    SEGMENT,
    Connection,
    Server,
    body_of,
    field_of,
    request,
    status,
)
from tests.delivery.test_http_parser import mutated

PLAYLIST_PATH = PREFIX + b"playlist.m3u8"
SEGMENT_PATH = PREFIX + b"segment.m4s"


class HotTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()

    def test_a_get_is_answered_with_its_fields(self) -> None:
        answer = self.connection.get(PLAYLIST_PATH)
        self.assertEqual((status(answer), body_of(answer)), (200, PLAYLIST))
        for name, value in (
            (b"Content-Type", b"application/vnd.apple.mpegurl"),
            (b"Content-Length", b"500"),
            (b"ETag", b'"v1"'),
            (b"Cache-Control", b"no-cache"),
            (b"Accept-Ranges", b"bytes"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"Connection", None),
        ):
            self.assertEqual(field_of(answer, name), value, name)

    def test_the_resource_sees_the_request(self) -> None:
        self.connection.get(PREFIX + b"a%20b?x=1", b"X-Thing: y")
        (seen,) = self.server.shelf.requests
        self.assertEqual((seen.method, seen.path, seen.query), (b"GET", b"a b", {b"x": b"1"}))
        self.assertEqual((seen.raw_path, seen.header(b"x-thing")), (PREFIX + b"a%20b", b"y"))
        self.assertEqual(seen.client, CLIENT)

    def test_head_has_the_same_head_and_no_body(self) -> None:
        full = self.connection.get(PLAYLIST_PATH)
        self.assertEqual(self.connection.get(PLAYLIST_PATH, method=b"HEAD") + PLAYLIST, full)

    def test_a_range_of_a_segment(self) -> None:
        answer = self.connection.get(SEGMENT_PATH, b"Range: bytes=100-199")
        self.assertEqual((status(answer), body_of(answer)), (206, SEGMENT[100:200]))
        self.assertEqual(field_of(answer, b"Content-Range"), b"bytes 100-199/%d" % len(SEGMENT))
        self.assertEqual(field_of(answer, b"Access-Control-Allow-Origin"), b"*")

    def test_a_head_ignores_ranges(self) -> None:
        answer = self.connection.get(SEGMENT_PATH, b"Range: bytes=0-1", method=b"HEAD")
        self.assertEqual((status(answer), field_of(answer, b"Content-Length")), (200, b"%d" % len(SEGMENT)))

    def test_not_modified(self) -> None:
        answer = self.connection.get(PLAYLIST_PATH, b'If-None-Match: "v1"')
        self.assertEqual(
            (status(answer), body_of(answer), field_of(answer, b"Content-Length")), (304, b"", None)
        )
        self.assertEqual(
            (field_of(answer, b"ETag"), field_of(answer, b"Cache-Control")), (b'"v1"', b"no-cache")
        )

    def test_conditions_and_ranges_are_for_200_only(self) -> None:
        answer = self.connection.get(PREFIX + b"gone", b"If-None-Match: *", b"Range: bytes=0-0")
        self.assertEqual((status(answer), body_of(answer)), (410, b"gone"))

    def test_a_preflight_where_the_answer_allows_it(self) -> None:
        asks = (b"Origin: https://a.example", b"Access-Control-Request-Method: GET")
        answer = self.connection.get(PLAYLIST_PATH, *asks, method=b"OPTIONS")
        self.assertEqual((status(answer), field_of(answer, b"Access-Control-Allow-Origin")), (204, b"*"))
        self.assertIsNone(field_of(answer, b"Content-Length"))
        answer = self.connection.get(PREFIX + b"private", *asks, method=b"OPTIONS")
        self.assertIsNone(field_of(answer, b"Access-Control-Allow-Origin"))

    def test_what_is_not_the_resources_goes_to_the_site(self) -> None:
        self.assertEqual(status(self.connection.get(PREFIX + b"nothing")), 404)
        self.assertEqual(status(self.connection.get(PLAYLIST_PATH, method=b"POST")), 404)
        self.assertEqual([label for label, _, _ in self.server.counted], ["site", "site"])

    def test_harmful_paths_do_not_reach_the_resource(self) -> None:
        for path in (b"../../echo", b"%2e%2e/x", b"a%2fb", b"a%00b", b"a\\b", b"%"):
            self.assertEqual(status(self.connection.get(PREFIX + path)), 404, path)
        self.assertEqual(self.server.shelf.requests, [])

    def test_the_longest_prefix_answers(self) -> None:
        inner = Server().shelf
        inner.answers[b"x"] = HotAnswer(b"inner")
        server = Server()
        factory = type(server.factory)(
            server.factory.site, {PREFIX: server.shelf, PREFIX + b"deep/": inner}, HTTPLimits(), server.clock
        )
        server.factory = factory
        self.assertEqual(body_of(server.connect().get(PREFIX + b"deep/x")), b"inner")

    def test_a_resource_that_raises_gives_a_500_that_tells_nothing(self) -> None:
        answer = self.connection.get(PREFIX + b"raise")
        self.assertEqual(status(answer), 500)
        self.assertEqual(
            json.loads(body_of(answer)),
            {
                "success": False,
                "data": None,
                "error": "The server failed.",
                "code": "internal_server_error",
                "timestamp": "1970-01-01T00:00:00Z",
            },
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(status(self.connection.get(PLAYLIST_PATH)), 200)

    def test_a_repeated_request_gets_what_is_new(self) -> None:
        self.assertEqual(body_of(self.connection.get(PLAYLIST_PATH)), PLAYLIST)
        self.server.shelf.answers[b"playlist.m3u8"] = HotAnswer(b"newer")
        self.assertEqual(body_of(self.connection.get(PLAYLIST_PATH)), b"newer")

    def test_the_date_follows_the_clock(self) -> None:
        self.server.tick(5)
        self.assertEqual(
            field_of(self.connection.get(PLAYLIST_PATH), b"Date"), b"Thu, 01 Jan 1970 00:00:05 GMT"
        )


class PersistenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()

    def test_kept_until_close_is_asked_for(self) -> None:
        for path in (PLAYLIST_PATH, b"/echo"):
            connection = self.server.connect()
            connection.get(path)
            self.assertFalse(connection.ended)
            answer = connection.get(path, b"Connection: close")
            self.assertEqual(field_of(answer, b"Connection"), b"close", path)
            self.assertTrue(connection.ended, path)

    def test_http_1_0_closes_unless_asked_to_keep_a_hot_connection(self) -> None:
        old = request(PLAYLIST_PATH, b"Connection: keep-alive", version=b"HTTP/1.0")
        self.connection.send(old)
        self.assertEqual(field_of(self.connection.received(), b"Connection"), b"keep-alive")
        self.connection.send(request(PLAYLIST_PATH, version=b"HTTP/1.0"))
        self.assertTrue(self.connection.ended)

    def test_http_1_0_site_answers_end_with_the_connection_and_are_not_chunked(self) -> None:
        self.server.manual.act = lambda request: (request.write(b"a"), request.write(b"b"), request.finish())
        self.connection.send(request(b"/manual", version=b"HTTP/1.0"))
        answer = self.connection.received()
        self.assertEqual((body_of(answer), field_of(answer, b"Transfer-Encoding")), (b"ab", None))
        self.assertTrue(self.connection.ended)

    def test_a_pipeline_is_answered_in_order(self) -> None:
        paths = [PLAYLIST_PATH, b"/echo?1", PREFIX + b"gone", b"/echo?2", PLAYLIST_PATH]
        answer = self.server.exchange(b"".join(request(path) for path in paths))
        places = [answer.index(part) for part in (PLAYLIST, b"GET /echo?1", b"gone", b"GET /echo?2")]
        self.assertEqual(places, sorted(places))
        self.assertEqual(answer.count(b"HTTP/1.1 "), 5)

    def test_a_very_long_pipeline_is_answered_whole(self) -> None:
        answer = self.server.exchange(request(PREFIX + b"gone") * 2000)
        self.assertEqual(answer.count(b"HTTP/1.1 410"), 2000)

    def test_reading_pauses_while_an_answer_is_awaited(self) -> None:
        self.connection.send(request(b"/manual"))
        self.assertEqual(self.connection.transport.producerState, "producing")
        self.connection.send(request(PLAYLIST_PATH))
        self.assertEqual(self.connection.transport.producerState, "paused")
        self.assertEqual(self.connection.received(), b"")
        self.server.manual.requests[0].write(b"x")
        self.server.manual.requests[0].finish()
        self.assertTrue(self.connection.received().endswith(PLAYLIST))
        self.assertEqual(self.connection.transport.producerState, "producing")


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()

    def wait(self) -> None:
        self.connection.send(request(PREFIX + b"wait"))

    def test_an_answer_may_come_later(self) -> None:
        self.wait()
        self.assertEqual(self.connection.received(), b"")
        self.server.shelf.waiting[0].callback(HotAnswer(b"late"))
        self.assertEqual(body_of(self.connection.received()), b"late")
        self.assertEqual(status(self.connection.get(PLAYLIST_PATH)), 200)

    def test_an_answer_may_have_come_already(self) -> None:
        self.server.shelf.answers[b"now"] = succeed(HotAnswer(b"now"))
        self.assertEqual(body_of(self.connection.get(PREFIX + b"now")), b"now")

    def test_a_late_answer_may_be_that_it_is_the_sites(self) -> None:
        self.server.shelf.answers[b"now"] = succeed(None)
        self.assertEqual(status(self.connection.get(PREFIX + b"now")), 404)

    def test_a_late_answer_that_cannot_be_said_is_a_500_and_the_pipeline_goes_on(self) -> None:
        self.wait()
        self.connection.send(request(PREFIX + b"gone"))
        self.server.shelf.waiting[0].callback(HotAnswer(etag=b"\n"))
        answer = self.connection.received()
        self.assertEqual((status(answer), answer.count(b"HTTP/1.1 410")), (500, 1))
        self.flushLoggedErrors(LocalProtocolError)

    def test_a_late_failure_is_a_500(self) -> None:
        self.server.shelf.answers[b"now"] = fail(RuntimeError("late bug"))
        self.assertEqual(status(self.connection.get(PREFIX + b"now")), 500)
        self.flushLoggedErrors(RuntimeError)

    def test_a_client_that_leaves_cancels(self) -> None:
        self.wait()
        self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.server.shelf.cancelled, 1)

    def test_too_long_a_wait_is_cancelled_with_a_503(self) -> None:
        self.wait()
        self.server.tick(61)
        self.assertEqual(status(self.connection.received()), 503)
        self.assertEqual(self.server.shelf.cancelled, 1)

    def test_a_pipelined_request_waits_for_its_turn(self) -> None:
        self.wait()
        self.connection.send(request(PREFIX + b"gone"))
        self.server.shelf.waiting[0].callback(HotAnswer(b"first"))
        answer = self.connection.received()
        self.assertLess(answer.index(b"first"), answer.index(b"gone"))


class Pusher:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class Puller(Pusher):
    def __init__(self, request: Request, pieces: list[bytes]) -> None:
        super().__init__()
        self.request = request
        self.pieces = pieces

    def resumeProducing(self) -> None:
        if self.pieces:
            self.request.write(self.pieces.pop(0))
        else:
            self.request.unregisterProducer()
            self.request.finish()


class ColdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()

    def begin(self, *headers: bytes) -> Request:
        self.connection.send(request(b"/manual", *headers))
        return self.server.manual.requests[-1]

    def test_bodies_by_length_and_by_chunks(self) -> None:
        length = request(b"/echo", b"Content-Length: 5", method=b"POST")
        chunked = request(b"/echo", b"Transfer-Encoding: chunked", method=b"POST")
        for pieces in (
            (length + b"hello",),
            (length, b"he", b"llo"),
            (chunked, b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"),
        ):
            self.assertEqual(body_of(self.server.exchange(*pieces)), b"hello")

    def test_a_waiting_client_is_told_to_continue_only_when_it_must(self) -> None:
        head = request(b"/echo", b"Content-Length: 2", b"Expect: 100-continue", method=b"POST")
        self.connection.send(head)
        self.assertEqual(self.connection.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.connection.send(b"ab")
        self.assertEqual(body_of(self.connection.received()), b"ab")
        self.assertNotIn(b"100 Continue", self.server.exchange(head + b"ab"))

    def test_too_large_a_body_is_refused_without_being_awaited(self) -> None:
        headers = (b"Content-Length: 65537", b"Expect: 100-continue")
        answer = self.server.exchange(request(b"/echo", *headers, method=b"POST"))
        self.assertEqual(status(answer), 413)
        self.assertNotIn(b"100 Continue", answer)

    def test_an_answer_of_unknown_length_is_chunked(self) -> None:
        cold = self.begin()
        cold.write(b"one")
        cold.write(b"two")
        cold.finish()
        self.assertEqual(body_of(self.connection.received()), b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")

    def test_head_and_bodyless_statuses(self) -> None:
        self.assertEqual(body_of(self.connection.get(b"/echo", method=b"HEAD")), b"")
        for code in (204, 304):
            cold = self.begin()
            cold.setResponseCode(code)
            cold.finish()
            answer = self.connection.received()
            self.assertEqual((status(answer), body_of(answer)), (code, b""))

    def test_what_a_resource_may_ask_of_its_request(self) -> None:
        cold = self.begin(b"Cookie: a=b", b"X-Twice: 1", b"X-Twice: 2")
        self.assertEqual(cold.getClientAddress(), CLIENT)
        self.assertFalse(cold.isSecure())
        self.assertEqual(cold.getCookie(b"a"), b"b")
        self.assertEqual(cold.requestHeaders.getRawHeaders(b"x-twice"), [b"1", b"2"])
        cold.finish()

    def test_a_resource_may_close_the_connection(self) -> None:
        cold = self.begin()
        cold.setHeader(b"Connection", b"close")
        cold.setHeader(b"Content-Length", b"1")
        cold.write(b"x")
        cold.finish()
        self.assertTrue(self.connection.ended)
        other = self.server.connect()
        other.send(request(b"/manual"))
        self.server.manual.requests[-1].loseConnection()
        self.assertTrue(other.ended)

    def test_notify_finish_hears_the_end_and_the_disconnect(self) -> None:
        cold = self.begin()
        finished = cold.notifyFinish()
        cold.finish()
        self.assertIsNone(self.successResultOf(finished))
        lost = self.begin().notifyFinish()
        self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(lost, ConnectionDone)

    def test_a_push_producer_is_paused_while_the_transport_is_full(self) -> None:
        cold = self.begin()
        pusher = Pusher()
        cold.registerProducer(pusher, True)
        transport = self.connection.transport
        transport.producer.pauseProducing()  # The transport is full.
        cold.write(b"~" * 200_000)
        self.assertEqual(pusher.calls, ["pause"])
        transport.producer.resumeProducing()
        self.assertEqual(pusher.calls, ["pause", "resume"])
        self.assertEqual(self.connection.received().count(b"~"), 200_000)
        cold.unregisterProducer()
        cold.finish()

    def test_a_pull_producer_is_asked_until_it_is_done(self) -> None:
        def act(request: Request) -> None:
            request.setHeader(b"Content-Length", b"6000")
            request.registerProducer(Puller(request, [b"ab"] * 3000), False)

        self.server.manual.act = act
        self.assertEqual(body_of(self.connection.get(b"/manual")), b"ab" * 3000)
        self.assertEqual(status(self.connection.get(PLAYLIST_PATH)), 200)

    def test_a_producer_is_stopped_when_the_client_leaves(self) -> None:
        pusher = Pusher()
        self.begin().registerProducer(pusher, True)
        self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(pusher.calls, ["stop"])

    def test_a_resource_that_raises_shows_no_traceback(self) -> None:
        answer = self.connection.get(b"/failing")
        self.assertEqual(status(answer), 500)
        self.assertNotIn(b"RuntimeError", answer)
        self.flushLoggedErrors(RuntimeError)

    def test_form_data_that_cannot_be_parsed_is_a_400(self) -> None:
        form = (b"Content-Type: multipart/form-data", b"Content-Length: 3")
        self.assertEqual(status(self.server.exchange(request(b"/echo", *form, method=b"POST") + b"abc")), 400)
        self.flushLoggedErrors()

    def test_an_upgrade_that_nobody_grants_is_an_ordinary_request(self) -> None:
        upgrade = (b"Upgrade: websocket", b"Connection: Upgrade")
        self.assertEqual(body_of(self.connection.get(b"/echo", *upgrade)), b"GET /echo")
        self.assertEqual(status(self.connection.get(PLAYLIST_PATH)), 200)


class Taken(Protocol):
    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True


class DetachTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.connection = self.server.connect()
        self.taken = Taken()

    def detach(self, cold: Request) -> None:
        cold.responseHeaders.setRawHeaders(b"Content-Type", [b"video/x-flv"])
        cold.channel.writeHeaders(b"HTTP/1.1", b"200", b"OK", cold.responseHeaders)
        cold.channel.detach(self.taken).write(b"FLV")

    def take(self, cold: Request) -> None:
        """As autobahn's WebSocketResource does it."""
        transport, cold.channel.transport = cold.channel.transport, None
        transport.protocol = self.taken
        self.taken.makeConnection(transport)
        self.taken.dataReceived(b"the head again")

    def test_an_endless_answer_owns_the_connection(self) -> None:
        self.server.manual.act = self.detach
        self.connection.send(request(b"/manual"))
        answer = self.connection.received()
        self.assertEqual((body_of(answer), field_of(answer, b"Transfer-Encoding")), (b"FLV", None))
        self.connection.send(b"and more")
        self.assertEqual(self.taken.data, [b"and more"])
        self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.taken.lost)
        self.assertEqual(self.server.factory.channels, set())

    def test_a_resource_may_take_the_transport_of_an_upgrade(self) -> None:
        self.server.manual.act = self.take
        upgrade = request(b"/manual", b"Upgrade: websocket", b"Connection: Upgrade")
        self.connection.send(upgrade + b"\x81\x00")
        self.connection.transport.protocol.dataReceived(b"\x81\x01x")
        self.assertEqual(self.taken.data, [b"the head again", b"\x81\x00", b"\x81\x01x"])
        self.assertIs(self.connection.transport.protocol, self.connection.channel)
        self.assertEqual(len(self.server.factory.channels), 1)
        self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.taken.lost)

    def test_no_timeout_ends_a_taken_connection(self) -> None:
        self.server.manual.act = self.detach
        self.connection.send(request(b"/manual"))
        self.server.tick(1000)
        self.assertFalse(self.connection.ended)


class BadInputTests(SynchronousTestCase):
    def test_a_malformed_request_is_told_in_one_sentence_and_closed(self) -> None:
        server = Server()
        connection = server.connect()
        connection.send(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")
        answer = connection.received()
        self.assertEqual((status(answer), field_of(answer, b"Connection")), (400, b"close"))
        self.assertIn("not a valid HTTP/1.1 request", json.loads(body_of(answer))["error"])
        self.assertTrue(connection.ended)

    def test_good_requests_before_a_bad_one_are_answered(self) -> None:
        answer = Server().exchange(request(PREFIX + b"gone") + b"garbage\r\n\r\n")
        self.assertEqual((answer.count(b"HTTP/1.1 410"), answer.count(b"HTTP/1.1 400")), (1, 1))

    @settings(max_examples=150, deadline=None)
    @given(st.one_of(st.binary(max_size=300), mutated()), st.lists(st.integers(0, 400), max_size=8))
    def test_split_anywhere_gives_the_same_answer_and_nothing_in_the_log(
        self, data: bytes, cuts: list[int]
    ) -> None:
        points = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        pieces = [data[start:end] for start, end in pairwise(points)]
        self.assertEqual(Server().exchange(*pieces), Server().exchange(data))
        self.assertEqual(self.flushLoggedErrors(), [])


class HookTests(SynchronousTestCase):
    def test_every_answer_is_counted_once_with_bounded_labels(self) -> None:
        server = Server()
        server.manual.act = lambda request: setattr(request, "route_label", "manual") or request.finish()
        connection = server.connect()
        for path in (PLAYLIST_PATH, b"/echo", b"/manual"):
            connection.get(path)
        connection.get(PLAYLIST_PATH, b'If-None-Match: "v1"', method=b"HEAD")
        connection.get(b"/nothing", method=b"LOCK")
        connection.send(b"garbage\r\n\r\n")
        prefix = PREFIX.decode()
        self.assertEqual(
            server.counted,
            [
                (prefix, "GET", 200),
                ("site", "GET", 200),
                ("manual", "GET", 200),
                (prefix, "HEAD", 304),
                ("site", "other", 404),
                ("refused", "other", 400),
            ],
        )

    def test_admission_leaves_a_repeated_request_as_it_was(self) -> None:
        connection = Server(admit_hot=lambda request: None).connect()
        for _ in range(3):
            self.assertEqual(body_of(connection.get(PLAYLIST_PATH)), PLAYLIST)

    def test_admission_goes_before_hot_and_cold(self) -> None:
        def admit(request: HotRequest) -> HotAnswer | None:
            if request.query.get(b"busy"):
                return HotAnswer(b"slow down", status=429, headers=((b"Retry-After", b"1"),))
            return None

        connection = Server(admit=admit, admit_hot=admit).connect()
        for path in (PLAYLIST_PATH, b"/echo"):
            self.assertEqual(status(connection.get(path)), 200)
            self.assertEqual(status(connection.get(path + b"?busy=1")), 429)


def lost(connection: Connection) -> None:
    connection.channel.connectionLost(Failure(ConnectionDone()))
