"""One HTTP/1.1 connection: requests in, one answer at a time out.

The channel takes turns. It parses until a request is complete, answers it, and only when the last byte has
left looks at the next; what comes meanwhile stays bytes, and reading pauses. So a connection never holds more
than one answer, and an answer of a hot resource is held by all its readers together.

Hot requests (`oxidecast.delivery.hot`) are answered right here. All others become `twisted.web` Requests, for
which this object is the channel, as `H2Stream` is in Twisted's own HTTP/2; any `IResource` works. A resource
may also take the connection for good: by `detach`, or as autobahn's `WebSocketResource` does it, by taking
`channel.transport`.
"""

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IProtocol, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from oxidecast.delivery.conditional import CONDITIONAL, preflight_head, represent
from oxidecast.delivery.envelope import envelope
from oxidecast.delivery.hot import COLD, REASONS, HotAnswer, HotRoute, decode_path
from oxidecast.delivery.http_parser import Incoming, RequestParser
from oxidecast.delivery.sink import sink_for
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from oxidecast.delivery.http_server import HTTPServerFactory

HIGH_WATER = 65536
"""Bytes that wait before a cold answer's producer is asked to pause, as in Twisted's own transports."""

HOT_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})

REFUSED = "refused"
"""The route label of requests that were refused before a route was looked for."""


