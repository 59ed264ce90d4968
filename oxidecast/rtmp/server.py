"""The RTMP port: sockets, time and limits around the sans-IO session, and two gates to the rooms above.

The one idea: publishing and playing share a port but not a room. Whoever takes publishers sets `publish_gate`, and
gets a connection that already shook hands, said `connect` and named a key; the port never knows what becomes of it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from oxidecast.accounts.limits import network_of
from oxidecast.delivery.proxied import Proxies, ProxyProtocolFactory
from oxidecast.interfaces import Refused
from oxidecast.media import RemoteProtocolError
from oxidecast.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    MetadataReceived,
    PlayRequested,
    PublishRequested,
    PublishStopped,
    ServerEvent,
    VideoReceived,
)
from oxidecast.rtmp.session import ServerSession
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings.errors import StartError

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted. When it is full a connect waits a second or more, so
neither encoders that all come back after a restart nor a flood from one address must fill it."""

REFUSED_AT_ONCE = 32
"""Connections that came too soon after others of their address, and are told so at the same time, which takes a
handshake and a few commands; beyond these, they are closed without a word."""

FAREWELL = 5.0
"""Seconds that a refused peer has to read why, before its connection is aborted."""

LEFTOVER = 16 * 1024 * 1024
"""Bytes that are read of it meanwhile, and thrown away: what the fastest encoders send in that time."""

EARLY_BYTES = 512 * 1024
"""What a peer may send before it publishes: a handshake is 3 KiB and a few commands are less. Parsing the worst bytes
costs over a second for each MiB, which only who has a key may take."""


class IMediaSink(Interface):
    """What a gate gives for a publisher it lets in: the messages of its stream, as they come."""

    def video(timestamp: int, body: bytes) -> None:
        """A video message: its 32-bit timestamp in milliseconds, and an FLV video tag's body."""

    def audio(timestamp: int, body: bytes) -> None:
        """The same for sound."""

    def metadata(values: Mapping[str, Any]) -> None:
        """What `onMetaData` said."""

    def stopped(reason: str) -> None:
        """Nothing more will come. Called once, whatever the cause."""


PublishGate = Callable[["RTMPConnection", PublishRequested], Awaitable[IMediaSink]]
"""Decides about a publisher. Raises `Refused`; its sentence is shown to the person at the encoder."""

PlayGate = Callable[["RTMPConnection", PlayRequested], Awaitable[Any]]

Wrap = Callable[[IProtocolFactory], IProtocolFactory]
"""Puts TLS in front of a factory."""


