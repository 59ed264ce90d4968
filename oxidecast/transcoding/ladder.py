"""The ladder of one live stream: it reads `source`, has a child make renditions of it, and feeds them to the stream.

The one idea: what should be made follows from the stream's `info`, what is wanted of it, and what its source is now.
When one of them changes, `settle` looks at all again. The source's own viewers never notice any of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.formats.framed_messages import AudioFeed, Job, Thumbnail, Trouble
from oxidecast.interfaces import ISubscriber, ISubscription
from oxidecast.media import TICKS, Codec, Packet, Track
from oxidecast.media.picture import Colour
from oxidecast.settings.sections import TranscodingSettings
from oxidecast.streams.stream import Stream
from oxidecast.streams.wanting import OPUS, Planned, RenditionSpec
from oxidecast.transcoding import profiles
from oxidecast.transcoding.backends.vp8 import VP8
from oxidecast.transcoding.profiles import OPUS_FEED, Rendition
from oxidecast.transcoding.renditions import Renditions
from oxidecast.transcoding.sizes import colour
from oxidecast.transcoding.supervisor import Supervisor
from oxidecast.transcoding.targets import Target, codec_string, coded_rate, peak

LINGER = 60.0
"""Seconds that a rendition is still made when nobody wants it any more: viewers switch to and fro."""

LISTEN = TICKS // 2
"""How much sound is measured before the ladder begins, or copies what is new: what fits a profile's bitrate is not
coded again. The child takes as long to start. What is copied then stays so until the source begins anew: exchanging
sound is a discontinuity."""

LISTEN_AGAIN = 10 * TICKS
"""It is measured on, so much at a time: what is copied may become louder, and the plan says how much it is."""

MOST_LISTENED = 2048
"""Packets that wait for it at most."""

END_WITHIN = 1.0
"""Seconds for the child when the stream has ended: nobody reads what it would still make."""

NEXT_TRY = 300.0
"""Seconds after which a ladder that was given up is tried once more: what its children died of is over, maybe."""

FULL = (
    "the server transcodes as many streams as it may (transcoding.max_concurrent): "
    "this one has its source only, until another ends"
)
GIVEN_UP = "its qualities cannot be made, which is tried again in some minutes"

NAME_FULL, NAME_GIVEN_UP, NAME_FALLBACK = "transcoding:full", "transcoding:given_up", "transcoding:fallback"
NAME_CODECS = "transcoding:codecs"
"""Of the stream's notices."""


class Owner(Protocol):
    """What a ladder needs of the service."""

    reactor: Any
    settings: TranscodingSettings

    def backend(self) -> tuple[Any, str]:
        """The `ITranscoderBackend` to begin with, None while it is being tried out; and why it is not the one that the
        settings ask for, or nothing."""

    def software(self) -> Any:
        """The one to fall back to."""

    def may_run(self, ladder: "Ladder") -> bool:
        """Whether there is room for one more ladder. All are told to `settle` when that is another."""

    def room_changed(self) -> None:
        """One that did not count does now, or the other way round."""

    def stopped(self, ladder: "Ladder", ended: "Deferred[None]") -> None:
        """A child was told to end."""

    def count(self, what: str) -> None:
        """`fallbacks` or `given_up` happened once more."""

    def thumbnails(self) -> tuple[float, int]:
        """How many seconds apart, and how many pixels wide; 0 seconds where nobody keeps any."""

    def thumbnail(self, stream: Stream, thumbnail: Thumbnail, at: float) -> None:
        """A picture of the UTC second `at`."""