class HTTPChannel(Protocol):
    """The HTTP/1.1 side of one connection."""

    log = Logger()

    def __init__(self, server: "HTTPServerFactory", client: IAddress) -> None:
        self._server = server
        self.site: Any = server.site
        self.client = client
        self.deadline: float = inf
        """The server's tick after which `timedOut` is called."""
        self._proxies = server.proxies if client in server.proxies else None
        self._secure: bool | None = getattr(client, "secure", None)
        self._host: bytes | None = None  # What the client asked for, when a proxy says so.
        self._parser = RequestParser(server.limits, client)
        self._current: Incoming | None = None  # The request that is being answered.
        self._request: Any = None  # Its twisted.web Request, when it is a cold one.
        self._waiting: Deferred[Any] | None = None  # Its hot answer, when that is still to come.
        self._keep_alive = True
        self._running = False
        self._in_head = False
        self._in_body = False
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._upgraded: IProtocol | None = None
        self._producer: Any = None
        self._pulls = False
        self._producer_paused = False
        self._pulling = False

    # The connection.

    def connectionMade(self) -> None:
        self._transport: Any = self.transport
        self._sink = sink_for(self._transport, self)
        self._tail = self._server.secure_tail if self.isSecure() else self._server.tail
        if self._server.opened(self):
            self.deadline = self._server.now + self._server.limits.header_timeout
        else:
            self._refuse(503, "The server has no room for more connections.", ((b"Retry-After", b"5"),))

    def dataReceived(self, data: bytes) -> None:
        parser = self._parser
        if self._current is not None:
            parser.unparsed = b"".join((parser.unparsed, data)) if parser.unparsed else data
            self._reading_paused = True
            self._transport.pauseProducing()
        elif not self._closing:
            parser.unparsed = data
            self._run()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = self._closing = True
        self._server.closed(self)
        self._parser.release()
        request, self._request = self._request, None
        waiting, self._waiting = self._waiting, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if request is not None:
            self._server.count(_label(request), request.method, request.code)
            request.connectionLost(reason)
        if waiting is not None:
            waiting.cancel()
        if self._upgraded is not None:
            self._upgraded.connectionLost(reason)

    # Taking turns.

    def _run(self) -> None:
        """Answers what has come, until there is nothing or an answer takes its time."""
        if self._running:
            return
        self._running = True
        parser = self._parser
        try:
            while self._current is None and not self._closing:
                if parser.ready:
                    self._answer(parser.ready.popleft())
                elif parser.unparsed:
                    parser.parse()
                elif parser.refusal is not None:
                    self._refuse(parser.refusal.status, parser.refusal.sentence)
                else:
                    self._await_request()
                    break
        finally:
            self._running = False

    def _await_request(self) -> None:
        """Sets the deadline of what is awaited: it starts with a head's first byte, and later bytes do not
        move it."""
        server, parser = self._server, self._parser
        if parser.partial is not None:
            if not self._in_body:
                self._in_body = True
                self.deadline = server.now + server.limits.body_timeout
                if parser.partial.expects_continue:
                    self._sink.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif parser.in_head:
            if not self._in_head:
                self._in_head = True
                self.deadline = server.now + server.limits.header_timeout
        elif server.stopping:
            self._close()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resumeProducing()

    def _answer(self, incoming: Incoming) -> None:
        server = self._server
        self._current = incoming
        self._keep_alive = incoming.keep_alive
        self._in_head = self._in_body = False
        try:
            route = incoming.route
            if route is None:
                incoming.route = route = self._route(incoming)
            if self._proxies is not None:
                try:
                    origin = self._proxies.look_behind(incoming, self.client)
                except RemoteProtocolError as error:
                    self._send(
                        incoming, self._error(400, f"The proxy's header is not valid: {error}."), REFUSED
                    )
                    return
                self._secure, self._host = origin.secure, origin.host
            admit = server.admit if route is COLD else server.admit_hot
            if admit is not None:
                refusal = admit(incoming)
                if refusal is not None:
                    self._send(incoming, refusal, REFUSED)
                    return
            if route is not COLD:
                answer = route.resource.hot(incoming)
                if isinstance(answer, HotAnswer):
                    self._send_hot(incoming, answer, route.label)
                    return
                if answer is not None:
                    self._wait(incoming, answer, route)
                    return
            self._render(incoming)
        except Exception:
            self._failed(incoming, Failure())

    def _route(self, incoming: Incoming) -> HotRoute:
        """The hot route that serves the request, or COLD; sets the request's `path` accordingly."""
        if incoming.method in HOT_METHODS and not incoming.body and not incoming.upgrade:
            route = self._server.route(incoming.raw_path)
            if route is not None:
                path = decode_path(incoming.raw_path[len(route.prefix) :])
                if path is not None:
                    incoming.path = path
                    return route
        incoming.path = incoming.raw_path
        return COLD

    def _failed(self, incoming: Incoming, failure: Failure) -> None:
        """Something of ours raised: the log gets all of it, the client nothing."""
        self.log.failure("answering {method} raised", failure=failure, method=incoming.method)
        if self._lost or self._closing:
            return
        if self._request is not None or self._sink.pending:
            self._transport.abortConnection()  # An answer had begun: it can be neither finished nor replaced.
        else:
            self._send(incoming, self._error(500, "The server failed."), (incoming.route or COLD).label)
            self._run()

    def _finished(self) -> None:
        """The answer in flight has left."""
        self._current = None
        if self._keep_alive and not self._server.stopping:
            self.deadline = self._server.now + self._server.limits.idle_timeout
        else:
            self._close()

    def _close(self) -> None:
        """Ends the connection once what was written has left."""
        if not self._closing:
            self._closing = True
            self.deadline = self._server.now + self._server.limits.linger_timeout
            self._sink.release()
            self._transport.loseConnection()

    def _refuse(self, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Says why, says no more, and lets the client finish for a while: closing at once could destroy the
        answer."""
        server = self._server
        self._closing = True
        self.deadline = server.now + server.limits.linger_timeout
        answer = self._error(status, sentence, headers)
        self._sink.write(answer.head + self._tail(False, b"HTTP/1.1"))
        self._sink.write(answer.body)
        server.count(REFUSED, b"", status)
        self._sink.half_close()
        if self._reading_paused:
            self._transport.resumeProducing()

    def _error(self, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> HotAnswer:
        """What the port itself has to say, in the envelope of all errors."""
        code = REASONS[status].decode().lower().replace(" ", "_")
        return HotAnswer(
            envelope(self._server.seconds(), error=sentence, code=code),
            b"application/json",
            status=status,
            headers=headers,
            cache_control=b"no-store",
            cors=self._current is not None and self._current.route not in (None, COLD),
        )

    def timedOut(self) -> None:
        """The deadline has passed."""
        self.deadline = inf
        if self._closing or self._sink.pending:
            self._transport.abortConnection()
        elif self._waiting is not None:
            self._waiting.cancel()
        elif self._in_body or self._in_head:
            self._refuse(408, "The request took too long to arrive.")
        else:
            self._close()

    def stop(self) -> None:
        """Ends the connection as soon as no answer is in flight."""
        if self._current is None and not self._closing and not self._in_head and not self._in_body:
            self._close()

    def abort(self) -> None:
        """Ends the connection now."""
        self._transport.abortConnection()

    # What the sink says.

    def progressed(self) -> None:
        if not self._closing:
            self.deadline = self._server.now + self._server.limits.write_stall_timeout

    def drained(self) -> None:
        if self._closing or self._current is None:
            return
        if self._waiting is not None:
            return
        if self._request is None:
            self._finished()
            self._run()
            return
        self.deadline = inf
        if self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        self._pull()

    # Hot answers.

    def _send_hot(self, incoming: Incoming, answer: HotAnswer, label: str) -> None:
        fields = incoming.fields
        if incoming.method == b"OPTIONS":
            if not answer.cors or b"access-control-request-method" not in fields or b"origin" not in fields:
                self._render(incoming)
                return
            self._transmit(incoming, label, 204, preflight_head(fields), b"")
        elif answer.status == 200 and not CONDITIONAL.isdisjoint(fields):
            self._transmit(incoming, label, *represent(fields, answer, incoming.method == b"GET"))
        else:
            self._transmit(incoming, label, answer.status, answer.head, answer.body)

    def _send(self, incoming: Incoming, answer: HotAnswer, label: str) -> None:
        self._transmit(incoming, label, answer.status, answer.head, answer.body)

    def _transmit(
        self, incoming: Incoming, label: str, status: int, head: bytes, body: bytes | memoryview
    ) -> None:
        server = self._server
        if server.stopping:
            self._keep_alive = False
        if incoming.method == b"HEAD":
            body = b""
        head += self._tail(self._keep_alive, incoming.version)
        server.count(label, incoming.method, status)
        if self._sink.send(head, body):
            self._finished()
        else:
            self.deadline = server.now + server.limits.write_stall_timeout

    def _wait(self, incoming: Incoming, answer: Deferred[Any], route: HotRoute) -> None:
        self._waiting = answer
        self.deadline = self._server.now + self._server.limits.answer_timeout
        answer.addCallbacks(self._arrived, self._not_arrived, (incoming, route), {}, (incoming,))
        answer.addErrback(lambda failure: self._failed(incoming, failure))

    def _arrived(self, answer: HotAnswer | None, incoming: Incoming, route: HotRoute) -> None:
        self._waiting = None
        if self._lost:
            return
        self.deadline = inf
        if answer is None:
            self._render(incoming)
        else:
            self._send_hot(incoming, answer, route.label)
        self._run()

    def _not_arrived(self, failure: Failure, incoming: Incoming) -> None:
        self._waiting = None
        self.deadline = inf
        if not failure.check(CancelledError):
            self._failed(incoming, failure)
        elif not self._lost:
            late = self._error(503, "Nothing came in time.", ((b"Retry-After", b"1"),))
            self._send(incoming, late, (incoming.route or COLD).label)
        self._run()

    # Cold answers: what a twisted.web Request asks of its channel.

    def _render(self, incoming: Incoming) -> None:
        self.deadline = inf
        if incoming.upgrade:  # Who takes the transport may want to be its producer.
            self._sink.release()
        self._request = request = self.site.requestFactory(self)
        for name, value in incoming.headers:
            request.requestHeaders.addRawHeader(name, value)
        if self._host is not None:
            request.requestHeaders.setRawHeaders(b"host", [self._host])
        request.parseCookies()
        request.gotLength(incoming.body_size)
        for chunk in incoming.body:
            request.handleContentChunk(chunk)
        incoming.body = []
        request.requestReceived(incoming.method, incoming.target, incoming.version)
        if self._closing:
            return
        if self.transport is None:
            self._taken()
        elif incoming.upgrade and self._upgraded is None:
            self._sink.attach()

    def detach(self, protocol: IProtocol) -> Any:
        """Gives the connection to `protocol` for good, and returns its transport.

        For endless answers and upgrades: write the head first, with `writeHeaders` when it should not be
        chunked. The protocol gets makeConnection, the bytes that come from now on, and connectionLost. The
        request is over: it is not to be written to or finished, and its `notifyFinish` stays silent. The
        connection still counts as one of the server's.
        """
        if self._request is None:
            raise LocalProtocolError("only a request that is being answered can detach its connection")
        self._hand_over(protocol)
        protocol.makeConnection(self._transport)
        self._pass_on()
        return self._transport

    def _taken(self) -> None:
        """A resource has taken `transport` and made itself its protocol. We stand in front again, to know of
        its end."""
        transport = self._transport
        if isinstance(transport, ProtocolWrapper):  # TLS
            protocol, transport.wrappedProtocol = transport.wrappedProtocol, self
        else:
            protocol, transport.protocol = transport.protocol, self
        self._hand_over(protocol)
        self._pass_on()

    def _hand_over(self, protocol: IProtocol) -> None:
        request, self._request = self._request, None
        self._server.count(_label(request), request.method, request.code)
        self._closing = True
        self.deadline = inf
        self._sink.release()
        self._upgraded = protocol
        self.dataReceived = protocol.dataReceived  # type: ignore[method-assign]

    def _pass_on(self) -> None:
        rest, self._parser.unparsed = bytes(self._parser.unparsed), b""
        if rest:
            self.dataReceived(rest)
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resumeProducing()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        connection = b",".join(headers.getRawHeaders(b"Connection", ())).lower()
        if self._server.stopping or version != b"HTTP/1.1" or b"close" in connection:
            self._keep_alive = False
        if not self._keep_alive:
            headers.setRawHeaders(b"Connection", [b"close"])
        lines = [b"%b %b %b\r\n" % (version, code, reason)]
        lines += [
            b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values
        ]
        lines.append(self._server.hsts + b"\r\n" if self.isSecure() else b"\r\n")
        self.write(b"".join(lines))

    def write(self, data: bytes) -> None:
        if self._closing or self._request is None:
            return
        self._sink.write(data)
        pending = self._sink.pending
        if not pending:
            self._pull()
            return
        if self.deadline == inf:
            self.deadline = self._server.now + self._server.limits.write_stall_timeout
        if (
            pending > HIGH_WATER
            and self._producer is not None
            and not self._pulls
            and not self._producer_paused
        ):
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, chunks: Iterable[bytes]) -> None:
        self.write(b"".join(chunks))

    def requestDone(self, request: Any) -> None:
        if request is not self._request:
            return  # It has been detached.
        self._request = None
        self._server.count(_label(request), request.method, request.code)
        if not self._sink.pending:
            self._finished()
            self._run()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer = producer
        self._producer_paused = False
        self._pulls = not streaming
        self._pull()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._pulls = False

    def _pull(self) -> None:
        """Asks a pull producer for more while nothing waits; it may answer by writing, now or later."""
        if self._pulling:
            return
        self._pulling = True
        try:
            while self._pulls and not self._sink.pending and not self._closing:
                request, written = self._request, self._request.sentLength
                self._producer.resumeProducing()
                if self._request is not request or request.sentLength == written:
                    break
        finally:
            self._pulling = False

    def getPeer(self) -> IAddress:
        return self._current.client if self._current is not None else self.client

    def getHost(self) -> IAddress:
        host: IAddress = self._transport.getHost()
        return host

    def isSecure(self) -> bool:
        """Whether the client came by TLS, be it to this server or to a proxy before it."""
        if self._secure is not None:
            return self._secure
        return bool(ISSLTransport.providedBy(self._transport))

    def loseConnection(self) -> None:
        self._close()

    def abortConnection(self) -> None:
        self._transport.abortConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's Request calls this for form data that it cannot parse."""
        self._refuse(400, "The request's form data cannot be parsed.")


def _label(request: Any) -> str:
    label: str = getattr(request, "route_label", COLD.label)
    return label
