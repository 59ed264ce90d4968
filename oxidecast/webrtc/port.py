"""The one port that all WebRTC peers share: UDP, and TCP on the same number for networks that let no UDP through.

The one idea: a datagram says by its first octets what it is (RFC 7983), and by its sender whose it is, once a check
has proved that the sender belongs to a session. So nothing that strangers send makes anything: sessions are opened
by signalling alone, and are bounded there.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.accounts.limits import network_of
from oxidecast.formats.sdp_answer import Transport
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.settings.errors import StartError
from oxidecast.webrtc.capacity import Capacity
from oxidecast.webrtc.certificate import Certificate, Fingerprint
from oxidecast.webrtc.datagrams import DatagramSocket, route_addresses
from oxidecast.webrtc.demux import Kind, classify
from oxidecast.webrtc.dtls import context
from oxidecast.webrtc.ice import Address, IceSession, IceSessions, TcpAddress
from oxidecast.webrtc.peer import Peer, PeerUser
from oxidecast.webrtc.settings import WebrtcSettings
from oxidecast.webrtc.tcp import Connections

SWEEP = 1.0
"""Seconds between two looks for peers of whom nothing was heard."""

MANY = 50
PAUSE = 0.004
"""With so many peers the socket is looked at again after so many seconds, and not when something has come. Each of them
answers four times a second, and to be woken for one answer costs four times as much as to read it. Senders that measure
the way here take arrivals that close together for one (5 ms in Chromium)."""

MAX_CONNECTING = 250
"""Peers at once that are not connected yet: OpenSSL holds 90 KB for each. A handshake takes a moment, so this many
come every second."""

TRIES = 8
"""For a number that is free for both UDP and TCP, where the system chooses one."""

MAX_ADVERTISED = 8
"""Addresses in an answer: each costs the peer checks."""


class PortFull(Exception):
    """There is no room for another session; the sentence says of what."""


@implementer(IReadDescriptor)
class WebRTCPort(Service):
    """The port. It listens when somebody has said that it is `used`."""

    log = Logger()
    socket: DatagramSocket
    certificate: Certificate
    context: Any

    def __init__(self, settings: WebrtcSettings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.used = False
        """Set by an output or ingest, before the start."""
        self.gates: dict[str, Any] = {}
        """What answers the signalling, `twisted.web` resources by `whip` and `whep`: set before the start, too."""
        self.admit: Callable[[str], int] | None = None
        """Asked with the address of each publisher: 0, or the seconds that it has to wait."""
        self.failed_handshakes = 0
        self.expired = 0
        """Sessions of which nothing was heard any more."""
        self.refused = 0
        """Sessions that there was no room for."""
        self.capacity = Capacity(reactor, self.__len__)
        self.datagrams: Counter[str] = Counter()
        """What came, by kind; `refused` is what was no valid message of its kind, or nobody's."""
        self.connections = Connections(reactor, self)
        self._ice = IceSessions()
        self._peers: dict[IceSession, Peer] = {}
        self._by_network: Counter[str] = Counter()
        self._connecting = 0
        self._listening = False
        self._pause: IDelayedCall | None = None
        self._sweep = LoopingCall(self._look)
        self._sweep.clock = reactor

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def number(self) -> int:
        """The port that is listened on; 0 while none is."""
        return self.socket.port if self._listening else 0

    # -- Service

    def startService(self) -> None:
        Service.startService(self)
        if not self.used:
            return
        self._listen()
        self.certificate = Certificate.generate(datetime.fromtimestamp(self.reactor.seconds(), UTC))
        self.context = context(self.certificate)
        self._listening = True
        self.reactor.addReader(self)
        self._sweep.start(SWEEP, now=False)
        self.capacity.start()

    def stopService(self) -> Any:
        Service.stopService(self)
        if not self._listening:
            return None
        for peer in list(self._peers.values()):
            peer.close("the server is stopping")
        self._sweep.stop()
        self.capacity.stop()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.reactor.removeReader(self)
        self._listening = False
        self.socket.close()
        return self.connections.stop()

    # -- sessions

    def admit_viewer(self) -> None:
        """Count in one more viewer. Raises PortFull when those who are there would be served late."""
        if not self.capacity.has_room:
            self.refused += 1
            raise PortFull("As many watch by WebRTC as this server can serve on time.")
        self.capacity.came()

    def open(
        self,
        remote_ufrag: str,
        fingerprints: tuple[Fingerprint, ...],
        user: PeerUser,
        address: str,
        active: bool = False,
    ) -> Peer:
        """A session for a peer whose offer came from `address`; `active` when we begin the handshake. Raises PortFull,
        or RemoteProtocolError for a user fragment that is none."""
        network = network_of(address)
        reason = ""
        if not self._listening:
            reason = "WebRTC is not available at the moment."
        elif len(self._peers) >= self.settings.max_sessions:
            reason = "As many use WebRTC as can."
        elif self._connecting >= MAX_CONNECTING:
            reason = "Too many are connecting by WebRTC at the moment."
        elif self._by_network[network] >= self.settings.max_sessions_per_address:
            reason = "As many use WebRTC from your network as can."
        if reason:
            self.refused += 1
            raise PortFull(reason)
        ice = self._ice.open(remote_ufrag, self.reactor.seconds())
        peer = self._peers[ice] = Peer(self, ice, fingerprints, user, network, active)
        self._by_network[network] += 1
        self._connecting += 1
        return peer

    def restart(self, peer: Peer, remote_ufrag: str) -> None:
        """Another generation of ICE credentials (RFC 8445 9), which are in `transport` from now on."""
        self._ice.restart(peer.ice, remote_ufrag)

    def transport(self, peer: Peer, reached: Iterable[str] = ()) -> Transport:
        """What goes into an answer. `reached` are addresses by which the signalling reached this machine: they are
        advertised, too, where the settings name none."""
        local = peer.ice.local
        return Transport(
            ufrag=local.ufrag,
            password=local.password,
            fingerprint=str(self.certificate.fingerprint),
            addresses=tuple(self._advertised(reached)),
            port=self.number,
            setup="active" if peer.active else "passive",
        )

    def connected(self, peer: Peer) -> None:
        """Called by a peer that is, now."""
        self._connecting -= 1

    def forget(self, peer: Peer) -> None:
        """Called by a peer that has closed."""
        del self._peers[peer.ice]
        for address in peer.ice.addresses:
            if isinstance(address, TcpAddress):
                self.connections.end(address)
        self._ice.close(peer.ice)
        self._connecting -= not peer._told
        self._by_network[peer.network] -= 1
        if not self._by_network[peer.network]:
            del self._by_network[peer.network]

    # -- sending

    def send(self, packets: bytes, size: int, to: Address) -> bool:
        """Send packets of `size` bytes each, the last of at most that; False when some were lost here."""
        if isinstance(to, TcpAddress):
            return self.connections.send(packets, size, to)
        return self.socket.send(packets, size, to)

    def has_room(self, to: Address) -> bool:
        """Whether another frame may be begun: what UDP has no room for is lost."""
        return not isinstance(to, TcpAddress) or self.connections.has_room(to)

    # -- tcp.Owner

    @property
    def most(self) -> int:
        return self.settings.max_sessions

    def owns(self, source: TcpAddress) -> bool:
        return self._ice.at(source) is not None

    def lost(self, source: TcpAddress) -> None:
        self._ice.lost(source)

    # -- IReadDescriptor

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "webrtc"

    def doRead(self) -> None:
        self.socket.read(self.datagram)
        if len(self._peers) >= MANY and self._listening:
            self.reactor.removeReader(self)
            self._pause = self.reactor.callLater(PAUSE, self._read_again)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done with the socket."""

    def datagram(self, datagram: bytes, source: Address) -> None:
        """One has come, from anybody."""
        kind = classify(datagram)
        self.datagrams[kind.value] += 1
        if kind is Kind.STUN:
            self._check(datagram, source)
            return
        ice = self._ice.at(source)
        if ice is None or kind is Kind.OTHER:
            self.datagrams["refused"] += 1
        elif kind is Kind.DTLS:
            self._peers[ice].received_dtls(datagram, source, self.reactor.seconds())
        else:
            self._peers[ice].received_media(datagram, kind is Kind.RTCP)

    # -- inside

    def _read_again(self) -> None:
        self._pause = None
        if len(self._peers) < MANY:
            self.reactor.addReader(self)
            return
        has_more = self.socket.read(self.datagram)
        self._pause = self.reactor.callLater(0 if has_more else PAUSE, self._read_again)

    def _check(self, datagram: bytes, source: Address) -> None:
        now = self.reactor.seconds()
        try:
            check = self._ice.receive(datagram, source, now)
        except RemoteProtocolError:
            self.datagrams["refused"] += 1
            return
        if check.answer is not None:
            self.send(check.answer, len(check.answer), source)
        if check.session is not None:
            self._peers[check.session].checked(source, now)
        else:
            self.datagrams["refused"] += 1

    def _look(self) -> None:
        for ice in self._ice.expired(self.reactor.seconds()):
            self.expired += 1
            self._peers[ice].close("nothing was heard of it any more")
        self.connections.look()

    def _listen(self) -> None:
        host, port = self.settings.host, self.settings.port
        for _ in range(1 if port else TRIES):
            number, kind = port, "UDP"
            try:
                self.socket = DatagramSocket(host, port)
                number, kind = self.socket.port, "TCP"
                self.connections.listen(host or ("::" if self.socket.has_ipv6 else "0.0.0.0"), number)
                return
            except OSError as error:
                reason = error.strerror
            except CannotListenError as error:
                reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
                self.socket.close()
        raise StartError(
            f"WebRTC cannot use {kind} port {number} of {host or 'this machine'}: {reason}. "
            "Free the port, or set webrtc.port."
        )

    def _advertised(self, reached: Iterable[str]) -> list[str]:
        if self.settings.addresses:
            return list(self.settings.addresses[:MAX_ADVERTISED])
        host = self.settings.host
        if host and not ip_address(host).is_unspecified:
            return [host]
        found: dict[str, None] = {}
        for text in (*reached, *route_addresses()):
            address = ip_address(text)
            if isinstance(address, IPv6Address):
                address = address.ipv4_mapped or address
            if address.is_unspecified or (address.version == 6 and not self.socket.has_ipv6):
                continue
            found[str(address)] = None
        return list(found)[:MAX_ADVERTISED]
