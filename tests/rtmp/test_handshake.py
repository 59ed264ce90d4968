"""The handshake, both sides, in both forms, and what is no handshake."""

import hmac

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp.handshake import BLOCK, RANDOM, ClientHandshake, ServerHandshake

RANDOM_S = bytes(n * 7 & 0xFF for n in range(RANDOM))
RANDOM_C = bytes(n * 11 + 3 & 0xFF for n in range(RANDOM))
SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")


def digest(phrase: bytes, block: bytes, offset: int) -> bytes:
    return hmac.digest(phrase, block[:offset] + block[offset + 32 :], "sha256")


def place_of(block: bytes, place: int) -> int:
    return sum(block[place : place + 4]) % 728 + place + 4


def signed_c1(place: int) -> bytes:
    """C1 as a player makes it that wants the digest form."""
    block = bytes(4) + b"\x09\x00\x7c\x02" + RANDOM_C
    offset = place_of(block, place)
    made = digest(b"Genuine Adobe Flash Player 001", block, offset)
    return block[:offset] + made + block[offset + 32 :]


class SimpleHandshake(SynchronousTestCase):
    def test_echoes_both_ways(self) -> None:
        client, server = ClientHandshake(RANDOM_C), ServerHandshake(RANDOM_S)
        c0c1 = client.start()
        s0s1s2 = server.receive(c0c1)
        assert s0s1s2 == b"\x03" + bytes(8) + RANDOM_S + c0c1[1:]
        c2 = client.receive(s0s1s2)
        assert c2 == s0s1s2[1 : 1 + BLOCK]
        assert server.receive(c2) == b""
        assert client.done and server.done

    def test_keeps_what_comes_behind_it(self) -> None:
        server = ServerHandshake(RANDOM_S)
        server.receive(b"\x03" + bytes(2 * BLOCK) + b"chunks")
        assert (server.done, server.rest) == (True, b"chunks")

    def test_is_the_same_split_at_every_byte(self) -> None:
        whole = b"\x03" + bytes(BLOCK) + bytes(BLOCK) + b"rest"
        expected = ServerHandshake(RANDOM_S).receive(whole)
        server, answer = ServerHandshake(RANDOM_S), b""
        for offset in range(len(whole) - 4):
            answer += server.receive(whole[offset : offset + 1])
        assert (answer, server.done, server.rest) == (expected, True, b"")

    def test_does_not_answer_half_a_c1(self) -> None:
        assert ServerHandshake(RANDOM_S).receive(b"\x03" + bytes(BLOCK - 1)) == b""

    def test_takes_a_version_field_without_a_digest(self) -> None:
        c1 = bytes(4) + b"\x09\x00\x7c\x02" + RANDOM_C
        assert ServerHandshake(RANDOM_S).receive(b"\x03" + c1)[1 + BLOCK :] == c1

    def test_wants_its_random_bytes_whole(self) -> None:
        self.assertRaises(LocalProtocolError, ServerHandshake, b"few")
        self.assertRaises(LocalProtocolError, ClientHandshake, b"few")


class DigestHandshake(SynchronousTestCase):
    def test_is_answered_in_the_place_it_was_asked_in(self) -> None:
        for place in (8, 772):
            with self.subTest(place):
                c1 = signed_c1(place)
                answer = ServerHandshake(RANDOM_S).receive(b"\x03" + c1)
                s1, s2 = answer[1 : 1 + BLOCK], answer[1 + BLOCK :]
                offset = place_of(s1, place)
                assert s1[offset : offset + 32] == digest(b"Genuine Adobe Flash Media Server 001", s1, offset)
                theirs = c1[place_of(c1, place) :][:32]
                key = hmac.digest(b"Genuine Adobe Flash Media Server 001" + SUFFIX, theirs, "sha256")
                assert s2[-32:] == hmac.digest(key, s2[:-32], "sha256")

    def test_claims_a_version_that_players_check(self) -> None:
        assert ServerHandshake(RANDOM_S).receive(b"\x03" + signed_c1(8))[5] >= 3


class NoHandshake(SynchronousTestCase):
    def test_is_refused_at_its_first_byte(self) -> None:
        for first, sentence in [
            (b"G", "version is 71"),
            (b"\x06", "RTMPE"),
            (b"\x16", "version is 22"),
            (b"\x00", "version is 0"),
        ]:
            for side in (ServerHandshake, ClientHandshake):
                error = self.assertRaises(RemoteProtocolError, side(RANDOM_S).receive, first)
                assert sentence in str(error), error

    @given(st.binary(min_size=1, max_size=2000), st.booleans())
    @settings(max_examples=50, deadline=None)
    def test_raises_nothing_but_the_named_error(self, data: bytes, versioned: bool) -> None:
        for side in (ServerHandshake, ClientHandshake):
            try:
                side(RANDOM_S).receive((b"\x03" if versioned else b"") + data * 2)
            except RemoteProtocolError:
                pass
