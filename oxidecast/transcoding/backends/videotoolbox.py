"""VideoToolbox: Apple's encoders, on macOS."""

from oxidecast.media import Codec
from oxidecast.transcoding.backends.base import NEVER, PROFILES, Backend, rates
from oxidecast.transcoding.targets import Target


class VideoToolbox(Backend):
    """`h264_videotoolbox` and `hevc_videotoolbox`. They may not fall back to Apple's software encoders: x264 is
    better at that."""

    name = "videotoolbox"
    device = "videotoolbox"
    encoders = {Codec.H264: "h264_videotoolbox", Codec.HEVC: "hevc_videotoolbox"}
    lacking = {Codec.AV1: "VideoToolbox has no encoder of AV1"}
    pixel_format = "nv12"
    decode = ("-hwaccel", "videotoolbox", "-hwaccel_output_format", "videotoolbox_vld")

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "profile": PROFILES[target.codec],
            **rates(target),
            "g": NEVER,
            "bf": "2",
            "realtime": "1",
            "allow_sw": "0",
        }
        if target.low_latency:
            made |= {"profile": "baseline", "bf": "0", "prio_speed": "1"}
        return made

    def scaling(self, width: int | str, height: int | str) -> str:
        return f"scale_vt=w={width}:h={height}"
