"""Encoders: the options of each, the commands of the device path, and probes that really try."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from oxidecast.formats.framed_messages import Job, VideoFeed
from oxidecast.interfaces import ITranscoderBackend
from oxidecast.transcoding.backends import (
    BY_DEVICE,
    Backend,
    Nvenc,
    Qsv,
    Software,
    Unavailable,
    Vaapi,
    VideoToolbox,
)
from oxidecast.transcoding.backends.probing import output_of
from oxidecast.transcoding.backends.software import threads
from oxidecast.transcoding.device import command
from oxidecast.transcoding.profiles import Target, job, ladder, low_latency
from tests.settings.support import temporary_folder
from tests.transcoding.child import run
from tests.transcoding.clips import plain
from tests.transcoding.test_profiles import PROFILES, sound, source

HD = Target(width=1280, height=720, framerate=30.0, bitrate=2_500_000, maxrate=2_750_000, bufsize=5_000_000)
DIRECT = Target(
    width=640,
    height=360,
    framerate=30.0,
    bitrate=500_000,
    maxrate=550_000,
    bufsize=1_000_000,
    low_latency=True,
)
ALL: tuple[type[Backend], ...] = (Software, Nvenc, Qsv, Vaapi, VideoToolbox)


class StandIn(Software):
    """A device, as far as anybody can tell."""

    device = "cuda"
    scale = "scale={}:{}"

    def scaling(self, width: int | str, height: int | str) -> str:
        return self.scale.format(width, height)


class TestOptions(SynchronousTestCase):
    def test_all_are_backends_with_the_rates_of_the_target(self) -> None:
        for backend in (kind(None) for kind in ALL):
            verifyObject(ITranscoderBackend, backend)
            options = backend.options(HD)
            self.assertEqual(
                {key: options[key] for key in ("b", "maxrate", "bufsize")},
                {"b": "2500000", "maxrate": "2750000", "bufsize": "5000000"},
            )
            self.assertGreaterEqual(int(options["g"]), 10_000)
            self.assertEqual((options["bf"], backend.options(DIRECT)["bf"]), ("2", "0"))
            self.assertIn("baseline", backend.options(DIRECT)["profile"])

    def test_every_device_of_the_settings_has_one(self) -> None:
        self.assertEqual(
            {kind.name for kind in BY_DEVICE.values()}, {"nvenc", "vaapi", "qsv", "videotoolbox"}
        )

    def test_x264(self) -> None:
        options = Software(None, preset="superfast").options(HD)
        self.assertEqual(
            (options["preset"], options["sc_threshold"], options["forced-idr"]), ("superfast", "0", "1")
        )
        self.assertEqual(Software(None).options(DIRECT)["tune"], "zerolatency")

    def test_no_more_threads_than_are_needed(self) -> None:
        self.assertEqual([threads(DIRECT, 8), threads(HD, 8), threads(HD, 1)], [1, 3, 2])
        large = Target(width=3840, height=2160, framerate=60.0, bitrate=1, maxrate=1, bufsize=1)
        self.assertEqual(threads(large, 64), 8)

    def test_the_device_path_of_each(self) -> None:
        rungs = ladder(PROFILES, ("720p", "360p"), source(1920, 1080), sound()).renditions
        rungs = (*rungs, low_latency(rungs[-1], "direct"))
        paths = {
            Nvenc: ("-hwaccel cuda -hwaccel_output_format cuda", "scale_cuda=1280:720:format=yuv420p:"),
            Qsv: ("-hwaccel qsv -hwaccel_output_format qsv", "scale_qsv=w=1280:h=720:format=nv12"),
            Vaapi: (
                "-hwaccel vaapi -hwaccel_device /dev/dri/renderD128 -hwaccel_output_format vaapi",
                "scale_vaapi=w=1280:h=720:format=nv12",
            ),
            VideoToolbox: (
                "-hwaccel videotoolbox -hwaccel_output_format videotoolbox_vld",
                "scale_vt=w=1280:h=720",
            ),
        }
        for kind, (decode, scale) in paths.items():
            backend = kind(None, "/opt/ffmpeg")
            self.assertIsNone(backend.program)
            feeds = [
                (feed, size)
                for feed, size in zip(job(rungs, backend).videos, [one.size for one in rungs], strict=True)
            ]
            made = command(backend.path, feeds, Fraction(30), 2.0)
            self.assertEqual(made[0], "/opt/ffmpeg")
            self.assertIn(decode, " ".join(made[: made.index("-i")]))
            graph = made[made.index("-filter_complex") + 1]
            self.assertTrue(graph.startswith(f"[0:v]split=3[i0][i1][i2];[i0]{scale}"), graph)
            self.assertEqual(made.count(backend.encoder), 3)
            for at, feed in enumerate(feeds):
                for name, value in feed[0].options.items():
                    if name != "g":
                        self.assertEqual(made[made.index(f"-{name}:v:{at}") + 1], value)

    def test_the_whole_of_one(self) -> None:
        feed = VideoFeed(
            feed=1,
            width=1280,
            height=720,
            framerate=30.0,
            bitrate=2_500_000,
            encoder=Vaapi.encoder,
            options=Vaapi(None).options(HD),
        )
        self.assertEqual(
            " ".join(command(Vaapi(None).path, [(feed, (1280, 720))], Fraction(60), 2.0)),
            "ffmpeg -hide_banner -nostdin -nostats -v error"
            " -hwaccel vaapi -hwaccel_device /dev/dri/renderD128 -hwaccel_output_format vaapi"
            " -noautorotate -copyts -probesize 4096 -analyzeduration 0 -f nut -i pipe:0"
            " -filter_complex [0:v]split=1[i0];"
            "[i0]select='isnan(prev_selected_t)+key+gte(t-prev_selected_t,0.02500)',"
            "scale_vaapi=w=1280:h=720:format=nv12[v0] -map [v0]"
            " -c:v:0 h264_vaapi -profile:v:0 high -rc_mode:v:0 VBR -b:v:0 2500000 -maxrate:v:0 2750000"
            " -bufsize:v:0 5000000 -bf:v:0 2 -g:v:0 90"
            " -fps_mode passthrough -enc_time_base 1/90000 -flags:v +cgop -force_key_frames:v source"
            " -avoid_negative_ts disabled -flush_packets 1 -f nut pipe:1",
        )


class TestSoftware(SynchronousTestCase):
    def test_the_child_takes_the_jobs_of_the_default_ladder(self) -> None:
        rungs = ladder(PROFILES, ("360p",), source(320, 180), sound()).renditions
        asked: Job = job([*rungs, low_latency(rungs[0], "direct")], Software(None))
        made = run([asked, *plain().tracks, *plain().packets[:120]])
        self.assertEqual((made.code, made.troubles), (0, []))
        profiles = [made.tracks(feed.feed)[0].profile for feed in asked.videos]
        self.assertEqual(profiles, ["High", "Constrained Baseline"])
        self.assertTrue(all(packet.dts == packet.pts for packet in made.packets(asked.videos[1].feed)))


class TestProbes(TestCase):
    async def reason(self, backend: Backend) -> str:
        try:
            await backend.probe()
        except Unavailable as unavailable:
            return str(unavailable)
        return ""

    async def test_software_works(self) -> None:
        software = Software(reactor)
        self.assertEqual(await software.probe(), "libx264 works")
        self.assertIsNone(software.program)

    async def test_a_device_that_does_it_all(self) -> None:
        """With x264 in its place: what is tried is what will be used."""
        device = StandIn(reactor)
        self.assertEqual(
            await device.probe(), "libx264 works, as do decoding and scaling on the device, by ffmpeg"
        )
        self.assertEqual(device.program, device.path)

    async def test_a_device_that_encodes_only(self) -> None:
        for ffmpeg, why in (
            ("/nowhere/ffmpeg", "there is no program"),
            ("ffmpeg", "No such filter: 'scale_none'"),
        ):
            device = StandIn(reactor, ffmpeg)
            device.scale = "scale_none={}:{}"
            found = await device.probe()
            self.assertIn("libx264 works; decoding and scaling on the processor", found)
            self.assertIn(why, found)
            self.assertIsNone(device.program)

    async def test_each_device_that_is_not_there_says_why(self) -> None:
        """The reference machine has none. Where one is, there is nothing to say here."""
        expected = {
            Nvenc: (Path("/dev/nvidiactl"), "libcuda.so.1"),
            Qsv: (Path("/dev/dri"), "MFX session"),
            Vaapi: (Path("/dev/dri"), "there is no device /dev/dri/renderD128"),
            VideoToolbox: (Path("/System/Library"), "no such encoder"),
        }
        for kind, (device, reason) in expected.items():
            if not device.exists():
                self.assertIn(reason, await self.reason(kind(reactor)))

    async def test_vaapi_with_a_device_that_is_none_says_what_ffmpeg_says(self) -> None:
        self.assertIn("Device creation failed", await self.reason(Vaapi(reactor, node="/dev/null")))

    async def test_no_ffmpeg(self) -> None:
        said = await self.reason(Vaapi(reactor, "/nowhere/ffmpeg", node="/dev/null"))
        self.assertEqual(said, "there is no program /nowhere/ffmpeg")

    async def test_an_option_that_the_encoder_does_not_take(self) -> None:
        class Wrong(Software):
            def options(self, target: Target) -> dict[str, str]:
                return {"preset": "none of them"}

        self.assertIn("none of them", await self.reason(Wrong(reactor)))

    async def test_a_try_is_confined(self) -> None:
        """As the child that would encode so: an encoder that writes a file of its own cannot."""
        written = temporary_folder(self) / "statistics"

        class Writes(Software):
            def options(self, target: Target) -> dict[str, str]:
                return {"x264-params": f"pass=1:stats={written}"}

        await self.reason(Writes(reactor))
        self.assertEqual(list(written.parent.iterdir()), [])

    def test_a_try_whose_server_is_gone_ends(self) -> None:
        asked = [sys.executable, "-m", "oxidecast.transcoding.worker.probe", "1", "{}"]
        done = subprocess.run(asked, capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, b""))

    async def said(self, code: str, within: float = 30.0) -> str:
        arguments: Any = [sys.executable, "-c", code]
        try:
            return await output_of(reactor, arguments, within)
        except Unavailable as unavailable:
            return f"! {unavailable}"

    async def test_a_try_that_hangs(self) -> None:
        self.assertEqual(
            await self.said("import time; time.sleep(600)", 0.3), "! it gave no answer within 0.3 seconds"
        )

    async def test_a_try_that_crashes(self) -> None:
        crash = "import os; os.kill(os.getpid(), 11)"
        self.assertEqual(await self.said(crash), "! the try was ended by signal 11")

    async def test_a_try_that_fails_without_a_word(self) -> None:
        self.assertEqual(await self.said("raise SystemExit(7)"), "! the try ended with exit code 7")

    async def test_long_reasons_keep_their_end(self) -> None:
        said = await self.said("print('x' * 100_000); print('the end'); raise SystemExit(1)")
        self.assertLess(len(said), 400)
