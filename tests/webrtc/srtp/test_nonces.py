"""No nonce serves twice under one key, whatever is asked of a sender and in whatever order."""

from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.media.errors import LocalProtocolError
from oxidecast.webrtc.srtp import Profile, SrtpSender, SrtpStream, gcm
from tests.webrtc.srtp.peers import keys, report


class RecordedKey:
    """The true cipher, and a note of each nonce that it was given, by key."""

    used: set[tuple[bytes, bytes]]
    repeated: list[bytes]

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        if (self._key, nonce) in self.used:
            self.repeated.append(nonce)
        self.used.add((self._key, nonce))
        return self._cipher.encrypt(nonce, data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self._cipher.decrypt(nonce, data, associated)


class Sender(RuleBasedStateMachine):
    """A viewer's life as an adversary would write it."""

    def __init__(self) -> None:
        super().__init__()
        RecordedKey.used = set()
        RecordedKey.repeated = []
        with mock.patch.object(gcm, "AESGCM", RecordedKey):
            self.sender: SrtpSender = keys(Profile.AES_128_GCM).open()[0]
        self.streams: list[SrtpStream] = []

    @rule(ssrc=st.sampled_from((0, 1, 2, 0xFFFFFFFF)), sequence=st.sampled_from((0, 1, 0x7FFE, 0x7FFF)))
    def open(self, ssrc: int, sequence: int) -> None:
        try:
            self.streams.append(self.sender.stream(ssrc, 96, sequence))
        except LocalProtocolError:
            assert any(stream.ssrc == ssrc for stream in self.streams)

    @rule(pick=st.integers(0, 9), sizes=st.lists(st.integers(0, 9), max_size=9), extension=st.booleans())
    def protect(self, pick: int, sizes: list[int], extension: bool) -> None:
        if self.streams:
            stream = self.streams[pick % len(self.streams)]
            payloads = [(PLAIN, bytes(size)) for size in sizes]
            stream.protect(payloads, pick, b"\xbe\xde\x00\x00" if extension else b"")

    @rule(pick=st.integers(0, 9), good=st.integers(0, 5))
    def fail_in_the_middle(self, pick: int, good: int) -> None:
        if self.streams:
            broken: list[tuple[int, bytes]] = [(PLAIN, b"x")] * good + [(PLAIN, None)]  # type: ignore[list-item]
            try:
                self.streams[pick % len(self.streams)].protect(broken, 0)
            except TypeError:
                pass

    @rule(pick=st.integers(0, 9))
    def leap(self, pick: int) -> None:
        """Many packets at once, over roll-overs: the indexes are taken, the encryption is spared."""
        if self.streams:
            self.streams[pick % len(self.streams)]._reserve(0xFFF0)

    @rule(ssrc=st.sampled_from((0, 1, 2)))
    def report(self, ssrc: int) -> None:
        self.sender.protect_rtcp(report(ssrc))

    @invariant()
    def no_nonce_repeats(self) -> None:
        assert not RecordedKey.repeated


TestSender = Sender.TestCase
TestSender.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


class TestRecordedKey:
    def test_it_would_notice(self) -> None:
        RecordedKey.used, RecordedKey.repeated = set(), []
        key = RecordedKey(bytes(16))
        key.encrypt(bytes(12), b"one", b"")
        key.encrypt(bytes(12), b"two", b"")
        assert RecordedKey.repeated
