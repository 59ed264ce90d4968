"""The server with certificates: ffmpeg publishes by RTMPS, ffprobe, curl and a browser watch by HTTPS."""

import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.delivery.secure import Authority, Issued
from tests.e2e.browser import BrowserTestCase
from tests.e2e.programs import FFMPEG_5, FFMPEG_9, Program, Server, free_port, publish, server, until

HOST, OTHER = "stream.example", "other.example"
SMALL: dict[str, Any] = {"size": "320x180", "gop": 30}


class Secure:
    """A server with two certificates of a throw-away authority."""

    def __init__(self, case: Any) -> None:
        self.folder = Path(case.enterClassContext(tempfile.TemporaryDirectory(prefix="oxidecast-tls-")))
        self.root = Authority()
        self.authority = self.folder / "root.crt"
        self.authority.write_bytes(self.root.pem)
        self.certificate = self.issue(HOST, "127.0.0.1", file="default.pem")
        self.issue(OTHER, file="other.pem")
        self.https, self.rtmps = free_port(), free_port()
        self.server: Server = case.enterClassContext(
            server(
                settings={
                    "OXIDECAST_TLS_CERTIFICATE_DIRECTORY": str(self.folder),
                    "OXIDECAST_SERVER_TLS_PORT": str(self.https),
                    "OXIDECAST_RTMP_TLS_BIND_ADDRESS": f"127.0.0.1:{self.rtmps}",
                    "OXIDECAST_TLS_HSTS": "60",
                }
            )
        )
        self.url = f"https://127.0.0.1:{self.https}"

    def issue(self, *names: str, file: str) -> Issued:
        issued = self.root.issue(*names)
        draft = issued.write(self.folder / f"{file}.draft")
        draft.rename(self.folder / file)
        return issued

    def ingest(self, key: str) -> str:
        return f"rtmps://127.0.0.1:{self.rtmps}/live/{key}"

    def verifying(self, authority: Path | None = None) -> tuple[str, ...]:
        """ffmpeg's options that make it check our certificate."""
        return ("-tls_verify", "1", "-ca_file", str(authority or self.authority))

    def curl(self, host: str, path: str, *more: str) -> "subprocess.CompletedProcess[str]":
        """What curl gets, which trusts our authority alone and takes the name of `host` for this machine."""
        return subprocess.run(
            ["curl", "-sS", "-m", "10", "--cacert", str(self.authority), *more]
            + ["--resolve", f"{host}:{self.https}:127.0.0.1", f"https://{host}:{self.https}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )

    def publish(self, key: str, log: Path, more: Sequence[str], ffmpeg: str = FFMPEG_5) -> Program:
        return publish(self.ingest(key), log, ffmpeg=ffmpeg, more=more, **SMALL)


class EncodersAndPlayers(BrowserTestCase):
    secure: ClassVar[Secure]

    @classmethod
    def setUpClass(cls) -> None:
        cls.secure = Secure(cls)
        public = cls.secure.certificate.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        cls.arguments = (
            f"--ignore-certificate-errors-spki-list={b64encode(sha256(public).digest()).decode()}",
            f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
        )
        super().setUpClass()

    def log(self, name: str) -> Path:
        return self.secure.server.folder / f"{name}-{self.id().rpartition('.')[2]}.log"

    def test_ffmpeg_old_and_new_publishes_by_rtmps_and_ffprobe_watches_by_https(self) -> None:
        secure = self.secure
        for number, ffmpeg in enumerate((FFMPEG_5, FFMPEG_9)):
            name, key = secure.server.new_stream(f"Secure {number}")
            with secure.publish(key, self.log(f"encoder{number}"), secure.verifying(), ffmpeg):
                secure.server.wait_live(name)
                done = subprocess.run(
                    ["ffprobe", "-v", "error", *secure.verifying(), "-of", "csv=p=0"]
                    + ["-show_entries", "stream=codec_name"]
                    + [f"{secure.url}/api/v1/hls/{name}/playlist.m3u8"],
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
                self.assertEqual((done.stderr, set(done.stdout.split())), ("", {"aac", "h264"}))

    def test_an_encoder_that_does_not_trust_us_leaves(self) -> None:
        stranger = self.secure.folder / "stranger.crt"
        stranger.write_bytes(Authority().pem)
        key = self.secure.server.new_stream("Untrusted")[1]
        log = self.log("encoder")
        with self.secure.publish(key, log, self.secure.verifying(stranger)) as encoder:
            until(lambda: encoder.process.poll() is not None, 15, "the encoder leaves")
        self.assertIn("certificate", log.read_text().lower())

    def test_an_encoder_that_is_refused_reads_why(self) -> None:
        log = self.log("encoder")
        with self.secure.publish("no-such-key", log, self.secure.verifying()) as encoder:
            until(lambda: encoder.process.poll() is not None, 15, "the encoder leaves")
        self.assertIn("stream key", log.read_text())

    def test_a_browser_plays_on_the_secure_page(self) -> None:
        secure = self.secure
        name, key = secure.server.new_stream("In a browser")
        with secure.publish(key, self.log("encoder"), secure.verifying()):
            secure.server.wait_live(name)
            origin = f"https://{HOST}:{secure.https}"
            watcher = self.watch(f"{origin}/player/{name}")
            watcher.wait_for_motion()
            self.assertTrue(watcher.page.evaluate("window.isSecureContext"))
            self.assert_only_asked(origin)

    def test_each_host_has_its_own_certificate_and_the_addresses_are_secure(self) -> None:
        name, _ = self.secure.server.new_stream("Addresses")
        for host in (HOST, OTHER):
            done = self.secure.curl(host, f"/api/v1/streams/{name}", "-i")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(
                f'"https://{host}:{self.secure.https}/api/v1/hls/{name}/playlist.m3u8"', done.stdout
            )
            self.assertIn("strict-transport-security: max-age=60", done.stdout.lower())
        ingests = self.secure.curl(HOST, "/api/v1/ingests").stdout
        self.assertIn(f'"rtmps://{HOST}:{self.secure.rtmps}/live"', ingests)
        self.assertNotEqual(self.secure.curl("unknown.example", "/").returncode, 0)

    def test_a_renewed_certificate_is_shown_without_a_restart_or_a_pause(self) -> None:
        secure = self.secure
        name, key = secure.server.new_stream("Renewed")
        with secure.publish(key, self.log("encoder"), secure.verifying()) as encoder:
            secure.server.wait_live(name)
            old = self.serial()
            secure.issue(OTHER, file="other.pem")
            secure.server.process.send_signal(1)
            until(lambda: self.serial() != old, 10, "the new certificate is shown")
            before = secure.server.stream(name)["publisher"]["bytes_received"]
            until(
                lambda: secure.server.stream(name)["publisher"]["bytes_received"] > before,
                10,
                "the publisher goes on",
            )
            self.assertIsNone(encoder.process.poll())

    def serial(self) -> str:
        said = self.secure.curl(OTHER, "/health", "-v", "-w", "%{certs}").stdout
        return next(line for line in said.splitlines() if line.startswith("Serial Number"))
