"""Certificates from files: what fits together, what is said of what does not."""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery import certificates as module
from oxidecast.delivery.certificates import Certificate, CertificateError, Source, chosen, in_use, labels
from oxidecast.settings.sections import TlsSettings
from tests.delivery.secure import Authority


class CertificatesTestCase(SynchronousTestCase):
    root: ClassVar[Authority]

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = Authority()

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.now = datetime.now(UTC)

    def directory(self) -> Source:
        return Source(TlsSettings(certificate_directory=str(self.folder)), Path("/nowhere"))

    def one(self) -> Certificate:
        (certificate,) = self.directory().read()
        return certificate

    def refused(self, source: Source | None = None) -> str:
        return str(self.assertRaises(CertificateError, (source or self.directory()).read))


class TestDirectory(CertificatesTestCase):
    def test_certificate_and_key_in_one_file(self) -> None:
        file = self.root.issue("a.example", "*.a.example", "192.0.2.1").write(self.folder / "a.pem")
        certificate = self.one()
        self.assertEqual(certificate.names, ("a.example", "*.a.example", "192.0.2.1"))
        self.assertEqual((certificate.file, certificate.key_file, certificate.chain), (file, file, ()))
        self.assertNotIn("key=", repr(certificate))

    def test_the_four_files_of_certbot_in_a_folder_of_their_own(self) -> None:
        between = Authority("Between", above=self.root)
        issued = between.issue("a.example")
        live = self.folder / "a.example"
        live.mkdir()
        (live / "cert.pem").write_bytes(issued.pem)
        (live / "chain.pem").write_bytes(between.pem)
        (live / "fullchain.pem").write_bytes(issued.pem + between.pem)
        (live / "privkey.pem").write_bytes(issued.key_pem)
        (self.folder / "README").write_text("no certificate")
        certificate = self.one()
        self.assertEqual(certificate.chain, (between.certificate,))
        self.assertEqual(certificate.key_file, live / "privkey.pem")

    def test_a_chain_is_put_in_order_and_has_no_root(self) -> None:
        upper = Authority("Upper", above=self.root)
        lower = Authority("Lower", above=upper)
        lower.issue("a.example").write(self.folder / "a.pem", self.root.pem, upper.pem, lower.pem)
        self.assertEqual(self.one().chain, (lower.certificate, upper.certificate))

    def test_an_issuer_of_the_same_name_that_did_not_sign_is_left_out(self) -> None:
        real, false = Authority("Between", above=self.root), Authority("Between", above=self.root)
        real.issue("a.example").write(self.folder / "a.pem", false.pem, real.pem)
        self.assertEqual(self.one().chain, (real.certificate,))

    def test_default_comes_first_and_then_the_alphabet(self) -> None:
        for name in ("b", "default", "a"):
            self.root.issue(f"{name}.example").write(self.folder / f"{name}.pem")
        names = [certificate.name for certificate in self.directory().read()]
        self.assertEqual(names, ["default.example", "a.example", "b.example"])

    def test_a_folder_can_be_the_default(self) -> None:
        self.root.issue("a.example").write(self.folder / "a" / "all.pem")
        self.root.issue("b.example").write(self.folder / "default" / "all.pem")
        self.assertEqual(self.directory().read()[0].name, "b.example")

    def test_rsa_and_ed25519_will_do_too(self) -> None:
        for key in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
            self.root.issue("a.example", key=key).write(self.folder / "a.pem")
            self.assertEqual(self.one().name, "a.example")

    def test_a_key_that_waits_for_its_certificate_does_no_harm(self) -> None:
        self.root.issue("a.example").write(self.folder / "a.pem")
        (self.folder / "next.pem").write_bytes(self.root.issue("b.example").key_pem)
        self.assertEqual(self.one().name, "a.example")

    def test_a_folder_without_certificates(self) -> None:
        self.assertIn("holds no file that ends in .pem", self.refused())
        shutil.rmtree(self.folder)
        self.assertIn("cannot be read: no such file or directory", self.refused())
        self.folder.mkdir()

    def test_a_certificate_without_its_key(self) -> None:
        issued, other = self.root.issue("a.example"), self.root.issue("b.example")
        other.write(self.folder / "b.pem")
        (self.folder / "a.pem").write_bytes(issued.pem)
        self.assertEqual(
            self.refused(),
            f"no key fits the certificate in {self.folder / 'a.pem'}: put its private key into {self.folder}",
        )

    def test_only_keys_or_only_certificates(self) -> None:
        issued = self.root.issue("a.example")
        (self.folder / "a.pem").write_bytes(issued.key_pem)
        self.assertIn("no file holds a certificate", self.refused())
        (self.folder / "a.pem").write_bytes(issued.pem)
        self.assertIn("no file holds a private key", self.refused())

    def test_too_many_files(self) -> None:
        self.patch(module, "MAXIMUM_FILES", 2)
        for name in "abc":
            (self.folder / f"{name}.pem").touch()
        self.assertIn("holds more than 2 PEM files", self.refused())


