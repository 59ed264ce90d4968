"""Quick Sync Video: Intel's encoders, by oneVPL."""

from oxidecast.transcoding.backends.base import NEVER, Backend, rates
from oxidecast.transcoding.profiles import Target


class Qsv(Backend):
    """`h264_qsv`."""

    name = "qsv"
    device = "qsv"
    encoder = "h264_qsv"
    pixel_format = "nv12"
    decode = ("-hwaccel", "qsv", "-hwaccel_output_format", "qsv")

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "preset": "veryfast",
            "profile": "high",
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
