"""One rendition on its way to one multicast group.

The one idea: a frame becomes transport packets once, and from there everything is a plan of when bytes leave. What can
be decided about a frame (is it carried, is there room for it) is decided before it is written, since behind the writer
every packet counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from oxidecast.delivery.constant_rate import ConstantRate
from oxidecast.delivery.pacing import Flow, Pacer
from oxidecast.delivery.send_clock import JUMP, SendClock
from oxidecast.delivery.udp import MulticastSocket, SendOptions
from oxidecast.delivery.variable_rate import VariableRate
from oxidecast.formats.m3u import Channel
from oxidecast.formats.mpegts import TSWriter, obstacle
from oxidecast.interfaces import IRendition, IStream, ISubscriber, ISubscription
from oxidecast.media import TICKS, Codec, LocalProtocolError, Packet, RemoteProtocolError, Track
from oxidecast.outputs.multicast.settings import MulticastSettings, is_source_specific
from oxidecast.outputs.multicast.sinks import OpenSocket, PlainSink, RTPSink, Sink, totals
from oxidecast.outputs.multicast.sound import Bundles

VARIABLE_LEAD, CONSTANT_LEAD = TICKS * 45 // 100, TICKS * 8 // 10
"""How long before it is due a frame is sent: more than it may wait to leave (200 and 700 ms), and less than the second
for which a receiver's buffer holds it (H.222.0, 2.4.2.6)."""

FRESH = round(JUMP * TICKS)
"""Ticks of media that may come at once when a group begins: more would have to be due before it can arrive. A group
of pictures that is older is left out."""

TOO_LATE = 1 * TICKS
"""Ticks after a frame was due at which nobody wants it any more: players' own buffers make good a second. What a
stalled publisher sends in the end would only push back what is live."""

DRAIN = 0.7
"""Seconds for what still waits when a stream ends."""

OVERRUN_SHOWN = 60.0
"""Seconds for which people are told that the encoder brings more than the constant rate carries."""


def carried(tracks: Sequence[Track], opus: bool) -> tuple[tuple[Track, ...], list[str]]:
    """Those of a rendition's tracks that a group carries, and why the others are left out.

    Pictures that cannot be carried leave everything out: their sound alone would pass for a broken channel.
    """
    found = {track.id: _obstacle(track, opus) for track in tracks}
    reasons = [reason for reason in found.values() if reason]
    if any(track.is_video and found[track.id] for track in tracks):
        return (), reasons
    return tuple(track for track in tracks if not found[track.id]), reasons


def _obstacle(track: Track, opus: bool) -> str:
    if track.codec is Codec.OPUS and not opus:
        return "Opus is sent only where multicast.opus is set"
    return obstacle(track)


