"""VA-API: Intel's and AMD's encoders on Linux. The child's media library is built without it: FFmpeg runs it."""

import os
from typing import Any

from oxidecast.transcoding.backends.base import NEVER, PROBE, PROBE_TIMEOUT, Backend, Unavailable, rates
from oxidecast.transcoding.backends.probing import output_of
from oxidecast.transcoding.profiles import Target

RENDER_NODE = "/dev/dri/renderD128"


class Vaapi(Backend):
    """`h264_vaapi`, in the FFmpeg program at `ffmpeg_path`."""

    name = "vaapi"
    device = "vaapi"
    encoder = "h264_vaapi"
    pixel_format = "nv12"
    in_child = False

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg", node: str = RENDER_NODE) -> None:
        super().__init__(reactor, ffmpeg_path)
        self.node = node

    @property
    def decode(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("-hwaccel", "vaapi", "-hwaccel_device", self.node, "-hwaccel_output_format", "vaapi")

    def options(self, target: Target) -> dict[str, str]:
        made = {"profile": "high", "rc_mode": "VBR", **rates(target), "g": NEVER, "bf": "2"}
        if target.low_latency:
            made |= {"profile": "constrained_baseline", "rc_mode": "CBR", "bf": "0", "async_depth": "1"}
        return made

    def scaling(self, width: int, height: int) -> str:
        return f"scale_vaapi=w={width}:h={height}:format=nv12"

    async def probe(self) -> str:
        """The device is looked for first: FFmpeg's own words for its absence are about something else."""
        if not self.present():
            raise Unavailable(f"there is no device {self.node}")
        await output_of(self._reactor, self.probing(), PROBE_TIMEOUT)
        return f"{self.encoder} works"

    def present(self) -> bool:
        return os.path.exists(self.node)

    def probing(self) -> list[str]:
        """FFmpeg, encoding one picture on the device."""
        size = f"{PROBE.width}x{PROBE.height}"
        return [
            self.ffmpeg_path,
            *("-hide_banner", "-nostdin", "-v", "error", "-vaapi_device", self.node),
            *("-f", "lavfi", "-i", f"color=size={size}:rate=30", "-frames:v", "1"),
            *("-vf", "format=nv12,hwupload", *self.arguments(PROBE), "-f", "null", "-"),
        ]
