"""A server, real encoders and players, and an address of the operator's that hears of them and decides about them."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twisted.trial.unittest import TestCase

from tests.e2e.programs import FFMPEG_5, Server, publish, server, until
from tests.webhooks.receiver import SECRET
from tests.webhooks.test_signature import readme_verify

REASON = "Your plan has ended."


class Operator:
    """The operator's own program: it takes what is posted to /events, and says no at /publish and /play to whom it
    does not want."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.questions: list[Any] = []
        self.unsigned: list[str] = []
        self.banned: set[str] = set()
        """Names of streams."""
        operator, verify = self, readme_verify()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if not verify(headers, body, SECRET):
                    operator.unsigned.append(self.path)
                status, answer = operator.answer(self.path, json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, path: str, post: Any) -> tuple[int, bytes]:
        if path == "/events":
            self.events.append(post)
            return 204, b""
        self.questions.append(post)
        if post["data"]["stream"] is not None and post["data"]["stream"]["name"] in self.banned:
            return 403, json.dumps({"reason": REASON}).encode()
        if post["data"].get("key") == "a-key-of-the-operator":
            return 200, json.dumps({"stream": "mapped"}).encode()
        return 204, b""

    def of(self, type: str, stream: str) -> list[Any]:
        """The data of the events of a type about a stream."""
        found = [post["data"] for post in self.events if post["type"] == type]
        return [data for data in found if data["stream"]["name"] == stream]


@contextmanager
def house() -> Iterator[tuple[Operator, Server]]:
    operator = Operator()
    thread = threading.Thread(target=operator.http.serve_forever)
    thread.start()
    endpoint = {"name": "site", "url": f"{operator.url}/events", "secret": SECRET, "allow_private": True}
    settings = {
        "OXIDECAST_STREAMS_PUBLISHER_GRACE": "1",
        "OXIDECAST_WEBHOOKS_ENDPOINTS": json.dumps([endpoint]),
        "OXIDECAST_WEBHOOKS_ON_PUBLISH_URL": f"{operator.url}/publish",
        "OXIDECAST_WEBHOOKS_ON_PUBLISH_SECRET": SECRET,
        "OXIDECAST_WEBHOOKS_ON_PUBLISH_ALLOW_PRIVATE": "true",
        "OXIDECAST_WEBHOOKS_ON_PLAY_URL": f"{operator.url}/play",
        "OXIDECAST_WEBHOOKS_ON_PLAY_SECRET": SECRET,
        "OXIDECAST_WEBHOOKS_ON_PLAY_ALLOW_PRIVATE": "true",
    }
    try:
        with server(settings=settings) as running:
            running.secrets.add(SECRET)
            yield operator, running
    finally:
        operator.http.shutdown()
        thread.join()
        operator.http.server_close()


class Webhooks(TestCase):
    def test_the_operator_hears_of_streams_and_decides_about_them(self) -> None:
        with house() as (operator, running):
            self._a_stream_is_told_of(operator, running)
            self._a_publisher_is_refused(operator, running)
            self._a_key_of_the_operator_s_publishes(operator, running)
            self.assertEqual(operator.unsigned, [])
            keys = [secret for secret in running.secrets if secret not in (SECRET, running.admin)]
            posted = json.dumps([operator.events, operator.questions])
            self.assertEqual([key for key in keys if key in posted], [])

    def _a_stream_is_told_of(self, operator: Operator, running: Server) -> None:
        name, key = running.new_stream("Told")
        with publish(running.ingest(key), running.folder / "told.log", seconds=30) as encoder:
            running.wait_live(name)
            (started,) = until(lambda: operator.of("stream.started", name), 5, "stream.started")
            self.assertEqual([track["kind"] for track in started["tracks"]], ["video", "audio"])
            # A player is let in, and refused once the operator does not want it any more.
            playing = subprocess.run(_ffprobe(running.hls(name)), capture_output=True, text=True, timeout=20)
            self.assertEqual(playing.returncode, 0, playing.stderr)
            operator.banned.add(name)
            until(lambda: running.get(running.hls(name))[0] == 401, 15, "the player is refused")
            self.assertIn(REASON.encode(), running.get(running.hls(name))[1])
            playing = subprocess.run(_ffprobe(running.hls(name)), capture_output=True, text=True, timeout=20)
            self.assertNotEqual(playing.returncode, 0)
            self.assertIn("401", playing.stderr)
            encoder.stop(2)
        (stopped,) = until(lambda: operator.of("stream.stopped", name), 10, "stream.stopped")
        self.assertEqual(stopped["stream"]["id"], started["stream"]["id"])

    def _a_publisher_is_refused(self, operator: Operator, running: Server) -> None:
        name, key = running.new_stream("Banned")
        operator.banned.add(name)
        with publish(running.ingest(key), running.folder / "banned.log", seconds=20) as encoder:
            self.assertNotEqual(encoder.process.wait(15), 0)
            self.assertIn(REASON, encoder.output)
        found = until(
            lambda: [post for post in operator.events if post["type"] == "publish.refused"],
            10,
            "publish.refused",
        )
        (refusal,) = found[0]["data"]["refusals"]
        self.assertEqual((refusal["stream"]["name"], refusal["sentence"]), (name, REASON))

    def _a_key_of_the_operator_s_publishes(self, operator: Operator, running: Server) -> None:
        running.new_stream("Mapped")
        url = running.ingest("a-key-of-the-operator")
        with publish(url, running.folder / "mapped.log", ffmpeg=FFMPEG_5, seconds=30) as encoder:
            running.wait_live("mapped")
            encoder.stop(2)


def _ffprobe(url: str) -> list[str]:
    return ["ffprobe", "-v", "error", "-show_streams", url]