@implementer(ISubscriber)
class Group:
    """Sends what it is fed to `group` and `port`. Sends nothing until the first `feed`.

    `on_restart` is called when what it sends may be something else than before. `before` wrote to this group earlier.
    """

    def __init__(
        self,
        stream: IStream,
        rendition: str,
        number: int,
        group: str,
        port: int,
        settings: MulticastSettings,
        pacer: Pacer,
        reactor: Any,
        on_restart: Callable[[], None],
        before: TSWriter | None = None,
    ) -> None:
        self.rendition = rendition
        """Whose group it is. It may be fed from another, when this one cannot be carried."""
        self.number = number
        self.group = group
        self.port = port
        self.since = int(reactor.seconds())
        self.source: IRendition | None = None
        """What it is fed from now."""
        self.bitrate = 0
        """Bits a second on the wire, as `measure` last found it."""
        self._stream = stream
        self._settings = settings
        self._constant = settings.constant_rate(rendition) is not None
        self._lead = CONSTANT_LEAD if self._constant else VARIABLE_LEAD
        self._pacer = pacer
        self._reactor = reactor
        self._on_restart = on_restart
        self._clock = SendClock()
        self.late = 0
        """Frames that came too late to be of use."""
        self.unfit = 0
        """Frames of sound that are larger than a transport stream can say."""
        self.writer: TSWriter | None = None
        self._before = before
        self._flow: Flow | None = None
        self._fault = ""
        self._paced = False
        self._tracks: tuple[Track, ...] = ()
        self._title = self.title
        self._subscription: ISubscription | None = None
        self._held: list[Packet] | None = []
        """What has come since the keyframe that it will begin with; None once it has begun."""
        self._beginning: IDelayedCall | None = None
        self._has_video = False
        self._skipping = False
        self._sound = Bundles(small=self._constant)
        self._overrun_at: float | None = None
        self._draining: IDelayedCall | None = None
        self._then: Callable[[], None] | None = None
        self._measured = (reactor.seconds(), 0)
        self.sink: Sink = self._open_sink(settings, reactor)

    def _open_sink(self, settings: MulticastSettings, reactor: Any) -> Sink:
        options = SendOptions(
            ttl=settings.ttl,
            loopback=settings.loopback,
            dscp=settings.dscp,
            buffer_size=settings.buffer_size,
        )

        def open_sockets(offset: int) -> Sequence[MulticastSocket]:
            return [
                MulticastSocket(self.group, self.port + offset, interface, options, reactor.seconds)
                for interface in settings.interfaces
            ]

        opener: OpenSocket = open_sockets
        if settings.encapsulation == "rtp":
            return RTPSink(opener, settings.matrix, reactor.seconds)
        return PlainSink(opener)

    # -- what it is fed from

    def feed(self, rendition: IRendition | None, owner: Any) -> None:
        """Go on with this rendition's packets, from its next keyframe on; None: with nothing."""
        if rendition is self.source:
            return
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        self.source = rendition
        self._restart()
        if rendition is not None:
            self._subscription = rendition.subscribe(self, owner)

    def packet(self, packet: Packet) -> None:
        if packet.track not in self._tracks:
            return
        held = self._held
        if held is None:
            self._write(packet, self._reactor.seconds())
        elif held or not self._has_video or (packet.keyframe and packet.track.is_video):
            held.append(packet)
            if self._beginning is None:
                self._beginning = self._reactor.callLater(0, self._begin)

    def restarted(self, reason: str) -> None:
        self._restart()
        self._on_restart()

    def ended(self, reason: str) -> None:
        self._flush_sound()

    def _restart(self) -> None:
        """Take the source's tracks, and wait for a keyframe."""
        self._flush_sound()
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        self._held = []
        self._skipping = False
        self._fault = ""
        self._tracks, _ = self._carried()
        self._has_video = any(track.is_video for track in self._tracks)
        if not self._tracks:
            self._pause()
            return
        try:
            if self.writer is None or self._flow is None:
                self.writer, self._flow = self._open(self._tracks)
            elif self._tracks != self.writer.tracks:
                self.writer.change(self._tracks)
                self._flow.switch(self.writer.switch)
        except LocalProtocolError as error:
            self._fail(error)
            return
        # The first of all, too: who has watched this group before is told that another time begins.
        self.writer.discontinuity()
        if not self._paced:
            self._paced = True
            self._pacer.add(self._flow)

    def _carried(self) -> tuple[tuple[Track, ...], list[str]]:
        return carried(self.source.tracks if self.source is not None else (), self._settings.opus)

    def _pause(self) -> None:
        """Send nothing: no tables and no clock either."""
        if self._flow is not None and self._paced:
            self._paced = False
            self._pacer.remove(self._flow)

    def _open(self, tracks: tuple[Track, ...]) -> tuple[TSWriter, Flow]:
        settings = self._settings
        rate = settings.constant_rate(self.rendition)
        writer = TSWriter(
            tracks,
            service=self._title,
            lead=self._lead,
            own_clock=True,
            # After a restart of the server another version than the last, as likely as not.
            version=self.since,
            after=self._before,
        )
        arguments: tuple[Any, ...] = (
            f"{self._stream.name}/{self.rendition}",
            writer,
            self._clock,
            [self.sink],
            self._reactor.seconds,
            settings.datagram,
        )
        if rate is None:
            return writer, VariableRate(*arguments)
        return writer, ConstantRate(*arguments, rate=rate, burst=settings.burst)

    def _begin(self) -> None:
        """Begin with what came in this turn of the reactor, when that is little enough to be live."""
        self._beginning = None
        held, now = self._held or [], self._reactor.seconds()
        newest = max(packet.dts for packet in held)
        starts = (
            index
            for index, packet in enumerate(held)
            if newest - packet.dts <= FRESH
            and (not self._has_video or (packet.keyframe and packet.track.is_video))
        )
        first = next(starts, None)
        if first is None:
            self._held = []
            return
        self._held = None
        if self._clock.heard(newest, now) and self.writer is not None:
            self.writer.discontinuity()
        for packet in held[first:]:
            if packet.track in self._tracks:
                self._write(packet, now)

    # -- writing

    def _write(self, packet: Packet, now: float) -> None:
        writer, flow = self.writer, self._flow
        if writer is None or flow is None:
            return
        if self._clock.heard(packet.dts, now):
            writer.discontinuity()
        if not packet.track.is_video:
            if not self._is_late(packet, now):
                for frames in self._sound.push(packet):
                    self._put_sound(frames)
            return
        if self._is_late(packet, now):
            self._skipping = True
            return
        if self._skipping and not packet.keyframe:
            return
        self._skipping = not flow.admits(len(packet.payload))
        if self._skipping:
            self._overrun(now)
            return
        if packet.keyframe:
            self._forget_overrun(now)
        for frames in self._sound.before(packet.dts):
            self._put_sound(frames)
        self._put(writer, flow, packet)

    def _is_late(self, packet: Packet, now: float) -> bool:
        late = (packet.dts + self._lead + TOO_LATE) * 300 < self._clock.pcr(now)
        self.late += late
        return late

    def _put_sound(self, frames: Sequence[Packet]) -> None:
        writer, flow = self.writer, self._flow
        if writer is not None and flow is not None:
            if flow.admits(sum(len(frame.payload) for frame in frames)):
                self._put(writer, flow, *frames)
            else:
                self._overrun(self._reactor.seconds())

    def _put(self, writer: TSWriter, flow: Flow, *packets: Packet) -> None:
        try:
            data = writer.write(*packets)
        except LocalProtocolError:
            self.unfit += len(packets)
            return
        except RemoteProtocolError as error:
            # What is wrong with a track's configuration may show only when it is needed.
            self._fail(error)
            self._on_restart()
            return
        if packets[0].track.is_video or not self._constant:
            flow.put(data)
        else:
            ahead = min(self._lead, self._sound.ahead(packets, len(data)))
            flow.put_at(data, self._clock.time((packets[0].dts + self._lead - ahead) * 300))

    def _fail(self, error: Exception) -> None:
        """Nothing is sent until the source begins anew."""
        self._fault = str(error)
        self._tracks = ()
        self._pause()

    def _flush_sound(self) -> None:
        for frames in self._sound.flush():
            self._put_sound(frames)

    def _overrun(self, now: float) -> None:
        if self._overrun_at is None:
            rate = self._settings.constant_rate(self.rendition)
            self._stream.notice(
                self._notice_key,
                f"multicast of {self.rendition}: frames are left out, because the encoder brings more than "
                + (f"the constant rate of {rate} bit/s carries" if rate else "can wait to be sent"),
            )
        self._overrun_at = now

    def _forget_overrun(self, now: float) -> None:
        if self._overrun_at is not None and now - self._overrun_at > OVERRUN_SHOWN:
            self._overrun_at = None
            self._stream.notice(self._notice_key, None)

    @property
    def _notice_key(self) -> str:
        return f"multicast:{self.rendition}:overrun"

    # -- what is known of it

    @property
    def sends(self) -> bool:
        """Whether there is something to receive."""
        return bool(self._tracks)

    @property
    def tracks(self) -> tuple[Track, ...]:
        return self._tracks

    @property
    def missing(self) -> list[str]:
        """Why something of the rendition, or all of it, is not sent."""
        return [self._fault] if self._fault else self._carried()[1]

    @property
    def title(self) -> str:
        """What lists call it."""
        title = str(self._stream.info.title)
        return title if self.rendition == "source" else f"{title} ({self.rendition})"

    def channel(self) -> Channel:
        """How players find it."""
        sock = self.sink.sockets[0]
        return Channel(
            id=f"{self._stream.id}/{self.rendition}",
            name=self.title,
            group=self.group,
            port=self.port,
            category=self._stream.info.category,
            rtp=self._settings.encapsulation == "rtp",
            source=sock.source if is_source_specific(self.group) else "",
        )

    def rename(self) -> None:
        """The stream has another title, perhaps."""
        if self.title != self._title:
            self._title = self.title
            if self.writer is not None:
                self.writer.rename(self.title)

    def measure(self) -> None:
        """Find the bitrate since the last call."""
        now, sent = self._reactor.seconds(), totals(self.sink.sockets)["bytes"]
        then, before = self._measured
        if now > then:
            self.bitrate = round((sent - before) * 8 / (now - then) / len(self.sink.sockets))
            self._measured = (now, sent)

    @property
    def flow(self) -> Flow | None:
        return self._flow

    def stats(self) -> Mapping[str, Any]:
        """Figures for the API: JSON values."""
        return {
            "number": self.number,
            "url": self.channel().uri,
            "state": "sending" if self.sends else "not_carried",
            "missing": self.missing,
            "source": self.source.name if self.source is not None else None,
            "bitrate": self.bitrate,
            "late_frames": self.late,
            "unfit_frames": self.unfit,
            "clock_rate_ppm": round(self._clock.rate * 1e6, 1),
            **totals(self.sink.sockets),
            "pacing": self._flow.stats() if self._flow is not None else None,
            "interfaces": [sock.stats() for sock in self.sink.sockets],
        }

    # -- the end

    def close(self, drain: bool = False, then: Callable[[], None] | None = None) -> None:
        """Send nothing more; with `drain` only when what waits has left. May be called more than once.

        `then` is called when it is done.
        """
        self._then = then or self._then
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        if self._draining is not None:
            if drain:
                return
            self._draining.cancel()
            self._draining = None
        if drain and self._flow is not None and self._flow.backlog:
            self._draining = self._reactor.callLater(DRAIN, self._drained)
            return
        self._drained()

    def _drained(self) -> None:
        self._draining = None
        self._pause()
        self.sink.close()
        then, self._then = self._then, None
        if then is not None:
            then()
