"""Quick Sync Video: Intel's encoders, by oneVPL."""

from oxidecast.media import Codec
from oxidecast.transcoding.backends.base import NEVER, PROFILES, Backend, rates
from oxidecast.transcoding.targets import Target


class Qsv(Backend):
    """`h264_qsv` and its like."""

    name = "qsv"
    device = "qsv"
    encoders = {Codec.H264: "h264_qsv", Codec.HEVC: "hevc_qsv", Codec.AV1: "av1_qsv"}
    pixel_format = "nv12"
    decode = ("-hwaccel", "qsv", "-hwaccel_output_format", "qsv")

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "preset": "veryfast",
            "profile": PROFILES[target.codec],
            **rates(target),
            "g": NEVER,
            "forced_idr": "1",
            "adaptive_i": "0",
            "look_ahead": "0",
            "bf": "2",
            "async_depth": "4",
        }
        if target.low_latency:
            made |= {"profile": "baseline", "bf": "0", "async_depth": "1", "low_delay_brc": "1"}
        return made

    def scaling(self, width: int | str, height: int | str) -> str:
        return f"scale_qsv=w={width}:h={height}:format=nv12"
