"""One quality of a stream: a feed of packets that many read.

The one idea: the feed is synchronous and every subscriber sees the same order of `packet`, `restarted` and `ended`, so
nobody needs a clock or a lock to know where a discontinuity lies. Who cannot keep up puts a `PacketQueue` between.
"""

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import IRendition, ISubscriber, ISubscription
from oxidecast.media import TICKS, Packet, Track
from oxidecast.registry import CALLBACK_BOUND, SlowCalls
from oxidecast.streams.gop import GOPCache
from oxidecast.streams.settings import StreamsSettings

RATE_WINDOW = 5 * TICKS
"""Over how much media the bitrate is measured: long enough to hold a keyframe or two, short enough to follow."""

KEYFRAME_PAUSE = 1.0
"""Seconds between two keyframes that are asked for: each is as large as some twenty pictures, for everybody."""


@implementer(ISubscription)
class Subscription:
    """One subscriber's place in the feed."""

    __slots__ = ("_rendition", "awaiting_keyframe", "owner", "slow_calls", "subscriber")

    def __init__(self, rendition: "Rendition", subscriber: ISubscriber, owner: Any) -> None:
        self._rendition: Rendition | None = rendition
        self.subscriber = subscriber
        self.owner = owner
        self.awaiting_keyframe = False
        self.slow_calls = SlowCalls()

    @property
    def active(self) -> bool:
        return self._rendition is not None

    def cancel(self) -> None:
        rendition, self._rendition = self._rendition, None
        if rendition is not None:
            rendition.forget(self)


@implementer(IRendition)
class Rendition:
    """See `IRendition`.

    `on_fault(owner, error)` hears of subscribers that raised (they are dropped already), `on_slow(owner, seconds)` of
    those that kept the reactor longer than a plugin may.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        tracks: tuple[Track, ...],
        settings: StreamsSettings,
        seconds: Callable[[], float],
        on_fault: Callable[[Any, BaseException], None],
        on_slow: Callable[[Any, float], None],
    ) -> None:
        self.name = name
        self.tracks = tracks
        self.listed = True
        """Whether it is for everybody; others are for those who wanted them."""
        self.packets = 0
        self.bytes = 0
        self.pictures = 0
        self.keyframes = 0
        self.bitrate = 0
        """Bits a second over the last `RATE_WINDOW`."""
        self.on_keyframe_wanted: Callable[[], bool] | None = None
        """How whoever makes it is asked for a keyframe; the answer is whether it makes one."""
        self._asked_at = -KEYFRAME_PAUSE
        self._settings = settings
        self._seconds = seconds
        self._on_fault = on_fault
        self._on_slow = on_slow
        self._subscriptions: tuple[Subscription, ...] = ()
        self._over = ""
        """Why the feed has ended, once it has."""
        self._gop = self._new_cache()
        self._window_start: int | None = None
        self._window_bytes = 0

    def _new_cache(self) -> GOPCache:
        return GOPCache(self.has_video, self._settings.gop_cache_size, self._settings.gop_cache_duration)

    @property
    def has_video(self) -> bool:
        return any(track.is_video for track in self.tracks)

    def subscribe(self, subscriber: ISubscriber, owner: Any = None) -> Subscription:
        subscription = Subscription(self, subscriber, owner)
        if self._over:
            self._call(subscription, subscriber.ended, self._over)
            subscription.cancel()
            return subscription
        self._subscriptions += (subscription,)
        subscription.awaiting_keyframe = not self._gop.whole
        for packet in self._gop.packets():
            if not subscription.active:
                break
            self._call(subscription, subscriber.packet, packet)
        return subscription

    def want_keyframe(self) -> bool:
        if self.on_keyframe_wanted is None or self._over:
            return False
        now = self._seconds()
        if now - self._asked_at < KEYFRAME_PAUSE:
            return True
        if not self.on_keyframe_wanted():
            return False
        self._asked_at = now
        return True

    def forget(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

    def drop(self, owner: Any) -> None:
        """Let go of all subscribers of an owner that has failed."""
        for subscription in self._subscriptions:
            if subscription.owner is owner:
                subscription.cancel()

    def push(self, packet: Packet) -> None:
        """Hand a packet to everybody."""
        self._gop.push(packet)
        self._measure(packet)
        starts = packet.keyframe and packet.track.is_video
        for subscription in self._subscriptions:
            if not subscription.active:
                continue
            if subscription.awaiting_keyframe:
                if not starts and self.has_video:
                    continue
                subscription.awaiting_keyframe = False
            self._call(subscription, subscription.subscriber.packet, packet)

    def restart(self, tracks: tuple[Track, ...], reason: str) -> None:
        """What follows is a new beginning, at a keyframe."""
        self.tracks = tracks
        self._gop = self._new_cache()
        self._window_start = None
        for subscription in self._subscriptions:
            if subscription.active:
                subscription.awaiting_keyframe = self.has_video
                self._call(subscription, subscription.subscriber.restarted, reason)

    def end(self, reason: str) -> None:
        """The feed is over: everybody is told, and let go."""
        self._over = reason
        self._gop.clear()
        subscriptions, self._subscriptions = self._subscriptions, ()
        for subscription in subscriptions:
            if subscription.active:
                self._call(subscription, subscription.subscriber.ended, reason)
                subscription.cancel()

    def _call(self, subscription: Subscription, method: Callable[..., None], *args: Any) -> None:
        began = self._seconds()
        try:
            method(*args)
        except Exception as error:
            subscription.cancel()
            self._on_fault(subscription.owner, error)
        lasted = self._seconds() - began
        if lasted > CALLBACK_BOUND:
            self._slow(subscription, lasted)

    def _slow(self, subscription: Subscription, seconds: float) -> None:
        # An owner is detached by who keeps its record; a subscriber without one is let go here.
        if subscription.slow_calls.another(self._seconds()) and subscription.owner is None:
            subscription.cancel()
        self._on_slow(subscription.owner, seconds)

    def _measure(self, packet: Packet) -> None:
        size = len(packet.payload)
        self.packets += 1
        self.bytes += size
        if packet.track.is_video:
            self.pictures += 1
            self.keyframes += packet.keyframe
        if self._window_start is None:
            self._window_start, self._window_bytes = packet.dts, 0
        elif packet.dts - self._window_start >= RATE_WINDOW:
            self.bitrate = self._window_bytes * 8 * TICKS // (packet.dts - self._window_start)
            self._window_start, self._window_bytes = packet.dts, 0
        self._window_bytes += size
