"""The FFmpeg command in which pictures never leave a device: decoded, scaled and encoded there, for a whole ladder.

The one idea: coded pictures in on standard input, coded pictures out on standard output, both as NUT, the container
that keeps ticks of 1/90000 s. Every encoder has the source's keyframes, by the decoder's mark on pictures.
Pure: the arguments follow from a job.
"""

from collections.abc import Sequence
from fractions import Fraction

from oxidecast.formats.framed_messages import Device, VideoFeed
from oxidecast.media import TICKS
from oxidecast.transcoding.targets import coded_rate
from oxidecast.transcoding.worker.choosing import APART, one_in

Size = tuple[int, int]

_BEAT = 0.25
"""Of the ceiling's interval: where beats lie, so that pictures at whole parts of a second lie between them."""


def command(
    device: Device, feeds: Sequence[tuple[VideoFeed, Size]], rate: Fraction | None, interval: float
) -> list[str]:
    """FFmpeg 5.1 or later. `rate` is the source's, if it is known; `interval` the seconds after which keyframes are
    made where the source has none for half as long again."""
    graph = [f"[0:v]split={len(feeds)}{''.join(f'[i{at}]' for at in range(len(feeds)))}"]
    outputs: list[str] = []
    for at, (feed, size) in enumerate(feeds):
        scale = device.scale.format(width=size[0], height=size[1])
        graph.append(f"[i{at}]{_ceiling(feed, rate)}{scale}[v{at}]")
        outputs += [*_encoder(at, feed), f"-g:v:{at}", str(_apart(feed, rate, interval))]
    maps = [part for at in range(len(feeds)) for part in ("-map", f"[v{at}]")]
    return [
        device.ffmpeg,
        *("-hide_banner", "-nostdin", "-nostats", "-v", "error"),
        *device.decode,
        # The header says all that is looked for, so nothing has to be waited for.
        *("-noautorotate", "-copyts", "-probesize", "4096", "-analyzeduration", "0"),
        *("-f", "nut", "-i", "pipe:0", "-filter_complex", ";".join(graph), *maps, *outputs),
        *("-fps_mode", "passthrough", "-enc_time_base", f"1/{TICKS}", "-flags:v", "+cgop"),
        *("-force_key_frames:v", "source", "-avoid_negative_ts", "disabled", "-flush_packets", "1"),
        *("-f", "nut", "pipe:1"),
    ]


def _encoder(at: int, feed: VideoFeed) -> list[str]:
    """Options by the stream that they are for. How far keyframes are apart is this file's matter."""
    options = [
        part for key, value in feed.options.items() if key != "g" for part in (f"-{key}:v:{at}", value)
    ]
    return [f"-c:v:{at}", feed.encoder, *options]


def _ceiling(feed: VideoFeed, rate: Fraction | None) -> str:
    """Leaves pictures out where there are too many, but never a keyframe. See `one_in`."""
    count = one_in(rate, feed.framerate) if rate else 0
    if count == 1:
        return ""
    if rate and count:
        is_due = f"gte(t-prev_selected_t,{float((count - Fraction(1, 2)) / rate):.5f})"
    else:
        beat, before = (f"floor({at}*{feed.framerate}+{_BEAT})" for at in ("t", "prev_selected_t"))
        is_due = f"gt({beat},{before})"
    return f"select='isnan(prev_selected_t)+key+{is_due}',"


def _apart(feed: VideoFeed, rate: Fraction | None, interval: float) -> int:
    """Pictures after which an encoder makes a keyframe by itself: the same count in all, where their rates are."""
    return max(1, round(coded_rate(rate, feed.framerate) * Fraction(interval) * Fraction(APART)))
