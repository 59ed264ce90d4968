"""Renditions that exist only while somebody wants them, and those that could.

The one idea: who wants a rendition counts in `stream.wanted`; whoever makes renditions looks there, and nobody knows
the other. A rendition is there a moment after the first want, and gone a while after the last one's release.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from oxidecast.interfaces import IRendition, IWant
from oxidecast.media import Codec

OPUS = "opus"


class RenditionSpec(msgspec.Struct, frozen=True):
    """What is wanted: a profile of the ladder as every output has it, the same for low latency (no B-frames, and
    sound in Opus), or without a profile Opus alone, to go with the source's own pictures."""

    profile: str = ""
    low_latency: bool = False
    codec: Codec = Codec.H264
    """Of the pictures. VP8 is made for low latency only, for browsers without H.264."""

    @property
    def name(self) -> str:
        """The rendition's. A colon is in no profile's name."""
        if not self.profile:
            return OPUS
        if not self.low_latency:
            return self.profile
        return f"{self.profile}:live" if self.codec is Codec.H264 else f"{self.profile}:{self.codec}"

    @property
    def is_listed(self) -> bool:
        """Whether it is for all outputs, and not only for who wants it."""
        return bool(self.profile) and not self.low_latency


def profile_of(rendition: str) -> str:
    """The profile whose rendition has this name."""
    return rendition.partition(":")[0]


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A rendition of the ladder as it will be; it need not run now."""

    name: str
    codec: Codec = Codec.H264
    width: int
    height: int
    frame_rate: Fraction | None
    peak: int
    """Bits a second of its largest segment, sound and container included."""
    average: int
    codecs: tuple[str, ...]
    """As in RFC 6381: as its tracks were when it ran last, and before that as its encoder will be told."""


@implementer(IWant)
class Want:
    """See `IWant`."""

    def __init__(
        self,
        spec: RenditionSpec,
        when: Callable[[str, float], "Deferred[IRendition | None]"],
        release: Callable[[RenditionSpec], None],
    ) -> None:
        self.spec = spec
        self._when = when
        self._release: Callable[[RenditionSpec], None] | None = release

    def rendition(self, within: float) -> Any:
        return self._when(self.spec.name, within)

    def release(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(self.spec)
