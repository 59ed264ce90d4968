"""What a transcoder and its child process say to each other besides tracks and packets.

Each message travels as one frame of `formats/framed.py`. A *feed* is one coded track that the child makes: a picture
size or a bitrate of sound. Feeds have numbers, which their tracks and packets carry as `Track.id` and `track_id`.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

MAX_FEEDS = 32
"""Of one kind, in a job. A ladder has four; the rest is room for what is made on demand."""

FeedNumber = Annotated[int, Meta(ge=1, le=255)]
_Side = Annotated[int, Meta(ge=16, le=8192)]
_Rate = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0)]


class _Message(msgspec.Struct, frozen=True, tag=True, kw_only=True, forbid_unknown_fields=True):
    pass


class VideoFeed(_Message, frozen=True, kw_only=True):
    """A picture size of the ladder. What one number stands for never changes within one child."""

    feed: FeedNumber
    width: _Side
    """The box that pictures are fitted into; it is turned for pictures in portrait. Never scaled up."""
    height: _Side
    framerate: Annotated[float, Meta(gt=0, le=240)]
    """The most pictures a second."""
    bitrate: _Rate
    encoder: str = "libx264"
    options: dict[str, str] = {}
    """The encoder's own, as FFmpeg has them."""
    pixel_format: str = "yuv420p"

    @property
    def is_vp8(self) -> bool:
        """All else is H.264."""
        return self.encoder == "libvpx"


class AudioFeed(_Message, frozen=True, kw_only=True):
    """A coding of the sound."""

    feed: FeedNumber
    codec: str
    """`aac`, `opus`, or `copy` for the source's own packets."""
    bitrate: _Rate = 128_000
    channels: Annotated[int, Meta(ge=1, le=2)] = 2
    """The most; sound with fewer keeps them."""


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The FFmpeg program does the pictures, on a device from end to end, in place of the child's own library."""

    ffmpeg: str
    """The program."""
    decode: tuple[str, ...] = ()
    """Its arguments before the input: whose decoder, and that pictures stay there."""
    scale: str
    """Its filter, with `{width}` and `{height}`."""


class Job(_Message, frozen=True, kw_only=True):
    """What to make. It may be sent again: feeds that are new begin at a keyframe, those that are gone end."""

    videos: Annotated[tuple[VideoFeed, ...], Meta(max_length=MAX_FEEDS)] = ()
    audios: Annotated[tuple[AudioFeed, ...], Meta(max_length=MAX_FEEDS)] = ()
    keyframe_interval: Annotated[float, Meta(gt=0)] = 2.0
    """Seconds: further keyframes are made where the source's are further apart, the same in all feeds."""
    thumbnail_every: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds; 0 for none."""
    thumbnail_width: _Side = 640
    device: Device | None = None
    """The first job of a child decides whether it has one."""
    lossless: bool = False
    """Wait for encoders instead of dropping pictures: for what comes from a file, as fast as it goes."""


class Discontinuity(_Message, frozen=True):
    """What follows does not continue what came before. The child answers with the same, after the last packet of
    before and ahead of the first one of after."""

    number: _Count


class Resumed(_Message, frozen=True, kw_only=True):
    """The packets that follow, up to the picture at `until`, are sent once more: another child was at work on them."""

    until: int
    made: Annotated[dict[FeedNumber, int], Meta(max_length=2 * MAX_FEEDS)] = {}
    """By video feeds' numbers, the `pts` up to which there are coded pictures: each goes on with the next one, as a
    keyframe. What comes before is for the decoder alone."""


class KeyframeWanted(_Message, frozen=True):
    """One feed's next picture is to be a keyframe, for somebody who has lost one."""

    feed: FeedNumber


class End(_Message, frozen=True):
    """No packet follows: the child hands out what it still has, says the same, and exits."""


class Ready(_Message, frozen=True):
    """The child's first word: what it has given up, of `network` and `files`."""

    confined: tuple[str, ...] = ()


class Trouble(_Message, frozen=True):
    """Something that people should know. When it is fatal the child exits after it."""

    sentence: str
    fatal: bool = False
    feed: Annotated[int, Meta(ge=0, le=255)] = 0
    """0 where it is no feed's."""


class FeedEnded(_Message, frozen=True):
    """A feed that a new job does not have any more has given its last packet."""

    feed: FeedNumber


class Tile(_Message, frozen=True, kw_only=True):
    """A JPEG small enough that a hundred are kept, for a storyboard."""

    width: _Side
    height: _Side
    jpeg: bytes


class Thumbnail(_Message, frozen=True):
    """A JPEG of the picture at `pts`, and a tile of it."""

    pts: int
    width: _Side
    height: _Side
    jpeg: bytes
    tile: Tile | None = None


class FeedFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One video feed's counts, since it began."""

    feed: FeedNumber
    taken: _Count = 0
    """Pictures that were given to it, after the frame rate's ceiling."""
    made: _Count = 0
    """Coded pictures."""
    left_out: _Count = 0
    """By the frame rate's ceiling."""
    dropped: _Count = 0
    """Because the encoder did not keep up."""
    duplicated: _Count = 0
    queue: _Count = 0
    """Pictures that wait now."""
    busy: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds spent on scaling and encoding, by the clock."""
    media: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds of media encoded: `media / busy` is how many times faster than the stream it could run."""


class Figures(_Message, frozen=True, kw_only=True):
    """Every second, since the child began."""

    read: _Count = 0
    """Frames read from the pipe."""
    decoded: _Count = 0
    """Pictures."""
    errors: _Count = 0
    """Packets that a decoder refused."""
    silence: _Count = 0
    """Samples of silence put into gaps."""
    lost: _Count = 0
    """Packets of sound that were dropped, because their thread did not keep up."""
    cpu: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds, user and system."""
    rss: _Count = 0
    """Bytes."""
    feeds: Annotated[tuple[FeedFigures, ...], Meta(max_length=2 * MAX_FEEDS)] = ()


Message = (
    Job
    | Discontinuity
    | Resumed
    | KeyframeWanted
    | End
    | Ready
    | Trouble
    | FeedEnded
    | Tile
    | Thumbnail
    | Figures
)
