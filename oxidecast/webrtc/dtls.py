"""DTLS 1.2 with use_srtp (RFC 6347, RFC 5764) by OpenSSL over memory BIOs: datagrams in, datagrams out.

Its one idea: the network may say anything at any time, and only what is proved ends a session. Forged records
are dropped and counted; a peer's wrong certificate, an authenticated close and the end of patience are states,
because an alert has to go out with them. OpenSSL keeps a clock of its own, so flights are repeated from here,
when the time that the caller tells has come or when the peer repeats its own (RFC 6347 4.2.4). Once there are
keys OpenSSL is done, and its 90 KB are given back: `Alerts` does the rest.
"""

from enum import Enum
from typing import cast

from OpenSSL import SSL, crypto

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc.alerts import CLOSE_NOTIFY, Alerts
from oxidecast.webrtc.certificate import Certificate, Fingerprint, matches, usable
from oxidecast.webrtc.records import (
    MTU,
    OF_CLIENT,
    OF_SERVER,
    Content,
    Message,
    Record,
    datagrams,
    split,
)
from oxidecast.webrtc.srtp import Profile, SrtpKeys

HANDSHAKE_TIME = 30.0
"""Seconds from the session's making, which is best done at the first valid check: as long as consent lasts."""

HANDSHAKE_BYTES = 65_536
"""That OpenSSL is given until the handshake is done. A flight has 1 to 5 KB, and comes at most ten times."""

MAX_REPEATS = 16
"""Of our flights because the peer repeated its own: a forger gets no amplifier for 64 KB of patience."""

FIRST_REPEAT = 0.25
"""Seconds until a flight is sent again: above the round trip of most viewers. RFC 6347 4.2.4.1 recommends one
second where nothing is known; here a viewer waits for the picture, and the flight is 700 bytes."""

LAST_REPEAT = 4.0
"""Seconds to which the pause grows by doubling."""

_DTLS_1_2 = 0xFEFD
_CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
_EXPORTER = b"EXTRACTOR-dtls_srtp"


class State(Enum):
    """Where a session is."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    CLOSED = "closed"
    """By a close_notify, ours or the peer's."""
    FAILED = "failed"
    """The sentence is in `failure`."""


def context(certificate: Certificate, profiles: tuple[Profile, ...] = tuple(Profile)) -> SSL.Context:
    """What all sessions share: our certificate, and the SRTP profiles in order of preference."""
    shared = SSL.Context(SSL.DTLS_METHOD)
    # DTLS 1.3 has other records (RFC 9147 4), which nobody needs for keys that are exported at once.
    shared.set_min_proto_version(_DTLS_1_2)
    shared.set_max_proto_version(_DTLS_1_2)
    shared.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    shared.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    shared.set_mode(SSL.MODE_RELEASE_BUFFERS)
    shared.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    shared.use_certificate(certificate.certificate)
    shared.use_privatekey(certificate.key)
    shared.set_cipher_list(_CIPHERS)
    shared.set_tlsext_use_srtp(":".join(profile.value for profile in profiles).encode())
    return shared


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, fine: int) -> bool:
    """The peer's own certificate is the one of the signalling, or nobody's: who signed it says nothing."""
    return depth > 0 or matches(certificate, connection.get_app_data())


