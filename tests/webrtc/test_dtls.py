"""The DTLS session: handshakes that work, that should not, and what forgers send in between."""

import random
from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc.certificate import Fingerprint
from oxidecast.webrtc.dtls import (
    FIRST_REPEAT,
    HANDSHAKE_BYTES,
    HANDSHAKE_TIME,
    LAST_REPEAT,
    MAX_REPEATS,
    DtlsSession,
    State,
    context,
)
from oxidecast.webrtc.srtp import Profile
from tests.media.fuzz import FUZZ
from tests.webrtc.dtls_wire import (
    CLIENT,
    SERVER,
    Plain,
    Wire,
    client,
    established,
    server,
)
from tests.webrtc.srtp.peers import report

PLAIN_ALERT = bytes.fromhex("15fefd000000000000000900020228")
BOTH = b"SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"
OTHER = Fingerprint("sha-256", SERVER.fingerprint.value[:-2] + "00")


Spoiled = tuple[list[tuple[int, int]], int | None, bytes]
SPOILED = st.tuples(
    st.lists(st.tuples(st.integers(0, 1_200), st.integers(0, 255)), max_size=5),
    st.none() | st.integers(0, 700),
    st.binary(max_size=30),
)
"""Octets to change, where to cut, what to append: apart from the datagram, which no two handshakes share."""


def spoil(datagram: bytes, spoiled: Spoiled) -> bytes:
    """A hostile variant of a datagram."""
    changes, cut, tail = spoiled
    data = bytearray(datagram)
    for at, octet in changes:
        data[at % len(data)] = octet
    return bytes(data[:cut]) + tail


def record(content: int, body: bytes, sequence: int = 0, epoch: int = 0) -> bytes:
    head = bytes((content,)) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + sequence.to_bytes(6, "big")
    return head + len(body).to_bytes(2, "big") + body


def fragments(hello: bytes, size: int) -> list[bytes]:
    """A ClientHello in records of a fragment each (RFC 6347 4.2.3)."""
    head, body = hello[13:25], hello[25:]
    cut = [(at, body[at : at + size]) for at in range(0, len(body), size)]
    return [
        record(22, head[:6] + at.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part, sequence)
        for sequence, (at, part) in enumerate(cut, 16)  # the client goes on from record 1
    ]


