"""TLS in front of the HTTP port: versions, ciphers, who is shown what, renewal, and clients that do it wrong."""

import shutil
import ssl
import tempfile
import time
import warnings
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.error import ConnectionLost
from twisted.logger import LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.certificates import CertificateError, Source
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.tls import LOOK, Certificates
from oxidecast.settings.sections import TlsSettings
from tests.delivery.secure import CLIENT, Authority, Client, HouseClock, trusting
from tests.delivery.serving import PREFIX, SEGMENT, Server, body_of, field_of, request, status

PUBLISHER: LogPublisher = globalLogPublisher


class TLSTestCase(SynchronousTestCase):
    root: ClassVar[Authority]
    limits = HTTPLimits()

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = Authority()

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.clock = HouseClock()
        self.clock.rightNow = time.time()
        self.server = Server(self.limits, clock=self.clock)
        self.logged: list[str] = []
        PUBLISHER.addObserver(self._note)
        self.addCleanup(PUBLISHER.removeObserver, self._note)

    def _note(self, event: dict[str, object]) -> None:
        if event.get("log_level") is not None and event["log_level"].name != "debug":  # type: ignore[attr-defined]
            self.logged.append(str(event.get("log_format")).format_map(event))

    def open(self, *names: str, **more: float) -> None:
        """The port, with a certificate for each of these hosts."""
        for name in names:
            self.root.issue(name, **more).write(self.folder / f"{name}.pem")
        self.certificates = Certificates(
            Source(TlsSettings(certificate_directory=str(self.folder)), self.folder), self.clock
        )
        self.port = self.certificates.wrap("https", self.server.factory)

    def client(self, host: str | None = "a.example", context: ssl.SSLContext | None = None) -> Client:
        return Client(self.port, context or trusting(self.root), host)

    def shown(self, host: str | None) -> bytes | None:
        """The certificate that a client gets who asks for this host."""
        context = trusting(self.root)
        context.check_hostname = False
        return self.client(host, context).handshake().tls.getpeercert(binary_form=True)

    def metrics(self) -> dict[str, dict[str, float]]:
        return {
            family.name: {next(iter(sample.labels.values())): sample.value for sample in family.samples}
            for family in self.certificates.metrics()
        }


