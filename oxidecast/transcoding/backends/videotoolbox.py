"""VideoToolbox: Apple's encoders, on macOS."""

from oxidecast.transcoding.backends.base import NEVER, Backend, rates
from oxidecast.transcoding.profiles import Target


class VideoToolbox(Backend):
    """`h264_videotoolbox`. It may not fall back to Apple's software encoder: x264 is better at that."""

    name = "videotoolbox"
    device = "videotoolbox"
    encoder = "h264_videotoolbox"
    pixel_format = "nv12"
    decode = ("-hwaccel", "videotoolbox", "-hwaccel_output_format", "videotoolbox_vld")

    def options(self, target: Target) -> dict[str, str]:
        made = {"profile": "high", **rates(target), "g": NEVER, "bf": "2", "realtime": "1", "allow_sw": "0"}
        if target.low_latency:
            made |= {"profile": "baseline", "bf": "0", "prio_speed": "1"}
        return made

    def scaling(self, width: int | str, height: int | str) -> str:
        return f"scale_vt=w={width}:h={height}"
