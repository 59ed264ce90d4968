"""A third party's output, installed beside the server, and one that fails while it runs."""

import json
import socket
import subprocess
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from urllib.request import urlopen

import pytest
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.nal import split_annexb
from tests.e2e.programs import FFMPEG_9, Program, durations, probe, publish, until
from tests.packaging.installation import SLOWEST, InstalledServer, done, installed_server, outside, program

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(3 * SLOWEST)]

FAULTY = dedent(
    '''
    """Works for fifty packets of each stream."""

    from zope.interface import implementer

    from oxidecast.interfaces import IOutput, IOutputStream, ISubscriber
    from oxidecast.registry import Plugin


    @implementer(IOutputStream, ISubscriber)
    class FaultyStream:
        packets = 0

        def rendition_added(self, rendition):
            rendition.subscribe(self, self)

        def packet(self, packet):
            self.packets += 1
            if self.packets > 50:
                raise RuntimeError("the plugin is at its end")

        def restarted(self, reason): ...
        def ended(self, reason): ...
        def rendition_removed(self, name): ...
        def closed(self, reason): ...
        def urls(self, rendition): return {}
        def stats(self): return {}


    @implementer(IOutput)
    class FaultyOutput:
        def __init__(self, settings, services): ...
        def open(self, stream): return FaultyStream()
        def urls(self, info): return {}
        def routes(self): return {}


    faulty = Plugin("faulty", IOutput, FaultyOutput)
    '''
)


def rows(text: str) -> dict[str, list[str]]:
    """`oxidecast plugins` by name."""
    return {line.split()[0]: line.split() for line in text.splitlines()[1:]}


def output_of(server: InstalledServer, stream: str, name: str) -> dict[str, object]:
    """What the owner of a stream is told of one of its outputs."""
    return next(output for output in server.stream(stream)["outputs"] if output["name"] == name)