@implementer(ISubscriber)
class Ladder:
    """See the module."""

    log = Logger()

    def __init__(self, owner: Owner, stream: Stream) -> None:
        self.stream = stream
        self.supervisor: Supervisor | None = None
        self.renditions: Renditions | None = None
        """What the child makes, while there is one (or will be again)."""
        self.backend: Any = None
        """An `ITranscoderBackend`, once there was something to make."""
        self.fallback = ""
        """Why it is made in software though the settings ask for a device."""
        self.left_out: Mapping[str, str] = {}
        self.plan: tuple[Rendition, ...] = ()
        """What is made."""
        self.full = False
        """Whether none of it can be made, because the server transcodes enough already. Nobody can want what is not
        offered, so this is what is told and counted."""
        self.waits = False
        """Whether something of it is wanted all the same, or always made: then it comes first when there is room."""
        self.counts = False
        """Whether it is one of `max_concurrent`."""
        self._given_up: tuple[tuple[Rendition, ...], tuple[AudioFeed, ...]] | None = None
        """What could not be made."""
        self._next_try: IDelayedCall | None = None
        self._codecs: dict[tuple[tuple[int, int], Target, Colour], str] = {}
        """Of pictures that were made, in the source's colour, what they are called."""
        self._restarts = 0
        self._owner = owner
        self._subscription: ISubscription | None = None
        self._others: tuple[AudioFeed, ...] = ()
        self._tracks: dict[bool, Track] = {}
        self._lingering: dict[RenditionSpec, IDelayedCall] = {}
        self._known: set[RenditionSpec] = set()
        """What is made because it is or was wanted."""
        self._heard: list[Packet] | None = None
        """What waits while the sound is measured."""
        self._sound_bytes = self._sound_ticks = 0
        self._most_sound: int | None = None
        """Bits a second: the most that was measured."""
        self._judged: int | None = None
        """What it was when last was decided what is copied. None is copied where that is not known."""
        self._over = False

    # -- what should be made

    def settle(self) -> None:
        """Look at everything again."""
        if self._over:
            return
        self._look_at_wants()
        if self.supervisor is None:
            self._judged = self._most_sound
        planned = self._make_plan()
        if self._given_up == (self.plan, self._others):
            self._withhold(planned, GIVEN_UP)
            return
        self._try_again()
        self.full = bool(planned or self.plan) and not self.counts and not self._owner.may_run(self)
        self.waits = self.full and bool(self.plan)
        if self.full:
            self.plan = ()
            self._withhold(planned, FULL)
        else:
            self.stream.left_out = dict(self.left_out)
            self.stream.plan(planned)
        self.stream.notice(NAME_FULL, FULL if self.full else None)
        if not (self.plan or self._others):
            self._stop("it is not wanted")
            for name in (NAME_GIVEN_UP, NAME_FALLBACK, NAME_CODECS):
                self.stream.notice(name, None)
        elif self.supervisor is None:
            self._start()
        else:
            self._assemble()
            if self._heard is None:
                self.supervisor.job(self._job())
                self.supervisor.restart()
        self._count(self.supervisor is not None and bool(self.plan))

    def _withhold(self, planned: Iterable[str], why: str) -> None:
        """None of it can be made now."""
        self.left_out = {**self.left_out, **dict.fromkeys(planned, why)}
        self.stream.left_out = dict(self.left_out)
        self.stream.plan({}, why)

    def _count(self, counts: bool) -> None:
        """Whether it is one of `max_concurrent`. Sound alone costs next to nothing."""
        changed, self.counts = self.counts is not counts, counts
        if changed:
            self._owner.room_changed()

    def end(self) -> None:
        """The stream has ended, or the server stops."""
        self._over, self.full, self.waits = True, False, False
        for call in self._lingering.values():
            call.cancel()
        self._lingering.clear()
        self._stop("the stream ended")
        self.stream.plan({})

    def _look_at_wants(self) -> None:
        for spec in self.stream.wanted:
            self._known.add(spec)
            if spec in self._lingering:
                self._lingering.pop(spec).cancel()
        for spec in self._known - self.stream.wanted.keys() - self._lingering.keys():
            self._lingering[spec] = self._owner.reactor.callLater(LINGER, self._not_wanted, spec)

    def _not_wanted(self, spec: RenditionSpec) -> None:
        del self._lingering[spec]
        self._known.discard(spec)
        self.settle()

    def _make_plan(self) -> dict[str, Planned]:
        """Decide what is made; answers what could be."""
        settings, stream = self._owner.settings, self.stream
        tracks = {track.is_video: track for track in reversed(stream.source.tracks)}
        names = stream.info.transcoding_profiles
        live = {spec.profile for spec in self._known if spec.low_latency}
        video, audio = tracks.get(True), tracks.get(False)
        ladder = profiles.ladder(settings.profiles, {*names, *live}, video, audio, self._judged)
        missing = self._missing(ladder.renditions)
        rungs = [one for one in ladder.renditions if one.name not in missing]
        left_out = {**ladder.left_out, **missing}
        self.left_out = {name: why for name, why in left_out.items() if name in names}
        listed = [one for one in rungs if one.name in names]
        wanted = {spec.profile for spec in self._known if spec.is_listed}
        made = [one for one in listed if settings.mode == "always" or one.name in wanted]
        for spec in sorted(self._known, key=lambda spec: spec.name):
            made += [
                profiles.low_latency(one, spec.name, VP8 if spec.codec is Codec.VP8 else None)
                for one in ladder.renditions  # In what everything makes, whatever the profile's codec.
                if spec.low_latency and one.name == spec.profile
            ]
        self.plan = tuple(made)
        opus = RenditionSpec() in self._known and audio is not None
        self._others = (profiles.opus(),) if opus else ()
        return {one.name: self._planned(one, video, audio) for one in listed}

    def _job(self) -> Job:
        assert self.backend is not None
        # Nothing is decoded for thumbnails alone: they can do with keyframes.
        thumbnails = self._owner.thumbnails() if self.plan else profiles.NO_THUMBNAILS
        software, lacks = self._owner.software(), self.backend.lacks
        asked = dict.fromkeys(one.target.codec for one in self.plan)
        sentences = [f"{codec} is made in software: {lacks[codec]}" for codec in asked if codec in lacks]
        self.stream.notice(NAME_CODECS, "; ".join(sentences) or None if self.backend.device else None)
        return profiles.job(self.plan, self.backend, thumbnails, self._others, software)

    def _missing(self, renditions: Iterable[Rendition]) -> dict[str, str]:
        """By name, why nothing on this machine makes it. What was not tried yet is taken as possible."""
        backend, software = self.backend or self._owner.backend()[0], self._owner.software()
        if backend is None:
            return {}
        return {
            one.name: f"this server cannot encode {one.target.codec}: {software.lacks[one.target.codec]}"
            for one in renditions
            if one.target.codec in backend.lacks and one.target.codec in software.lacks
        }

    def _planned(self, rendition: Rendition, video: Track | None, audio: Track | None) -> Planned:
        """As it will be. Once it has run its tracks are known, which say more than any guess."""
        target = rendition.target
        sound = rendition.audio.bitrate if rendition.audio is not None else 0
        if rendition.audio is not None and rendition.audio.codec == "copy":
            sound = max(sound, self._most_sound or 0)
        looks = colour(video) if video is not None else Colour()
        codecs = [self._codecs.get((rendition.size, target, looks)) or codec_string(target, looks)]
        if audio is not None and rendition.audio is not None:
            codecs.append(audio.codec_string if rendition.audio.codec == "copy" else "mp4a.40.2")
        return Planned(
            name=rendition.name,
            codec=target.codec,
            width=rendition.size[0],
            height=rendition.size[1],
            frame_rate=coded_rate(video.frame_rate if video is not None else None, target.framerate),
            peak=peak(target, sound),
            average=target.bitrate + sound,
            codecs=tuple(codecs),
        )

    def _assemble(self) -> None:
        """A rendition for each that is in the plan, and no other."""
        assert self.renditions is not None
        feeds = {one.name: (one.video, one.audio.feed if one.audio else None) for one in self.plan}
        if self._others:
            feeds[OPUS] = (0, OPUS_FEED)
        self.renditions.make(feeds, frozenset(self.stream.planned))

    @property
    def restarts(self) -> int:
        """How often a child was started again, since the stream began."""
        return self._restarts + (self.supervisor.restarts if self.supervisor is not None else 0)

    # -- the child's life

    def _start(self) -> None:
        if self.backend is None:
            self.backend, missing = self._owner.backend()
            if missing:
                self._fall_back(missing)
        if self.backend is None:
            return  # It is being tried out; then all are settled again.
        # Taken back while nothing was made.
        self.stream.notice(NAME_FALLBACK, self.fallback or None)
        self.log.info(
            "{stream}: transcoding to {names} with {backend}",
            stream=self.stream.name,
            names=", ".join([one.name for one in self.plan] + [OPUS] * bool(self._others)),
            backend=self.backend.name,
        )
        self.renditions = Renditions(self.stream, self)
        self.supervisor = Supervisor(
            self._owner.reactor, self.stream.name, self.renditions, devices=self.backend.devices
        )
        for track in self.stream.source.tracks:
            self._give_track(track)
        self._heard = [] if self._measures() else None
        self._assemble()
        # It starts while the sound is measured.
        self.supervisor.start(Job(device=self.backend.program) if self._heard is not None else self._job())
        self._subscription = self.stream.source.subscribe(self)

    def _stop(self, reason: str) -> None:
        supervisor, self.supervisor = self.supervisor, None
        renditions, self.renditions = self.renditions, None
        self._try_again()
        self._count(False)
        if supervisor is None or renditions is None:
            return
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        self._heard = None
        self._tracks.clear()
        renditions.close(reason)
        self._restarts += supervisor.restarts
        self._owner.stopped(self, supervisor.stop(END_WITHIN))

    def _give_track(self, track: Track) -> None:
        assert self.supervisor is not None
        if self._tracks.get(track.is_video) != track:
            self._tracks[track.is_video] = track
            self.supervisor.track(track)

    def _measures(self) -> bool:
        """Whether the sound is listened to first: it is new, and not known to be too much for all."""
        there = any(not track.is_video for track in self.stream.source.tracks)
        return there and (self._most_sound is None or self._copies())

    def _copies(self) -> bool:
        return any(one.audio is not None and one.audio.codec == "copy" for one in self.plan)

    # -- ISubscriber: what the source says

    def packet(self, packet: Packet) -> None:
        if self.supervisor is None:
            return
        if not packet.track.is_video:
            self._sound_bytes += len(packet.payload)
            self._sound_ticks += packet.duration
        if self._heard is None:
            if self._sound_ticks >= LISTEN_AGAIN:
                before = self._most_sound
                self._measure()
                if self._most_sound != before and self._copies():
                    self.settle()
            self._send(packet)
            return
        self._heard.append(packet)
        elapsed = packet.dts - self._heard[0].dts
        if self._sound_ticks >= LISTEN or elapsed >= 2 * LISTEN or len(self._heard) >= MOST_LISTENED:
            heard, self._heard = self._heard, None
            self._judged = self._most_sound if self._measure() else None
            self.settle()
            for one in heard:
                self._send(one)

    def _measure(self) -> bool:
        """Look at the sound since the last time; whether there was any."""
        if not self._sound_ticks:
            return False
        measured = self._sound_bytes * 8 * TICKS // self._sound_ticks
        self._most_sound = max(self._most_sound or 0, measured)
        self._sound_bytes = self._sound_ticks = 0
        return True

    def _send(self, packet: Packet) -> None:
        if self.supervisor is not None:
            track = packet.track
            samples = 0 if track.is_video else round(packet.duration * track.sample_rate / TICKS)
            self.supervisor.packet(packet, samples)

    def restarted(self, reason: str) -> None:
        if self.supervisor is None or self.renditions is None:
            return
        if self._heard is not None:
            # It was too short to be judged: it is made as was planned, and nothing of it is lost.
            heard, self._heard = self._heard, None
            self.supervisor.job(self._job())
            for one in heard:
                self._send(one)
        self._try_again()
        self.supervisor.restart()
        self.renditions.expect(reason)
        self.supervisor.discontinuity()
        for track in self.stream.source.tracks:
            self._give_track(track)
        self._sound_bytes = self._sound_ticks = 0
        self._heard = [] if self._measures() else None
        self.settle()

    def ended(self, reason: str) -> None:
        self.end()

    # -- Boss: what the child could not do

    def trouble(self, trouble: Trouble) -> None:
        supervisor = self.supervisor
        if supervisor is None or supervisor.state == "running" or self.backend is None:
            # What is no death, which the supervisor has logged.
            self.log.warn("{stream}: {sentence}", stream=self.stream.name, sentence=trouble.sentence)
            return
        if self.backend.device is not None:
            # The device is lost, its sessions are used up, or its driver crashes: this stream goes on without.
            self._fall_back(f"{self.backend.name} failed: {trouble.sentence}")
            self._stop("its encoder failed")
            self.backend = self._owner.software()
            self.settle()

    def began(self, name: str, tracks: Sequence[Track]) -> None:
        for one in self.plan:
            if one.name == name and tracks[0].is_video:
                source = next((track for track in self.stream.source.tracks if track.is_video), None)
                looks = colour(source) if source is not None else Colour()
                real = self._codecs[one.size, one.target, looks] = tracks[0].codec_string
                planned = self.stream.planned.get(name)
                if planned is not None:
                    changed = replace(planned, codecs=(real, *planned.codecs[1:]))
                    self.stream.plan({**self.stream.planned, name: changed})

    def thumbnail(self, thumbnail: Thumbnail) -> None:
        self._owner.thumbnail(self.stream, thumbnail, self.stream.utc(thumbnail.pts))

    def keyframe(self, feed: int) -> bool:
        # FFmpeg on a device cannot be asked: then it is the source's next one.
        if self.supervisor is None or self.backend is None or self.backend.program is not None:
            return False
        self.supervisor.keyframe(feed)
        return True

    def gave_up(self, reason: str) -> None:
        self._given_up = self.plan, self._others
        self._next_try = self._owner.reactor.callLater(NEXT_TRY, self._revive)
        self._withhold(self.stream.planned, GIVEN_UP)
        self._owner.count("given_up")
        self.stream.notice(NAME_GIVEN_UP, f"{GIVEN_UP}: {reason}")
        self._count(False)

    def _fall_back(self, why: str) -> None:
        self.fallback = f"this stream is made in software: {why}"
        self.stream.notice(NAME_FALLBACK, self.fallback)
        self._owner.count("fallbacks")

    def _revive(self) -> None:
        self._next_try = None
        self._try_again()
        self.settle()

    def _try_again(self) -> None:
        """What was given up is not any more; `settle` begins it."""
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        if self._given_up is not None:
            self._given_up = None
            self.stream.notice(NAME_GIVEN_UP, None)
