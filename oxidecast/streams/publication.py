"""The way of one publisher into its stream.

The one idea: a publication holds back what it is sent until it can start for real, that is until its tracks are known
and a keyframe is there. So nothing half-made ever reaches a stream, and a newcomer that never sends a keyframe takes
nothing from whoever feeds the stream now.
"""

from typing import TYPE_CHECKING

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import IPublication, IPublisher, PublishRequest
from oxidecast.media import TICKS, Packet, Track
from oxidecast.media.timestamps import SampleClock
from oxidecast.streams.layer import Layer

if TYPE_CHECKING:
    from oxidecast.streams.stream import Stream

PROBE = 1 * TICKS
"""How much media is looked at for tracks that were not announced: encoders interleave within a few hundred
milliseconds, so a track that is silent for a second is not there yet (it may still appear later)."""

HELD_BYTES = 16 * 1024 * 1024
HELD_PACKETS = 4096
"""Most that is held back while probing: a second of the fastest contribution streams, and many times the packets that a
second has, for a publisher whose clock stands still."""

DEFAULT_DURATION = TICKS // 30
"""Of a picture of which nothing else is known."""

LONGEST_DURATION = 5 * TICKS
"""Deltas above this are gaps, not durations."""


class _Raw(msgspec.Struct, frozen=True, gc=False):
    """An access unit in the publisher's own time."""

    track_id: int
    dts: int
    pts: int
    keyframe: bool
    payload: bytes
    samples: int


