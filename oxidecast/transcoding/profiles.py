"""From the settings' profiles and what a source is, to the renditions that are made of it. A pure function.

    ladder(profiles, names, video, audio) -> Ladder -> job(renditions, ...) -> Job for the child process

Nothing is scaled up: a profile larger than the source is left out, and where none would be left the smallest one is
made at the source's own size, with as much less bitrate as it is smaller. So is the smallest in H.264, which every
player takes. Renditions whose sound is the same share it: it is encoded once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from oxidecast.formats.framed_messages import AudioFeed, Device, Job, VideoFeed
from oxidecast.media import Codec, Track
from oxidecast.settings.sections import MAX_PROFILES, Profile
from oxidecast.transcoding.sizes import fit, scale, shown_size, too_large
from oxidecast.transcoding.targets import LEAST_SIDE, Target, coded_rate

MAXRATE = 1.1
"""Times the bitrate, where a profile names no `maxrate`. Apple's authoring rules for HLS take a live peak of up to 25 %
above the average; a tenth leaves room for what containers add."""

BUFFER = 2.0
"""Seconds of the bitrate, where a profile names no `bufsize`: a group of pictures, which a player has buffered."""

LEAST_BITRATE = 16_000
"""Bits a second: for smaller pictures than the profile's a bitrate shrinks no further."""

NEARLY_FITS = 1.1
"""Sound measured at up to a tenth above a profile's bitrate is copied: encoders wander around what they were asked."""

SILENT = 8_000
"""Bits a second: sound measured below is silence, some 2,000, and says nothing of what is to come: it is not copied."""

_LOW_LATENCY, _LOW_LATENCY_VP8 = 64, 32
_AAC, _OPUS, _COPY = 128, 192, 255
"""Feed numbers: a profile's place in the settings, that plus 64 without B-frames, plus 32 in VP8, and so on. They
depend on nothing else, so that a rendition which comes later gets a number of its own."""
assert MAX_PROFILES <= _LOW_LATENCY_VP8

OPUS_FEED = _OPUS

UNKNOWN = "the server has no profile of this name any more (transcoding.profiles)"

NO_THUMBNAILS = (0.0, 640)
OPUS_BITRATE = 96_000


class Encoder(Protocol):
    """What this file needs of a backend."""

    name: str
    encoders: Mapping[Codec, str]
    """FFmpeg's names."""
    lacks: Mapping[Codec, str]
    """What it does not make on this machine, and why."""
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
    wanted = [(place, profile) for place, profile in enumerate(profiles) if profile.name in names]
    left_out = dict.fromkeys(sorted({*names} - {profile.name for profile in profiles}), UNKNOWN)
    if video is None:
        return Ladder((), left_out | {profile.name: "the source has no pictures" for _, profile in wanted})
    source = shown_size(video)
    if not all(source):
        sizeless = "the source does not say its size"
        return Ladder((), left_out | {profile.name: sizeless for _, profile in wanted})
    possible = []
    for _, profile in wanted:
        size, codec = fit(source, (profile.width, profile.height)), Codec(profile.codec)
        if min(size) < LEAST_SIDE[codec]:
            left_out[profile.name] = (
                f"its pictures would be {size[0]}x{size[1]}, and {codec} takes none below {LEAST_SIDE[codec]} a side"
            )
        else:
            possible.append(profile)
    for profile in _larger(source, possible):
        left_out[profile.name] = f"the source is smaller ({source[0]}x{source[1]})"
    bitrates = sorted({profile.audio_bitrate for profile in profiles})
    renditions = [
        Rendition(
            name=profile.name,
            size=fit(source, (profile.width, profile.height)),
            target=_target(profile, source, video.frame_rate),
            keyframe_interval=profile.keyframe_interval,
            video=1 + place,
            audio=_sound(audio, profile.audio_bitrate, bitrates, audio_bitrate),
        )
        for place, profile in wanted
        if profile.name not in left_out
    ]
    return Ladder(tuple(renditions), left_out)


def low_latency(rendition: Rendition, name: str, vp8: Encoder | None = None) -> Rendition:
    """The same for WebRTC: without B-frames, and with Opus; in H.264, or in VP8 where there is an encoder for it: of
    the two every peer has one (RFC 7742 5), whatever the profile's codec."""
    audio = rendition.audio and opus()
    return replace(
        rendition,
        name=name,
        target=replace(rendition.target, low_latency=True, codec=Codec.H264 if vp8 is None else Codec.VP8),
        video=rendition.video + (_LOW_LATENCY if vp8 is None else _LOW_LATENCY_VP8),
        audio=audio,
        encoder=vp8,
    )


def job(
    renditions: Iterable[Rendition],
    backend: Encoder,
    thumbnails: tuple[float, int] = NO_THUMBNAILS,
    others: Iterable[AudioFeed] = (),
    software: Encoder | None = None,
) -> Job:
    """What to tell the child. `thumbnails` is the seconds between two (0 for none) and their width in pixels. `others`
    is sound without pictures: Opus beside the source's own pictures. `software` makes what `backend` does not."""
    renditions = tuple(renditions)
    audios = {one.audio.feed: one.audio for one in renditions if one.audio is not None}
    audios |= {feed.feed: feed for feed in others}
    return Job(
        videos=tuple(_video(one, _maker(one, backend, software)) for one in renditions),
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


def _larger(source: tuple[int, int], profiles: Sequence[Profile]) -> list[Profile]:
    """Those that the source is too small for, but for what is made all the same."""
    larger = [one for one in profiles if too_large(source, (one.width, one.height))]
    stays = [
        min(group, key=lambda one: one.width * one.height)
        for group in (profiles, [one for one in profiles if one.codec == "h264"])
        if group and all(one in larger for one in group)
    ]
    return [one for one in larger if one not in stays]


def _maker(rendition: Rendition, backend: Encoder, software: Encoder | None) -> Encoder:
    return software if software is not None and rendition.target.codec in backend.lacks else backend


def _target(profile: Profile, source: tuple[int, int], pictures: Fraction | None) -> Target:
    """`source` is its size, and `pictures` how many a second it has, if that is known."""
    box = (profile.width, profile.height)
    grows = max(scale(source, box), Fraction(1)) if too_large(source, box) else Fraction(1)

    def rate(bits: int) -> int:
        return max(round(bits / grows**2), min(bits, LEAST_BITRATE))

    return Target(
        width=profile.width,
        height=profile.height,
        framerate=max(profile.framerate, float(coded_rate(pictures, profile.framerate))),
        bitrate=rate(profile.bitrate),
        maxrate=rate(profile.maxrate or round(profile.bitrate * MAXRATE)),
        bufsize=rate(profile.bufsize or round(profile.bitrate * BUFFER)),
        codec=Codec(profile.codec),
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
        encoder=backend.encoders[target.codec],
        options=backend.options(target),
        pixel_format=backend.pixel_format,
        least=LEAST_SIDE[target.codec],
        on_device=backend.program is not None,
    )


def _sound(
    source: Track | None, bitrate: int, bitrates: Sequence[int], measured: int | None
) -> AudioFeed | None:
    if source is None:
        return None
    fits = measured is not None and SILENT <= measured <= bitrate * NEARLY_FITS
    if source.codec is Codec.AAC and source.channels <= 2 and fits:
        return AudioFeed(feed=_COPY, codec="copy", bitrate=bitrate)
    return AudioFeed(feed=_AAC + bitrates.index(bitrate), codec="aac", bitrate=bitrate)