class Handshakes(SynchronousTestCase):
    def assertTalk(self, one: DtlsSession, other: DtlsSession) -> None:
        """What one protects the other reads, in both directions."""
        assert one.keys is not None and other.keys is not None
        (sender, receiver), (back, answer) = one.keys.open(), other.keys.open()
        self.assertEqual(
            answer.unprotect(sender.stream(1, 96, 0).protect([(PLAIN, b"there")], 0))[12:], b"there"
        )
        self.assertEqual(
            receiver.unprotect(back.stream(2, 96, 0).protect([(PLAIN, b"back")], 0))[12:], b"back"
        )
        self.assertEqual(answer.unprotect_rtcp(sender.protect_rtcp(report())), report())

    def test_both_ends_get_keys_that_fit(self) -> None:
        ours, theirs, _ = established()
        self.assertTalk(ours, theirs)

    def test_gcm_is_preferred(self) -> None:
        ours, _, _ = established()
        assert ours.keys is not None
        self.assertIs(ours.keys.profile, Profile.AES_128_GCM)

    def test_gcm_is_preferred_by_the_server_whatever_the_client_prefers(self) -> None:
        peer = Plain(server=False, profiles=b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM")
        ours = server(Plain.fingerprint())
        peer.talk(ours)
        assert ours.keys is not None
        self.assertIs(ours.keys.profile, Profile.AES_128_GCM)

    def test_a_client_with_nothing_else_gets_counter_mode(self) -> None:
        wire = Wire(server(), client(shared=context(CLIENT, (Profile.AES_128_CM_SHA1_80,))))
        wire.handshake()
        assert wire.one.keys is not None
        self.assertIs(wire.one.keys.profile, Profile.AES_128_CM_SHA1_80)
        self.assertTalk(wire.one, wire.other)

    def test_no_timer_is_left(self) -> None:
        ours, theirs, _ = established()
        self.assertEqual((ours.next_timeout, theirs.next_timeout), (None, None))
        self.assertEqual(ours.timeout(1e9), [])

    def test_two_sessions_of_one_context_have_different_keys(self) -> None:
        first, second = established()[0], established()[0]
        assert first.keys is not None and second.keys is not None
        stream, other = first.keys.open()[0].stream(1, 96, 0), second.keys.open()[0].stream(1, 96, 0)
        self.assertNotEqual(stream.protect([(PLAIN, b"same")], 0), other.protect([(PLAIN, b"same")], 0))

    def test_a_server_does_not_start(self) -> None:
        with self.assertRaisesRegex(LocalProtocolError, "waits for its client"):
            server().start(0.0)


class AgainstPlainOpenSSL(SynchronousTestCase):
    def assertKeysFit(self, ours: DtlsSession, peer: Plain) -> None:
        assert ours.keys is not None and ours.keys._masters is not None, ours.failure
        exported = peer.connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 56)
        local, remote = ours.keys._masters
        first, second = (remote, local) if ours._server else (local, remote)
        self.assertEqual(first.key + second.key + first.salt + second.salt, exported)

    def test_as_server_with_a_client_whose_certificate_is_old_rsa_and_long(self) -> None:
        peer, ours = Plain(server=False, profiles=BOTH), server(Plain.fingerprint())
        peer.talk(ours)
        self.assertTrue(peer.done)
        self.assertKeysFit(ours, peer)

    def test_as_client(self) -> None:
        peer, ours = Plain(server=True, profiles=BOTH), client(Plain.fingerprint())
        peer.talk(ours)
        self.assertTrue(peer.done)
        self.assertKeysFit(ours, peer)

    def test_a_peer_without_srtp_fails(self) -> None:
        ours = server(Plain.fingerprint())
        Plain(server=False, profiles=b"").talk(ours)
        self.assertIs(ours.state, State.FAILED)
        self.assertEqual(ours.failure, "DTLS peer has no SRTP protection profile of ours")

    def test_a_peer_without_certificate_fails(self) -> None:
        ours = server()
        Plain(server=False, profiles=BOTH, certificate=False).talk(ours)
        self.assertIs(ours.state, State.FAILED)
        self.assertIn("certificate", ours.failure)
        self.assertIsNone(ours.keys)

    def test_it_learns_of_a_wrong_certificate_by_an_alert(self) -> None:
        peer, ours = Plain(server=False, profiles=BOTH), server()
        peer.talk(ours)
        self.assertIs(ours.state, State.FAILED)
        self.assertFalse(peer.done)
        self.assertIsInstance(peer.error, SSL.Error)

    def test_our_close_is_a_close_notify_to_it(self) -> None:
        peer, ours = Plain(server=False, profiles=BOTH), server(Plain.fingerprint())
        peer.talk(ours)
        for datagram in ours.close():
            peer.step(datagram)
        self.assertIsInstance(peer.error, SSL.ZeroReturnError)


class Identity(SynchronousTestCase):
    def test_a_client_with_another_certificate_fails(self) -> None:
        wire = Wire(server(OTHER), client())
        wire.handshake()
        self.assertIs(wire.one.state, State.FAILED)
        self.assertEqual(wire.one.failure, "DTLS handshake: certificate verify failed")
        self.assertIsNone(wire.one.keys)

    def test_a_server_with_another_certificate_fails(self) -> None:
        wire = Wire(server(), client(OTHER))
        wire.handshake()
        self.assertIs(wire.other.state, State.FAILED)
        self.assertIsNone(wire.other.keys)
        self.assertIs(wire.one.state, State.FAILED)
        self.assertIn("not done in 30 seconds; the peer may have sent alert", wire.one.failure)

    def test_one_of_several_fingerprints_is_enough(self) -> None:
        wire = Wire(server(OTHER, CLIENT.fingerprint), client())
        wire.handshake()
        self.assertIs(wire.one.state, State.ESTABLISHED)

    def test_a_weaker_fingerprint_does_not_count_beside_a_stronger(self) -> None:
        wire = Wire(server(CLIENT.fingerprint, Fingerprint("sha-512", ":".join(["00"] * 64))), client())
        wire.handshake()
        self.assertIs(wire.one.state, State.FAILED)

    def test_a_fingerprint_that_cannot_be_checked_opens_no_session(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "no a=fingerprint"):
            server(Fingerprint("sha-1", ":".join(["00"] * 20)))


