"""ICE-lite (RFC 8445 2.5): answering the peers' checks, and knowing by them who is who and where.

A server with a known address sends no checks of its own. Each session is known by the user fragments in a
check's USERNAME; a check that its password proves makes the address it came from the session's, and
USE-CANDIDATE makes that address the one to send to. So a viewer may change networks at any time, and a
datagram from an address that never passed a check belongs to nobody.
"""

import re
import secrets
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc import stun

CONSENT_TIMEOUT = 30.0
"""Seconds after the last valid check in which a peer may be sent to (RFC 7675 5.1)."""

MAX_ADDRESSES = 16
"""Of one session at a time. A laptop with two networks, both families and TURN has eight."""


class TcpAddress(NamedTuple):
    """Where a connection of ICE-TCP comes from. Its serial number tells it from UDP, and from a later connection."""

    host: str
    port: int
    serial: int


Address = tuple[str, int] | tuple[str, int, int, int] | TcpAddress
"""Where a datagram came from. Of UDP as sockets say it: host, port and, for IPv6, flow and scope."""

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839 5.4
_KNOWN = frozenset((stun.USERNAME, stun.PRIORITY, stun.USE_CANDIDATE))


class Credentials(msgspec.Struct, frozen=True):
    """ice-ufrag and ice-pwd of one side and one generation."""

    ufrag: str
    password: str


class Check(msgspec.Struct, frozen=True, gc=False):
    """What came of a STUN datagram."""

    answer: bytes | None = None
    """To be sent to where the datagram came from."""
    session: "IceSession | None" = None
    """Whose check it was, when it was valid."""
    nominated: bool = False
    """True when the check made its source the session's selected address, which was another or none."""


_IGNORED = Check()


class _Generation:
    """The credentials from one offer and answer."""

    __slots__ = ("key", "local", "username")

    def __init__(self, local: Credentials, remote_ufrag: str) -> None:
        self.local = local
        self.username = f"{local.ufrag}:{remote_ufrag}".encode()
        self.key = stun.IntegrityKey(local.password)


class IceSession:
    """One peer: its credentials, and the addresses that valid checks came from."""

    __slots__ = ("_addresses", "_generations", "_heard", "selected")

    def __init__(self, generation: _Generation, now: float) -> None:
        self._generations = [generation]
        self._addresses: dict[Address, float] = {}
        self._heard = now
        self.selected: Address | None = None
        """Where to send to: the address that the peer nominated last."""

    @property
    def local(self) -> Credentials:
        """Our newest credentials: those for the answer."""
        return self._generations[-1].local

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses that are this session's, longest unused first."""
        return tuple(self._addresses)

    @property
    def deadline(self) -> float:
        """When consent ends, unless another valid check comes from the selected address; before a nomination
        one from any address does."""
        checked = self._heard if self.selected is None else self._addresses[self.selected]
        return checked + CONSENT_TIMEOUT