class TestFiles(CertificatesTestCase):
    def source(self, certificate: str = "a.pem", key: str | None = None) -> Source:
        return Source(TlsSettings(certificate_file=certificate, key_file=key), self.folder)

    def test_relative_paths_lie_below_the_data_directory(self) -> None:
        issued = self.root.issue("a.example")
        (self.folder / "a.pem").write_bytes(issued.pem)
        (self.folder / "a.key").write_bytes(issued.key_pem)
        (certificate,) = self.source(key="a.key").read()
        self.assertEqual(certificate.key_file, self.folder / "a.key")

    def test_one_file_may_hold_both(self) -> None:
        self.root.issue("a.example").write(self.folder / "a.pem")
        self.assertEqual(len(self.source().read()), 1)

    def test_a_key_of_another_certificate(self) -> None:
        (self.folder / "a.pem").write_bytes(self.root.issue("a.example").pem)
        (self.folder / "a.key").write_bytes(self.root.issue("a.example").key_pem)
        self.assertEqual(
            self.refused(self.source(key="a.key")),
            f"the key in {self.folder / 'a.key'} does not fit the certificate in {self.folder / 'a.pem'}: "
            "they are not of one pair",
        )

    def test_files_that_are_not_there_or_too_large(self) -> None:
        self.assertIn("a.pem cannot be read: no such file or directory", self.refused(self.source()))
        (self.folder / "a.pem").write_bytes(b"x" * (module.MAXIMUM_FILE + 1))
        self.assertIn("is larger than 1 MiB", self.refused(self.source()))

    def test_a_key_with_a_password(self) -> None:
        issued = self.root.issue("a.example")
        secret = BestAvailableEncryption(b"planted secret")
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            key = issued.key.private_bytes(Encoding.PEM, form, secret)
            (self.folder / "a.pem").write_bytes(issued.pem + key)
            self.assertIn("is protected by a password", self.refused(self.source()))

    def test_damaged_blocks(self) -> None:
        issued = self.root.issue("a.example")
        for pem, word in ((issued.pem, "certificate"), (issued.key_pem, "private key")):
            lines = pem.splitlines(keepends=True)
            (self.folder / "a.pem").write_bytes(b"".join([lines[0], *lines[2:]]))
            self.assertIn(f"holds a {word} that is damaged", self.refused(self.source()))

    def test_a_key_of_a_kind_that_tls_does_not_know(self) -> None:
        key = dsa.generate_private_key(1024)
        issued = self.root.issue("a.example")
        issued.key = key
        issued.write(self.folder / "a.pem")
        self.assertIn("of a kind that TLS does not use", self.refused(self.source()))

    def test_nothing_is_configured(self) -> None:
        self.assertFalse(Source(TlsSettings(), self.folder))
        self.assertTrue(self.source())


