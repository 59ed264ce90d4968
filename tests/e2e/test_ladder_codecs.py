"""A ladder in three codecs: ffmpeg publishes H.264, HLS offers HEVC and AV1 beside it, others decode them."""

import re
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from tests.e2e.browser import BrowserTestCase
from tests.e2e.hls import Watcher, shown
from tests.e2e.programs import Server, probe, publish, server, until
from tests.e2e.test_ladder import PATIENCE, LadderCase

PROFILES = (
    '[{"name": "hevc", "codec": "hevc", "width": 320, "height": 180, "bitrate": 200000, "audio_bitrate": 64000},'
    ' {"name": "av1", "codec": "av1", "width": 256, "height": 144, "bitrate": 150000, "audio_bitrate": 64000}]'
)
NAMES = ["source", "hevc", "av1"]
CODECS = {"hevc": '"hvc1.1.6.L60.90,mp4a.40.2"', "av1": '"av01.0.00M.08,mp4a.40.2"'}


def decoded(watcher: Watcher, folder: Path) -> str:
    """What ffmpeg says against all segments as one file, and how many pictures it found."""
    path = folder / "whole.mp4"
    path.write_bytes(b"".join(watcher.inits.values()) + b"".join(one.body for one in watcher.segments))
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0"]
    command += ["-show_entries", "stream=codec_name,codec_tag_string,width,height,nb_read_frames", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stderr + done.stdout.strip()


class CodecTests(LadderCase):
    settings = {
        **LadderCase.settings,
        "OXIDECAST_TRANSCODING_PROFILES": PROFILES,
        "OXIDECAST_TRANSCODING_MODE": "on_demand",
    }

    def test_hevc_and_av1_are_cut_at_the_sources_keyframes_and_are_what_was_said(self) -> None:
        name, encoder = self.begin("Codecs", NAMES[1:])
        before = self.master(name)
        self.assertEqual(sorted(before), sorted(NAMES))
        self.assertEqual(self.runs(name), ["source"])
        watchers = [self.watch(name, one) for one in NAMES]
        until(lambda: min(len(one.segments) for one in watchers) >= 5, PATIENCE, "segments")
        after = self.master(name)
        self.assertEqual(self.runs(name), NAMES)
        for one, codecs in CODECS.items():
            self.assertEqual((before[one]["CODECS"], after[one]["CODECS"]), (codecs, codecs))
            self.assertEqual((before[one]["FRAME-RATE"], after[one]["FRAME-RATE"]), ("30.000", "30.000"))
        # AV1 has no place in a transport stream; HEVC has.
        self.assertEqual(
            self.server.stream(name)["notices"], ["multicast of av1 is not sent: MPEG-TS cannot carry av1"]
        )
        outputs = {one["name"]: one["stats"] for one in self.stats(name)["outputs"]}
        states = {one: group["state"] for one, group in outputs["multicast"].items()}
        self.assertEqual(states, {"source": "sending", "hevc": "sending", "av1": "not_carried"})
        url = self.where(name, "multicast", "hevc").replace("@", "") + "?localaddr=127.0.0.1"
        self.assertIn("hevc", [one.get("codec_name") for one in probe(url)])
        for watcher in watchers:
            self.assertEqual(watcher.stop().faults, [])
            self.assertEqual((watcher.discontinuities, watcher.targets, len(watcher.inits)), (0, {2}, 1))
        source, *ladder = (shown(one) for one in watchers)
        # Where one begins, the others have a keyframe more.
        begun = max(min(rendition) for rendition in ladder)
        for rendition in ladder:
            common = [start for start in rendition if begun < start <= max(source)]
            self.assertGreaterEqual(len(common), 3)
            for start in common:
                self.assertEqual(rendition[start], source[start])
        for watcher, said in zip(watchers[1:], ("hevc,hvc1,320,180,", "av1,av01,256,144,"), strict=True):
            found = decoded(watcher, Path(self.server.folder))
            self.assertRegex(found, f"^{said}[0-9]+$")
            pictures = round(sum(one.duration for one in watcher.segments) * 30)
            self.assertEqual(int(re.findall("[0-9]+$", found)[0]), pictures)
        self.end(name, encoder)

    def test_a_profile_that_is_not_known(self) -> None:
        status, answer = self.server.call(
            "POST", "/streams", {"title": "None", "transcoding_profiles": ["720p"]}, self.server.admin
        )
        sentence = "transcoding_profiles: 720p is not known; known profiles are hevc (hevc), av1 (av1)."
        self.assertEqual((status, answer["error"]), (422, sentence))


@pytest.mark.alone
class ChromiumTests(BrowserTestCase):
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        settings = {**LadderCase.settings, "OXIDECAST_TRANSCODING_PROFILES": PROFILES}
        cls.server = cls.enterClassContext(server(settings=settings))

    def test_the_player_takes_av1_when_asked_and_leaves_out_what_it_cannot_play(self) -> None:
        name, key = self.server.new_stream("Codecs", transcoding_profiles=NAMES[1:])
        with publish(self.server.ingest(key), Path(self.server.folder, "encoder.log"), gop=30):
            self.server.wait_live(name, 20)
            until(lambda: len(self.server.stream(name)["renditions"]) == 3, PATIENCE, "the ladder")
            watcher = self.watch(f"{self.server.url}/player/{name}")
            page = watcher.page
            watcher.wait_for_motion()
            plays_hevc = page.evaluate("MediaSource.isTypeSupported('video/mp4; codecs=\"hvc1.1.6.L60.90\"')")
            page.hover("#player")
            page.click("#c-quality")
            labels = page.locator("#c-levels button").all_text_contents()
            self.assertEqual(len(labels), 3 + plays_hevc, labels)
            page.locator("#c-levels button", has_text="144p").last.click()
            small = watcher.wait("AV1's picture", lambda now: now.height == 144, PATIENCE)
            self.assertEqual(small.width, 256)
            watcher.wait_for_motion()
            end = watcher.glance()
            self.assertEqual((end.height, end.dropped < end.frames), (144, True))