class LossAndReordering(SynchronousTestCase):
    def test_every_third_datagram_lost_and_the_rest_shuffled(self) -> None:
        for seed in range(120):
            wire = Wire(server(), client(), seed, 0.33)
            wire.handshake()
            self.assertIs(wire.one.state, State.ESTABLISHED, (seed, wire.one.failure))
            self.assertIs(wire.other.state, State.ESTABLISHED, (seed, wire.other.failure))
            self.assertLess(wire.now, HANDSHAKE_TIME)

    def test_a_client_hello_in_shuffled_fragments(self) -> None:
        for size in (7, 30, 64):
            theirs, ours = client(), server()
            (hello,) = theirs.start(0.0)
            parts = fragments(hello, size)
            random.Random(size).shuffle(parts)
            answers = [answer for part in parts for answer in ours.receive(part, 0.0)]
            self.assertTrue(answers)
            wire = Wire(ours, theirs)
            wire.send(ours, answers)
            wire.run()
            self.assertIs(ours.state, State.ESTABLISHED, size)

    def test_a_repeated_hello_is_answered_at_once(self) -> None:
        theirs, ours = client(), server()
        (hello,) = theirs.start(0.0)
        flight = ours.receive(hello, 0.0)
        self.assertEqual(ours.receive(hello, 0.05), flight)

    def test_a_repeated_last_flight_of_the_client_is_answered_when_all_is_done(self) -> None:
        ours, _, wire = established()
        last = [datagram for target, datagram in wire.passed if target is ours][-1]
        self.assertEqual(
            ours.receive(last, 1.0), [datagram for target, datagram in wire.passed if target is not ours][-1:]
        )

    def test_only_so_many_repetitions_are_answered(self) -> None:
        theirs, ours = client(), server()
        (hello,) = theirs.start(0.0)
        ours.receive(hello, 0.0)
        answered = sum(bool(ours.receive(hello, 0.1)) for _ in range(100))
        self.assertEqual(answered, MAX_REPEATS)

    def test_the_pause_doubles_up_to_its_bound_and_patience_ends(self) -> None:
        theirs, ours = client(), server()
        flight = ours.receive(theirs.start(0.0)[0], 0.0)
        moments: list[float] = []
        while (due := ours.next_timeout) is not None:
            self.assertEqual(ours.timeout(due - 0.01), [])
            if sent := ours.timeout(due):
                self.assertEqual(sent, flight)
                moments.append(due)
        self.assertEqual(moments[:4], [FIRST_REPEAT * (2**n - 1) for n in (1, 2, 3, 4)])
        self.assertEqual(moments[-1] - moments[-2], LAST_REPEAT)
        self.assertIs(ours.state, State.FAILED)
        self.assertEqual(ours.failure, "DTLS handshake was not done in 30 seconds")

    def test_a_server_that_hears_nothing_gives_up(self) -> None:
        ours = server()
        self.assertEqual(ours.next_timeout, HANDSHAKE_TIME)
        ours.timeout(HANDSHAKE_TIME)
        self.assertIs(ours.state, State.FAILED)
        self.assertIsNone(ours.next_timeout)


class Closing(SynchronousTestCase):
    def test_a_close_notify_closes_the_peer(self) -> None:
        ours, theirs, wire = established()
        wire.send(ours, ours.close())
        wire.run()
        self.assertEqual((ours.state, theirs.state), (State.CLOSED, State.CLOSED))

    def test_openssl_is_let_go_with_the_handshake(self) -> None:
        ours, theirs, _ = established()
        self.assertEqual((ours._connection, theirs._connection), (None, None))

    def test_a_close_notify_is_answered_by_one(self) -> None:
        peer, ours = Plain(server=False, profiles=BOTH), server(Plain.fingerprint())
        peer.talk(ours)
        peer.connection.shutdown()
        for datagram in ours.receive(peer.connection.bio_read(999), 1.0):
            peer.step(datagram)
        self.assertIs(ours.state, State.CLOSED)
        self.assertIsInstance(peer.error, SSL.ZeroReturnError)

    def test_a_closed_session_is_deaf(self) -> None:
        ours, theirs, _ = established()
        ours.close()
        self.assertEqual(ours.close(), [])
        self.assertEqual([answer for part in theirs.close() for answer in ours.receive(part, 1.0)], [])

    def test_closing_in_the_handshake_sends_nothing(self) -> None:
        ours = server()
        self.assertEqual(ours.close(), [])
        self.assertIs(ours.state, State.CLOSED)