class DtlsSession:
    """One peer's handshake and the keys that come of it. `server=True` is what `a=setup:passive` promises.

    `next_timeout` is when to call `timeout`, on the clock that `now` is of. After each call look at `state`.
    """

    __slots__ = (
        "_admitted",
        "_alerts",
        "_budget",
        "_connection",
        "_context",
        "_deadline",
        "_fingerprints",
        "_flight",
        "_hint",
        "_pause",
        "_repeat_at",
        "_repeats",
        "_server",
        "discarded",
        "failure",
        "keys",
        "state",
    )

    def __init__(
        self,
        shared: SSL.Context,
        fingerprints: tuple[Fingerprint, ...],
        now: float,
        *,
        server: bool = True,
    ) -> None:
        if not usable(fingerprints):
            raise RemoteProtocolError("no a=fingerprint is of SHA-256, SHA-384 or SHA-512")
        self._context = shared
        self._fingerprints = fingerprints
        self._server = server
        self._connection: SSL.Connection | None = self._fresh()
        self._alerts: Alerts | None = None
        self._deadline = now + HANDSHAKE_TIME
        self._flight: list[bytes] = []
        self._pause = FIRST_REPEAT
        self._repeat_at: float | None = None
        self._repeats = 0
        self._budget = HANDSHAKE_BYTES
        self._admitted = 0
        self._hint = ""
        self.state = State.HANDSHAKE
        self.failure = ""
        self.keys: SrtpKeys | None = None
        """The SRTP keys, once established."""
        self.discarded = 0
        """Datagrams of which nothing was of use."""

    def _fresh(self) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(self._fingerprints)
        connection.set_ciphertext_mtu(MTU)
        if self._server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        return connection

    @property
    def next_timeout(self) -> float | None:
        """When `timeout` has something to do."""
        if self.state is not State.HANDSHAKE:
            return None
        return self._deadline if self._repeat_at is None else min(self._repeat_at, self._deadline)

    def start(self, now: float) -> list[bytes]:
        """The client's first flight."""
        if self._server:
            raise LocalProtocolError("a DTLS server waits for its client")
        return [] if self._connection is None else self._step(self._connection, now)

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        """Take a datagram from the peer; returns those to send. Never raises, whatever it holds."""
        if self.state is State.HANDSHAKE and self._connection is not None:
            return self._handshake(self._connection, datagram, now)
        if self.state is State.ESTABLISHED and self._alerts is not None:
            return self._afterwards(self._alerts, datagram)
        return []

    def timeout(self, now: float) -> list[bytes]:
        """Repeat a flight when it is time, or give up."""
        if self.state is not State.HANDSHAKE or self._connection is None:
            return []
        if now >= self._deadline:
            return self._fail(f"DTLS handshake was not done in {HANDSHAKE_TIME:.0f} seconds{self._hint}")
        if self._repeat_at is None or now < self._repeat_at:
            return []
        try:
            # OpenSSL's own repetition has new record numbers, which some losses need; it keeps real time.
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            pass  # its patience has ended: ours is measured by the deadline
        self._flight = _written(self._connection) or self._flight
        self._pause = min(2 * self._pause, LAST_REPEAT)
        self._repeat_at = now + self._pause
        return self._flight

    def close(self) -> list[bytes]:
        """End the session; what is returned tells the peer."""
        established = self.state is State.ESTABLISHED
        if self.state in (State.HANDSHAKE, State.ESTABLISHED):
            self.state = State.CLOSED
            self._connection = None
        return [self._alerts.close_notify()] if established and self._alerts is not None else []

    def _handshake(self, connection: SSL.Connection, datagram: bytes, now: float) -> list[bytes]:
        admitted: list[bytes] = []
        repeated = False
        for record in split(datagram):
            if not self._admits(record):
                continue
            self._budget -= len(record.data)
            if self._budget < 0:
                self._hint = f"; more than {HANDSHAKE_BYTES} bytes came"
                break
            repeated = repeated or self._is_repeated_hello(record)
            if record.epoch == 0:
                # A forged number must not make OpenSSL's replay window leave the true ones behind.
                record = record.numbered(self._admitted)
                self._admitted += 1
            admitted.append(record.data)
        if not admitted:
            self.discarded += 1
            return []
        connection.bio_write(b"".join(admitted))
        sent = self._step(connection, now)
        return self._repeat() if repeated and not sent and self.state is State.HANDSHAKE else sent

    def _afterwards(self, alerts: Alerts, datagram: bytes) -> list[bytes]:
        """The peer may say goodbye, or not have got our last flight. Nothing else here speaks DTLS."""
        for record in split(datagram):
            if self._server and record.content == Content.HANDSHAKE:
                return self._repeat()
            description = alerts.read(record.data) if record.epoch == 1 else None
            if description == CLOSE_NOTIFY:
                return self.close()  # answered in kind (RFC 5246 7.2.1)
            if description is not None:
                return self._fail(f"DTLS peer sent alert {description}")
        self.discarded += 1
        return []

    def _admits(self, record: Record) -> bool:
        """Whether OpenSSL shall see a record."""
        if record.epoch == 1:
            return True  # protected, or to be kept until it can be read
        if record.epoch:
            return False
        if record.content == Content.HANDSHAKE:
            types = record.messages()
            return types is not None and (OF_CLIENT if self._server else OF_SERVER).issuperset(types)
        if record.content == Content.CHANGE_CIPHER_SPEC:
            return bool(self._flight) and record.body == b"\x01"
        if record.content == Content.ALERT and len(record.body) == 2:
            # Anyone could have sent it. If it is true, nothing more will come and patience ends.
            self._hint = f"; the peer may have sent alert {record.body[1]}"
        return False

    def _is_repeated_hello(self, record: Record) -> bool:
        """Whether the client shows that it did not get our answer."""
        return (
            self._server
            and bool(self._flight)
            and record.epoch == 0
            and record.content == Content.HANDSHAKE
            and record.begins(Message.CLIENT_HELLO)
        )

    def _repeat(self) -> list[bytes]:
        if self._repeats >= MAX_REPEATS:
            return []
        self._repeats += 1
        return self._flight

    def _step(self, connection: SSL.Connection, now: float) -> list[bytes]:
        """Let OpenSSL read what it was given, and take what it wrote."""
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            return self._broken(connection, error)
        else:
            return self._establish(connection)
        written = _written(connection)
        if written:
            self._flight = written
            self._pause = FIRST_REPEAT
            self._repeat_at = now + self._pause
        return written

    def _establish(self, connection: SSL.Connection) -> list[bytes]:
        name = connection.get_selected_srtp_profile().decode()
        if not name:
            return self._fail("DTLS peer has no SRTP protection profile of ours")
        profile = Profile(name)
        material = connection.export_keying_material(_EXPORTER, profile.material_size)
        self.keys = SrtpKeys(profile, material, server=self._server)
        self._alerts = Alerts(
            cast(bytes, connection.master_key()),  # None only before the hellos
            cast(bytes, connection.client_random()),
            cast(bytes, connection.server_random()),
            server=self._server,
        )
        self._flight = _written(connection)
        self._connection = None
        self.state = State.ESTABLISHED
        return self._flight

    def _broken(self, connection: SSL.Connection, error: SSL.Error) -> list[bytes]:
        """OpenSSL gave up."""
        reason = _reason(error)
        if self._server and not self._flight:
            # Nothing was agreed yet and anyone may have sent this hello: the true one may still come.
            self._hint = f"; a ClientHello was refused: {reason}"
            self.discarded += 1
            self._connection = self._fresh()
            return []
        alert = _written(connection)
        return self._fail(f"DTLS handshake: {reason}", alert)

    def _fail(self, sentence: str, alert: list[bytes] | None = None) -> list[bytes]:
        self.state = State.FAILED
        self.failure = sentence
        self._connection = None
        return alert or []


def _written(connection: SSL.Connection) -> list[bytes]:
    """What OpenSSL wants sent."""
    try:
        return datagrams(connection.bio_read(1 << 16))
    except SSL.WantReadError:
        return []


def _reason(error: SSL.Error) -> str:
    """OpenSSL's word for it."""
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list) and queue:
        return str(queue[0][-1])
    return "the connection broke off"