class TestWhatIsSaid(CertificatesTestCase):
    def issued(self, *names: str, begins: float = -1, ends: float = 90, san: bool = True) -> Certificate:
        self.root.issue(*names, begins=begins, ends=ends, san=san).write(self.folder / "a.pem")
        return self.one()

    def test_a_good_one(self) -> None:
        certificate = self.issued("a.example")
        self.assertEqual((certificate.trouble(self.now), certificate.doubt(self.now)), ("", ""))

    def test_expired(self) -> None:
        certificate = self.issued("a.example", begins=-90, ends=-1)
        day = certificate.not_after.strftime("%Y-%m-%d")
        self.assertEqual(
            certificate.trouble(self.now),
            f"the certificate for a.example expired on {day}: renew it ({self.folder / 'a.pem'})",
        )

    def test_not_valid_yet(self) -> None:
        self.assertIn("begins on", self.issued("a.example", begins=1).trouble(self.now))

    def test_without_a_host(self) -> None:
        certificate = self.issued("a.example", san=False)
        self.assertIn("names no host", certificate.trouble(self.now))
        self.assertEqual(certificate.name, "a.pem")

    def test_soon_is_two_weeks_or_a_part_of_a_short_life(self) -> None:
        self.assertIn("expires on", self.issued("a.example", begins=-80, ends=10).doubt(self.now))
        self.assertEqual(self.issued("a.example", begins=-70, ends=20).doubt(self.now), "")
        self.assertEqual(self.issued("a.example", begins=-2, ends=4).doubt(self.now), "")

    def test_a_key_that_every_user_can_read(self) -> None:
        file = self.root.issue("a.example").write(self.folder / "a.pem")
        self.assertEqual(list(self.directory().notices()), [])
        file.chmod(0o640)
        self.assertEqual(list(self.directory().notices()), [])
        file.chmod(0o644)
        (notice,) = self.directory().notices()
        self.assertEqual(notice, f"every user can read the private key in {file}: run chmod o-r on it")

    def test_a_certificate_is_for_everybody(self) -> None:
        issued = self.root.issue("a.example")
        (self.folder / "a.pem").write_bytes(issued.pem)
        (self.folder / "key.pem").write_bytes(issued.key_pem)
        (self.folder / "key.pem").chmod(0o600)
        self.assertEqual(list(self.directory().notices()), [])


class TestChoice(CertificatesTestCase):
    def test_the_valid_one_wins_and_then_the_longest(self) -> None:
        for file, begins, ends in (("a", -90, -1), ("b", -1, 30), ("c", -1, 60), ("d", 1, 90)):
            self.root.issue("a.example", begins=begins, ends=ends).write(self.folder / f"{file}.pem")
        certificates = self.directory().read()
        self.assertEqual(chosen(certificates, self.now)["a.example"].file.name, "c.pem")
        self.assertEqual([one.file.name for one in in_use(certificates, self.now)], ["c.pem"])
        later = self.now + timedelta(days=70)
        self.assertEqual(chosen(certificates, later)["a.example"].file.name, "d.pem")

    def test_the_successor_of_the_default_is_the_default(self) -> None:
        self.root.issue("a.example", ends=5).write(self.folder / "default.pem")
        self.root.issue("b.example").write(self.folder / "b.pem")
        self.root.issue("a.example", ends=50).write(self.folder / "renewed.pem")
        files = [one.file.name for one in in_use(self.directory().read(), self.now)]
        self.assertEqual(files, ["renewed.pem", "b.pem"])

    def test_labels_differ(self) -> None:
        self.root.issue("a.example").write(self.folder / "a.pem")
        self.root.issue("a.example", "b.example", ends=50).write(self.folder / "b.pem")
        used = in_use(self.directory().read(), self.now)
        self.assertEqual(list(labels(used)), ["a.example", "a.example #2"])


class TestSignature(CertificatesTestCase):
    def test_it_changes_with_the_content_the_permissions_and_the_files(self) -> None:
        source = self.directory()
        seen = [source.signature()]
        self.root.issue("a.example").write(self.folder / "a.pem")
        seen.append(source.signature())
        self.assertEqual(seen[-1], source.signature())
        (self.folder / "a.pem").chmod(0o400)
        seen.append(source.signature())
        self.root.issue("b.example").write(self.folder / "b.pem")
        seen.append(source.signature())
        (self.folder / "a.pem").unlink()
        seen.append(source.signature())
        self.assertEqual(len(set(map(str, seen))), len(seen))


class TestAnything(SynchronousTestCase):
    pems: ClassVar[list[bytes]]

    @classmethod
    def setUpClass(cls) -> None:
        root = Authority()
        issued = root.issue("a.example")
        cls.pems = [issued.pem, issued.key_pem, root.pem]

    @given(st.data())
    def test_a_file_raises_nothing_but_certificate_errors(self, data: st.DataObject) -> None:
        text = bytearray(b"".join(data.draw(st.lists(st.sampled_from(self.pems), min_size=1, max_size=4))))
        for _ in range(data.draw(st.integers(0, 5))):
            place = data.draw(st.integers(0, len(text) - 1))
            text[place] = data.draw(st.integers(0, 255))
        text += data.draw(st.binary(max_size=50))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a.pem").write_bytes(text)
            try:
                Source(TlsSettings(certificate_file="a.pem"), Path(folder)).read()
            except CertificateError as error:
                self.assertNotIn("BEGIN", str(error))
