"""HLS playlists as text, from plain structures (RFC 8216 and its successor, draft-pantos-hls-rfc8216bis).

A live playlist changes by one segment an update, so each `Segment` renders its lines once, when it is made,
and a playlist is a header and a join. The caller owns the window: it drops old segments, counts
`media_sequence` and `discontinuity_sequence` up as it does, and keeps `target_duration` as first published
(bis, 4.4.3.1).

Names from outside end up in these lines, and a playlist has no escapes: URIs are percent-encoded, and a
quoted string loses what it cannot hold, so that no text can end its line or its quotes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from urllib.parse import quote

from oxidecast.media import TICKS, LocalProtocolError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_URI_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
"""What RFC 3986 allows beside letters, digits and `-._`; all else, line ends included, is percent-encoded."""
_NOT_QUOTABLE = re.compile(r'["\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""What a quoted-string cannot hold (bis, 4.2: no line feed, carriage return or double quote), and what some
readers take for the end of a line."""


class PlaylistType(StrEnum):
    """EXT-X-PLAYLIST-TYPE: what the server promises never to change (bis, 4.4.3.5)."""

    EVENT = "EVENT"
    VOD = "VOD"


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment of a media playlist."""

    uri: str
    duration: int
    """Ticks of 1/90000 s."""
    map: str = ""
    """URI of the initialisation segment (EXT-X-MAP); empty for MPEG-TS."""
    utc: float | None = None
    """Unix seconds of the first picture or sound; told to the millisecond (EXT-X-PROGRAM-DATE-TIME)."""
    discontinuity: bool = False
    """Timestamps, codecs or the encoder changed before this segment."""
    gap: bool = False
    """The media is missing; players must not ask for it (EXT-X-GAP)."""

    lines: str = field(init=False, repr=False, compare=False)
    """Date, gap, EXTINF and URI, rendered; the MAP before them depends on the segment before."""

    def __post_init__(self) -> None:
        if self.duration < 0:
            raise LocalProtocolError(f"a segment cannot last {self.duration} ticks")
        lines = f"#EXTINF:{_seconds(self.duration)},\n{_uri(self.uri)}\n"
        if self.gap:
            lines = f"#EXT-X-GAP\n{lines}"
        if self.utc is not None:
            lines = f"#EXT-X-PROGRAM-DATE-TIME:{_date(self.utc)}\n{lines}"
        object.__setattr__(self, "lines", lines)


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the multivariant playlist: a rendition, and what a player must know to choose it."""

    uri: str
    bandwidth: int
    """Bits a second of the worst segment, container included (BANDWIDTH)."""
    codecs: Sequence[str] = ()
    """RFC 6381 strings of all tracks."""
    average_bandwidth: int | None = None
    width: int = 0
    """Pixels; 0 where there is no video."""
    height: int = 0
    frame_rate: Fraction | None = None


def target_duration(longest: int) -> int:
    """EXT-X-TARGETDURATION, in whole seconds, that allows segments of up to `longest` ticks."""
    return max(1, _rounded_seconds(longest))


def media_playlist(
    segments: Sequence[Segment],
    *,
    target_duration: int,
    media_sequence: int = 0,
    discontinuity_sequence: int = 0,
    playlist_type: PlaylistType | None = None,
    independent_segments: bool = False,
    start: float | None = None,
    ended: bool = False,
) -> str:
    """A media playlist.

    `start` is EXT-X-START's TIME-OFFSET in seconds, negative from the end. Raises LocalProtocolError where a
    segment, rounded to whole seconds, is longer than `target_duration` (bis, 4.4.3.1).
    """
    longest = max((segment.duration for segment in segments), default=0)
    if _rounded_seconds(longest) > target_duration:
        raise LocalProtocolError(
            f"a segment of {_seconds(longest)} s exceeds EXT-X-TARGETDURATION {target_duration}"
        )
    # Decimal EXTINF asks for version 3, EXT-X-MAP beside whole segments for 6 (bis, 8).
    version = 6 if any(segment.map for segment in segments) else 3
    lines = [
        f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_duration}\n"
        f"#EXT-X-MEDIA-SEQUENCE:{media_sequence}\n"
    ]
    if discontinuity_sequence:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n")
    if playlist_type is not None:
        lines.append(f"#EXT-X-PLAYLIST-TYPE:{playlist_type.value}\n")
    if independent_segments:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS\n")
    if start is not None:
        lines.append(f"#EXT-X-START:TIME-OFFSET={start:.3f}\n")
    current = ""
    for segment in segments:
        if segment.discontinuity:
            lines.append("#EXT-X-DISCONTINUITY\n")
        if segment.map != current:
            current = segment.map
            lines.append(f'#EXT-X-MAP:URI="{_uri(current)}"\n')
        lines.append(segment.lines)
    if ended:
        lines.append("#EXT-X-ENDLIST\n")
    return "".join(lines)


def multivariant(variants: Iterable[Variant]) -> str:
    """A multivariant playlist; players begin with the first variant, so the caller's order counts."""
    # Nothing used here asks for more than version 1. EXT-X-INDEPENDENT-SEGMENTS would speak for every segment that is
    # still to come, and nobody knows where the encoder will put its keyframes.
    lines = ["#EXTM3U"]
    for variant in variants:
        attributes = [f"BANDWIDTH={variant.bandwidth}"]
        if variant.average_bandwidth is not None:
            attributes.append(f"AVERAGE-BANDWIDTH={variant.average_bandwidth}")
        if variant.codecs:
            attributes.append(f'CODECS="{_quotable(",".join(variant.codecs))}"')
        if variant.width and variant.height:
            attributes.append(f"RESOLUTION={variant.width}x{variant.height}")
        if variant.frame_rate:
            attributes.append(f"FRAME-RATE={float(variant.frame_rate):.3f}")
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", _uri(variant.uri)]
    return "\n".join([*lines, ""])


def _seconds(ticks: int) -> str:
    """Ticks as decimal seconds, to the nanosecond: 10,000 segments still add up to half a tick."""
    whole, rest = divmod(ticks, TICKS)
    decimals = f"{(rest * 100_000 + 4) // 9:09}".rstrip("0")
    return f"{whole}.{decimals or '0'}"


def _rounded_seconds(ticks: int) -> int:
    return (ticks + TICKS // 2) // TICKS


def _date(utc: float) -> str:
    try:
        moment = _EPOCH + timedelta(milliseconds=round(utc * 1000))
    except (OverflowError, ValueError) as error:
        raise LocalProtocolError(f"EXT-X-PROGRAM-DATE-TIME cannot say {utc}: {error}")
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uri(uri: str) -> str:
    """A URI that is one line, fits in quotes, and is no comment."""
    encoded = quote(uri, safe=_URI_CHARACTERS, errors="replace")
    if not encoded:
        raise LocalProtocolError("a playlist needs a URI here, not an empty string")
    return "%23" + encoded[1:] if encoded[0] == "#" else encoded


def _quotable(text: str) -> str:
    return _NOT_QUOTABLE.sub("", text)