class RTMPConnection(Protocol):
    """One peer."""

    log = Logger()
    transport: Any  # an ITCPTransport that is also an IPushProducer

    def __init__(self, port: "RTMPPort", address: str, refusal: str = "") -> None:
        self.address = address
        self.refusal = refusal
        """Why it may neither publish nor play, once it asks to."""
        self.encoder = ""
        """What the peer calls itself."""
        self.bytes_received = 0
        self._allowance = EARLY_BYTES
        self._port = port
        self._settings = port.settings
        self._clock = port.clock
        self._session = ServerSession(chunk_size=port.settings.chunk_size)
        self._sink: IMediaSink | None = None
        self._stream_id = 0
        self._deciding: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._last_bytes = self._last_media = 0.0
        self._receiving = False
        self._congested = False
        self._over = False

    # -- Protocol

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)
        self._limit(self._settings.handshake_timeout, "the handshake and connect")

    def dataReceived(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self._last_bytes = self._clock.seconds()
        if self._over:
            if self.bytes_received > self._allowance:
                self.transport.abortConnection()
            return
        if self._sink is None and self.bytes_received > self._allowance:
            self._farewell(f"more than {EARLY_BYTES} bytes without publishing")
        else:
            self._receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._unlimit()
        self._port.lost(self)
        if self._deciding is not None:
            self._deciding.cancel()
        self._stop_sink("the connection was lost")

    # -- IPushProducer: who does not read our answers is not read either, so that they cannot pile up

    def pauseProducing(self) -> None:
        self._congested = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._congested = False
        self._read_on()

    def stopProducing(self) -> None:
        """The connection is gone: `connectionLost` says so too."""

    # -- for the gates

    def stop_publishing(self, code: str, sentence: str) -> None:
        """Tell the publisher why it has to go, and close. Nothing comes from it any more."""
        self._sink = None
        if not self._over:
            self._session.end_publish(self._stream_id, code, sentence)
            self._farewell(sentence)

    # -- inside

    def _receive(self, data: bytes) -> None:
        if self._over:
            return
        self._receiving = True
        try:
            for event in self._session.receive(data):
                if not self._handle(event):
                    return
        except RemoteProtocolError as error:
            self._stop_sink("its connection broke the protocol")
            self._farewell(str(error))
        except Exception:
            self.log.failure("an RTMP connection from {address} failed", address=self.address)
            self._stop_sink("its connection failed")
            self._over = True
            self.transport.abortConnection()
        else:
            self._flush()
        finally:
            self._receiving = False

    def _handle(self, event: ServerEvent) -> bool:
        """Whether the connection goes on."""
        sink = self._sink
        if isinstance(event, VideoReceived):
            if sink is not None:
                self._last_media = self._clock.seconds()
                sink.video(event.timestamp, event.payload)
        elif isinstance(event, AudioReceived):
            if sink is not None:
                self._last_media = self._clock.seconds()
                sink.audio(event.timestamp, event.payload)
        elif isinstance(event, MetadataReceived):
            if sink is not None:
                sink.metadata(event.values)
        elif isinstance(event, ConnectRequested):
            self.encoder = event.flash_ver
            self._session.accept_connect()
            self._limit(self._settings.publish_timeout, "publishing")
        elif isinstance(event, PublishRequested):
            self._decide(self._publish(event))
        elif isinstance(event, PlayRequested):
            self._decide(self._play(event))
        elif isinstance(event, PublishStopped):
            self._stop_sink("it stopped publishing")
            self._allowance = self.bytes_received + EARLY_BYTES
            self._limit(self._settings.publish_timeout, "publishing again")
        return not self._over

    def _decide(self, decision: Any) -> None:
        """Ask a gate. Reading rests until it has answered, so nothing is lost and nothing runs ahead."""
        deciding = Deferred.fromCoroutine(decision)
        deciding.addErrback(self._decision_failed)
        if self._session.waiting and not self._over:
            self._deciding = deciding
            self.transport.pauseProducing()

    def _decision_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("a gate of the RTMP port failed", failure=failure)
            self._over = True
            self.transport.abortConnection()

    async def _publish(self, event: PublishRequested) -> None:
        gate = self._port.publish_gate
        try:
            if self.refusal:
                raise Refused("too_many_connections", self.refusal)
            if gate is None:
                raise Refused("no_publishing", "This server does not take RTMP publishers.")
            if self._sink is not None:
                raise Refused("already_publishing", "This connection already publishes a stream.")
            sink = await gate(self, event)
        except Refused as refused:
            self._deciding = None
            if not self._over:
                self._session.reject_publish(event.stream_id, refused.sentence)
                self._farewell(refused.sentence)
            return
        self._deciding = None
        if self._over:
            sink.stopped("the connection was lost")
            return
        self._sink, self._stream_id = sink, event.stream_id
        self._session.accept_publish(event.stream_id)
        self._last_media = self._clock.seconds()
        self._unlimit()
        self._check_media()
        self._go_on()

    async def _play(self, event: PlayRequested) -> None:
        gate = self._port.play_gate
        try:
            if self.refusal:
                raise Refused("too_many_connections", self.refusal)
            if gate is None:
                raise Refused("no_playing", "This server does not play by RTMP; use HLS.")
            await gate(self, event)
        except Refused as refused:
            self._deciding = None
            if not self._over:
                self._session.reject_play(event.stream_id, refused.sentence)
                self._farewell(refused.sentence)
            return
        self._deciding = None
        self._go_on()

    def _go_on(self) -> None:
        """The gate has answered: read on, unless it answered at once and reading never rested."""
        self._flush()
        if self._receiving:
            return
        self._read_on()
        # What came with the request waits inside the session.
        self._receive(b"")

    def _read_on(self) -> None:
        if self._deciding is None and not self._congested:
            self.transport.resumeProducing()

    def _flush(self) -> None:
        output = self._session.take_output()
        if output:
            self.transport.write(output)

    def _stop_sink(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.stopped(reason)

    def _farewell(self, sentence: str) -> None:
        """Send what says why, and close when the peer has; abort when it does not."""
        self._over = True
        self.log.info(
            "RTMP connection from {address} closed: {sentence}", address=self.address, sentence=sentence
        )
        self._unlimit()
        self._allowance = self.bytes_received + LEFTOVER
        self._timer = self._clock.callLater(FAREWELL, self.transport.abortConnection)
        self._flush()
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()  # which waits for the peer's own goodbye
        else:
            # An encoder sends on until it has read why. To close before would reset the connection (RFC 1122,
            # 4.2.2.13), and the reason would be lost with it: what comes is read, and thrown away.
            self.transport.loseWriteConnection()

    # -- time

    def _limit(self, seconds: float, what: str) -> None:
        """Each state lasts only so long."""
        self._unlimit()
        self._timer = self._clock.callLater(seconds, self._timed_out, what, seconds)

    def _unlimit(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _check_media(self) -> None:
        # One timer for the life of a publisher, instead of one a message.
        settings, now = self._settings, self._clock.seconds()
        media = self._last_media + settings.stream_timeout - now
        anything = self._last_bytes + settings.connection_timeout - now
        if media <= 0:
            self._timed_out("media", settings.stream_timeout)
        elif anything <= 0:
            self._timed_out("sign of life", settings.connection_timeout)
        else:
            self._timer = self._clock.callLater(min(media, anything), self._check_media)

    def _timed_out(self, what: str, seconds: float) -> None:
        self._stop_sink(f"no {what} within {seconds:g} s")
        self._farewell(f"no {what} within {seconds:g} s")


class RTMPPort(Service, ServerFactory[RTMPConnection]):
    """The port, which listens once somebody has set a gate; and with TLS too, where `secure` is set. Limits and
    timeouts count both together, a connection's time from its first byte on: the handshake of TLS is in it."""

    log = Logger()
    noisy = False

    def __init__(self, settings: RtmpSettings, reactor: Any, proxies: Proxies | None = None) -> None:
        self.settings = settings
        self.proxies = proxies if proxies is not None else Proxies()
        """Peers that speak the PROXY protocol, when the settings say that it is spoken."""
        self.clock: IReactorTime = reactor
        self.publish_gate: PublishGate | None = None
        self.play_gate: PlayGate | None = None
        self.admit: Callable[[str], int] | None = None
        """Asked with the address of each connection: 0, or the seconds that it has to wait."""
        self.secure: Wrap | None = None
        self.refused = 0
        """Connections over a limit."""
        self._reactor: IReactorTCP = reactor
        self._listening: IListeningPort | None = None
        self._listening_secure: IListeningPort | None = None
        self._connections: set[RTMPConnection] = set()
        self._by_network: Counter[str] = Counter()
        self._told = 0

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def number(self) -> int:
        """The TCP port that is listened on; 0 while none is."""
        return _number(self._listening)

    @property
    def tls_number(self) -> int:
        """The same of RTMPS."""
        return _number(self._listening_secure)

    def startService(self) -> None:
        if self.publish_gate is not None or self.play_gate is not None:
            if self.settings.proxy_protocol and not self.proxies.known:
                raise StartError("rtmp.proxy_protocol needs the proxies' networks in server.trusted_proxies.")
            self._listening = self._listen("bind_address", self.settings.address(), cast(Any, self))
            if self.secure is not None:
                factory = self.secure(cast(Any, self))
                address = self.settings.tls_address()
                self._listening_secure = self._listen("tls_bind_address", address, factory)
        Service.startService(self)

    def _listen(self, key: str, address: tuple[str, int], factory: IProtocolFactory) -> IListeningPort:
        host, number = address
        if self.settings.proxy_protocol:
            factory = ProxyProtocolFactory(factory, self.proxies, self.clock)
        try:
            return self._reactor.listenTCP(number, cast(Any, factory), backlog=BACKLOG, interface=host)
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise StartError(
                f"RTMP cannot listen on {getattr(self.settings, key)}: {reason}. Free the port, or set rtmp.{key}.",
            )

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        for connection in list(self._connections):
            connection.transport.loseConnection()
        ports = [port for port in (self._listening, self._listening_secure) if port is not None]
        self._listening = self._listening_secure = None
        return gatherResults([maybeDeferred(port.stopListening) for port in ports]).addCallback(
            lambda _: None
        )

    def buildProtocol(self, addr: IAddress | None) -> RTMPConnection | None:
        address = str(getattr(addr, "host", ""))
        network = network_of(address)
        if (
            len(self._connections) >= self.settings.max_connections
            or self._by_network[network] >= self.settings.max_connections_per_address
        ):
            self.refused += 1
            return None
        wait = self.admit(address) if self.admit is not None else 0
        refusal = ""
        if wait:
            self.refused += 1
            if self._told >= REFUSED_AT_ONCE:
                return None
            self._told += 1
            refusal = f"Too many connections came from your network: try again in {wait} s."
        connection = RTMPConnection(self, address, refusal)
        self._connections.add(connection)
        self._by_network[network] += 1
        return connection

    def lost(self, connection: RTMPConnection) -> None:
        """Called by a connection that is gone."""
        self._connections.discard(connection)
        if connection.refusal:
            self._told -= 1
        network = network_of(connection.address)
        self._by_network[network] -= 1
        if self._by_network[network] <= 0:
            del self._by_network[network]


def _number(listening: IListeningPort | None) -> int:
    return int(cast(Any, listening.getHost()).port) if listening is not None else 0
