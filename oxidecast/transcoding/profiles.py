"""From the settings' profiles and what a source is, to the renditions that are made of it. A pure function.

    ladder(profiles, names, video, audio) -> Ladder -> job(renditions, ...) -> Job for the child process

Nothing is scaled up: a profile larger than the source is left out, and where none would be left the smallest one is
made at the source's own size. Renditions whose sound is the same share it: it is encoded once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from oxidecast.formats.framed_messages import AudioFeed, Device, Job, VideoFeed
from oxidecast.media import Codec, Track
from oxidecast.settings.sections import Profile
from oxidecast.transcoding.sizes import fit, shown_size, too_large

MAXRATE = 1.1
"""Times the bitrate, where a profile names no `maxrate`. Apple's authoring rules for HLS take a live peak of up to 25 %
above the average; a tenth leaves room for what containers add."""

BUFFER = 2.0
"""Seconds of the bitrate, where a profile names no `bufsize`: a group of pictures, which a player has buffered."""

NEARLY_FITS = 1.1
"""Sound measured at up to a tenth above a profile's bitrate is copied: encoders wander around what they were asked."""

_LOW_LATENCY, _LOW_LATENCY_VP8 = 64, 32
_AAC, _OPUS, _COPY = 128, 192, 255
"""Feed numbers: a profile's place in the settings, that plus 64 without B-frames, plus 32 in VP8, and so on. They
depend on nothing else, so that a rendition which comes later gets a number of its own."""

OPUS_FEED = _OPUS

MAX_PROFILES = 32
NO_THUMBNAILS = (0.0, 640)
OPUS_BITRATE = 96_000


@dataclass(frozen=True, slots=True)
class Target:
    """What a backend is asked for."""

    width: int
    """The profile's box."""
    height: int
    framerate: float
    bitrate: int
    maxrate: int
    bufsize: int
    low_latency: bool = False
    """Each picture leaves at once: no B-frames, no look ahead. For WebRTC."""


class Encoder(Protocol):
    """What this file needs of a backend."""

    encoder: str
    pixel_format: str
    program: Device | None
    """The FFmpeg program does it all; None where the child does."""

    def options(self, target: Target) -> dict[str, str]:
        """The encoder's, as FFmpeg has them."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One quality that is made."""

    name: str
    size: tuple[int, int]
    """What is expected; the child sees the pictures, and its track says what they are."""
    target: Target
    keyframe_interval: float
    video: int
    """The number of its feed."""
    audio: AudioFeed | None
    encoder: Encoder | None = None
    """Where it is not the backend's."""


@dataclass(frozen=True, slots=True)
class Ladder:
    renditions: tuple[Rendition, ...]
    """In the order of the settings."""
    left_out: Mapping[str, str]
    """By profile, why, in a sentence."""


def ladder(
    profiles: Sequence[Profile],
    names: Collection[str],
    video: Track | None,
    audio: Track | None,
    audio_bitrate: int | None = None,
) -> Ladder:
    """The renditions of the profiles with these names. `audio_bitrate` is what the source's sound was measured at."""
    wanted = [
        (place, profile) for place, profile in enumerate(profiles[:MAX_PROFILES]) if profile.name in names
    ]
    if video is None:
        return Ladder((), {profile.name: "the source has no pictures" for _, profile in wanted})
    source = shown_size(video)
    if not all(source):
        return Ladder((), {profile.name: "the source does not say its size" for _, profile in wanted})
    left_out = {
        profile.name: f"the source is smaller ({source[0]}x{source[1]})"
        for _, profile in wanted
        if too_large(source, (profile.width, profile.height))
    }
    if wanted and len(left_out) == len(wanted):
        del left_out[min(wanted, key=lambda one: one[1].width * one[1].height)[1].name]
    bitrates = sorted({profile.audio_bitrate for profile in profiles})
    renditions = [
        Rendition(
            name=profile.name,
            size=fit(source, (profile.width, profile.height)),
            target=_target(profile),
            keyframe_interval=profile.keyframe_interval,
            video=1 + place,
            audio=_sound(audio, profile.audio_bitrate, bitrates, audio_bitrate),
        )
        for place, profile in wanted
        if profile.name not in left_out
    ]
    return Ladder(tuple(renditions), left_out)


