"""What the backends have in common: a probe that encodes a picture, and the argument list of the full device path.

The one idea: a backend is data. Its options go to the encoder inside the child process; the same options, behind the
device's own decoder and scaler, make one FFmpeg command in which pictures never leave the device.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from zope.interface import implementer

from oxidecast.interfaces import ITranscoderBackend
from oxidecast.transcoding.backends.probing import Unavailable, output_of
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
    in_child: ClassVar[bool] = True
    """Whether the media library of the child has the encoder; the others need the FFmpeg program."""
    decode: ClassVar[Sequence[str]] = ()
    """FFmpeg's arguments for decoding on the device, its pictures staying there."""

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg") -> None:
        self._reactor = reactor
        self.ffmpeg_path = ffmpeg_path

    def options(self, target: Target) -> dict[str, str]:
        """The encoder's options for a target. Keyframes are asked for picture by picture, and only so."""
        raise NotImplementedError

    def scaling(self, width: int, height: int) -> str:
        """FFmpeg's filter that scales on the device. `width` and `height` are the size, not a box."""
        return f"scale={width}:{height}:flags=bicubic,format={self.pixel_format}"

    def command(self, sizes: Mapping[str, tuple[tuple[int, int], Target]]) -> list[str]:
        """One FFmpeg command for the whole ladder on the device: MPEG-TS in on standard input, one file a rendition
        out, by its name. Its keyframes are the source's."""
        labels = [f"v{at}" for at in range(len(sizes))]
        graph = [f"[0:v]split={len(sizes)}{''.join(f'[{label}i]' for label in labels)}"]
        outputs: list[str] = []
        for label, (name, (size, target)) in zip(labels, sizes.items(), strict=True):
            graph.append(f"[{label}i]{self.scaling(*size)}[{label}]")
            outputs += ["-map", f"[{label}]", *self.arguments(target), "-f", "mpegts", name]
        return [
            self.ffmpeg_path,
            *("-hide_banner", "-nostdin", "-v", "error"),
            *self.decode,
            *("-copyts", "-f", "mpegts", "-i", "pipe:0", "-filter_complex", ";".join(graph)),
            *outputs,
        ]

    def arguments(self, target: Target) -> list[str]:
        """The encoder and its options, as FFmpeg's command line has them."""
        options = [part for key, value in self.options(target).items() for part in (f"-{key}:v", value)]
        return ["-c:v", self.encoder, *options, "-force_key_frames:v", "source"]

    async def probe(self) -> str:
        """See `ITranscoderBackend`. Raises `Unavailable`."""
        arguments = [sys.executable, "-m", "oxidecast.transcoding.worker.probe"]
        asked = {"encoder": self.encoder, "pixel_format": self.pixel_format, "options": self.options(PROBE)}
        await output_of(self._reactor, [*arguments, json.dumps(asked)], PROBE_TIMEOUT)
        return f"{self.encoder} works"


def rates(target: Target) -> dict[str, str]:
    """What every encoder calls the same."""
    return {"b": str(target.bitrate), "maxrate": str(target.maxrate), "bufsize": str(target.bufsize)}


NEVER = "100000"
"""Pictures between keyframes that an encoder would make by itself: hours."""
