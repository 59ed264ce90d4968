"""OBS Studio publishes, reconnects by itself, and says so when it may not."""

import os
from pathlib import Path

from tests.e2e.obs import OBS29
from tests.e2e.programs import Server, ServerCase, probe, until


class OBSTests(ServerCase):
    def obs(self, key: str) -> OBS29:
        running: Server = self.server
        home = running.folder / f"obs-{self.id().rpartition('.')[2]}"
        studio = OBS29(home, f"rtmp://127.0.0.1:{running.rtmp}/live", key)
        self.addCleanup(studio.__exit__)
        return studio

    def assert_live(self, name: str, seconds: float) -> None:
        stream = self.server.wait_live(name, seconds)
        codecs = [track["codec_string"].partition(".")[0] for track in stream["tracks"]]
        self.assertEqual(codecs, ["avc1", "mp4a"])
        self.assertIn("libobs", stream["publisher"]["encoder"])
        streams = {found["codec_type"]: found for found in probe(self.server.hls(name))}
        self.assertEqual((streams["video"]["width"], streams["video"]["height"]), (640, 360))
        self.assertEqual(streams["audio"]["codec_name"], "aac")

    def picture(self, studio: OBS29, name: str) -> None:
        directory = os.environ.get("OXIDECAST_SCREENSHOTS")
        if directory:
            studio.picture(Path(directory, f"{name}.png"))

    def test_obs_publishes_and_comes_back_after_a_restart_of_the_server(self) -> None:
        name, key = self.server.new_stream("Studio")
        studio = self.obs(key)
        self.assert_live(name, 60)
        self.picture(studio, "obs-live")
        self.server.restart()
        studio.wait_for_log("Reconnect")
        self.assert_live(name, 40)
        self.picture(studio, "obs-again")

    def test_a_wrong_key_is_refused_in_words_that_obs_shows(self) -> None:
        before = self.server.call("GET", "/streams", token=self.server.admin)[1]["data"]
        studio = self.obs("not-the-key-of-anything")
        studio.wait_for_log("Publish.BadName", 60)
        self.picture(studio, "obs-refused")
        after = self.server.call("GET", "/streams", token=self.server.admin)[1]["data"]
        self.assertEqual(after["items"], before["items"])
        self.assertEqual([stream for stream in after["items"] if stream["is_live"]], [])
        until(lambda: "not-the-key" not in self.server.output, 1, "the key is not in the server's log")
