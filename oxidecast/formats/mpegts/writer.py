"""The transport stream of one rendition: tables, clock, and the tracks' packets, with counters that never
break.

Times. Media time t is told as PCR t; the PTS and DTS on the wire are `lead` later than the packet's own. So a
frame that is sent when the clock says its dts has `lead` to arrive before it is due, as H.222.0 asks of its
buffer model (2.4.2), and no time is below zero. All tracks and renditions with the same lead stay in step.

The clock travels on a track's PID, where frames and clock must leave in the order they were written in; or, for
a sender who queues frames and makes each PCR at the moment it leaves, on a PID of its own (2.4.4.8).
"""

from collections.abc import Iterable, Iterator, Sequence

from oxidecast.formats.mpegts import tables
from oxidecast.formats.mpegts.elementary import Carriage, carriage, pes
from oxidecast.formats.mpegts.packets import DISCONTINUITY, PID, RANDOM_ACCESS, adaptation_field
from oxidecast.media import TICKS, Codec, LocalProtocolError, Packet, Track

LEAD = 3 * TICKS // 10
"""300 ms: more than the 100 ms that a bundle of sound waits for its last frame, less than the second that
frames may stay in a receiver's buffer (2.4.2.6)."""

_BUNDLE = TICKS // 10
"""A PES packet of sound spans at most 100 ms: where sound carries the clock, its PCRs may not lie further
apart (2.7.2)."""
BUNDLED = frozenset({Codec.AAC, Codec.MP3})
"""Codecs whose frames a receiver finds by their sync words, and stamps by counting samples."""
_CONTIGUOUS = 2
"""Ticks by which rounding may part two frames of sound that belong together."""


class _Stream:
    """One track on its PID."""

    __slots__ = ("broken", "how", "pid", "track")

    def __init__(self, track: Track, pid: PID) -> None:
        self.track = track
        self.pid = pid
        self.how: Carriage = carriage(track)
        self.broken = False


