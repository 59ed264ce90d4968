"""NVENC: NVIDIA's encoders, by CUDA."""

from oxidecast.transcoding.backends.base import NEVER, Backend, rates
from oxidecast.transcoding.profiles import Target


class Nvenc(Backend):
    """`h264_nvenc`. Consumer cards take a few sessions at once: one more fails with "out of memory" or "no capable
    devices", and that stream runs in software."""

    name = "nvenc"
    device = "cuda"
    encoder = "h264_nvenc"
    decode = ("-hwaccel", "cuda", "-hwaccel_output_format", "cuda")

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "preset": "p4",
            "tune": "hq",
            "profile": "high",
            "rc": "vbr",
            **rates(target),
            "g": NEVER,
            "no-scenecut": "1",
            "forced-idr": "1",
            "strict_gop": "1",
            "bf": "2",
            "b_ref_mode": "disabled",
        }
        if target.low_latency:
            made |= {
                "tune": "ull",
                "profile": "baseline",
                "rc": "cbr",
                "bf": "0",
                "delay": "0",
                "zerolatency": "1",
            }
        return made

    def scaling(self, width: int | str, height: int | str) -> str:
        return f"scale_cuda={width}:{height}:format=yuv420p:interp_algo=bicubic"
