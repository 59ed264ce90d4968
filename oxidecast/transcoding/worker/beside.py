"""Pictures on a device, and beside them VP8, which the device's program does not make: for browsers without H.264.

The one idea: it is both of what can stand in its place. What is here costs nothing while there is no feed in VP8; then
pictures are decoded once more, from the next keyframe on.
"""

import msgspec

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Device, FeedFigures, Job, Resumed
from oxidecast.media import Track
from oxidecast.transcoding.worker.device import DevicePictures
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.pictures import Pictures


class DeviceAndVP8:
    """See `Pictures`, whose calls it has."""

    def __init__(self, output: Output, device: Device) -> None:
        self._device = DevicePictures(output, device)
        self._here = Pictures(output)
        self._numbers: frozenset[int] = frozenset()
        """Of the feeds in VP8."""
        self._runs = False

    @property
    def decoded(self) -> int:
        return self._device.decoded

    @property
    def errors(self) -> int:
        return self._device.errors + self._here.errors

    def job(self, job: Job) -> None:
        here = tuple(feed for feed in job.videos if feed.is_vp8)
        there = tuple(feed for feed in job.videos if not feed.is_vp8)
        self._device.job(msgspec.structs.replace(job, videos=there))
        self._here.job(msgspec.structs.replace(job, videos=here, thumbnail_every=0.0))
        self._numbers = frozenset(feed.feed for feed in here)
        self._runs = self._runs and bool(here)

    def track(self, track: Track) -> None:
        self._device.track(track)
        self._here.track(track)

    def packet(self, packet: FramedPacket) -> None:
        self._device.packet(packet)
        self._runs = self._runs or (packet.keyframe and bool(self._numbers))
        if self._runs:
            self._here.packet(packet)

    def resumed(self, where: Resumed) -> None:
        """As on a device."""

    def keyframe_wanted(self, feed: int) -> None:
        (self._here if feed in self._numbers else self._device).keyframe_wanted(feed)

    def drain(self) -> None:
        self._device.drain()
        self._here.drain()

    def figures(self) -> tuple[FeedFigures, ...]:
        return (*self._device.figures(), *self._here.figures())

    def cost(self) -> tuple[float, int]:
        return self._device.cost()