@implementer(IPublication)
class Publication:
    """See `IPublication`."""

    log = Logger()

    def __init__(
        self,
        stream: "Stream",
        request: PublishRequest,
        publisher: IPublisher,
        key_id: str | None = None,
    ) -> None:
        self.stream = stream
        self.key_id = key_id
        """Of the stream key by which it came, where keys are checked."""
        self.protocol = request.protocol
        self.address = request.address
        self.encoder = request.encoder
        self.publisher = publisher
        self.opened_at = stream.seconds()
        self.last_packet_at = self.opened_at
        self.packets = 0
        self.bytes = 0
        self.discarded = 0
        """Packets that could not be used: no track for them, or no keyframe yet."""
        self.jumps = 0
        """Time stamp jumps that were absorbed."""
        self._expected: frozenset[bool] | None = None
        self._tracks: dict[int, Track] = {}
        self._held: list[_Raw] | None = []
        self._held_bytes = 0
        self._probe_start: int | None = None
        self._last_dts: dict[int, int] = {}
        self._delta: dict[int, int] = {}
        self._clocks: dict[int, tuple[Track, SampleClock]] = {}
        self._restart: str | None = None
        self._layers: list[Layer] = []
        self._open = True

    # -- what the ingest calls

    def expect(self, video: bool, audio: bool) -> None:
        if video or audio:
            self._expected = frozenset(kind for kind, there in ((True, video), (False, audio)) if there)

    def named(self, encoder: str) -> None:
        self.encoder = encoder

    def track(self, track: Track) -> None:
        known = self._tracks.get(track.id)
        if not self._open or known == track:
            return
        self._tracks[track.id] = track
        if self._held is None:
            self._restart = (
                f"the {'picture' if track.is_video else 'sound'} {'changed' if known else 'appeared'}"
            )
        elif track.is_video or known is not None:
            # What was held before the picture was known, or with another configuration, is no beginning any more.
            self._drop_held()

    def packet(
        self, track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0
    ) -> None:
        if not self._open:
            return
        self.last_packet_at = self.stream.seconds()
        self.packets += 1
        self.bytes += len(payload)
        if track_id not in self._tracks:
            self.discarded += 1
            self._probe(dts)
            return
        raw = _Raw(track_id, dts, pts, keyframe, payload, samples)
        if self._held is None:
            self._feed(raw)
            return
        track = self._tracks[track_id]
        if not self._held and self._has_video and not (keyframe and track.is_video):
            self.discarded += 1
        else:
            self._held.append(raw)
            self._held_bytes += len(payload)
        self._probe(dts)

    def layer(self, name: str) -> Layer:
        self._layers.append(Layer(self.stream, name))
        return self._layers[-1]

    def close(self, reason: str) -> None:
        if self._open:
            self._open = False
            self._held = None
            self._end_layers(reason)
            self.stream.publication_closed(self, reason)

    # -- what the stream calls

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Video first."""
        return tuple(self._tracks[id] for id in sorted(self._tracks))

    @property
    def feeding(self) -> bool:
        """Whether its packets reach the stream."""
        return self._open and self._held is None

    def dismiss(self, code: str, sentence: str) -> None:
        """Close from the stream's side: no `publication_closed` comes of it."""
        if self._open:
            self._open = False
            self._held = None
            self._end_layers(sentence)
            try:
                self.publisher.stop(code, sentence)
            except Exception:
                self.log.failure("stopping a publisher of {stream} failed", stream=self.stream.name)

    # -- inside

    @property
    def _has_video(self) -> bool:
        return any(track.is_video for track in self._tracks.values())

    def _end_layers(self, reason: str) -> None:
        layers, self._layers = self._layers, []
        for layer in layers:
            layer.end(reason)

    def _drop_held(self) -> None:
        assert self._held is not None
        self.discarded += len(self._held)
        self._held = []
        self._held_bytes = 0

    def _probe(self, dts: int) -> None:
        """Begin, if everything that can be expected is there."""
        if self._probe_start is None:
            self._probe_start = dts
        if not self._held:
            return
        kinds = frozenset(track.is_video for track in self._tracks.values())
        complete = kinds >= (self._expected or frozenset((True, False)))
        full = self._held_bytes > HELD_BYTES or len(self._held) > HELD_PACKETS
        if complete or full or abs(dts - self._probe_start) >= PROBE:
            held, self._held = self._held, None
            # Durations of the first packets come from the packets themselves.
            for raw in held:
                self._note_delta(raw)
            self._last_dts.clear()
            lasted = max(raw.dts for raw in held) - held[0].dts
            self.stream.begin(self, min(max(lasted, 0), PROBE))
            for raw in held:
                self._feed(raw)

    def _note_delta(self, raw: _Raw) -> None:
        last = self._last_dts.get(raw.track_id)
        if last is not None and 0 < raw.dts - last < LONGEST_DURATION:
            self._delta[raw.track_id] = raw.dts - last
        self._last_dts[raw.track_id] = raw.dts

    def _duration(self, track: Track, raw: _Raw) -> int:
        """How long the packet lasts, as far as is known now."""
        if raw.samples and track.sample_rate:
            return raw.samples * TICKS // track.sample_rate
        self._note_delta(raw)
        if track.id in self._delta:
            return self._delta[track.id]
        return (
            min(round(TICKS / track.frame_rate), LONGEST_DURATION) if track.frame_rate else DEFAULT_DURATION
        )

    def _feed(self, raw: _Raw) -> None:
        if not self._open:
            return
        track = self._tracks[raw.track_id]
        if self._restart is not None:
            if self._has_video and not (raw.keyframe and track.is_video):
                # The old beginning goes on for tracks that did not change; what did change waits for the new one.
                if track not in self.stream.source.tracks:
                    self.discarded += 1
                    return
            else:
                reason, self._restart = self._restart, None
                self.stream.source.restart(self.tracks, reason)
        duration = self._duration(track, raw)
        dts, pts, jumped = self.stream.rebaser.stamp(raw.track_id, raw.dts, raw.pts, duration)
        if jumped:
            self.jumps += 1
            if self.jumps & (self.jumps - 1) == 0:  # the 1st, 2nd, 4th, 8th: some encoders never stop
                self.log.warn(
                    "time stamps of {stream} jumped, and were joined: track {track}, {jumps} times so far",
                    stream=self.stream.name,
                    track=raw.track_id,
                    jumps=self.jumps,
                )
        if raw.samples and track.sample_rate:
            dts, duration = self._counted(track, dts, raw.samples)
            pts = dts
        packet = Packet(track, dts, pts, duration, raw.keyframe, raw.payload)
        self.stream.source.push(packet)
        for layer in self._layers:
            if track.is_video:
                layer.follow(raw.pts, pts)
            else:
                layer.sound(packet)

    def _counted(self, track: Track, dts: int, samples: int) -> tuple[int, int]:
        """Audio time, counted in samples: (dts, duration)."""
        known, clock = self._clocks.get(track.id, (None, None))
        if clock is None or known != track:
            clock = SampleClock(track.sample_rate, samples, after=self.stream.last_audio.get(track.id))
            self._clocks[track.id] = track, clock
        dts, duration = clock.stamp(dts, samples)
        self.stream.last_audio[track.id] = dts
        return dts, duration