class TSWriter:
    """Writes the transport stream of `tracks`; the first video track, else the first, carries the clock, unless
    it has its `own_clock` PID.

    `service` and `provider` name it in an SDT; without a service name there is none. `lead` is in ticks. `version` is
    that of the first tables; a writer that goes on where another stopped sending takes counters and version over from
    it (`after`), so that receivers which stay tuned see what is new.
    Raises LocalProtocolError for a codec that MPEG-TS does not carry, for no track or two of one id, and for
    more tracks than the PMT's packet holds.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        service: str = "",
        provider: str = "OxideCast",
        lead: int = LEAD,
        own_clock: bool = False,
        version: int = 0,
        after: "TSWriter | None" = None,
    ) -> None:
        self._lead = lead
        self._own_clock = own_clock
        self._clock_broken = False
        self._names = (service, provider)
        self._pids: dict[int, PID] = after._pids if after is not None else {}
        self._version: int = (after._version if after is not None else version - 1) & 31
        self._streams: dict[int, _Stream] = {}
        self._tables: list[tuple[PID, bytes]] = []
        self.change(tracks)
        self.switch()

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Those that the tables tell."""
        return tuple(stream.track for stream in self._streams.values())

    def rename(self, service: str) -> None:
        """Go on under another name, told by the next `tables`."""
        self._names = (service, self._names[1])
        self.change(self.tracks)
        self.switch()

    def change(self, tracks: Sequence[Track]) -> None:
        """Go on with other tracks, in a new version of the tables; counters go on. `tables` tells the old ones until
        `switch`: what was written before may still be on its way."""
        if not tracks or len({track.id for track in tracks}) < len(tracks):
            raise LocalProtocolError("MPEG-TS needs tracks, each with an id of its own")
        clock = next((track for track in tracks if track.is_video), tracks[0])
        version = self._version + 1 & 31
        clock_pid = tables.CLOCK_PID if self._own_clock else tables.pid(clock)
        sections = [
            (tables.PAT_PID, tables.pat()),
            (tables.PMT_PID, tables.pmt(tracks, clock_pid, version)),
        ]
        if self._names[0]:
            sections.append((tables.SDT_PID, tables.sdt(*self._names, tracks, version)))
        streams = {track.id: _Stream(track, self._pid(tables.pid(track))) for track in tracks}
        for id, stream in streams.items():
            known = self._streams.get(id)
            stream.broken = known is not None and known.broken
        self._version = version
        self._following = [(self._pid(number), section) for number, section in sections]
        self._streams = streams
        self._clock = clock.id
        self._clock_pid = self._pid(clock_pid)

    def switch(self) -> None:
        """From now on `tables` tells of the tracks as they are."""
        self._tables = self._following

    def _pid(self, number: int) -> PID:
        return self._pids.setdefault(number, PID(number))

    def tables(self) -> bytes:
        """PAT, PMT, and the SDT where there is a service name: one transport packet each."""
        return b"".join([pid.section(section) for pid, section in self._tables])

    def discontinuity(self) -> None:
        """The next packet of each track, and the next `clock` on a PID of its own, say that time does not go on
        from what was before (2.4.3.5)."""
        self._clock_broken = self._own_clock
        for stream in self._streams.values():
            stream.broken = True

    def write(self, packet: Packet, *more: Packet, pcr: int | None = None) -> bytes:
        """The transport packets of one PES packet, which holds `packet`, and `more` of its track behind it.

        `pcr` is the clock (27 MHz, of media time) at which the first of them leaves; it belongs on the track
        that carries the clock. A picture where decoding can start is marked for random access.
        """
        stream = self._streams.get(packet.track.id)
        if stream is None or (packet.track is not stream.track and packet.track != stream.track):
            raise LocalProtocolError(f"track {packet.track.id} is not one of those that the PMT tells")
        data = pes(stream.how, (packet, *more), self._lead)
        flags = 0
        if packet.keyframe and (packet.track.is_video or pcr is not None):
            flags = RANDOM_ACCESS
        if stream.broken:
            flags |= DISCONTINUITY
            stream.broken = False
        return stream.pid.unit(data, adaptation_field(flags, pcr))

    def clock(self, pcr: int) -> bytes:
        """One transport packet with the clock alone: between frames that lie too far apart, or on its own PID."""
        flags = DISCONTINUITY if self._clock_broken else 0
        self._clock_broken = False
        return self._clock_pid.clock(pcr, flags)

    def segment(self, packets: Iterable[Packet]) -> bytes:
        """An HLS segment: tables, then `packets`, which come in the order of their dts.

        Frames of AAC and MP3 that follow on each other share PES packets of up to 100 ms, which spares a
        tenth of their bytes.
        """
        parts = [self.tables()]
        for group in _bundles(packets):
            first = group[0]
            pcr = first.dts * 300 if first.track.id == self._clock else None
            parts.append(self.write(*group, pcr=pcr))
        return b"".join(parts)


def _bundles(packets: Iterable[Packet]) -> Iterator[list[Packet]]:
    """Packets one by one, but sound in bundles, each in its first one's place."""
    groups: list[list[Packet]] = []
    open_: dict[int, list[Packet]] = {}
    for packet in packets:
        if packet.track.codec in BUNDLED:
            group = open_.get(packet.track.id)
            if group and continues(group, packet):
                group.append(packet)
                continue
            open_[packet.track.id] = group = [packet]
            groups.append(group)
        else:
            groups.append([packet])
    return iter(groups)


def continues(group: Sequence[Packet], packet: Packet, most: int = _BUNDLE) -> bool:
    """Whether a frame of sound may share the PES packet of `group`, which then spans at most `most` ticks."""
    last = group[-1]
    return (
        abs(packet.dts - last.dts - last.duration) <= _CONTIGUOUS
        and packet.dts + packet.duration - group[0].dts <= most
    )
