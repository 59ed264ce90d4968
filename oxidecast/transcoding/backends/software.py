"""x264: every machine has it, and every player takes what it makes."""

import os
from typing import Any

from oxidecast.transcoding.backends.base import NEVER, Backend, rates
from oxidecast.transcoding.profiles import Target

B_FRAMES = 2
"""For HLS: some 10 % fewer bits, for two pictures of delay, which segments of seconds hide."""

_PIXELS_A_THREAD = 854 * 480 * 30
"""A second: above, one core is not sure to keep up at `veryfast`, and frames are encoded in parallel."""
_MOST_THREADS = 8


class Software(Backend):
    """Encodes on the processor."""

    name = "software"
    encoder = "libx264"
    devices = False

    def __init__(self, reactor: Any, ffmpeg_path: str = "ffmpeg", preset: str = "veryfast") -> None:
        super().__init__(reactor, ffmpeg_path)
        self.preset = preset

    def options(self, target: Target) -> dict[str, str]:
        made = {
            "preset": self.preset,
            "profile": "high",
            **rates(target),
            "g": NEVER,
            "sc_threshold": "0",
            "forced-idr": "1",
            "bf": str(B_FRAMES),
            "threads": str(threads(target, os.cpu_count() or 1)),
        }
        if target.low_latency:
            # Constrained Baseline is what every WebRTC peer has to take (RFC 7742 6.2).
            made |= {"profile": "baseline", "tune": "zerolatency", "bf": "0"}
        return made


def threads(target: Target, cores: int) -> int:
    """How many encode one feed: each beyond the first costs a picture of delay, so no more than are needed."""
    wanted = -(-target.width * target.height * target.framerate // _PIXELS_A_THREAD)
    return int(max(1, min(wanted, cores + 1, _MOST_THREADS)))
