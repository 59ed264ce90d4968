"""The published vectors: RFC 3711 B.3 and RFC 7714 16 and 17."""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.webrtc.srtp.derivation import RTP_AUTHENTICATION, RTP_ENCRYPTION, RTP_SALT, MasterKey
from oxidecast.webrtc.srtp.gcm import GcmReceiver, GcmSender, GcmStream

KEY = bytes(range(16))
SALT = int.from_bytes(b"Quid pro quo", "big")
PLAIN_RTP = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
SEALED_RTP = bytes.fromhex(
    "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a"
    "51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce"
)
PLAIN_RTCP = bytes.fromhex(
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)
SEALED_RTCP = bytes.fromhex(
    "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda"
    "4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4"
)


class KeyDerivation(SynchronousTestCase):
    master = MasterKey(
        bytes.fromhex("e1f97a0d3e018be0d64fa32c06de4139"), bytes.fromhex("0ec675ad498afeebb6960b3aabe6")
    )

    def test_rfc_3711_b_3(self) -> None:
        for label, expected in (
            (RTP_ENCRYPTION, "c61e7a93744f39ee10734afe3ff7a087"),
            (RTP_SALT, "30cbbc08863d8c85d49db34a9ae1"),
            (RTP_AUTHENTICATION, "cebe321f6ff7716b6fd4ab49af256a156d38baa4"),
        ):
            self.assertEqual(self.master.derive(label, len(expected) // 2).hex(), expected)

    def test_the_master_key_does_not_print(self) -> None:
        self.assertNotIn("e1f9", repr(self.master))


class Gcm(SynchronousTestCase):
    """The vectors give session keys, so they go in behind the derivation."""

    def test_rtp_out(self) -> None:
        stream = GcmStream(AESGCM(KEY), SALT, 0x5501A0B2, 0x40, 0)
        stream._next = 0xF17B
        self.assertEqual(stream.protect([(PLAIN, PLAIN_RTP[12:])], 0x8041F8D3), SEALED_RTP)

    def test_rtp_in(self) -> None:
        receiver = GcmReceiver(MasterKey(KEY, bytes(12)))
        receiver._key, receiver._salt = AESGCM(KEY), SALT
        self.assertEqual(receiver.unprotect(SEALED_RTP), PLAIN_RTP)

    def test_rtcp_out(self) -> None:
        sender = GcmSender(MasterKey(KEY, bytes(12)))
        sender._rtcp_key, sender._rtcp_salt, sender._rtcp_index = AESGCM(KEY), SALT, 0x5D4
        self.assertEqual(sender.protect_rtcp(PLAIN_RTCP), SEALED_RTCP)

    def test_rtcp_in(self) -> None:
        receiver = GcmReceiver(MasterKey(KEY, bytes(12)))
        receiver._rtcp_key, receiver._rtcp_salt = AESGCM(KEY), SALT
        self.assertEqual(receiver.unprotect_rtcp(SEALED_RTCP), PLAIN_RTCP)