class TestHandshake(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.open("a.example")

    def test_a_client_that_trusts_the_authority_is_served(self) -> None:
        client = self.client().handshake()
        self.assertEqual(client.tls.version(), "TLSv1.3")
        answer = client.send(request(PREFIX + b"segment.m4s"))
        self.assertEqual(body_of(answer), SEGMENT)

    def test_tls_1_2_is_served_and_1_1_is_not(self) -> None:
        context = trusting(self.root)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual(self.client(context=context).handshake().tls.version(), "TLSv1.2")
        old = trusting(self.root)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python does not like them either.
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        refused = self.assertRaises(ssl.SSLError, self.client(context=old).handshake)
        self.assertIn("PROTOCOL_VERSION", str(refused))

    def test_tls_1_2_takes_forward_secret_authenticated_ciphers_only(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        self.root.issue("b.example", key=key).write(self.folder / "b.pem")
        self.certificates.reload()
        offered = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        offered.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        taken = set()
        for cipher in offered.get_ciphers():
            if cipher["protocol"] == "TLSv1.3":
                continue
            for host in ("a.example", "b.example"):
                context = trusting(self.root)
                context.set_ciphers(f"{cipher['name']}:@SECLEVEL=0")
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                try:
                    self.client(host, context).handshake()
                except ssl.SSLError:
                    continue
                taken.add(cipher["name"])
        ends = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
        self.assertEqual(taken, {f"ECDHE-{kind}-{end}" for kind in ("RSA", "ECDSA") for end in ends})

    def test_nothing_that_was_said_before_can_be_said_again(self) -> None:
        """No session is resumed: the keys of tickets would outlive what they protect."""
        context = trusting(self.root)
        first = self.client(context=context).handshake()
        first.send(request(PREFIX + b"playlist.m3u8"))
        again = Client(self.port, context, "a.example")
        again.tls = context.wrap_bio(
            again.incoming, again.outgoing, server_hostname="a.example", session=first.tls.session
        )
        self.assertFalse(again.handshake().tls.session_reused)

    def test_http_1_1_is_the_protocol(self) -> None:
        for offered, spoken in ((["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None)):
            context = trusting(self.root)
            context.set_alpn_protocols(offered)
            client = self.client(context=context).handshake()
            self.assertEqual(client.tls.selected_alpn_protocol(), spoken)
            self.assertEqual(status(client.send(request(PREFIX + b"playlist.m3u8"))), 200)

    def test_a_port_that_takes_no_more_connections_closes_them(self) -> None:
        self.server.factory.stopping = True
        self.assertIsNone(self.port.buildProtocol(CLIENT))


class TestNames(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.issued = {
            name: self.root.issue(*names)
            for name, names in {
                "default": ("main.example",),
                "list": ("a.example", "b.example", "192.0.2.1"),
                "wild": ("*.wild.example",),
                "exact": ("one.wild.example",),
            }.items()
        }
        for name, issued in self.issued.items():
            issued.write(self.folder / f"{name}.pem")
        self.open()

    def assert_shown(self, host: str | None, name: str) -> None:
        self.assertEqual(self.shown(host), self.issued[name].der, host)

    def test_each_host_is_shown_its_own(self) -> None:
        self.assert_shown("main.example", "default")
        self.assert_shown("a.example", "list")
        self.assert_shown("B.Example", "list")

    def test_a_wildcard_is_for_one_label(self) -> None:
        self.assert_shown("two.wild.example", "wild")
        self.assert_shown("one.wild.example", "exact")
        self.assert_shown("wild.example", "default")
        self.assert_shown("a.b.wild.example", "default")

    def test_no_name_or_an_unknown_one_is_shown_the_default(self) -> None:
        for host in (None, "unknown.example", "192.0.2.1", "localhost"):
            self.assert_shown(host, "default")

    def test_unknown_names_leave_no_trace_in_the_log(self) -> None:
        before = len(self.logged)
        for number in range(50):
            self.shown(f"{number}.unknown.example")
        self.assertEqual(len(self.logged), before)

    def test_a_client_that_checks_the_name_is_content(self) -> None:
        for host in ("a.example", "two.wild.example"):
            self.client(host).handshake()
        self.assertRaises(ssl.SSLCertVerificationError, self.client("unknown.example").handshake)

    def test_any_text_can_be_a_name(self) -> None:
        shown = self.certificates._shown
        for name in (b"", b"\xff\xfe", b".", b"*", b"a" * 255, b"*.wild.example.", "ä".encode()):
            self.assertIs(shown.find(name), shown.default)

    def test_the_chain_is_sent_along(self) -> None:
        between = Authority("Between", above=self.root)
        between.issue("chained.example").write(self.folder / "chained.pem", between.pem)
        self.certificates.reload()
        self.client("chained.example").handshake()


class TestRenewal(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.open("a.example")
        self.certificates.startService()
        self.addCleanup(self.certificates.stopService)

    def test_a_renewed_file_is_shown_after_two_looks_and_connections_go_on(self) -> None:
        old = self.client().handshake()
        before = old.tls.getpeercert(binary_form=True)
        issued = self.root.issue("a.example")
        issued.write(self.folder / "a.example.pem")
        self.clock.advance(LOOK)
        self.assertEqual(self.shown("a.example"), before)
        self.clock.advance(LOOK)
        self.assertEqual(self.shown("a.example"), issued.der)
        self.assertEqual(status(old.send(request(PREFIX + b"playlist.m3u8"))), 200)

    def test_a_new_file_brings_a_new_name(self) -> None:
        issued = self.root.issue("b.example")
        issued.write(self.folder / "b.pem")
        self.clock.pump([LOOK] * 2)
        self.assertEqual(self.shown("b.example"), issued.der)

    def test_a_reload_looks_at_once(self) -> None:
        issued = self.root.issue("a.example")
        issued.write(self.folder / "a.example.pem")
        self.certificates.reload()
        self.assertEqual(self.shown("a.example"), issued.der)

    def test_what_cannot_be_used_leaves_the_old_one_and_is_said_once(self) -> None:
        before = self.shown("a.example")
        (self.folder / "a.example.pem").write_bytes(self.root.issue("a.example").pem)
        self.clock.pump([LOOK] * 10)
        self.assertEqual(self.shown("a.example"), before)
        said = [line for line in self.logged if "stay as they were" in line]
        self.assertEqual(len(said), 1)
        self.assertIn("no file holds a private key", said[0])

    def test_a_folder_that_is_away_leaves_the_old_one(self) -> None:
        before = self.shown("a.example")
        self.folder.rename(self.folder.with_suffix(".away"))
        self.clock.pump([LOOK] * 3)
        self.assertEqual(self.shown("a.example"), before)
        self.folder.with_suffix(".away").rename(self.folder)
        issued = self.root.issue("a.example")
        issued.write(self.folder / "a.example.pem")
        self.clock.pump([LOOK] * 2)
        self.assertEqual(self.shown("a.example"), issued.der)

    def test_a_pair_that_is_written_in_two_steps_is_read_once_it_is_whole(self) -> None:
        issued = self.root.issue("a.example")
        (self.folder / "a.example.pem").write_bytes(issued.pem)
        self.clock.advance(LOOK)
        (self.folder / "a.key.pem").write_bytes(issued.key_pem)
        self.clock.pump([LOOK] * 2)
        self.assertEqual(self.shown("a.example"), issued.der)
        self.assertEqual([line for line in self.logged if "stay as they were" in line], [])

    def test_files_that_do_not_change_are_not_read_again(self) -> None:
        before = self.certificates._shown
        self.clock.pump([LOOK] * 5)
        self.assertIs(self.certificates._shown, before)

    def test_nothing_is_looked_at_after_the_end(self) -> None:
        self.certificates.stopService()
        self.root.issue("b.example").write(self.folder / "b.pem")
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.certificates.certificates), 1)
        self.certificates.startService()

    def test_the_metric_follows(self) -> None:
        name = "oxidecast_tls_certificate_expiry_timestamp_seconds"
        (before,) = self.metrics()[name].values()
        issued = self.root.issue("a.example", ends=200)
        issued.write(self.folder / "a.example.pem")
        self.certificates.reload()
        self.assertGreater(before, self.clock.seconds())
        self.assertEqual(
            self.metrics()[name], {"a.example": issued.certificate.not_valid_after_utc.timestamp()}
        )


class TestBadCertificates(TLSTestCase):
    def test_an_expired_one_is_served_with_a_warning(self) -> None:
        self.open("a.example", begins=-90, ends=-1)
        self.certificates.startService()
        self.addCleanup(self.certificates.stopService)
        self.assertTrue(any("the certificate for a.example expired on" in line for line in self.logged))
        refused = self.assertRaises(ssl.SSLCertVerificationError, self.client().handshake)
        self.assertIn("certificate has expired", str(refused))

    def test_a_mismatched_one_is_not(self) -> None:
        (self.folder / "a.pem").write_bytes(self.root.issue("a.example").pem)
        (self.folder / "key.pem").write_bytes(self.root.issue("a.example").key_pem)
        self.assertRaises(CertificateError, self.open)

    def test_a_key_that_openssl_finds_too_weak_is_a_sentence(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        self.root.issue("a.example", key=key).write(self.folder / "a.pem")
        refused = self.assertRaises(CertificateError, self.open)
        self.assertIn("OpenSSL refuses the certificate in", str(refused))


class TestClientsThatDoItWrong(TLSTestCase):
    limits = HTTPLimits(header_timeout=5, linger_timeout=3)

    def setUp(self) -> None:
        super().setUp()
        self.open("a.example")

    def failures(self) -> float:
        return self.metrics()["oxidecast_tls_handshake_failures"]["https"]

    def test_one_that_says_nothing_is_cut_off(self) -> None:
        client = self.client()
        self.clock.pump([1] * 7)
        self.assertTrue(client.aborted)
        client.lose(Failure(ConnectionLost()))
        self.assertEqual(self.failures(), 1)
        self.assertEqual(self.server.factory.channels, set())

    def test_one_that_is_in_the_handshake_for_ever_is_cut_off(self) -> None:
        client = self.client()
        with self.assertRaises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        hello = client.outgoing.read()
        for byte in hello[:7]:
            client.server.dataReceived(bytes([byte]))
            self.clock.advance(1)
        self.assertTrue(client.aborted)

    def test_one_that_speaks_no_tls_is_closed_and_counted(self) -> None:
        for words in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x03" + bytes(1536),
            b"\x16\x03\x01\xff\xff" * 9,
        ):
            client = self.client()
            client.server.dataReceived(words)
            self.assertTrue(client.ended, words)
            client.lose(Failure(ConnectionLost()))
        self.assertEqual(self.failures(), 3)

    def test_a_flood_of_them_fills_no_log(self) -> None:
        for number in range(100):
            client = self.client()
            client.server.dataReceived(bytes([number]) * 100)
            client.lose(Failure(ConnectionLost()))
        self.assertEqual(self.failures(), 100)
        self.assertEqual(self.logged, [])

    def test_a_good_handshake_is_no_failure(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(self.root)
            context.maximum_version = version
            client = self.client(context=context).handshake()
            client.lose(Failure(ConnectionLost()))
        self.assertEqual(self.failures(), 0)

    def test_a_request_that_is_cut_off_is_not_answered(self) -> None:
        client = self.client().handshake()
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        client.lose(Failure(ConnectionLost()))
        self.assertEqual((client.received, self.server.counted), (b"", []))
        self.assertEqual(self.server.factory.channels, set())

    def test_the_end_of_an_answer_is_said(self) -> None:
        client = self.client().handshake()
        client.send(request(PREFIX + b"playlist.m3u8", b"Connection: close"))
        self.assertTrue(client.closed)

    def test_one_that_does_not_say_goodbye_is_cut_off(self) -> None:
        client = self.client().handshake()
        client.send(request(PREFIX + b"playlist.m3u8", b"Connection: close"))
        self.assertFalse(client.ended)
        self.clock.pump([1] * 5)
        self.assertTrue(client.aborted)

    def test_one_that_says_goodbye_is_let_go(self) -> None:
        client = self.client().handshake()
        client.send(request(PREFIX + b"playlist.m3u8"))
        with self.assertRaises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.exchange()
        self.assertTrue(client.transport.disconnecting)

    def test_one_too_many_is_told_so_over_tls(self) -> None:
        self.server.factory.limits = HTTPLimits(max_connections=0)
        client = self.client().handshake()
        self.assertEqual(status(client.answer()), 503)


class TestHSTS(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.open("a.example")
        self.server.factory.hsts = b"Strict-Transport-Security: max-age=60\r\n"

    ASKED = (PREFIX + b"playlist.m3u8", PREFIX + b"segment.m4s", PREFIX + b"gone", b"/echo", b"/missing")

    def test_every_secure_answer_has_it_once(self) -> None:
        client = self.client().handshake()
        for path in self.ASKED:
            for method in (b"GET", b"HEAD"):
                answer = client.send(request(path, method=method))
                self.assertEqual(field_of(answer, b"Strict-Transport-Security"), b"max-age=60", path)
                self.assertEqual(answer.count(b"Strict-Transport-Security"), 1)

    def test_ranges_conditions_and_refusals_have_it(self) -> None:
        client = self.client().handshake()
        for more in (b"Range: bytes=0-9", b'If-None-Match: "s1"'):
            answer = client.send(request(PREFIX + b"segment.m4s", more))
            self.assertEqual(field_of(answer, b"Strict-Transport-Security"), b"max-age=60")
        answer = client.send(b"NONSENSE\r\n\r\n")
        self.assertEqual(field_of(answer, b"Strict-Transport-Security"), b"max-age=60")

    def test_no_plain_answer_has_it(self) -> None:
        for path in self.ASKED:
            self.assertNotIn(b"Strict-Transport-Security", self.server.exchange(request(path)))

    def test_none_has_it_when_it_is_off(self) -> None:
        self.server.factory.hsts = b""
        client = self.client().handshake()
        for path in self.ASKED:
            self.assertNotIn(b"Strict-Transport-Security", client.send(request(path)))
