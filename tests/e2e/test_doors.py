"""Every way to start the server, stop it, and ask it something from the command line."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import TestCase

from tests.e2e.programs import ROOT, Program, Server, free_port, publish, server, until

STOPS_WITHIN = 5.0
FAILS_WITHIN = 10.0

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
DOORS: Mapping[str, list[str]] = {
    "oxidecast run": [sys.executable, "-m", "oxidecast.cli", "run"],
    "twistd oxidecast": [*TWISTD, "-n", "oxidecast"],
    "twistd -noy oxidecast.tac": [*TWISTD, "-noy", str(ROOT / "oxidecast.tac")],
}


class Door(Server):
    """The server, started by another command."""

    def __init__(self, folder: Path, command: list[str], settings: Mapping[str, str] | None = None) -> None:
        self._command = command
        super().__init__(folder, settings=settings)

    def _start(self) -> None:
        Program.__init__(self, self._command, self.folder / "server.log", self.environ)
        until(self._is_ready, 20, "the server answers /ready")


@contextmanager
def opened(door: str) -> Iterator[Door]:
    with TemporaryDirectory(prefix="oxidecast-") as folder, Door(Path(folder), DOORS[door]) as running:
        yield running
        running.assert_clean()


class DoorTests(TestCase):
    def opens_and_closes(self, door: str, number: int) -> None:
        """Start, publish, stop by a signal in the middle of it."""
        with opened(door) as running:
            name, key = running.new_stream("Live")
            with publish(running.ingest(key), running.folder / "encoder.log") as encoder:
                running.wait_live(name)
                address, _ = running.media_playlist(name)
                # A kept connection of a viewer that asks nothing, and one in the middle of its question.
                idle = socket.create_connection(("127.0.0.1", running.http))
                idle.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
                asking = socket.create_connection(("127.0.0.1", running.http))
                asking.sendall(b"GET /health HTTP/1.1\r\n")
                silent = socket.create_connection(("127.0.0.1", running.rtmp))
                began = time.monotonic()
                running.process.send_signal(number)
                status = running.process.wait(STOPS_WITHIN)
                self.assertLess(time.monotonic() - began, STOPS_WITHIN)
                self.assertEqual(status, 0, running.output)
                until(lambda: encoder.process.poll() is not None, 5, "the encoder is let go")
                for connection in (idle, asking, silent):
                    connection.close()
            self.assertIn("shutting down", running.output)
            with self.assertRaises(OSError):
                running.get(address)

    def test_oxidecast_run_stops_on_SIGTERM(self) -> None:
        self.opens_and_closes("oxidecast run", signal.SIGTERM)

    def test_oxidecast_run_stops_on_SIGINT(self) -> None:
        self.opens_and_closes("oxidecast run", signal.SIGINT)

    def test_twistd_oxidecast_stops_on_SIGTERM(self) -> None:
        self.opens_and_closes("twistd oxidecast", signal.SIGTERM)

    def test_twistd_with_the_tap_file_stops_on_SIGINT(self) -> None:
        self.opens_and_closes("twistd -noy oxidecast.tac", signal.SIGINT)

    def test_a_viewer_with_an_answer_in_flight_gets_the_ended_playlist(self) -> None:
        """The playlist that a viewer asked for while the server stops is the last one."""
        with opened("oxidecast run") as running:
            name, key = running.new_stream("Live")
            with publish(running.ingest(key), running.folder / "encoder.log"):
                running.wait_live(name)
                path = running.media_playlist(name)[0].removeprefix(running.url)
                with socket.create_connection(("127.0.0.1", running.http)) as viewer:
                    viewer.settimeout(5)
                    # The head is begun before the stop, and finished after it.
                    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n".encode())
                    time.sleep(0.3)
                    running.process.send_signal(signal.SIGTERM)
                    until(
                        lambda: "ended: the server is shutting down" in running.output, 3, "the stream ended"
                    )
                    viewer.sendall(b"Connection: close\r\n\r\n")
                    answer = b""
                    while data := viewer.recv(65536):
                        answer += data
                self.assertEqual(running.process.wait(STOPS_WITHIN), 0)
        self.assertIn(b"#EXT-X-ENDLIST", answer)


class RefusedStartTests(TestCase):
    """What hinders the start is one sentence on stderr, and exit code 1 within seconds."""

    def start(
        self, door: str = "oxidecast run", arguments: tuple[str, ...] = (), **environ: str
    ) -> subprocess.CompletedProcess[str]:
        with TemporaryDirectory(prefix="oxidecast-") as folder:
            return subprocess.run(
                [*DOORS[door], *arguments],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "OXIDECAST_DATA_DIR": f"{folder}/data",
                    "OXIDECAST_SERVER_PORT": str(free_port()),
                    "OXIDECAST_RTMP_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
                    "OXIDECAST_WEBRTC_HOST": "127.0.0.1",
                    "OXIDECAST_WEBRTC_PORT": "0",
                    **environ,
                },
                capture_output=True,
                text=True,
                timeout=FAILS_WITHIN,
                check=False,
            )

    def assert_refused(self, done: subprocess.CompletedProcess[str], *words: str) -> None:
        self.assertEqual(done.returncode, 1, done.stderr)
        sentences = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertEqual(len(sentences), 1, done.stderr)
        for word in words:
            self.assertIn(word, sentences[0])
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_the_http_port_is_taken(self) -> None:
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = str(taken.getsockname()[1])
            for door in DOORS:
                self.assert_refused(self.start(door, OXIDECAST_SERVER_PORT=port), "HTTP", port, "server.port")

    def test_the_rtmp_port_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = self.start(OXIDECAST_RTMP_BIND_ADDRESS=f"127.0.0.1:{port}")
            self.assert_refused(done, "RTMP", port, "rtmp.bind_address")

    def test_an_unknown_variable(self) -> None:
        done = self.start(OXIDECAST_SERVER_PROT="8080")
        self.assert_refused(done, "OXIDECAST_SERVER_PROT", "OXIDECAST_SERVER_PORT")

    def test_a_wrong_type(self) -> None:
        self.assert_refused(self.start(OXIDECAST_HLS_PLAYLIST_LENGTH="many"), "OXIDECAST_HLS_PLAYLIST_LENGTH")

    def test_an_unknown_key_of_a_file(self) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder, "my.toml")
            file.write_text("[rtmp]\nchunksize = 4096\n")
            done = self.start(arguments=("--config", str(file)))
        self.assert_refused(done, "my.toml", "chunksize", "chunk_size")

    def test_an_unknown_plugin(self) -> None:
        done = self.start(OXIDECAST_PLUGINS_DISABLED='["hsl"]')
        self.assert_refused(done, "'hsl'", "hls")

    def test_a_secret_that_is_too_short_is_not_repeated(self) -> None:
        done = self.start(OXIDECAST_AUTH_JWT_SECRET="hunter2hunter2")
        self.assert_refused(done, "jwt_secret", "32")
        self.assertNotIn("hunter2", done.stderr)

    def test_a_data_directory_that_is_a_file(self) -> None:
        self.assert_refused(self.start(OXIDECAST_DATA_DIR="/dev/null"), "/dev/null")


class CommandTests(TestCase):
    """Commands on the data of a server that runs."""

    def test_commands_work_beside_the_running_server(self) -> None:
        with server() as running:
            name, key = running.new_stream("Shown")

            def ask(*arguments: str, input: str | None = None) -> str:
                done = running.command(*arguments, input=input)
                self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
                return done.stdout

            self.assertEqual(ask("key", "show", name).strip(), key)
            self.assertIn("OxideCast", ask("version"))
            plugins = ask("plugins")
            for plugin in ("hls", "rtmp", "testpattern"):
                self.assertIn(plugin, plugins)
            self.assertIn("up to date", ask("migrate", "--dry-run"))

            login = {"username": "admin", "password": "a new and long password"}
            running.secrets.add(login["password"])
            earlier = running.admin
            old = (running.folder / "data" / "admin-password").read_text().strip()
            ask("user", "passwd", "admin", input=f"{login['password']}\n")
            self.assertEqual(running.call("GET", "/streams", token=earlier)[0], 401)
            status, _ = running.call("POST", "/auth/login", login)
            self.assertEqual(status, 200)
            status, _ = running.call("POST", "/auth/login", {**login, "password": old})
            self.assertEqual(status, 401)

            unknown = running.command("key", "show", "no-such-stream")
            self.assertEqual(unknown.returncode, 1)
            self.assertEqual(len(unknown.stderr.splitlines()), 1)
            self.assertIn("no-such-stream", unknown.stderr)

            checked = running.command("check")
            lines = checked.stdout.splitlines()
            self.assertTrue(all(line.split()[0] in ("ok", "warn", "fail") for line in lines), lines)
            # The ports are the running server's, and `check` says so.
            self.assertEqual(checked.returncode, 1)
            self.assertEqual([line.split()[1] for line in lines if line.startswith("fail")], ["HTTP", "RTMP"])
            running.stop()
            self.assertEqual(running.command("check").returncode, 0)


class ReloadTests(TestCase):
    """SIGHUP."""

    def test_what_can_change_changes_and_the_rest_is_named(self) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder, "oxidecast.toml")

            def write(level: str, origin: str, grace: int, chunk: int) -> None:
                file.write_text(
                    f'[logging]\nlevel = "{level}"\n[cors]\norigins = ["{origin}"]\n'
                    f"[streams]\npublisher_grace = {grace}\n[rtmp]\nchunk_size = {chunk}\n"
                )

            def allowed(running: Server, origin: str) -> bool:
                request = ["curl", "-s", "-i", "-H", f"Origin: {origin}", f"{running.url}/api/v1/streams"]
                answer = subprocess.run(
                    request, capture_output=True, text=True, timeout=10, check=True
                ).stdout
                return f"access-control-allow-origin: {origin}" in answer.lower()

            write("info", "https://one.example", 60, 4096)
            environment = {"OXIDECAST_CONFIG": str(file), "OXIDECAST_LOGGING_LEVEL": None}
            with server(settings=environment) as running:
                name, key = running.new_stream("Reloaded")
                self.assertTrue(allowed(running, "https://one.example"))
                with publish(running.ingest(key), running.folder / "encoder.log") as encoder:
                    running.wait_live(name)
                    write("debug", "https://two.example", 1, 8192)
                    running.process.send_signal(signal.SIGHUP)
                    until(lambda: "settings reloaded" in running.output, 5, "the settings are reloaded")
                    self.assertTrue(allowed(running, "https://two.example"))
                    self.assertFalse(allowed(running, "https://one.example"))
                    reloaded = next(
                        line for line in running.output.splitlines() if "settings reloaded" in line
                    )
                    for key_ in ("logging.level", "cors.origins", "streams.publisher_grace"):
                        self.assertIn(key_, reloaded)
                    self.assertIn("wait for a restart: rtmp.chunk_size", running.output)
                    self.assertEqual(running.stream(name)["state"], "live")
                    encoder.stop(signal.SIGKILL)
                until(lambda: running.stream(name)["state"] == "idle", 5, "the new grace time counts")

                write("error", "https://three.example", 1, 8192)
                running.process.send_signal(signal.SIGHUP)
                until(lambda: allowed(running, "https://three.example"), 5, "the settings are reloaded again")
                with publish(running.ingest(key), running.folder / "encoder.log"):
                    running.wait_live(name)
                self.assertEqual(
                    running.output.count(f"{name} is live"), 1, "nothing below the level is logged"
                )

                file.write_text("[logging]\nlevle = 1\n")
                running.process.send_signal(signal.SIGHUP)
                until(lambda: "were not reloaded" in running.output, 5, "a broken file is refused")
                self.assertEqual(running.get("/ready")[0], 200)
