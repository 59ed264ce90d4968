"""x264, x265 and SVT-AV1: every machine has them, and every player takes what x264 makes.

All three are told the level that follows from the profile (`targets.py`), make keyframes only when asked to, IDR in
closed groups, and keep to the rate over the player's buffer. SVT-AV1 does so in its low delay structure alone: each
picture leaves at once, in the order in which it is shown.
"""

import os
from typing import Any

from oxidecast.media import Codec
from oxidecast.transcoding.backends.base import NEVER, Backend, rates
from oxidecast.transcoding.targets import Target, level

B_FRAMES = 2
"""For HLS: some 10 % fewer bits, for two pictures of delay, which segments of seconds hide."""

LOOK_AHEAD = 10
"""Pictures that x265 sees before it codes one: as x264 does at `veryfast`; by itself it would hold back up to 40."""

_PIXELS_A_THREAD = {Codec.H264: 854 * 480 * 30, Codec.HEVC: 854 * 480 * 8, Codec.AV1: 1920 * 1080 * 30}
"""A second: above, one core is not sure to keep up at `veryfast`, and frames are encoded in parallel."""
_MOST_THREADS = 8
_MOST_PARALLEL = 3
"""SVT-AV1 counts levels of parallelism: the first has 17 threads, of which one works at a time; the second has 48."""

_AV1_PRESETS = {
    "ultrafast": "12",
    "superfast": "11",
    "veryfast": "10",
    "faster": "9",
    "fast": "8",
    "medium": "7",
    "slow": "6",
    "slower": "5",
}
"""SVT-AV1's numbers, by about the CPU that x264 takes under that name."""

_AV1_BUFFER = (0.02, 10.0)
"""Seconds of the bitrate: what SVT-AV1 takes for a buffer."""


class Software(Backend):
    """Encodes on the processor."""

    name = "software"
    encoders = {Codec.H264: "libx264", Codec.HEVC: "libx265", Codec.AV1: "libsvtav1"}
    devices = False

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg", preset: str = "veryfast") -> None:
        super().__init__(reactor, ffmpeg_path)
        self.preset = preset

    def options(self, target: Target) -> dict[str, str]:
        make = {Codec.H264: self._x264, Codec.HEVC: self._x265, Codec.AV1: self._svt_av1}
        return make[target.codec](target, threads(target, os.cpu_count() or 1))

    def _x264(self, target: Target, threads: int) -> dict[str, str]:
        made = {
            "preset": self.preset,
            "profile": "high",
            "level": str(level(target)),
            "8x8dct": "1",  # `ultrafast` does without, and then High would be Main. It costs nothing to speak of.
            **rates(target),
            "g": NEVER,
            "sc_threshold": "0",
            "forced-idr": "1",
            "bf": str(B_FRAMES),
            "threads": str(threads),
        }
        if target.low_latency:
            # Constrained Baseline is what every WebRTC peer has to take (RFC 7742 6.2).
            made |= {"profile": "baseline", "tune": "zerolatency", "bf": "0"}
            del made["level"], made["8x8dct"]
        return made

    def _x265(self, target: Target, threads: int) -> dict[str, str]:
        """It has no pool of threads: each of `threads` codes a frame. `info` would write its settings into pictures."""
        own = {
            "log-level": "error",
            "pools": "none",
            "frame-threads": threads,
            "open-gop": 0,
            "scenecut": 0,
            "rc-lookahead": LOOK_AHEAD,
            "level-idc": level(target),
            "high-tier": 0,
            "info": 0,
        }
        return {
            "preset": self.preset,
            "profile": "main",
            **rates(target),
            "g": NEVER,
            "forced-idr": "1",
            "bf": str(B_FRAMES),
            "x265-params": ":".join(f"{key}={value}" for key, value in own.items()),
        }

    def _svt_av1(self, target: Target, threads: int) -> dict[str, str]:
        """`pred-struct=1` is low delay, and `rc=2` a constant bitrate, which only that has. It knows no `maxrate`
        beside it."""
        own = {"lp": threads, "pred-struct": 1, "rc": 2, "level": level(target)}
        least, most = (round(target.bitrate * seconds) for seconds in _AV1_BUFFER)
        return {
            "preset": _AV1_PRESETS[self.preset],
            "b": str(target.bitrate),
            "bufsize": str(min(max(target.bufsize, least), most)),
            "g": NEVER,
            "svtav1-params": ":".join(f"{key}={value}" for key, value in own.items()),
        }


def threads(target: Target, cores: int) -> int:
    """How many encode one feed: each beyond the first costs a picture of delay, so no more than are needed."""
    wanted = -(-target.width * target.height * target.framerate // _PIXELS_A_THREAD[target.codec])
    most = _MOST_PARALLEL if target.codec is Codec.AV1 else _MOST_THREADS
    return int(max(1, min(wanted, cores + 1, most)))
