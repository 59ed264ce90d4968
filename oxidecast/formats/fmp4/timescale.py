"""In which units each track counts time, and how 90 kHz ticks become them without ever losing a sample.

Sound counts in its own samples: then every AAC frame lasts exactly 1024 units, one default duration serves a
whole fragment, and players see no seams. Ticks of sound were made as `round(n * 90000 / rate)` from a sample
count n, so they are off by at most half a tick, which below 90 kHz is less than half a sample: rounding finds
n again. Above (96 kHz) the frame lengths in use are whole ticks, so there is nothing to find. When the
timeline does not begin on a sample, a frame may come out a sample longer and the next one shorter; that moves
nothing, because a sample's time is always computed from its own dts and a duration is the difference of two
such times: sums are exact, and each fragment begins where the last one ended.
"""

from oxidecast.media import TICKS, Codec, Track

OPUS_RATE = 48_000
"""Opus always decodes at 48 kHz, whatever the rate of what was recorded (RFC 7845, 5.1)."""


def timescale(track: Track) -> int:
    """Units a second in which `track` counts: 90000 for video, the sample rate for audio."""
    if track.is_video:
        return TICKS
    if track.codec is Codec.OPUS:
        return OPUS_RATE
    return track.sample_rate or TICKS


def to_units(ticks: int, scale: int) -> int:
    """The time `ticks` (90 kHz) in units of 1/`scale` second, rounded to the nearest."""
    return (ticks * scale + TICKS // 2) // TICKS
