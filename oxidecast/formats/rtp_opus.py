"""Opus in RTP (RFC 7587): a packet is a payload; the art is in the timestamps.

They count samples at 48 kHz. Reckoned from media time they would jump by a sample now and then, and a receiver
conceals sound at each jump; so they are counted from packet to packet, and follow media time only when that
has really moved.
"""

from oxidecast.media import opus
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.packet import TICKS

MAX_PAYLOAD = 1_275 * 6
"""Bytes: 120 ms of the largest frames (RFC 6716 3.2)."""

MAX_DRIFT = 1_920
"""Samples (40 ms) between the count and media time, beyond which the count starts anew: two frames of sound
late is heard beside the picture, and less is what millisecond clocks and resampling make."""


class SampleClock:
    """RTP timestamps of one rendition's Opus packets, the same for all viewers."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: int | None = None

    def timestamp(self, pts: int, payload: bytes) -> int:
        """Of the packet that plays at `pts` (90 kHz), in samples from the same zero, not wrapped."""
        due = pts * opus.SAMPLE_RATE // TICKS
        if self._next is None or abs(due - self._next) > MAX_DRIFT:
            self._next = due
        timestamp = self._next
        self._next += opus.samples(payload)
        return timestamp


def depacketize(payload: bytes) -> int:
    """Samples in a payload, which is an Opus packet as it is. Raises RemoteProtocolError when it is none."""
    if len(payload) > MAX_PAYLOAD:
        raise RemoteProtocolError(f"Opus packet has {len(payload)} bytes, more than {MAX_PAYLOAD}")
    return opus.samples(payload)
