"""VP8 on the processor: for WebRTC viewers whose browser has no H.264 (RFC 7742 5 wants every browser to have both).

Beside any backend: its pictures come out of the same child, whatever encodes the ladder there.
"""

import os

from oxidecast.formats.framed_messages import Device
from oxidecast.transcoding.backends.base import NEVER, rates
from oxidecast.transcoding.profiles import Target

_PIXELS_A_THREAD = 640 * 480
"""libvpx cuts a picture into columns for its threads; narrower ones than of such pictures win nothing."""
_MOST_THREADS = 4


class _VP8:
    """A `transcoding.profiles.Encoder`."""

    encoder = "libvpx"
    pixel_format = "yuv420p"
    program: Device | None = None

    def options(self, target: Target) -> dict[str, str]:
        """libvpx's for real time: no look ahead, no hidden frames, no picture left out."""
        threads = -(-target.width * target.height // _PIXELS_A_THREAD)
        return {
            **rates(target),
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "error-resilient": "default",
            "g": NEVER,
            "threads": str(max(1, min(threads, os.cpu_count() or 1, _MOST_THREADS))),
        }


VP8 = _VP8()
