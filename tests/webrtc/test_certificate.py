"""Fingerprints as SDP writes them."""

from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.certificate import Certificate, Fingerprint, usable
from tests.media.fuzz import FUZZ
from tests.webrtc.dtls_wire import NOW, SERVER


class Fingerprints(SynchronousTestCase):
    def test_ours_is_that_of_the_certificate(self) -> None:
        self.assertEqual(
            bytes.fromhex(SERVER.fingerprint.value.replace(":", "")),
            SERVER.certificate.fingerprint(hashes.SHA256()),
        )

    def test_it_reads_what_it_writes(self) -> None:
        self.assertEqual(Fingerprint.parse(str(SERVER.fingerprint)), SERVER.fingerprint)

    def test_case_and_space_do_not_matter(self) -> None:
        written = f" SHA-256  {SERVER.fingerprint.value.lower()} "
        self.assertEqual(Fingerprint.parse(written), SERVER.fingerprint)

    def test_an_unknown_algorithm_is_read_and_of_no_use(self) -> None:
        read = Fingerprint.parse("sha-1 " + ":".join(["AB"] * 20))
        self.assertEqual(read.algorithm, "sha-1")
        self.assertFalse(usable((read,)))

    def test_two_certificates_are_two(self) -> None:
        self.assertNotEqual(Certificate.generate(NOW).fingerprint, SERVER.fingerprint)

    def test_what_is_refused(self) -> None:
        for text in ("", "sha-256", "sha-256 AB", "sha-256 " + "AB" * 32, "sha-256 " + "GG:" * 31 + "GG"):
            with self.assertRaisesRegex(RemoteProtocolError, "a=fingerprint"):
                Fingerprint.parse(text)

    @FUZZ
    @given(st.text(max_size=200))
    def test_no_text_raises_anything_else(self, text: str) -> None:
        try:
            Fingerprint.parse(text)
        except RemoteProtocolError:
            pass
