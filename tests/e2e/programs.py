"""The programs of the end-to-end tests: this server as a process of its own, and real encoders and players.

Everything listens on 127.0.0.1 on free ports, and every process that is started here is ended here, by its id.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import imageio_ffmpeg
from twisted.trial.unittest import TestCase

from tests import leaks

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
FFMPEG_5 = "/usr/bin/ffmpeg"
"""Debian's: no Enhanced RTMP."""
FFMPEG_9 = imageio_ffmpeg.get_ffmpeg_exe()
"""Enhanced RTMP, newer encoders."""

_PORTS = (10_000, 32_000)
STARTUP = 20.0
STOP = 8.0


def free_port() -> int:
    """A TCP port that nobody uses now, and that the system gives to no client before the server takes it: one below
    the range that it chooses from by itself."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(*_PORTS)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """What `look` finds, as soon as it finds something true. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


class Program:
    """A child process whose output goes to a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
        files: Sequence[int] = (),
    ) -> None:
        """`files` are descriptors that it is given."""
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ) if environ is not None else None,
                cwd=log.parent,
                pass_fds=files,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM, wait: float = STOP) -> int:
        """Send a signal, then wait for the end; a process that does not end is killed, and that fails."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"the process did not end within {wait:g} s of signal {number}:\n{self.output}"
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Server(Program):
    """`oxidecast run` on free ports, with a data directory of its own. A setting of None is not set at all."""

    def __init__(
        self, folder: Path, *arguments: str, settings: Mapping[str, str | None] | None = None
    ) -> None:
        self.folder = folder
        self.http, self.rtmp = free_port(), free_port()
        environ: dict[str, str | None] = {
            # A setting of whoever runs the tests is none of this server's.
            **{name: value for name, value in os.environ.items() if not name.startswith("OXIDECAST_")},
            "PYTHONPATH": str(ROOT),
            "OXIDECAST_SERVER_HOST": "127.0.0.1",
            "OXIDECAST_SERVER_PORT": str(self.http),
            "OXIDECAST_RTMP_BIND_ADDRESS": f"127.0.0.1:{self.rtmp}",
            "OXIDECAST_WEBRTC_HOST": "127.0.0.1",
            "OXIDECAST_WEBRTC_PORT": "0",
            "OXIDECAST_MULTICAST_INTERFACE": "127.0.0.1",
            "OXIDECAST_RATE_LIMIT_EXEMPT": '["127.0.0.0/8"]',
            "OXIDECAST_DATA_DIR": str(folder / "data"),
            "OXIDECAST_LOGGING_LEVEL": "debug",
            **(settings or {}),
        }
        self.environ = {name: value for name, value in environ.items() if value is not None}
        self._arguments = arguments
        self._token = ""
        self.secrets: set[str] = set()
        """Keys, passwords and tokens that this run knows of: none may be found in the log."""
        self._start()

    def _start(self, answers: str = "/ready") -> None:
        command = [sys.executable, "-m", "oxidecast.cli", "run", *self._arguments]
        super().__init__(command, self.folder / "server.log", self.environ)
        until(lambda: self._does_answer(answers), STARTUP, f"the server answers {answers}")

    def _is_ready(self) -> bool:
        return self._does_answer("/ready")

    def _does_answer(self, path: str) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{self.output}")
        try:
            with urlopen(f"{self.url}{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def restart(self, number: int = signal.SIGTERM, answers: str = "/ready") -> None:
        """End the server and start it again on the same ports and data."""
        self.stop(number)
        self._token = ""
        self._start(answers)

    def assert_clean(self) -> None:
        """The log holds no traceback, and no secret."""
        output = self.output
        assert "Traceback" not in output, output
        assert not leaks.SQL.search(output), output
        for secret in self.secrets:
            assert secret not in output, f"a secret is in the log: {output}"

    def metric(self, name: str) -> float:
        """A figure without labels from /metrics."""
        text = self.get("/metrics")[1].decode()
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def hls(self, name: str) -> str:
        return f"{self.url}/api/v1/hls/{name}/playlist.m3u8"

    def ingest(self, key: str) -> str:
        return f"rtmp://127.0.0.1:{self.rtmp}/live/{key}"

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another `oxidecast` command on the same data."""
        return subprocess.run(
            [sys.executable, "-m", "oxidecast.cli", *arguments],
            env=self.environ,
            cwd=self.folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """An API call below /api/v1: (status, envelope)."""
        request = Request(f"{self.url}/api/v1{path}", method=method, headers=dict(headers or {}))
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.loads(self._looked_at(request, error))

    @property
    def admin(self) -> str:
        """An access token of the first user."""
        if not self._token:
            password = (self.folder / "data" / "admin-password").read_text().strip()
            status, answer = self.call("POST", "/auth/login", {"username": "admin", "password": password})
            assert status == 200, answer
            self._token = answer["data"]["access_token"]
            self.secrets |= {password, self._token, answer["data"]["refresh_token"]}
        return self._token

    def new_stream(self, title: str, **more: Any) -> tuple[str, str]:
        """A new stream: (public name, key)."""
        status, answer = self.call("POST", "/streams", {"title": title, **more}, self.admin)
        assert status == 201, answer
        self.secrets.add(answer["data"]["stream_key"])
        return answer["data"]["name"], answer["data"]["stream_key"]

    def stream(self, name: str) -> dict[str, Any]:
        """What the API says of a stream, to its owner."""
        status, answer = self.call("GET", f"/streams/{name}", token=self.admin)
        assert status == 200, answer
        data: dict[str, Any] = answer["data"]
        return data

    def wait_live(self, name: str, seconds: float = 15) -> dict[str, Any]:
        """The stream, once it is live and HLS has a first segment."""
        until(lambda: self.stream(name)["state"] == "live", seconds, f"{name} is live")
        # A private stream's, too: its owner asks.
        playlist = f"/api/v1/hls/{name}/playlist.m3u8?token={self.admin}"
        until(lambda: self.get(playlist)[0] == 200, seconds, f"{name} has a playlist")
        return self.stream(name)

    def get(self, path: str) -> tuple[int, bytes]:
        """GET a path (or an address of this server): (status, body)."""
        try:
            with urlopen(path if path.startswith("http") else self.url + path, timeout=15) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, self._looked_at(path, error)

    def _looked_at(self, call: Any, error: HTTPError) -> bytes:
        """The body of an error, which tells nothing that it should not."""
        body = error.read()
        text = body.decode("utf-8", "replace")
        assert not any(secret in text for secret in self.secrets), f"a secret in an answer: {text}"
        leaks.look_at_answer(str(call), error.code, body)
        return body

    def media_playlist(self, name: str, rendition: str = "source") -> tuple[str, str]:
        """A media playlist of a new session: (its address, its text)."""
        status, body = self.get(f"/api/v1/hls/{name}/playlist.m3u8")
        assert status == 200, body
        line = next(line for line in body.decode().splitlines() if f"/{rendition}/" in line)
        address = f"{self.url}/api/v1/hls/{name}/{line}"
        status, body = self.get(address)
        assert status == 200, body
        return address, body.decode()


@contextmanager
def server(*arguments: str, settings: Mapping[str, str | None] | None = None) -> Iterator[Server]:
    """A running server, gone afterwards with all that it wrote. Its log must hold no traceback."""
    with TemporaryDirectory(prefix="oxidecast-") as folder:
        running = Server(Path(folder), *arguments, settings=settings)
        with running:
            yield running
            if running.process.poll() is None:
                running.stop()
        running.assert_clean()


class ServerCase(TestCase):
    """Tests that share one server, each with streams of its own."""

    settings: Mapping[str, str | None] = {}
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._stack = ExitStack()
        cls.server = cls._stack.enter_context(server(settings=cls.settings))

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.close()
        super().tearDownClass()

    def assert_near(self, found: float, expected: float, delta: float, what: object = "") -> None:
        assert abs(found - expected) <= delta, f"{found} is not {expected} within {delta}: {what}"

    def log(self, name: str) -> Path:
        """A new file for a program's output."""
        return self.server.folder / f"{name}-{self.id().rpartition('.')[2]}-{time.monotonic_ns()}.log"


def publish(
    url: str,
    log: Path,
    *,
    ffmpeg: str = FFMPEG_5,
    size: str = "640x360",
    rate: int = 30,
    gop: int = 60,
    seconds: float = 120,
    video: Sequence[str] | None = ("libx264", "-preset", "ultrafast", "-bf", "2"),
    audio: Sequence[str] | None = ("aac", "-b:a", "96k"),
    more: Sequence[str] = (),
) -> Program:
    """An ffmpeg that publishes a test picture and a tone in real time. None leaves a track out."""
    inputs: list[str] = []
    if video is not None:
        inputs += ["-re", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}"]
    if audio is not None:
        inputs += ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
    coders: list[str] = []
    if video is not None:
        coders += ["-c:v", *video, "-g", str(gop), "-pix_fmt", "yuv420p"]
    if audio is not None:
        coders += ["-c:a", *audio]
    # It must not outlive a test run that is killed; `timeout` would be one process more, which takes the signals.
    return Program(
        ["setpriv", "--pdeathsig=KILL", ffmpeg, "-hide_banner", "-loglevel", "warning", "-nostdin"]
        + [*inputs, *coders, "-t", str(seconds), *more, "-f", "flv", url],
        log,
    )


def probe(url: str, seconds: float = 20) -> list[dict[str, Any]]:
    """What ffprobe says of the streams at an address."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_streams", url],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    streams: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    return streams


def durations(playlist: str) -> list[float]:
    """The EXTINF durations of a media playlist."""
    return [float(value) for value in re.findall(r"#EXTINF:([0-9.]+)", playlist)]
