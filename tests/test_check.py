"""`oxidecast check` on this machine."""

import shutil
import socket
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oxidecast import check as module
from oxidecast.check import FAIL, OK, WARN, check
from oxidecast.settings.private import open_data_directory
from oxidecast.settings.secrets import open_secrets
from oxidecast.settings.sections import HardwareAcceleration, TranscodingSettings
from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.delivery.secure import Authority


class CheckTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(module, "_encoder", lambda: (OK, "encoder: not tried in this test"))
        self.patch(module, "_encoders", lambda settings: ())
        self.environ = {
            "OXIDECAST_SERVER_PORT": "0",
            "OXIDECAST_RTMP_BIND_ADDRESS": "127.0.0.1:0",
            "OXIDECAST_WEBRTC_HOST": "127.0.0.1",
            "OXIDECAST_WEBRTC_PORT": "0",
        }

    def check(self) -> tuple[int, list[str]]:
        lines: list[str] = []
        return check(None, self.folder / "data", self.environ, lines.append), lines


class TestCheck(CheckTestCase):
    def test_a_machine_that_will_do(self) -> None:
        status, lines = self.check()
        self.assertEqual(status, 0, lines)
        self.assertTrue(all(line.split()[0] in (OK, WARN) for line in lines))
        self.assertIn("hls", "".join(lines))

    def test_where_recordings_go(self) -> None:
        for path, verdict in (
            ("recordings", OK),
            (str(self.folder / "elsewhere"), OK),
            ("/proc/recordings", FAIL),
        ):
            self.environ["OXIDECAST_STORAGE_RECORDINGS_PATH"] = path
            _, lines = self.check()
            [line] = [line for line in lines if "recordings:" in line]
            self.assertEqual((path, line.split()[0]), (path, verdict))
            self.assertIn("storage.recordings_path" if verdict == FAIL else path, line)
        self.assertEqual(list(self.folder.iterdir()), [], "nothing is made")

    def test_wrong_settings_are_the_only_line(self) -> None:
        self.environ["OXIDECAST_NOTHING_AT_ALL"] = "1"
        status, lines = self.check()
        self.assertEqual((status, len(lines)), (1, 1))

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("0.0.0.0", 0)) as taken:
            self.environ["OXIDECAST_SERVER_PORT"] = number = str(taken.getsockname()[1])
            status, lines = self.check()
        (line,) = [line for line in lines if line.startswith(FAIL)]
        self.assertEqual(status, 1)
        self.assertIn(
            f"HTTP port {number} on 0.0.0.0: Address already in use; free it, or set server.port", line
        )

    def test_a_host_that_does_not_exist_is_a_line_too(self) -> None:
        for host in ("no-such-host.invalid", "x" * 70):
            self.environ["OXIDECAST_SERVER_HOST"] = host
            status, lines = self.check()
            self.assertEqual(status, 1)
            self.assertNotIn("Unknown error", "".join(lines))

    def test_a_data_directory_that_cannot_be_used(self) -> None:
        (self.folder / "data").write_text("a file")
        status, lines = self.check()
        self.assertEqual(status, 1)
        self.assertTrue(any(line.startswith(FAIL) and "data directory" in line for line in lines))

    def test_a_data_directory_that_is_not_there_is_not_made(self) -> None:
        status, lines = self.check()
        self.assertEqual(status, 0, lines)
        self.assertIn(f"{self.folder} can be written", "".join(lines))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_data_directory_that_is_there_is_tried_and_left_as_it_is(self) -> None:
        data = self.folder / "data"
        data.mkdir(mode=0o755)
        lines = self.check()[1]
        self.assertIn(f"data directory {data} can be written", "".join(lines))
        self.assertEqual((data.stat().st_mode & 0o777, list(data.iterdir())), (0o755, []))

    def test_a_data_directory_that_could_not_be_made(self) -> None:
        (self.folder / "file").write_text("a file")
        lines: list[str] = []
        check(None, self.folder / "file" / "data", self.environ, lines.append)
        self.assertTrue(any(line.startswith(FAIL) and "data directory" in line for line in lines), lines)

    def test_secrets_that_are_damaged(self) -> None:
        (self.folder / "data").mkdir()
        file = self.folder / "data" / "secrets.toml"
        file.write_text("nonsense")
        file.chmod(0o600)
        status, lines = self.check()
        self.assertEqual(status, 1)
        self.assertTrue(any(line.startswith(FAIL) and "secrets.toml is damaged" in line for line in lines))

    def test_a_key_for_tokens_that_is_none(self) -> None:
        open_data_directory(self.folder / "data")
        open_secrets(self.folder / "data")
        (self.folder / "data" / "token-key.pem").write_text("nonsense")
        self.environ["OXIDECAST_AUTH_SIGNING_KEY"] = "token-key.pem"
        status, lines = self.check()
        self.assertEqual(status, 1)
        self.assertTrue(any(line.startswith(FAIL) and "no private key" in line for line in lines), lines)

    def test_a_disk_that_is_nearly_full(self) -> None:
        self.patch(module, "LEAST_FREE", 1 << 62)
        status, lines = self.check()
        self.assertEqual(status, 0)
        self.assertTrue(any(line.startswith(WARN) and "make room" in line for line in lines))

    def test_a_clock_that_was_never_set(self) -> None:
        self.patch(module, "EARLIEST_CLOCK", 1 << 40)
        self.assertEqual(self.check()[0], 1)