def low_latency(rendition: Rendition, name: str, vp8: Encoder | None = None) -> Rendition:
    """The same for WebRTC: without B-frames, and with Opus; in VP8 where there is an encoder for it."""
    audio = rendition.audio and opus()
    return replace(
        rendition,
        name=name,
        target=replace(rendition.target, low_latency=True),
        video=rendition.video + (_LOW_LATENCY if vp8 is None else _LOW_LATENCY_VP8),
        audio=audio,
        encoder=vp8,
    )


def job(
    renditions: Iterable[Rendition],
    backend: Encoder,
    thumbnails: tuple[float, int] = NO_THUMBNAILS,
    others: Iterable[AudioFeed] = (),
) -> Job:
    """What to tell the child. `thumbnails` is the seconds between two (0 for none) and their width in pixels. `others`
    is sound without pictures: Opus beside the source's own pictures."""
    renditions = tuple(renditions)
    audios = {one.audio.feed: one.audio for one in renditions if one.audio is not None}
    audios |= {feed.feed: feed for feed in others}
    return Job(
        videos=tuple(_video(one, backend) for one in renditions),
        audios=tuple(audios.values()),
        # The shortest: keyframes are the same in all renditions.
        keyframe_interval=min((one.keyframe_interval for one in renditions), default=2.0),
        thumbnail_every=thumbnails[0],
        thumbnail_width=thumbnails[1],
        device=backend.program,
    )


def opus() -> AudioFeed:
    """Sound for WebRTC."""
    return AudioFeed(feed=OPUS_FEED, codec="opus", bitrate=OPUS_BITRATE)


def codec_string(size: tuple[int, int], framerate: float) -> str:
    """What H.264 in High profile of this size will be called (RFC 6381), by the least level that takes it (ITU-T H.264,
    table A-1: frame size and rate in macroblocks)."""
    frame = -(-size[0] // 16) * -(-size[1] // 16)
    rate = frame * framerate
    for level, most_frame, most_rate in _LEVELS:
        if frame <= most_frame and rate <= most_rate:
            return f"avc1.6400{level:02x}"
    return "avc1.640034"


_LEVELS = (
    (10, 99, 1_485),
    (11, 396, 3_000),
    (12, 396, 6_000),
    (13, 396, 11_880),
    (21, 792, 19_800),
    (22, 1_620, 20_250),
    (30, 1_620, 40_500),
    (31, 3_600, 108_000),
    (32, 5_120, 216_000),
    (40, 8_192, 245_760),
    (42, 8_704, 522_240),
    (50, 22_080, 589_824),
    (51, 36_864, 983_040),
)
"""Level times ten, macroblocks a picture, macroblocks a second."""


def _target(profile: Profile) -> Target:
    return Target(
        width=profile.width,
        height=profile.height,
        framerate=profile.framerate,
        bitrate=profile.bitrate,
        maxrate=profile.maxrate or round(profile.bitrate * MAXRATE),
        bufsize=profile.bufsize or round(profile.bitrate * BUFFER),
    )


def _video(rendition: Rendition, backend: Encoder) -> VideoFeed:
    target = rendition.target
    backend = rendition.encoder or backend
    return VideoFeed(
        feed=rendition.video,
        width=target.width,
        height=target.height,
        framerate=target.framerate,
        bitrate=target.bitrate,
        encoder=backend.encoder,
        options=backend.options(target),
        pixel_format=backend.pixel_format,
    )


def _sound(
    source: Track | None, bitrate: int, bitrates: Sequence[int], measured: int | None
) -> AudioFeed | None:
    if source is None:
        return None
    if source.codec is Codec.AAC and source.channels <= 2 and measured and measured <= bitrate * NEARLY_FITS:
        return AudioFeed(feed=_COPY, codec="copy", bitrate=bitrate)
    return AudioFeed(feed=_AAC + bitrates.index(bitrate), codec="aac", bitrate=bitrate)
