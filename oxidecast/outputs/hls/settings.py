"""[hls]: how a rendition is cut into segments."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from oxidecast.settings.section import Invalid, Seconds, Section, Size


class HlsSettings(Section, frozen=True, kw_only=True):
    """[hls]

    `enable_low_latency` and `partial_segment_duration` are accepted and validated; parts come in a later
    version.
    """

    reloadable: ClassVar[frozenset[str]] = frozenset(
        {"segment_duration", "playlist_length", "segment_type", "max_buffer"}
    )

    segment_duration: Annotated[float, Meta(ge=0.5, le=60)] = 2.0
    playlist_length: Annotated[int, Meta(ge=3, le=10_000)] = 6
    segment_type: Literal["fmp4", "mpegts"] = "fmp4"
    max_buffer: Size = 67_108_864
    enable_low_latency: bool = False
    partial_segment_duration: Seconds = 0.333

    def __post_init__(self) -> None:
        if self.partial_segment_duration > self.segment_duration:
            raise Invalid("partial_segment_duration", "must not be longer than segment_duration")