class TestDatabase(CheckTestCase):
    def failed(self) -> str:
        """The one line that fails."""
        status, lines = self.check()
        self.assertEqual(status, 1)
        (line,) = [line for line in lines if line.startswith(FAIL)]
        return line

    def test_a_look_makes_none(self) -> None:
        self.check()
        self.assertFalse((self.folder / "data" / "oxidecast.db").exists())

    def test_a_file_that_is_no_database(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "data" / "oxidecast.db").write_bytes(b"garbage" * 100)
        self.assertIn("not an SQLite database", self.failed())

    def test_a_postgresql_server_that_answers(self) -> None:
        self.environ["DATABASE_URL"] = cluster().url(create_database(self, cluster()))
        status, lines = self.check()
        self.assertEqual(status, 0, lines)
        self.assertIn(
            f"{OK}    database: PostgreSQL, it answers, and the first start makes its tables", lines
        )

    def test_a_postgresql_server_that_lets_nobody_in(self) -> None:
        self.environ["DATABASE_URL"] = cluster().url("postgres", password="hunter2")
        line = self.failed()
        self.assertIn("refuses the user or the password", line)
        self.assertNotIn("hunter2", line)


class TestEncoder(SynchronousTestCase):
    def test_a_frame_is_encoded_for_real(self) -> None:
        verdict, text = module._encoder()
        self.assertEqual(verdict, OK, text)

    def test_an_encoder_that_is_not_there_is_a_warning_with_its_reason(self) -> None:
        self.patch(module, "PROBE", "import no_such_encoder")
        verdict, text = module._encoder()
        self.assertEqual(verdict, WARN)
        self.assertIn("no_such_encoder", text)

    def test_every_family_is_tried(self) -> None:
        lines = dict(reversed(line) for line in module._encoders(TranscodingSettings()))
        self.assertEqual(
            lines["transcoding with software: libx264 works; libx265 works; libsvtav1 works"], OK
        )
        self.assertEqual(len(lines), 5)

    def test_a_device_that_is_asked_for_and_not_there_is_a_warning(self) -> None:
        asked = TranscodingSettings(
            hardware_acceleration=HardwareAcceleration(enabled=True, device="videotoolbox")
        )
        warnings = [text for verdict, text in module._encoders(asked) if verdict == WARN]
        if sys.platform != "darwin":
            (warning,) = warnings
            self.assertIn("no such encoder; streams are transcoded in software", warning)


class TestCertificates(CheckTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = Authority()
        self.environ |= {
            "OXIDECAST_SERVER_TLS_PORT": "0",
            "OXIDECAST_RTMP_TLS_BIND_ADDRESS": "127.0.0.1:0",
            "OXIDECAST_TLS_CERTIFICATE_FILE": str(self.folder / "a.pem"),
        }

    def said(self) -> tuple[int, list[str]]:
        status, lines = self.check()
        return status, [line for line in lines if "TLS: " in line]

    def test_a_good_one_says_for_whom_and_until_when(self) -> None:
        issued = self.root.issue("a.example", "b.example")
        issued.write(self.folder / "a.pem")
        day = issued.certificate.not_valid_after_utc.strftime("%Y-%m-%d")
        self.assertEqual(
            self.said(),
            (0, [f"ok    TLS: the certificate for a.example, b.example is valid until {day}"]),
        )
        self.assertIn("RTMPS port 0 on 127.0.0.1 is free", "".join(self.check()[1]))

    def test_an_expired_one_fails(self) -> None:
        self.root.issue("a.example", begins=-90, ends=-1).write(self.folder / "a.pem")
        status, (line,) = self.said()
        self.assertEqual(status, 1)
        self.assertRegex(line, r"^fail  TLS: the certificate for a\.example expired on .*: renew it")

    def test_one_that_expires_soon_is_a_warning(self) -> None:
        self.root.issue("a.example", begins=-85, ends=5).write(self.folder / "a.pem")
        status, (line,) = self.said()
        self.assertEqual((status, line[:4]), (0, WARN))

    def test_a_key_that_does_not_fit_fails(self) -> None:
        issued = self.root.issue("a.example")
        issued.key = self.root.issue("a.example").key
        issued.write(self.folder / "a.pem")
        status, (line,) = self.said()
        self.assertEqual(status, 1)
        self.assertIn("does not fit the certificate", line)

    def test_a_key_that_everybody_can_read_is_a_warning(self) -> None:
        self.root.issue("a.example").write(self.folder / "a.pem").chmod(0o644)
        status, lines = self.said()
        self.assertEqual((status, lines[0][:4]), (0, WARN))
        self.assertIn("every user can read the private key", lines[0])

    def test_a_redirect_without_any_is_a_warning(self) -> None:
        del self.environ["OXIDECAST_TLS_CERTIFICATE_FILE"]
        self.environ["OXIDECAST_TLS_REDIRECT"] = "true"
        status, (line,) = self.said()
        self.assertEqual((status, line[:4]), (0, WARN))

    def test_without_any_nothing_is_said(self) -> None:
        del self.environ["OXIDECAST_TLS_CERTIFICATE_FILE"]
        lines = self.check()[1]
        self.assertFalse(any("TLS" in line or "HTTPS" in line or "RTMPS" in line for line in lines), lines)
