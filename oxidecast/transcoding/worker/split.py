"""Pictures of which a device makes some, and the child's own library those that the device has no encoder for: HEVC and
AV1 on some, VP8 for browsers without H.264 on all.

In the place of `Pictures`. What is here costs nothing while there is no such feed. Both decode for themselves; where
the source's keyframes are rare, further ones of the two are not at the same times.
"""

from msgspec.structs import replace

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Device, FeedFigures, Job, Resumed
from oxidecast.media import Track
from oxidecast.transcoding.worker.device import DevicePictures
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.pictures import Pictures


class SplitPictures:
    """See `Pictures`, whose calls it has. Thumbnails are the device's matter."""

    def __init__(self, output: Output, device: Device) -> None:
        self._device = DevicePictures(output, device)
        self._own = Pictures(output)
        self._works = False
        """Whether the library has something to make."""
        self._waits = True
        """For a keyframe, to begin with."""

    @property
    def decoded(self) -> int:
        return self._device.decoded

    @property
    def errors(self) -> int:
        return self._device.errors + self._own.errors

    def job(self, job: Job) -> None:
        own = tuple(feed for feed in job.videos if not feed.on_device)
        self._device.job(replace(job, videos=tuple(feed for feed in job.videos if feed.on_device)))
        self._own.job(replace(job, videos=own, thumbnail_every=0.0))
        if self._works and not own:
            self._own.drain()
        self._waits = self._waits or not self._works
        self._works = bool(own)

    def track(self, track: Track) -> None:
        self._device.track(track)
        self._own.track(track)

    def packet(self, packet: FramedPacket) -> None:
        self._device.packet(packet)
        if self._works:
            self._waits = self._waits and not packet.keyframe
            if not self._waits:
                self._own.packet(packet)

    def resumed(self, where: Resumed) -> None:
        """Nobody says it: where a child with a device dies, the next one has none."""

    def keyframe_wanted(self, feed: int) -> None:
        self._own.keyframe_wanted(feed)

    def drain(self) -> None:
        self._device.drain()
        self._own.drain()

    def figures(self) -> tuple[FeedFigures, ...]:
        return self._device.figures() + self._own.figures()

    def cost(self) -> tuple[float, int]:
        """Of the FFmpeg process."""
        return self._device.cost()
