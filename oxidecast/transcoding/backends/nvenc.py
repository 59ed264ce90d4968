"""NVENC: NVIDIA's encoders, by CUDA."""

from oxidecast.media import Codec
from oxidecast.transcoding.backends.base import NEVER, PROFILES, Backend, rates
from oxidecast.transcoding.targets import Target


class Nvenc(Backend):
    """`h264_nvenc` and its like. Consumer cards take a few sessions at once: one more fails with "out of memory" or
    "no capable devices", and that stream runs in software."""

    name = "nvenc"
    device = "cuda"
    encoders = {Codec.H264: "h264_nvenc", Codec.HEVC: "hevc_nvenc", Codec.AV1: "av1_nvenc"}
    decode = ("-hwaccel", "cuda", "-hwaccel_output_format", "cuda")

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "preset": "p4",
            "tune": "hq",
            "profile": PROFILES[target.codec],
            "rc": "vbr",
            **rates(target),
            "g": NEVER,
            "no-scenecut": "1",
            "forced-idr": "1",
            "strict_gop": "1",
            "bf": "2",
            "b_ref_mode": "disabled",
        }
        if target.codec is Codec.AV1:
            del made["profile"]  # It has one only.
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
