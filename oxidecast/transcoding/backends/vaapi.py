"""VA-API: Intel's and AMD's encoders on Linux. The child's media library is built without it: FFmpeg runs it."""

import os
from typing import Any

from oxidecast.media import Codec
from oxidecast.transcoding.backends.base import NEVER, PROFILES, Backend, Unavailable, rates
from oxidecast.transcoding.targets import Target

RENDER_NODE = "/dev/dri/renderD128"


class Vaapi(Backend):
    """`h264_vaapi` and its like, in the FFmpeg program at `ffmpeg_path`. For AV1 that is 6.1 or later."""

    name = "vaapi"
    device = "vaapi"
    encoders = {Codec.H264: "h264_vaapi", Codec.HEVC: "hevc_vaapi", Codec.AV1: "av1_vaapi"}
    pixel_format = "nv12"

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg", node: str = RENDER_NODE) -> None:
        super().__init__(reactor, ffmpeg_path)
        self.node = node

    @property
    def decode(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("-hwaccel", "vaapi", "-hwaccel_device", self.node, "-hwaccel_output_format", "vaapi")

    def options(self, target: Target) -> dict[str, str]:
        made = {"profile": PROFILES[target.codec], "rc_mode": "VBR", **rates(target), "g": NEVER, "bf": "2"}
        if target.low_latency:
            made |= {"profile": "constrained_baseline", "rc_mode": "CBR", "bf": "0", "async_depth": "1"}
        return made

    def scaling(self, width: int | str, height: int | str) -> str:
        return f"scale_vaapi=w={width}:h={height}:format=nv12"

    async def _probe_first(self) -> str:
        """The device is looked for first: FFmpeg's own words for its absence are about something else."""
        if not self.present():
            raise Unavailable(f"there is no device {self.node}")
        await self.probe_path()
        return f"{self.encoders[Codec.H264]} works, by {self.ffmpeg_path}"

    def present(self) -> bool:
        return os.path.exists(self.node)
