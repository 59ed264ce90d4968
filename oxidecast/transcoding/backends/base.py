"""What the backends have in common: a probe that encodes a picture, and one of the full device path.

The one idea: a backend is data. Its options go to the encoder inside the child process; the same options, behind the
device's own decoder and scaler, make one FFmpeg command (`device.py`) in which pictures never leave the device, which
is used where a probe of it works.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

from zope.interface import implementer

from oxidecast.formats.framed_messages import Device, VideoFeed
from oxidecast.interfaces import ITranscoderBackend
from oxidecast.transcoding.backends.probing import Unavailable, output_of
from oxidecast.transcoding.device import command
from oxidecast.transcoding.profiles import Target

PROBE = Target(width=320, height=180, framerate=30.0, bitrate=500_000, maxrate=550_000, bufsize=1_000_000)
"""What is encoded for a try. Some devices take nothing below 256 pixels."""

PROBE_TIMEOUT = 20.0
"""Seconds: a driver may take some to load; one that hangs is no use."""

__all__ = ["PROBE", "PROBE_TIMEOUT", "Backend", "Unavailable"]


@implementer(ITranscoderBackend)
class Backend:
    """One family of encoders. The class attributes and `options` are all that differs between most."""

    name: ClassVar[str]
    device: ClassVar[str | None] = None
    """What `hardware_acceleration.device` says to have it."""
    encoder: ClassVar[str]
    pixel_format: ClassVar[str] = "yuv420p"
    devices: ClassVar[bool] = True
    """Whether it writes to device files, so that its child cannot be kept from writing."""
    decode: ClassVar[Sequence[str]] = ()
    """FFmpeg's arguments for decoding on the device, its pictures staying there."""

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg") -> None:
        self._reactor = reactor
        self.ffmpeg_path = ffmpeg_path
        self.program: Device | None = None
        """Set by a probe that found that the whole way works."""

    def options(self, target: Target) -> dict[str, str]:
        """The encoder's options for a target. Keyframes are asked for picture by picture, and only so."""
        raise NotImplementedError

    def scaling(self, width: int | str, height: int | str) -> str:
        """FFmpeg's filter that scales on the device. `width` and `height` are the size, not a box."""
        return f"scale={width}:{height}:flags=bicubic,format={self.pixel_format}"

    @property
    def path(self) -> Device:
        """How FFmpeg does it all on the device."""
        return Device(
            ffmpeg=self.ffmpeg_path, decode=tuple(self.decode), scale=self.scaling("{width}", "{height}")
        )

    def arguments(self, target: Target) -> list[str]:
        """The encoder and its options, as FFmpeg's command line has them."""
        options = [part for key, value in self.options(target).items() for part in (f"-{key}:v", value)]
        return ["-c:v", self.encoder, *options, "-force_key_frames:v", "source"]

    async def probe(self) -> str:
        """See `ITranscoderBackend`. Raises `Unavailable`. A device whose encoder works is tried from end to end."""
        await self._try(
            {"encoder": self.encoder, "pixel_format": self.pixel_format, "options": self.options(PROBE)}
        )
        if self.device is None:
            return f"{self.encoder} works"
        try:
            await self.probe_path()
        except Unavailable as error:
            return (
                f"{self.encoder} works; decoding and scaling on the processor, because on the device: {error}"
            )
        return f"{self.encoder} works, as do decoding and scaling on the device, by {self.ffmpeg_path}"

    async def probe_path(self) -> None:
        """Try the whole way on the device."""
        if shutil.which(self.ffmpeg_path) is None:
            raise Unavailable(f"there is no program {self.ffmpeg_path}")
        feed = VideoFeed(
            feed=1,
            **{name: getattr(PROBE, name) for name in ("width", "height", "framerate", "bitrate")},
            encoder=self.encoder,
            options=self.options(PROBE),
        )
        size = (PROBE.width, PROBE.height)
        await self._try({"command": command(self.path, [(feed, size)], Fraction(30), 2.0)})
        self.program = self.path

    async def _try(self, asked: dict[str, Any]) -> None:
        arguments = [
            sys.executable,
            "-m",
            "oxidecast.transcoding.worker.probe",
            str(os.getpid()),
            json.dumps(asked),
        ]
        await output_of(self._reactor, [*arguments, *["devices"] * self.devices], PROBE_TIMEOUT)


def rates(target: Target) -> dict[str, str]:
    """What every encoder calls the same."""
    return {"b": str(target.bitrate), "maxrate": str(target.maxrate), "bufsize": str(target.bufsize)}


NEVER = "100000"
"""Pictures between keyframes that an encoder would make by itself: hours."""