class IceSessions:
    """All sessions of a port, found by USERNAME for checks and by address for everything else."""

    def __init__(self) -> None:
        self._by_username: dict[bytes, tuple[IceSession, _Generation]] = {}
        self._by_ufrag: set[str] = set()
        self._by_address: dict[Address, IceSession] = {}
        self._sessions: dict[IceSession, None] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[IceSession]:
        return iter(self._sessions)

    def open(self, remote_ufrag: str, now: float) -> IceSession:
        """A session for the peer whose offer has `remote_ufrag`; what it needs to check us is in `.local`."""
        generation = self._generation(remote_ufrag)
        session = IceSession(generation, now)
        self._sessions[session] = None
        self._by_username[generation.username] = (session, generation)
        return session

    def restart(self, session: IceSession, remote_ufrag: str) -> Credentials:
        """New credentials (RFC 8445 9). The old ones stay good until the first check with the new ones."""
        if session not in self._sessions:
            raise LocalProtocolError("ICE session is closed")
        generation = self._generation(remote_ufrag)
        for unused in session._generations[1:]:
            self._forget(unused)
        session._generations[1:] = [generation]
        self._by_username[generation.username] = (session, generation)
        return generation.local

    def _generation(self, remote_ufrag: str) -> _Generation:
        if not _UFRAG.fullmatch(remote_ufrag):
            raise RemoteProtocolError("ice-ufrag is not 4 to 256 letters, digits, + and /")
        ufrag = secrets.token_hex(6)
        while ufrag in self._by_ufrag:
            ufrag = secrets.token_hex(6)
        self._by_ufrag.add(ufrag)
        return _Generation(Credentials(ufrag, secrets.token_urlsafe(24).translate(_ICE_CHARS)), remote_ufrag)

    def _forget(self, generation: _Generation) -> None:
        self._by_ufrag.discard(generation.local.ufrag)
        self._by_username.pop(generation.username, None)

    def at(self, source: Address) -> IceSession | None:
        """Whose address this is: the question for every datagram that is no STUN."""
        return self._by_address.get(source)

    def lost(self, source: Address) -> None:
        """Nothing can be sent to this address any more; its session has until its deadline to come by another."""
        session = self._by_address.pop(source, None)
        if session is not None:
            session._addresses.pop(source)
            if session.selected == source:
                session.selected = None

    def close(self, session: IceSession) -> None:
        """Forget a session: its checks are answered by 401 from now on. Closing twice does nothing."""
        if self._sessions.pop(session, self) is self:
            return
        for generation in session._generations:
            self._forget(generation)
        for address in session._addresses:
            del self._by_address[address]
        session._addresses.clear()
        session.selected = None

    def expired(self, now: float) -> list[IceSession]:
        """Those whose consent has ended; close them and what hangs on them."""
        return [session for session in self._sessions if session.deadline <= now]

    def receive(self, datagram: bytes, source: Address, now: float) -> Check:
        """Answer a check. Raises RemoteProtocolError on what is no STUN message for an ICE-lite server.

        An answer to someone unknown is never longer than his question: the port is no amplifier.
        """
        message = stun.parse(datagram)
        if message.kind != stun.BINDING_REQUEST:
            if message.kind == stun.BINDING_INDICATION:
                return _IGNORED
            raise RemoteProtocolError(f"STUN message type {message.kind:#06x} is no Binding request")
        username = message.attributes.get(stun.USERNAME)
        if username is None or message.integrity is None:
            return self._refused(message, 400, len(datagram))
        session, generation = self._by_username.get(username, (None, None))
        if session is None or generation is None or not generation.key.verifies(message):
            return self._refused(message, 401, len(datagram))

        transaction, key = message.transaction, generation.key
        unknown = [name for name in message.attributes if name < 0x8000 and name not in _KNOWN]
        if unknown:
            listed = b"".join(name.to_bytes(2, "big") for name in unknown)
            errors = [stun.error_code(420, "Unknown Attribute"), (stun.UNKNOWN_ATTRIBUTES, listed)]
            return Check(stun.build(stun.BINDING_ERROR, transaction, errors, key))
        if stun.ICE_CONTROLLED in message.attributes:
            # Against a lite agent the other side always controls (RFC 8445 6.1.1): no tie-breaker decides.
            errors = [stun.error_code(487, "Role Conflict")]
            return Check(stun.build(stun.BINDING_ERROR, transaction, errors, key))

        if generation is not session._generations[0]:
            self._forget(session._generations.pop(0))
        self._belongs(session, source, now)
        nominated = stun.USE_CANDIDATE in message.attributes and session.selected != source
        if nominated:
            session.selected = source
        mapped = [stun.xor_mapped_address(source[0], source[1], transaction)]
        return Check(stun.build(stun.BINDING_RESPONSE, transaction, mapped, key), session, nominated)

    def _refused(self, message: stun.Message, code: int, room: int) -> Check:
        answer = stun.build(stun.BINDING_ERROR, message.transaction, [stun.error_code(code)])
        return Check(answer) if len(answer) <= room else _IGNORED

    def _belongs(self, session: IceSession, source: Address, now: float) -> None:
        """Note that a valid check of the session came from `source`."""
        owner = self._by_address.get(source)
        if owner is not session:
            if owner is not None:
                # A NAT has given the port to another peer, who has just proved to be there.
                self.lost(source)
            if len(session._addresses) >= MAX_ADDRESSES:
                oldest = next(known for known in session._addresses if known != session.selected)
                del session._addresses[oldest], self._by_address[oldest]
            self._by_address[source] = session
        session._addresses.pop(source, None)  # so that the longest unused stay in front
        session._addresses[source] = session._heard = now


_ICE_CHARS = str.maketrans("-_", "+/")
