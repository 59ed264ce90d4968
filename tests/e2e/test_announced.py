"""Session descriptions and announcements before FFmpeg, which must find the stream and the name by them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.e2e.programs import FFMPEG_5, ROOT, Program, until
from tests.e2e.vlc import as_normal_user

TITLE = "Abendschau – “Höhe 720p” m=audio 9 udp 0"
_NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


class AnnouncedTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oxidecast-sap-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.ts, self.sdp = self.folder / "stream.ts", self.folder / "stream.sdp"
        inputs = "-f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine"
        encode = "-c:v libx264 -preset ultrafast -g 15 -b:v 1M -c:a aac -t 4 -f mpegts"
        command = ["timeout", "60", FFMPEG_5, "-v", "error", *f"{inputs} {encode}".split(), str(self.ts)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def announced(self, encapsulation: str) -> list[str]:
        """The command before the receiver's."""
        files = [str(self.ts), str(self.sdp)]
        return [*_NAMESPACE, sys.executable, "-m", "tests.e2e.announced", *files, encapsulation]

    def probe(self, address: str, encapsulation: str) -> dict[str, Any]:
        """What ffprobe finds at `address`, in a network where the stream is sent and announced."""
        ffprobe = ["timeout", "40", "ffprobe", "-v", "error", "-protocol_whitelist", "file,udp,rtp,sap"]
        show = ["-print_format", "json", "-show_streams", "-show_format", "-i", address]
        answer = subprocess.run(
            [*self.announced(encapsulation), *ffprobe, *show],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return json.loads(answer.stdout)

    def assert_streams(self, found: dict[str, Any]) -> None:
        self.assertEqual(sorted(stream["codec_name"] for stream in found["streams"]), ["aac", "h264"])

    def test_a_description_of_plain_udp(self) -> None:
        self.assert_streams(self.probe(str(self.sdp), "udp"))

    def test_a_description_of_rtp(self) -> None:
        self.assert_streams(self.probe(str(self.sdp), "rtp"))

    def test_a_title_stays_in_its_line(self) -> None:
        self.assertEqual(self.probe(str(self.sdp), "udp")["format"]["tags"]["title"], TITLE)

    def test_an_announcement(self) -> None:
        self.assert_streams(self.probe("sap://239.255.255.255", "rtp"))

    def test_vlc_plays_a_description_of_rtp_on_an_odd_port(self) -> None:
        # VLC takes the address out of a description, and plays it the second time.
        home = self.folder / "home"
        home.mkdir()
        self.folder.chmod(0o755)
        home.chmod(0o777)
        environ = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": str(ROOT)}
        player = ["cvlc", "--no-dbus", "-vv", "--repeat", "--vout=dummy", "--aout=adummy", str(self.sdp)]
        command = [*self.announced("rtp"), *as_normal_user(), "timeout", "30", *player]
        with Program(command, self.folder / "vlc.log", environ) as program:
            until(lambda: "Received first picture" in program.output, 25, "VLC shows a picture")
            program.stop()
