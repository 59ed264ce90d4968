"""Protected alerts against OpenSSL's, and forged ones."""

from hypothesis import given
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.alerts import CLOSE_NOTIFY, Alerts
from tests.media.fuzz import FUZZ, mutated
from tests.webrtc.dtls_wire import Plain, server


def peers() -> tuple[Alerts, Plain]:
    """Our alerts towards an OpenSSL client that is connected."""
    peer, ours = Plain(server=False, profiles=b"SRTP_AEAD_AES_128_GCM"), server(Plain.fingerprint())
    peer.talk(ours)
    assert ours._alerts is not None
    return ours._alerts, peer


class AgainstOpenSSL(SynchronousTestCase):
    def test_it_takes_our_goodbye_for_one(self) -> None:
        ours, peer = peers()
        peer.step(ours.close_notify())
        self.assertIsInstance(peer.error, SSL.ZeroReturnError)

    def test_we_take_its_goodbye_for_one(self) -> None:
        ours, peer = peers()
        peer.connection.shutdown()
        self.assertEqual(ours.read(peer.connection.bio_read(999)), CLOSE_NOTIFY)

    def test_its_data_is_no_alert(self) -> None:
        ours, peer = peers()
        peer.connection.send(b"ab")
        self.assertIsNone(ours.read(peer.connection.bio_read(999)))

    def test_a_changed_bit_is_no_alert(self) -> None:
        ours, peer = peers()
        peer.connection.shutdown()
        goodbye = peer.connection.bio_read(999)
        unprotected = {8 * at + bit for at in (1, 2, 11, 12) for bit in range(8)}  # version and length
        for bit in set(range(8 * len(goodbye))) - unprotected:
            forged = bytearray(goodbye)
            forged[bit // 8] ^= 1 << bit % 8
            self.assertIsNone(ours.read(bytes(forged)), bit)


class Levels(SynchronousTestCase):
    def test_a_fatal_alert_ends_and_a_warning_does_not(self) -> None:
        master, client_random, server_random = bytes(48), bytes(32), bytes(range(32))
        ours = Alerts(master, client_random, server_random, server=True)
        theirs = Alerts(master, client_random, server_random, server=False)
        for level, description, read in ((2, 40, 40), (1, 90, None), (1, 0, 0), (2, 0, 0)):
            head = b"\x15\xfe\xfd\x00\x01" + bytes(6)
            explicit = bytes((level, description)) * 4
            body = theirs._local.encrypt(
                theirs._local_salt + explicit, bytes((level, description)), head[3:] + b"\x15\xfe\xfd\x00\x02"
            )
            self.assertEqual(ours.read(head + b"\x00\x1a" + explicit + body), read)


class Noise(SynchronousTestCase):
    @FUZZ
    @given(mutated(Alerts(bytes(48), bytes(32), bytes(32), server=False).close_notify()))
    def test_no_bytes_raise_or_pass(self, record: bytes) -> None:
        ours = Alerts(bytes(48), bytes(32), bytes(32), server=True)
        read = ours.read(record)
        # Version and length are not under the seal; whoever splits records has looked at them.
        self.assertTrue(read is None or record[3:11] == b"\0\1\1\0\0\0\0\0", record)
