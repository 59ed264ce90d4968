"""The two containers a segment can have, behind one face: fMP4 (CMAF) and MPEG-TS."""

from collections.abc import Iterable

from oxidecast.formats import fmp4, mpegts
from oxidecast.media import Codec, Packet, Track

_FMP4 = frozenset({Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.AAC, Codec.OPUS, Codec.AC3})
"""Not MP3: MSE plays it in MPEG audio or TS, not in fMP4 (Chromium, Firefox)."""


def carries(kind: str, codec: Codec) -> bool:
    """Whether a container of this kind (`fmp4`, `mpegts`) can carry a codec at all."""
    return mpegts.carries(codec) if kind == "mpegts" else codec in _FMP4


def carried(kind: str, tracks: Iterable[Track]) -> tuple[Track, ...]:
    """Those of the tracks that a container of this kind (`fmp4`, `mpegts`) can carry for HLS."""
    if kind == "mpegts":
        return tuple(track for track in tracks if not mpegts.obstacle(track))
    return tuple(track for track in tracks if track.codec in _FMP4)


class Container:
    """Makes the segments of one generation: from one discontinuity to the next, the tracks stay the same."""

    def __init__(self, kind: str, tracks: tuple[Track, ...]) -> None:
        self._tracks = tracks
        self._fragments = 0
        self._ts: mpegts.TSWriter | None = None
        self.init: bytes | None = None
        """The initialisation section, where the container has one."""
        if kind == "mpegts":
            self.suffix, self.content_type = "ts", b"video/mp2t"
            self._ts = mpegts.TSWriter(tracks)
        else:
            self.suffix, self.content_type = "m4s", b"video/mp4"
            self.init = fmp4.init_segment(tracks)

    def segment(self, packets: list[Packet], end: int) -> bytes:
        """`packets` in the order of arrival; `end` is the dts at which the leading track goes on."""
        if self._ts is not None:
            return self._ts.segment(packets)
        samples: dict[Track, list[Packet]] = {}
        for packet in packets:
            samples.setdefault(packet.track, []).append(packet)
        lead = min(samples, key=lambda track: track.id)
        self._fragments += 1
        following = {lead: end} if end > samples[lead][-1].dts else None
        return fmp4.fragment(self._fragments, samples, following=following, styp=True)