class Forgeries(SynchronousTestCase):
    """From someone who can write the peer's address on a datagram, but has no key."""

    def finishes(self, ours: DtlsSession, theirs: DtlsSession, now: float = 0.0) -> None:
        wire = Wire(ours, theirs)
        wire.handshake()
        self.assertIs(ours.state, State.ESTABLISHED, ours.failure)
        self.assertIs(theirs.state, State.ESTABLISHED, theirs.failure)

    def test_noise_before_the_hello(self) -> None:
        ours, noise = server(), random.Random(1)
        for _ in range(5_000):
            self.assertEqual(ours.receive(noise.randbytes(noise.randrange(100)), 0.0), [])
        self.assertEqual(ours.discarded, 5_000)
        self.finishes(ours, client())

    def test_broken_hellos_before_the_true_one(self) -> None:
        ours = server()
        (hello,) = client().start(0.0)
        for at in range(25, len(hello)):
            self.assertLessEqual(len(ours.receive(hello[:at] + b"\xff" + hello[at + 1 :], 0.0)), 1)
            if ours._flight:
                ours = server()
        ours = server()
        nonsense = b"\x01\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x20" + bytes(32)
        self.assertEqual(ours.receive(record(22, nonsense), 0.0), [])
        self.finishes(ours, client())

    def test_alerts_and_cipher_changes_in_the_clear(self) -> None:
        theirs, ours = client(), server()
        forged = [
            PLAIN_ALERT,
            record(21, b"\x01\x00", 7),
            record(20, b"\x01", 8),
            record(23, b"data", 9),
            record(22, b"\x14\x00\x00\x0c\x00\x01\x00\x00\x00\x00\x00\x0c" + bytes(12), 10),
        ]
        for datagram in forged:
            self.assertEqual(ours.receive(datagram, 0.0), [])
        flight = ours.receive(theirs.start(0.0)[0], 0.0)
        for datagram in (*forged[:2], *forged[3:]):
            self.assertEqual(ours.receive(datagram, 0.0), [])
            self.assertEqual(theirs.receive(datagram, 0.0), [])
        wire = Wire(ours, theirs)
        wire.send(ours, flight)
        wire.run()
        self.assertEqual((ours.state, theirs.state), (State.ESTABLISHED, State.ESTABLISHED))

    def test_a_record_number_from_the_far_future_does_not_make_the_true_ones_old(self) -> None:
        theirs, ours = client(), server()
        (hello,) = theirs.start(0.0)
        wire = Wire(ours, theirs)
        wire.send(ours, ours.receive(hello, 0.0))
        ours.receive(hello[:5] + b"\x7f" + hello[6:], 0.0)
        wire.run()
        self.assertEqual((ours.state, theirs.state), (State.ESTABLISHED, State.ESTABLISHED))

    def test_a_flood_of_handshake_records_is_bounded(self) -> None:
        theirs, ours = client(), server()
        (hello,) = theirs.start(0.0)
        for _ in range(HANDSHAKE_BYTES // len(hello) + 10):
            ours.receive(hello, 0.0)
        self.assertEqual(ours.receive(hello, 0.0), [])
        ours.timeout(HANDSHAKE_TIME)
        self.assertEqual(
            ours.failure, "DTLS handshake was not done in 30 seconds; more than 65536 bytes came"
        )

    def test_a_hundred_thousand_random_datagrams_after_the_handshake(self) -> None:
        ours, theirs, wire = established()
        noise = random.Random(3)
        for n in range(100_000):
            datagram = bytes((20 + n % 44,)) + noise.randbytes(noise.randrange(40))
            self.assertEqual(ours.receive(datagram, 1.0), [])
        self.assertIs(ours.state, State.ESTABLISHED)
        wire.send(theirs, theirs.close())
        wire.run()
        self.assertIs(ours.state, State.CLOSED)

    def test_well_formed_records_without_the_key_after_the_handshake(self) -> None:
        ours, theirs, wire = established()
        noise = random.Random(4)
        for n in range(2_000):
            content, epoch = 20 + n % 4, n // 4 % 3
            ours.receive(record(content, noise.randbytes(noise.randrange(1, 60)), n, epoch), 1.0)
        self.assertIs(ours.state, State.ESTABLISHED)
        wire.send(theirs, theirs.close())
        wire.run()
        self.assertIs(ours.state, State.CLOSED)

    @FUZZ
    @given(st.lists(SPOILED, max_size=12))
    def test_no_bytes_raise_at_any_stage(self, spoiled: list[Spoiled]) -> None:
        theirs, ours = client(), server()
        under_way = [(ours, datagram) for datagram in theirs.start(0.0)]
        while under_way:
            target, datagram = under_way.pop(0)
            if spoiled:
                target.receive(spoil(datagram, spoiled.pop()), 0.0)
            other = ours if target is theirs else theirs
            under_way += [(other, answer) for answer in target.receive(datagram, 0.0)]
        self.assertIsInstance(ours.state, State)

    @FUZZ
    @given(st.integers(0, 2), SPOILED)
    def test_no_changed_copy_ends_an_established_session(self, which: int, spoiled: Spoiled) -> None:
        ours, wire = _shared_session()
        seen = [datagram for target, datagram in wire.passed if target is ours]
        ours.receive(spoil(seen[which % len(seen)], spoiled), 1.0)
        self.assertIs(ours.state, State.ESTABLISHED)


@cache
def _shared_session() -> tuple[DtlsSession, Wire]:
    ours, _, wire = established()
    return ours, wire
