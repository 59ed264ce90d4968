"""A short ladder on each family of encoders of this machine: `make test-hardware`.

Each is probed as at the server's start. One that does not work is skipped, with the reason; one that does makes three
sizes in H.264, and one in each other codec that its probe found, through the child process, as a stream would; beside
them are made what WebRTC is sent, in H.264 and in VP8. What comes out is held to the source.
"""

import sys
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from oxidecast.settings.sections import Profile
from oxidecast.transcoding.backends import BY_DEVICE, Backend, Software
from oxidecast.transcoding.backends.probing import tried
from oxidecast.transcoding.backends.vp8 import VP8
from oxidecast.transcoding.profiles import job, ladder, low_latency
from tests.transcoding.child import run
from tests.transcoding.clips import Clip, audio, clip, video

PROFILES = tuple(
    Profile(name=name, width=width, height=height, bitrate=bitrate, codec=codec)
    for name, width, height, bitrate, codec in (
        ("a", 1280, 720, 2_500_000, "h264"),
        ("b", 854, 480, 1_000_000, "h264"),
        ("c", 640, 360, 500_000, "h264"),
        ("hevc", 640, 360, 400_000, "hevc"),
        ("av1", 640, 360, 400_000, "av1"),
    )
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
        names = [one.name for one in PROFILES if one.codec not in backend.lacks]
        rungs = ladder(PROFILES, names, *source.tracks).renditions
        self.assertEqual([one.name for one in rungs], names)
        last = rungs[2]
        every = [*rungs, low_latency(last, "c:live"), low_latency(last, "c:vp8", VP8)]
        asked = replace(job(every, backend), lossless=True)
        made = run(
            [asked, *source.tracks, *source.packets],
            arguments=("devices",) if backend.devices else (),
        )
        self.assertEqual((made.code, made.troubles), (0, []))
        times = sorted(packet.pts for packet in source.video)
        for one in every:
            packets = made.packets(one.video)
            self.assertEqual(sorted(packet.pts for packet in packets), times)
            self.assertEqual(made.keyframes(one.video), source.keyframes)
            self.assertTrue(all(before.dts < after.dts for before, after in pairwise(packets)))
            self.assertEqual([frame.pts for frame in made.decoded(one.video)], times)
            (track,) = made.tracks(one.video)
            self.assertEqual((track.codec, (track.width, track.height)), (one.target.codec, one.size))
        way = "by FFmpeg, from end to end" if backend.program else "by the child"
        what = ", ".join(f"{one.name} in {one.target.codec}" for one in every)
        print(f"{backend.name}, {way}: {len(times)} pictures of {what}", file=sys.stderr)

    def test_software(self) -> Any:
        return Deferred.fromCoroutine(self.ladder_of(Software(reactor)))


def _of(device: str) -> Any:
    def test(self: HardwareCase) -> Any:
        return Deferred.fromCoroutine(self.ladder_of(BY_DEVICE[device](reactor)))

    return test


for _device in BY_DEVICE:
    setattr(HardwareCase, f"test_{_device}", _of(_device))
