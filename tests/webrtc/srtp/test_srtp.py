"""Both profiles against libsrtp in both directions, and against forgers."""

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_runs import MARKER, PADDING, PLAIN
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc.srtp import Profile
from oxidecast.webrtc.srtp.streams import MAX_STREAMS
from oxidecast.webrtc.srtp.window import WINDOW
from tests.media.fuzz import FUZZ, mutated
from tests.webrtc.srtp.peers import keys, library, report, rtp

EXTENSION = bytes.fromhex("bede000112345678")


def each_profile(test: Callable[["Case", Profile], None]) -> Callable[["Case"], None]:
    def both(self: "Case") -> None:
        for profile in Profile:
            with self.subTest(profile.name):
                test(self, profile)

    return both


class Case(SynchronousTestCase):
    def sealed(self, profile: Profile, count: int, **fields: int) -> list[bytes]:
        """Packets 0 to `count`, each protected by libsrtp."""
        protect = library(profile, outbound=True).protect
        return [protect(rtp(n, **fields)) for n in range(count)]

    def assertRefused(self, refused: Callable[[bytes], bytes], datagram: bytes, sentence: str) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, sentence):
            refused(datagram)


class Sending(Case):
    @each_profile
    def test_libsrtp_reads_a_run_over_a_sequence_wrap(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        stream = sender.stream(0xCAFE, 96, 0x7FF0)
        peer = library(profile, outbound=False)
        size, sequence = 24, 0x7FF0
        for run in range(2_200):
            payloads = [(PLAIN, bytes((run & 255,)) * size)] * 15 + [(PLAIN | MARKER, b"end")]
            packets = stream.protect(payloads, run * 3000)
            step = sender.overhead + size
            for at in range(0, len(packets), step):
                packet = peer.unprotect(packets[at : at + step])
                self.assertEqual(int.from_bytes(packet[2:4], "big"), sequence & 0xFFFF)
                sequence += 1
        self.assertEqual(stream.next_index, sequence)
        self.assertEqual((stream.packets, stream.octets), (2_200 * 16, 2_200 * (15 * size + 3)))

    @each_profile
    def test_header_fields(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        stream = sender.stream(0xCAFE, 111, 5)
        peer = library(profile, outbound=False)
        sealed = stream.protect([(PLAIN | MARKER | PADDING, b"data\x00\x02")], 1 << 32 | 77)
        self.assertEqual(peer.unprotect(sealed), bytes.fromhex("a0ef00050000004d0000cafe") + b"data\x00\x02")

    @each_profile
    def test_a_header_extension(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        stream = sender.stream(0xCAFE, 96, 5)
        sealed = stream.protect([(PLAIN, b"one"), (PLAIN, b"two")], 0, EXTENSION)
        step = sender.overhead + len(EXTENSION) + 3
        self.assertEqual(len(sealed), 2 * step)
        peer = library(profile, outbound=False)
        for at, payload in ((0, b"one"), (step, b"two")):
            packet = peer.unprotect(sealed[at : at + step])
            self.assertEqual((packet[0], packet[12:]), (0x90, EXTENSION + payload))
        self.assertEqual(stream.octets, 6)

    @each_profile
    def test_libsrtp_reads_our_reports(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        peer = library(profile, outbound=False)
        for _ in range(3):
            self.assertEqual(peer.unprotect_rtcp(sender.protect_rtcp(report())), report())

    @each_profile
    def test_an_ssrc_has_one_stream(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        sender.stream(1, 96, 0)
        with self.assertRaisesRegex(LocalProtocolError, "SSRC 1 has a stream already"):
            sender.stream(1, 97, 0)

    @each_profile
    def test_keys_open_once(self, profile: Profile) -> None:
        used = keys(profile)
        used.open()
        with self.assertRaisesRegex(LocalProtocolError, "used before"):
            used.open()

    @each_profile
    def test_our_own_mistakes(self, profile: Profile) -> None:
        sender, _ = keys(profile).open()
        for arguments in ((1 << 32, 96, 0), (-1, 96, 0), (1, 128, 0), (1, 96, 0x8000), (1, 96, -1)):
            with self.assertRaises(LocalProtocolError):
                sender.stream(*arguments)
        for ssrc in range(MAX_STREAMS):
            sender.stream(ssrc, 96, 0)
        with self.assertRaisesRegex(LocalProtocolError, "32 streams"):
            sender.stream(99, 96, 0)

    def test_a_packet_that_libsrtp_has_no_room_for_is_our_mistake(self) -> None:
        sender, _ = keys(Profile.AES_128_CM_SHA1_80).open()
        with self.assertRaisesRegex(LocalProtocolError, "more than 1356"):
            sender.stream(1, 96, 0).protect([(PLAIN, bytes(1_400))], 0)


class Receiving(Case):
    @each_profile
    def test_what_libsrtp_sends_is_read(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        for n, sealed in enumerate(self.sealed(profile, 40)):
            self.assertEqual(receiver.unprotect(sealed), rtp(n))

    @each_profile
    def test_csrcs_and_extensions_are_read(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        packet = rtp(0, b"CSRC" * 2 + EXTENSION + b"payload", first=0x92)
        sealed = library(profile, outbound=True).protect(packet)
        self.assertEqual(receiver.unprotect(sealed), packet)

    @each_profile
    def test_loss_and_reordering_around_a_wrap(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        protect = library(profile, outbound=True).protect
        order = [(n, protect(rtp(n))) for n in range(0x7000, 0x2_2000, 37)]
        noise = random.Random(5)
        for at in range(0, len(order) - 8, 8):
            part = order[at : at + 8]
            noise.shuffle(part)
            for n, sealed in part[:6] if at else order[:1]:
                self.assertEqual(receiver.unprotect(sealed), rtp(n))

    @each_profile
    def test_a_replay_is_refused(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        sealed = self.sealed(profile, 5)
        for datagram in sealed:
            receiver.unprotect(datagram)
        for datagram in sealed:
            self.assertRefused(receiver.unprotect, datagram, "replay")

    @each_profile
    def test_what_is_too_old_is_refused(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        sealed = self.sealed(profile, WINDOW + 1)
        receiver.unprotect(sealed[-1])
        receiver.unprotect(sealed[1])
        self.assertRefused(receiver.unprotect, sealed[0], "old")

    @each_profile
    def test_a_changed_bit_is_refused_and_the_true_packet_still_read(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        first, sealed = self.sealed(profile, 2)
        receiver.unprotect(first)
        for bit in range(len(sealed) * 8):
            forged = bytearray(sealed)
            forged[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(RemoteProtocolError):
                receiver.unprotect(bytes(forged))
        self.assertEqual(receiver.unprotect(sealed), rtp(1))

    @each_profile
    def test_reports_are_read_once(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        peer = library(profile, outbound=True)
        sealed = [peer.protect_rtcp(report()) for _ in range(3)]
        for datagram in (sealed[2], sealed[0], sealed[1]):
            self.assertEqual(receiver.unprotect_rtcp(datagram), report())
        for datagram in sealed:
            self.assertRefused(receiver.unprotect_rtcp, datagram, "replay")

    @each_profile
    def test_a_changed_bit_in_a_report_is_refused(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        sealed = library(profile, outbound=True).protect_rtcp(report())
        for bit in range(len(sealed) * 8):
            forged = bytearray(sealed)
            forged[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(RemoteProtocolError):
                receiver.unprotect_rtcp(bytes(forged))
        self.assertEqual(receiver.unprotect_rtcp(sealed), report())

    @each_profile
    def test_a_peer_has_only_so_many_ssrcs(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        peer = library(profile, outbound=True)
        for ssrc in range(1, MAX_STREAMS + 1):
            receiver.unprotect(peer.protect(rtp(0, ssrc=ssrc)))
        self.assertRefused(receiver.unprotect, peer.protect(rtp(0, ssrc=99)), "more than 32 SSRCs")
        self.assertEqual(receiver.unprotect(peer.protect(rtp(1, ssrc=3))), rtp(1, ssrc=3))

    @each_profile
    def test_malformed_headers(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        for datagram, sentence in (
            (b"", "0 bytes"),
            (rtp(0, bytes(9))[:21], "21 bytes"),
            (rtp(0, bytes(40), first=0x40), "version is 1"),
            (rtp(0, bytes(20), first=0x8F), "header needs 72"),
            (rtp(0, bytes(3) + b"\x04" + bytes(12), first=0x90), "header needs 32"),
            (rtp(0, b"\xbe\xde\xff\xff" + bytes(16), first=0x90), "header needs 262156"),
        ):
            self.assertRefused(receiver.unprotect, datagram, sentence)
        for datagram, sentence in (
            (report()[:8], "8 bytes"),
            (b"\x40" + report()[1:], "version is 1"),
            (report() + bytes(14), "not encrypted"),
        ):
            self.assertRefused(receiver.unprotect_rtcp, datagram, sentence)

    @FUZZ
    @given(st.data())
    def test_hostile_bytes_raise_nothing_else(self, data: st.DataObject) -> None:
        for profile in Profile:
            _, receiver = keys(profile).open()
            peer = library(profile, outbound=True)
            sealed, sealed_report = peer.protect(rtp(3)), peer.protect_rtcp(report())
            hostile = data.draw(mutated(sealed, sealed_report))
            for refused in (receiver.unprotect, receiver.unprotect_rtcp):
                try:
                    refused(hostile)
                except RemoteProtocolError:
                    pass

    @each_profile
    def test_twenty_thousand_random_datagrams_change_nothing(self, profile: Profile) -> None:
        _, receiver = keys(profile).open()
        noise = random.Random(9)
        for _ in range(20_000):
            datagram = bytes((0x80 | noise.randrange(64),)) + noise.randbytes(noise.randrange(60))
            with self.assertRaises(RemoteProtocolError):
                receiver.unprotect(datagram)
            with self.assertRaises(RemoteProtocolError):
                receiver.unprotect_rtcp(datagram)
        self.assertEqual(receiver.unprotect(self.sealed(profile, 1)[0]), rtp(0))
