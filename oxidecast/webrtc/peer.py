"""One peer of the port: its ICE session, its handshake, and then the way for its media.

The one idea: a peer is in one of three states. *Waiting* until a check proves that it is where it says; *shaking
hands* from then on; *connected* once it has keys and an address. Whatever ends it, ends it once.
"""

from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.certificate import Fingerprint
from oxidecast.webrtc.dtls import DtlsSession, State
from oxidecast.webrtc.ice import Address, IceSession
from oxidecast.webrtc.srtp import SrtpReceiver, SrtpSender

if TYPE_CHECKING:
    from oxidecast.webrtc.port import WebRTCPort


class PeerUser(Protocol):
    """Whose peer it is: a viewer, or a publisher."""

    def connected(self, sender: SrtpSender, profile: str) -> None:
        """There are keys, and an address to send to: from now on `Peer.send` works."""

    def rtcp(self, packet: bytes) -> None:
        """An authentic compound RTCP packet."""

    def rtp(self, packet: bytes) -> None:
        """An authentic RTP packet."""

    def closed(self, reason: str) -> None:
        """The peer is gone. Called once, also after `Peer.close`."""


class Peer:
    """See the module. Made by `WebRTCPort.open`."""

    log = Logger()

    __slots__ = (
        "_dtls",
        "_fingerprints",
        "_port",
        "_receiver",
        "_sender",
        "_timer",
        "_told",
        "_user",
        "active",
        "ice",
        "is_open",
        "network",
        "unauthentic",
    )

    def __init__(
        self,
        port: "WebRTCPort",
        ice: IceSession,
        fingerprints: tuple[Fingerprint, ...],
        user: PeerUser,
        network: str,
        active: bool = False,
    ) -> None:
        self.ice = ice
        self.network = network
        """Of who opened it, for the bounds."""
        self.active = active
        """Whether we begin the handshake: some publishers offer nothing else."""
        self.is_open = True
        self.unauthentic = 0
        """Packets of media that failed their check, or came twice."""
        self._port = port
        self._fingerprints = fingerprints
        self._user = user
        self._dtls: DtlsSession | None = None
        self._sender: SrtpSender | None = None
        self._receiver: SrtpReceiver | None = None
        self._timer: IDelayedCall | None = None
        self._told = False

    @property
    def is_connected(self) -> bool:
        """Whether its user was told so, and it is not closed."""
        return self._told and self.is_open

    @property
    def address(self) -> Address | None:
        """Where its media goes now."""
        return self.ice.selected

    def send(self, packets: bytes, size: int) -> bool:
        """Send packets of `size` bytes each, the last of at most that, in one go; False when some were lost here."""
        to = self.ice.selected
        if to is None:
            return False
        return self._port.send(packets, size, to)

    @property
    def has_room(self) -> bool:
        """Whether another frame may be begun: a peer by TCP that reads slowly has none for a while."""
        to = self.ice.selected
        return to is None or self._port.has_room(to)

    def send_rtcp(self, packet: bytes) -> None:
        """Encrypt and send a compound RTCP packet."""
        if self._sender is not None and self.ice.selected is not None:
            sealed = self._sender.protect_rtcp(packet)
            self._port.send(sealed, len(sealed), self.ice.selected)

    def close(self, reason: str) -> None:
        """Say goodbye and be forgotten."""
        if not self.is_open:
            return
        self.is_open = False
        self._cancel()
        if self._dtls is not None and self.ice.selected is not None:
            self._send(self._dtls.close(), self.ice.selected)
        self._port.forget(self)
        self._user.closed(reason)

    # -- what the port calls

    def checked(self, source: Address, now: float) -> None:
        """A valid check came from `source`."""
        if self._dtls is None:
            self._dtls = DtlsSession(self._port.context, self._fingerprints, now, server=not self.active)
            if self.active:
                self._send(self._dtls.start(now), source)
            self._schedule(now)
        self._begin()

    def received_dtls(self, datagram: bytes, source: Address, now: float) -> None:
        if self._dtls is None:
            return
        self._send(self._dtls.receive(datagram, now), source)
        self._follow(now)

    def received_media(self, datagram: bytes, is_rtcp: bool) -> None:
        if self._receiver is None:
            return
        try:
            if is_rtcp:
                packet = self._receiver.unprotect_rtcp(datagram)
            else:
                packet = self._receiver.unprotect(datagram)
        except RemoteProtocolError:
            self.unauthentic += 1
            return
        try:
            if is_rtcp:
                self._user.rtcp(packet)
            else:
                self._user.rtp(packet)
        except Exception:
            # A mistake of ours costs this peer its session, and not everybody the port.
            self.log.failure("a packet of a WebRTC peer could not be handled")
            self.close("something went wrong on the server")

    # -- inside

    def _follow(self, now: float) -> None:
        """Do what the handshake's state asks for."""
        dtls = self._dtls
        if dtls is None or not self.is_open:
            return
        if dtls.state is State.FAILED:
            self._port.failed_handshakes += not self._told
            self.close(dtls.failure)
        elif dtls.state is State.CLOSED:
            self.close("it said goodbye")
        elif dtls.state is State.HANDSHAKE:
            self._schedule(now)
        elif self._sender is None and dtls.keys is not None:
            self._cancel()
            self._sender, self._receiver = dtls.keys.open()
            self._begin()

    def _begin(self) -> None:
        """Tell the user as soon as there are keys and an address."""
        if self._told or self._sender is None or self.ice.selected is None or self._dtls is None:
            return
        self._told = True
        self._port.connected(self)
        keys = self._dtls.keys
        self._user.connected(self._sender, keys.profile.value if keys is not None else "")

    def _schedule(self, now: float) -> None:
        due = self._dtls.next_timeout if self._dtls is not None else None
        self._cancel()
        if due is not None:
            self._timer = self._port.reactor.callLater(max(0.0, due - now), self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        now = self._port.reactor.seconds()
        if self._dtls is not None and self.is_open:
            datagrams = self._dtls.timeout(now)
            to = self.ice.selected or next(reversed(self.ice.addresses), None)
            if to is not None:
                self._send(datagrams, to)
            self._follow(now)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, datagrams: list[bytes], to: Address) -> None:
        for datagram in datagrams:
            self._port.send(datagram, len(datagram), to)
