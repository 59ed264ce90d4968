"""Datagrams in a stream: they come out as they went in, however the stream is cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.datagrams import LARGEST
from oxidecast.webrtc.framing import Unframer, frame
from tests.media.fuzz import FUZZ


class TestFraming(SynchronousTestCase):
    def test_a_frame_is_a_length_and_what_it_is_the_length_of(self) -> None:
        self.assertEqual(frame(b"abc", 3), b"\0\3abc")

    def test_a_batch_is_cut(self) -> None:
        self.assertEqual(frame(b"abcdefgh", 3), b"\0\3abc\0\3def\0\2gh")

    def test_an_empty_one_says_nothing(self) -> None:
        self.assertEqual(Unframer().receive(b"\0\0\0\1a\0\0"), [b"a"])

    def test_the_largest_is_taken_and_a_larger_one_refused(self) -> None:
        largest = bytes(LARGEST)
        self.assertEqual(Unframer().receive(frame(largest, LARGEST)), [largest])
        with self.assertRaisesRegex(RemoteProtocolError, "2049 bytes"):
            Unframer().receive((LARGEST + 1).to_bytes(2, "big"))

    @FUZZ
    @given(
        st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(0, 600), max_size=8)
    )
    def test_however_the_stream_is_cut(self, datagrams: list[bytes], cuts: list[int]) -> None:
        stream = b"".join(frame(one, len(one)) for one in datagrams)
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        unframer, found = Unframer(), []
        for start, end in pairwise(places):
            found += unframer.receive(stream[start:end])
        self.assertEqual(found, datagrams)

    @FUZZ
    @given(st.lists(st.binary(max_size=100), max_size=20))
    def test_noise_is_refused_or_is_datagrams_and_is_never_hoarded(self, pieces: list[bytes]) -> None:
        unframer = Unframer()
        try:
            for piece in pieces:
                for datagram in unframer.receive(piece):
                    self.assertTrue(0 < len(datagram) <= LARGEST)
                self.assertLess(len(unframer._rest), LARGEST + 2)
        except RemoteProtocolError:
            pass
