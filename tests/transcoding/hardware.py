"""A short ladder on each family of encoders of this machine: `make test-hardware`.

Each is probed as at the server's start. One that does not work is skipped, with the reason; one that does makes three
sizes through the child process, as a stream would, one in each further codec that the probe found, and VP8 beside them;
what comes out is held to the source.
"""

import sys
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from oxidecast.media import Codec
from oxidecast.settings.sections import Profile
from oxidecast.transcoding.backends import BY_DEVICE, Backend, Software
from oxidecast.transcoding.backends.probing import tried
from oxidecast.transcoding.backends.vp8 import VP8
from oxidecast.transcoding.profiles import job, ladder, low_latency
from tests.transcoding.child import run
from tests.transcoding.clips import Clip, audio, clip, video

PROFILES = (
    Profile(name="a", width=1280, height=720, bitrate=2_500_000),
    Profile(name="b", width=854, height=480, bitrate=1_000_000),
    Profile(name="c", width=640, height=360, bitrate=500_000),
    Profile(name="hevc", codec="hevc", width=640, height=360, bitrate=400_000),
    Profile(name="av1", codec="av1", width=640, height=360, bitrate=400_000),
)
SECONDS = 4


class HardwareCase(TestCase):
    timeout = 120

    async def ladder_of(self, backend: Backend) -> None:
        works, what = await tried(backend)
        print(f"{backend.name}: {what}", file=sys.stderr)
        if not works:
            pytest.skip(f"{backend.name}: {what}")
        source = clip(video(SECONDS, size=(1280, 720), gop=1.3, bframes=2), audio(SECONDS))
        # Through the child's own encoder, and where it works from end to end on the device.
        programs = {None, backend.program} if backend.name != "vaapi" else {backend.program}
        for backend.program in programs:
            self.runs(backend, source)

    def runs(self, backend: Backend, source: Clip) -> None:
        names = {one.name for one in PROFILES if Codec(one.codec) not in backend.lacks}
        rungs = ladder(PROFILES, names, *source.tracks).renditions
        small = next(one for one in rungs if one.name == "c")
        live = [low_latency(small, "live"), low_latency(small, "vp8", VP8)]
        asked = replace(job([*rungs, *live], backend), lossless=True)
        made = run(
            [asked, *source.tracks, *source.packets],
            arguments=("devices",) if backend.devices else (),
        )
        self.assertEqual((made.code, made.troubles), (0, []))
        times = sorted(packet.pts for packet in source.video)
        for feed in asked.videos:
            packets = made.packets(feed.feed)
            self.assertEqual(sorted(packet.pts for packet in packets), times)
            self.assertEqual(made.keyframes(feed.feed), source.keyframes)
            self.assertTrue(all(before.dts < after.dts for before, after in pairwise(packets)))
            self.assertEqual([frame.pts for frame in made.decoded(feed.feed)], times)
        for one in rungs:
            (track,) = made.tracks(one.video)
            self.assertEqual((track.codec, track.width, track.height), (one.target.codec, *one.size))
        (track,) = made.tracks(live[1].video)
        self.assertEqual(track.codec, Codec.VP8)
        way = "by FFmpeg, from end to end" if backend.program else "by the child"
        print(
            f"{backend.name}, {way}: {len(asked.videos)} feeds of {len(times)} pictures, "
            f"in {', '.join(sorted({one.target.codec for one in (*rungs, *live)}))}",
            file=sys.stderr,
        )

    def test_software(self) -> Any:
        return Deferred.fromCoroutine(self.ladder_of(Software(reactor)))


def _of(device: str) -> Any:
    def test(self: HardwareCase) -> Any:
        return Deferred.fromCoroutine(self.ladder_of(BY_DEVICE[device](reactor)))

    return test


for _device in BY_DEVICE:
    setattr(HardwareCase, f"test_{_device}", _of(_device))
