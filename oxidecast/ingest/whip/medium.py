"""One medium of a publisher: RTP packets in, access units of its publication out.

The one idea: what a medium comes by is one source (SSRC) at a time, with a buffer, a depacketizer and figures of its
own; another source takes over only from one that is silent. So a peer can make us keep two buffers, and no more.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from oxidecast.formats import rtp_opus
from oxidecast.formats.rtp import RTPPacket
from oxidecast.formats.rtp_av1 import AV1Depacketizer
from oxidecast.formats.rtp_frames import CodedFrame, Depacketizer
from oxidecast.formats.rtp_h264 import H264Depacketizer
from oxidecast.formats.rtp_hevc import HEVCDepacketizer
from oxidecast.formats.rtp_vp8 import VP8Depacketizer
from oxidecast.formats.rtp_vp9 import VP9Depacketizer
from oxidecast.formats.sdp_answer import Received
from oxidecast.ingest.whip.negotiation import VIDEO
from oxidecast.ingest.whip.timeline import DecodingTimes, StreamTime, Timeline
from oxidecast.media import Codec, RemoteProtocolError, Track, av1, h264, hevc, opus, vp8, vp9
from oxidecast.webrtc.receiving import PATIENCE, ReceiveBuffer, original
from oxidecast.webrtc.reception import Reception

VIDEO_ID, AUDIO_ID = 1, 2

SILENT: Final = 1.0
"""Seconds without a packet after which another source may take over; one that says goodbye is followed at once."""
KEYFRAME_INTERVAL: Final = 2.0
"""Seconds after a keyframe until another one is asked for: browsers make none by themselves, and segments end and
viewers begin with one."""
SHORT_PATIENCE: Final = 0.06
"""Seconds that sound waits for what nobody sends again: packets that overtook each other come within that."""
SMOOTHING: Final = 8
"""Of round trips, as RFC 6298 2.3 has it."""
MAX_ASKED: Final = 512
"""Requests whose answer is timed."""

MAX_SPS, MAX_PPS = 31, 255
"""Of H.264, as the record has room for (ISO 14496-15 5.3.3.1)."""

OPUS: Final = opus.track(b"\x00\x02" + bytes(2) + (48_000).to_bytes(4, "big") + bytes(3))
"""Opus in RTP is always to be decoded in stereo (RFC 7587 7), and begins without samples to skip."""

_DEPACKETIZERS: Final[Mapping[Codec, Callable[[], Depacketizer]]] = {
    Codec.H264: H264Depacketizer,
    Codec.HEVC: HEVCDepacketizer,
    Codec.AV1: AV1Depacketizer,
    Codec.VP9: VP9Depacketizer,
    Codec.VP8: VP8Depacketizer,
}


def _h264(payload: bytes) -> Track:
    found = h264.parameter_sets(payload)
    if found is None or not found.sps or not found.pps:
        raise RemoteProtocolError("H.264 keyframe is without parameter sets")
    return h264.track(h264.configuration(found.sps[:MAX_SPS], found.pps[:MAX_PPS]), VIDEO_ID)


def _hevc(payload: bytes) -> Track:
    found = hevc.parameter_sets(payload)
    if found is None or not found.sps or not found.pps:
        raise RemoteProtocolError("HEVC keyframe is without parameter sets")
    return hevc.track(hevc.configuration(found.vps, found.sps, found.pps), VIDEO_ID)


def _vp9(payload: bytes) -> Track:
    track = vp9.track(vp9.configuration(payload), VIDEO_ID)
    return vp9.in_band(payload, track) or track


_BEGINNINGS: Final[Mapping[Codec, Callable[[bytes], Track]]] = {
    Codec.H264: _h264,
    Codec.HEVC: _hevc,
    Codec.AV1: lambda payload: av1.track(av1.configuration(payload), VIDEO_ID),
    Codec.VP9: _vp9,
    Codec.VP8: lambda payload: vp8.track(payload, VIDEO_ID),
}
"""The track that begins with a keyframe."""

_CHANGES: Final[Mapping[Codec, Callable[[bytes, Track], Track | None]]] = {
    Codec.H264: h264.in_band,
    Codec.HEVC: hevc.in_band,
    Codec.AV1: av1.in_band,
    Codec.VP8: vp8.in_band,
}


class Target(Protocol):
    """Where a medium goes: a publication, or one size of a simulcast. As in `IPublication`."""

    def track(self, track: Track) -> None: ...

    def packet(
        self, track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0
    ) -> None: ...


class Medium(ABC):
    """What pictures and sound have in common."""

    def __init__(self, received: Received, timeline: Timeline) -> None:
        self.received = received
        self.target: Target | None = None
        self.nacks = "nack" in received.feedback
        """Whether what is missing is asked for."""
        self.ssrc: int | None = None
        """Of the source; None before it was heard, and after its goodbye."""
        self.asked = 0
        """Packets that were asked for, each time counted."""
        self.faults = 0
        """Packets and frames that could not be read."""
        self._timeline = timeline
        self._rate = received.codec.clock_rate
        self._heard = 0.0
        self._requests: dict[int, float | None] = {}
        """When a packet was asked for; None when more than once."""
        self.buffer: ReceiveBuffer
        self.reception: Reception
        self.time: StreamTime
        self._begin_source(None)

    def rtp(self, packet: RTPPacket, now: float) -> None:
        """An RTP packet of one of our payload types."""
        try:
            if packet.payload_type == self.received.codec.payload_type:
                self._original(packet, now)
            elif self.ssrc is not None:
                again = original(packet, self.ssrc, self.received.codec.payload_type)
                if again is not None:
                    self._time_request(again.sequence, now)
                    self._out(self.buffer.receive(again, now), now)
        except RemoteProtocolError:
            self.faults += 1

    def poll(self, now: float) -> list[int]:
        """Let go what waited long enough; the sequence numbers to ask for."""
        self._out(self.buffer.poll(now), now)
        missing = self.buffer.nacks(now) if self.nacks else []
        self.asked += len(missing)
        for sequence in missing:
            if len(self._requests) >= MAX_ASKED:
                self._requests.clear()
            self._requests[sequence] = None if sequence in self._requests else now
        return missing

    def report(self, ntp: int, timestamp: int, now: float) -> None:
        """A sender report about our source came."""
        self.time.report(ntp, timestamp)
        self.reception.sender_report(ntp, now)

    def goodbye(self) -> None:
        """The source ends."""
        self._begin_source(None)

    # -- inside

    def _original(self, packet: RTPPacket, now: float) -> None:
        if packet.ssrc != self.ssrc:
            if self.ssrc is not None and now - self._heard < SILENT:
                return
            self._begin_source(packet.ssrc)
        self._heard = now
        self.reception.packet(packet.sequence, packet.timestamp, now)
        self._out(self.buffer.receive(packet, now), now)

    def _begin_source(self, ssrc: int | None) -> None:
        if self.ssrc is not None:
            self.time.forget()
        self.ssrc = ssrc
        self.buffer = ReceiveBuffer(PATIENCE if self.nacks else SHORT_PATIENCE)
        self.reception = Reception(self._rate)
        self.time = StreamTime(self._timeline, self._rate)
        self._requests.clear()

    def _time_request(self, sequence: int, now: float) -> None:
        asked = self._requests.pop(sequence, None)
        if asked is not None:
            self.buffer.rtt += (now - asked - self.buffer.rtt) / SMOOTHING

    def _out(self, due: list[tuple[int, RTPPacket]], now: float) -> None:
        """Packets in their order."""
        for sequence, packet in due:
            try:
                self._take(sequence, packet, now)
            except RemoteProtocolError:
                self._failed()

    @abstractmethod
    def _take(self, sequence: int, packet: RTPPacket, now: float) -> None:
        """The next packet. Raises RemoteProtocolError."""

    def _failed(self) -> None:
        """What was taken is unreadable."""
        self.faults += 1


class Pictures(Medium):
    """Video."""

    def __init__(self, received: Received, timeline: Timeline) -> None:
        self.codec = VIDEO[received.codec.name]
        self._track: Track | None = None
        self._decoding = DecodingTimes(timeline)
        self._keyframe_at = float("-inf")
        super().__init__(received, timeline)

    def keyframe_due(self, now: float) -> bool:
        """Whether to ask for a keyframe now."""
        if now - self._keyframe_at >= KEYFRAME_INTERVAL:
            self.buffer.want_keyframe()
        return self.ssrc is not None and self.buffer.keyframe_due(now)

    def ask_along(self, now: float) -> bool:
        """Another size is asked for a keyframe: whether this one is, too, so that theirs have one time."""
        self.buffer.want_keyframe()
        return self.ssrc is not None and self.buffer.keyframe_due(now)

    def _begin_source(self, ssrc: int | None) -> None:
        super()._begin_source(ssrc)
        self._depacketizer = _DEPACKETIZERS[self.codec]()

    def _take(self, sequence: int, packet: RTPPacket, now: float) -> None:
        for frame in self._depacketizer.receive(sequence, packet.timestamp, packet.marker, packet.payload):
            self._frame(frame, now)

    def _failed(self) -> None:
        super()._failed()
        self._depacketizer = _DEPACKETIZERS[self.codec]()
        self.buffer.want_keyframe()

    def _frame(self, frame: CodedFrame, now: float) -> None:
        if frame.keyframe:
            self._configure(frame.payload)
            self._keyframe_at = now
            self.buffer.keyframe_came()
        elif frame.after_loss:
            # It goes out all the same: not every publisher makes keyframes when asked, and decoders conceal.
            self.buffer.want_keyframe()
        stamped = self._decoding.stamp(self.time.ticks(frame.timestamp, now))
        if stamped is None:
            self.faults += 1
        elif self._track is not None and self.target is not None:
            self.target.packet(VIDEO_ID, *stamped, frame.keyframe, frame.payload)

    def _configure(self, payload: bytes) -> None:
        """Announce the track that begins with this keyframe, when it is another."""
        track, change = self._track, _CHANGES.get(self.codec)
        if track is None or change is None:
            changed = _BEGINNINGS[self.codec](payload)
            if changed == track:
                return
        else:
            found = change(payload, track)
            if found is None:
                return
            changed = found
        self._track = changed
        if self.target is not None:
            self.target.track(changed)


class Sound(Medium):
    """Opus."""

    def __init__(self, received: Received, timeline: Timeline) -> None:
        self._announced = False
        super().__init__(received, timeline)

    def _take(self, sequence: int, packet: RTPPacket, now: float) -> None:
        if not packet.payload or self.target is None:
            return
        samples = rtp_opus.depacketize(packet.payload)
        if not self._announced:
            self._announced = True
            self.target.track(OPUS)
        at = self.time.ticks(packet.timestamp, now)
        self.target.packet(AUDIO_ID, at, at, True, packet.payload, samples)
