"""Recordings end to end: a real encoder, the API, and what ffprobe, FFmpeg, VLC and Chromium make of the files."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.e2e.browser import BrowserTestCase
from tests.e2e.programs import FFMPEG_9, Program, Server, ServerCase, publish, server, until
from tests.e2e.test_publish import ENHANCED
from tests.e2e.vlc import watching

AV1 = ("libsvtav1", "-preset", "12", "-svtav1-params", "lookahead=0")
HEVC = ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:min-keyint=30")
OPUS = ("libopus", "-b:a", "64k")
SMALL = {"size": "320x180", "gop": 30}

PLAY = """async ([at]) => {
    const video = document.querySelector('video'), seconds = 1000;
    const told = name => new Promise((heard, failed) => {
        video.addEventListener(name, heard, {once: true});
        video.addEventListener('error', () => failed(video.error.message), {once: true});
        setTimeout(() => failed('no ' + name), 10 * seconds);
    });
    if (video.readyState < 1) await told('loadedmetadata');
    const duration = video.duration, seeked = told('seeked');
    video.muted = true;
    video.currentTime = at;
    await seeked;
    await video.play();
    await new Promise(done => setTimeout(done, seconds));
    return [duration, video.currentTime, video.getVideoPlaybackQuality().totalVideoFrames,
            video.webkitAudioDecodedByteCount];
}"""
"""Seek to a place, and play a second from there."""


def look(url: str) -> tuple[float, dict[str, float]]:
    """What ffprobe says: the duration, and each codec's."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found = json.loads(done.stdout)
    return float(found["format"]["duration"]), {
        one["codec_name"]: float(one["duration"]) for one in found["streams"]
    }