class CommandTests(SynchronousTestCase):
    """The plugin as `oxidecast plugins` and the start see it."""

    def test_it_is_listed_with_name_kind_version_origin_and_state(self) -> None:
        listed = rows(done(program("oxidecast"), "plugins"))
        self.assertEqual(listed["annexb"], ["annexb", "output", "1.0.0", "oxidecast-annexb", "enabled"])
        self.assertEqual(listed["hls"][3:], ["oxidecast", "enabled"])

    def test_an_unknown_name_in_disabled_refuses_the_start(self) -> None:
        run = subprocess.run(
            [program("oxidecast"), "run"],
            env=outside(OXIDECAST_PLUGINS_DISABLED='["anexb"]'),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        self.assertEqual(run.returncode, 1)
        self.assertIn(
            "plugins.disabled names 'anexb', and no such plugin was found; "
            "found: analytics, annexb, hls, multicast, nvenc, qsv, recording, rtmp, software, testpattern, thumbnails, "
            "vaapi, videotoolbox, webhooks",
            run.stderr,
        )
        self.assertNotIn("Traceback", run.stderr)


class WatchTests(SynchronousTestCase):
    """Its endless answer, read by real programs."""

    def test_ffprobe_reads_the_picture_that_was_published(self) -> None:
        with installed_server() as server:
            name, key = server.new_stream("Raw")
            with publish(server.ingest(key), server.folder / "encoder.log", gop=30):
                details = server.wait_live(name)
                url = details["stream_urls"]["annexb"]
                self.assertEqual(url, f"{server.url}/api/v1/annexb/{name}")
                (picture,) = probe(url)
                self.assertEqual((picture["codec_name"], picture["width"]), ("h264", 640))
                until(lambda: server.stream(name)["viewer_count"] == 0, 10, "ffprobe is no longer counted")

    def test_hevc(self) -> None:
        hevc = ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:min-keyint=30")
        with installed_server() as server:
            name, key = server.new_stream("Raw")
            enhanced = ("-rtmp_enhanced_codecs", "hvc1,av01,vp09")
            log = server.folder / "encoder.log"
            with publish(server.ingest(key), log, ffmpeg=FFMPEG_9, video=hevc, more=enhanced):
                (picture,) = probe(server.wait_live(name)["stream_urls"]["annexb"])
                self.assertEqual((picture["codec_name"], picture["width"]), ("hevc", 640))

    def test_a_private_stream_asks_for_a_token(self) -> None:
        with installed_server() as server:
            name, key = server.new_stream("Raw", is_private=True)
            with publish(server.ingest(key), server.folder / "encoder.log", gop=30):
                until(lambda: server.stream(name)["state"] == "live", 15, "the stream is live")
                self.assertEqual(server.get(f"/api/v1/annexb/{name}")[0], 401)
                status, answer = server.call(
                    "GET", f"/streams/{name}/url?connection_type=annexb", token=server.admin
                )
                self.assertEqual(status, 200, answer)
                with urlopen(answer["data"]["url"], timeout=10) as picture:
                    self.assertEqual(picture.read(5), b"\0\0\0\1\x09")

    def test_who_comes_for_nothing_is_told(self) -> None:
        with installed_server() as server:
            for path in ("nothing", ""):
                status, answer = server.call("GET", f"/annexb/{path}")
                self.assertEqual((status, answer["code"]), (404, "not_live"))

    def test_the_answer_ends_with_the_stream(self) -> None:
        with installed_server({"OXIDECAST_STREAMS_PUBLISHER_GRACE": "0.5"}) as server:
            name, key = server.new_stream("Raw")
            with publish(server.ingest(key), server.folder / "encoder.log", gop=30, seconds=4):
                url = server.wait_live(name)["stream_urls"]["annexb"]
                with urlopen(url, timeout=20) as picture:
                    self.assertTrue(picture.read().startswith(b"\0\0\0\1\x09"))

    def test_disabled_it_is_not_there_and_nothing_else_changes(self) -> None:
        with installed_server({"OXIDECAST_PLUGINS_DISABLED": '["annexb"]'}) as server:
            name, key = server.new_stream("Raw")
            self.assertEqual(rows(server.command("plugins").stdout)["annexb"][-1], "disabled")
            with publish(server.ingest(key), server.folder / "encoder.log", gop=30):
                self.assertEqual(list(server.wait_live(name)["stream_urls"]), ["hls", "multicast", "webrtc"])
                self.assertEqual(server.get(f"/api/v1/annexb/{name}")[0], 404)


class SlowViewerTests(SynchronousTestCase):
    def test_a_slow_viewer_loses_whole_groups_and_nobody_else_notices(self) -> None:
        with installed_server({"OXIDECAST_ANNEXB_MAX_QUEUE": "1000000"}) as server:
            name, key = server.new_stream("Raw")
            video = ("libx264", "-preset", "ultrafast", "-bf", "0", "-qp", "4")
            with publish(server.ingest(key), server.folder / "encoder.log", gop=15, video=video):
                url = server.wait_live(name)["stream_urls"]["annexb"]
                recording = server.folder / "everything.h264"
                with (
                    Program(
                        ["curl", "-sN", "--max-time", "90", "-o", str(recording), url], server.folder / "curl"
                    ),
                    Slow(server, name) as slow,
                ):
                    until(lambda: output_of(server, name, "annexb")["stats"]["dropped"] > 60, 40, "losses")
                    received = pictures(slow.read(9_000_000))[:-1]
                    self.assertEqual(server.stream(name)["viewer_count"], 2)
                    until(lambda: received[-1] in pictures(recording.read_bytes()), 10, "curl has the same")
                everything = pictures(recording.read_bytes())[:-1]
                self.assertGreater(len(durations(server.media_playlist(name)[1])), 3)
            place = {picture: number for number, picture in enumerate(everything)}
            numbers = [place[picture] for picture in received if picture in place]
            self.assertGreater(len(received), 60)
            losses = [after for before, after in pairwise(numbers) if after != before + 1]
            self.assertTrue(losses, "the slow one lost nothing")
            self.assertEqual([number for number in losses if not is_idr(everything[number])], [])
            self.assertEqual(complaints(recording), "", "the fast one lost something")


DELIMITER = b"\0\0\0\1\x09\xf0"


def pictures(data: bytes) -> list[bytes]:
    """The access units of a byte stream: each begins with a delimiter."""
    return data.split(DELIMITER)[1:]


def is_idr(picture: bytes) -> bool:
    return any(unit[0] & 31 == 5 for unit in split_annexb(picture))


def complaints(recording: Path) -> str:
    """What a decoder has to say of missing references."""
    decode = ["ffmpeg", "-v", "error", "-f", "h264", "-i", str(recording), "-f", "null", "-"]
    return subprocess.run(decode, capture_output=True, text=True, timeout=60, check=True).stderr


class Slow:
    """A client that asks, then reads nothing until it is told to."""

    def __init__(self, server: InstalledServer, name: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", server.http))
        # HTTP/1.0: the body comes without chunks.
        self._socket.sendall(f"GET /api/v1/annexb/{name} HTTP/1.0\r\n\r\n".encode())

    def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            some = self._socket.recv(65536)
            assert some, "the answer ended"
            data += some
        return bytes(data).partition(b"\r\n\r\n")[2]

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


class ContainmentTests(SynchronousTestCase):
    def test_a_plugin_that_raises_is_taken_out_and_the_stream_goes_on(self) -> None:
        with TemporaryDirectory() as folder:
            Path(folder, "faulty_dropin.py").write_text(FAULTY)
            with installed_server({"OXIDECAST_PLUGINS_PATH": json.dumps([folder])}) as server:
                self.assertIn("faulty", rows(server.command("plugins").stdout))
                name, key = server.new_stream("Contained")
                with publish(server.ingest(key), server.folder / "encoder.log", gop=30):
                    server.wait_live(name)
                    until(lambda: output_of(server, name, "faulty")["state"] == "failed", 10, "it failed")
                    self.assertIn("faulty failed", str(output_of(server, name, "faulty")["error"]))
                    self.assertEqual(output_of(server, name, "hls")["state"], "running")
                    seen = server.media_playlist(name)[1]
                    until(lambda: server.media_playlist(name)[1] != seen, 10, "HLS goes on")
                    self.assertEqual(
                        {track["codec_type"] for track in probe(server.hls(name))}, {"video", "audio"}
                    )
                self.assertIn("RuntimeError: the plugin is at its end", server.output)