def complaints(url: str, ffmpeg: str = FFMPEG_9) -> str:
    """What a decoder says of every frame."""
    command = [ffmpeg, "-v", "warning", "-nostdin", "-xerror", "-i", url, "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stderr


def recordings(running: Server, query: str = "") -> list[dict[str, Any]]:
    status, answer = running.call("GET", f"/recordings{query}", token=running.admin)
    assert status == 200, answer
    items: list[dict[str, Any]] = answer["data"]["items"]
    return items


def complete(running: Server, name: str) -> dict[str, Any]:
    """The stream's only recording, when it is over."""
    [one] = until(lambda: recordings(running, f"?stream={name}&state=complete"), 10, f"{name} is recorded")
    return one


def address(running: Server, one: dict[str, Any]) -> str:
    status, answer = running.call("GET", f"/recordings/{one['id']}/url", token=running.admin)
    assert status == 200, answer
    url: str = answer["data"]["url"]
    running.secrets.add(url.partition("token=")[2])
    return url


def written(running: Server) -> list[Path]:
    return list((running.folder / "data" / "recordings").rglob("*.mp4"))


class Recorded(ServerCase, BrowserTestCase):
    def new(self, title: str) -> tuple[str, str]:
        return self.server.new_stream(title, recording_enabled=True)

    def sending(self, key: str, **more: Any) -> Program:
        return publish(self.server.ingest(key), self.log("ffmpeg"), **more)

    def end(self, name: str) -> dict[str, Any]:
        self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        return complete(self.server, name)

    def send(self, key: str, seconds: float, **more: Any) -> None:
        """A publisher that ends by itself."""
        with self.sending(key, seconds=seconds, **more) as encoder:
            encoder.process.wait(60)

    def test_a_publisher_that_comes_back(self) -> None:
        name, key = self.new("Comes back")
        began = time.monotonic()
        self.send(key, 5, **SMALL)
        away = time.monotonic()
        time.sleep(2)
        self.send(key, 4, **SMALL)
        lasted = time.monotonic() - began
        one = self.end(name)
        url = address(self.server, one)
        duration, codecs = look(url)
        self.assertEqual(set(codecs), {"h264", "aac"})
        self.assert_near(duration, one["duration"], 0.1)
        assert away - began + 2 + 2 < duration < lasted, (duration, lasted)
        self.assertEqual(complaints(url), "")
        self.assertEqual(self.server.get(url)[0], 200)

        with watching(url, self.log("vlc")) as vlc:
            until(lambda: vlc.counters().get("frames displayed"), 10, "VLC displays it")
            length = until(lambda: _number(vlc.ask("get_length", "\n")), 5, "VLC knows its length")
            self.assert_near(length, duration, 1)
            vlc.ask(f"seek {length - 2}", "\n")
            until(lambda: (_number(vlc.ask("get_time", "\n")) or 0) >= length - 2, 5, "VLC is near the end")

        page = self.open(url)
        found, at, frames, sound = page.evaluate(PLAY, [duration - 3])
        self.assert_near(found, duration, 0.1)
        assert duration - 3 + 0.5 < at < duration - 0.5, at
        assert frames > 10 and sound > 1000, (frames, sound)

        self.server.call("DELETE", f"/recordings/{one['id']}", token=self.server.admin)
        assert not [path for path in written(self.server) if one["id"] in path.name]

    def test_one_that_is_deleted_while_it_is_written(self) -> None:
        name, key = self.new("Deleted")
        with self.sending(key, **SMALL):
            [one] = until(lambda: recordings(self.server, f"?stream={name}"), 15, "it is being written")
            self.assertEqual(one["state"], "writing")
            status, _ = self.server.call("DELETE", f"/recordings/{one['id']}", token=self.server.admin)
            self.assertEqual(status, 200)
            self.assertEqual(recordings(self.server, f"?stream={name}"), [])
            self.assertEqual(self.server.stream(name)["state"], "live", "the stream goes on")
            assert not [path for path in written(self.server) if one["id"] in path.name]

    def test_switched_on_and_off_by_the_owner(self) -> None:
        name, key = self.server.new_stream("Switched")
        with self.sending(key, **SMALL):
            self.server.wait_live(name)
            self.assertEqual(recordings(self.server, f"?stream={name}"), [])
            for enabled in (True, False):
                self.server.call(
                    "PATCH", f"/streams/{name}", {"recording_enabled": enabled}, self.server.admin
                )
                time.sleep(2)
            self.assertEqual(complaints(address(self.server, complete(self.server, name))), "")

    def test_hevc_and_opus(self) -> None:
        self.check_codecs("hevc", HEVC)

    def test_av1_and_opus(self) -> None:
        self.check_codecs("av1", AV1)

    def check_codecs(self, codec: str, video: tuple[str, ...]) -> None:
        name, key = self.new(codec)
        self.send(key, 3, ffmpeg=FFMPEG_9, video=video, audio=OPUS, more=ENHANCED, **SMALL)
        url = address(self.server, self.end(name))
        duration, codecs = look(url)
        self.assertEqual(set(codecs), {codec, "opus"})
        self.assert_near(duration, 3, 0.4)
        self.assertEqual(complaints(url), "")


class Crashed(TestCase):
    def test_what_was_written_until_the_server_was_killed(self) -> None:
        with server() as running:
            name, key = running.new_stream("Crashed", recording_enabled=True)
            with publish(running.ingest(key), running.folder / "ffmpeg.log", **SMALL):
                until(lambda: sum(path.stat().st_size for path in written(running)) > 200_000, 20, "some")
                running.restart(signal.SIGKILL)
            one = until(lambda: recordings(running, "?state=complete"), 10, "it is in order")[0]
            assert "the server ended" in one["error"], one
            url = address(running, one)
            assert abs(look(url)[0] - one["duration"]) < 0.2, one
            self.assertEqual(complaints(url), "")
            running.call("POST", f"/streams/{name}/stop", token=running.admin)


class Full(ServerCase):
    settings = {"OXIDECAST_STORAGE_MAX_STORAGE_SIZE": "300000"}

    def test_the_stream_goes_on_without_being_recorded(self) -> None:
        name, key = self.server.new_stream("Full", recording_enabled=True)
        with publish(self.server.ingest(key), self.log("ffmpeg"), **SMALL):
            [one] = until(lambda: recordings(self.server, "?state=failed"), 30, "there is no more room")
            assert "max_storage_size" in one["error"], one
            shown = self.server.stream(name)
            self.assertEqual(shown["state"], "live")
            assert any("recording stopped" in notice for notice in shown["notices"]), shown["notices"]
            self.assertEqual(complaints(address(self.server, one)), "")


def _number(text: str) -> int | None:
    """VLC's answer, among what else it says."""
    lines = [line.strip().lstrip("> ") for line in text.splitlines()]
    return next((int(line) for line in lines if line.isdigit()), None)
