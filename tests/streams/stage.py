"""A hub on a clock, and what is really outside of it: encoders, outputs, subscribers, an authenticator."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IOutput,
    IOutputStream,
    IPublication,
    IPublisher,
    ISubscriber,
    PublishRequest,
    Refused,
)
from oxidecast.media import TICKS, Codec, Packet, Track
from oxidecast.registry import Plugin, Registry, Running
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.settings import StreamsSettings
from oxidecast.streams.stream import Stream
from oxidecast.streams.wanting import Planned

VIDEO = Track(id=1, codec=Codec.H264, extradata=b"v1", codec_string="avc1.64001f", width=640, height=360)
WIDE = Track(id=1, codec=Codec.H264, extradata=b"v2", codec_string="avc1.64001f", width=1280, height=720)
AUDIO = Track(
    id=2, codec=Codec.AAC, extradata=b"a1", codec_string="mp4a.40.2", sample_rate=48_000, channels=2
)
MONO = Track(id=2, codec=Codec.AAC, extradata=b"a2", codec_string="mp4a.40.2", sample_rate=48_000, channels=1)
PICTURE = TICKS // 30
PAYLOAD = b"\0\0\0\3\x65ab"
SOUND = 1024 * TICKS // 48_000


def info(name: str = "show", **changes: Any) -> StreamInfo:
    values: dict[str, Any] = {
        "id": f"00000000-0000-4000-8000-{abs(hash(name)) % 10**12:012}",
        "name": name,
        "title": name,
        "owner_id": "owner",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return StreamInfo(**{**values, **changes})


def planned(name: str, codec: Codec = Codec.H264) -> Planned:
    return Planned(
        name=name,
        codec=codec,
        width=640,
        height=360,
        frame_rate=None,
        peak=2,
        average=1,
        codecs=("avc1.64001e",),
    )


def picture(dts: int, keyframe: bool = False, size: int = 100, track: Track = VIDEO) -> Packet:
    return Packet(track, dts, dts, PICTURE, keyframe, bytes(size))


def sound(dts: int, size: int = 10, track: Track = AUDIO) -> Packet:
    return Packet(track, dts, dts, SOUND, True, bytes(size))


@implementer(ISubscriber)
class Reader:
    """Notes all it is told. `act` may do something inside a packet's call."""

    def __init__(self, act: Callable[[Packet], None] | None = None) -> None:
        self.seen: list[Packet | str] = []
        self._act = act

    def packet(self, packet: Packet) -> None:
        self.seen.append(packet)
        if self._act is not None:
            self._act(packet)

    def restarted(self, reason: str) -> None:
        self.seen.append(f"restarted: {reason}")

    def ended(self, reason: str) -> None:
        self.seen.append(f"ended: {reason}")

    @property
    def packets(self) -> list[Packet]:
        return [item for item in self.seen if isinstance(item, Packet)]

    @property
    def words(self) -> list[str]:
        return [item for item in self.seen if isinstance(item, str)]

    def of(self, kind: bool) -> list[Packet]:
        """Pictures (True) or sound (False)."""
        return [packet for packet in self.packets if packet.track.is_video is kind]


@implementer(IPublisher)
class Encoder:
    """A publisher that sends 30 pictures and 46.875 frames of sound a second, on the wall clock."""

    def __init__(self, case: "HubCase", key: str = "key-of-show", gop: int = 30, at: int = 0) -> None:
        self.case = case
        self.key = key
        self.gop = gop
        self.stopped: list[str] = []
        self.sentences: list[str] = []
        self.publication: IPublication
        self._picture = self._sound = at
        self._count = 0

    def stop(self, code: str, sentence: str) -> None:
        self.stopped.append(code)
        self.sentences.append(sentence)

    def connect(self, *tracks: Track, expect: tuple[bool, bool] | None = None) -> "Encoder":
        self.publication = self.case.publish(self)
        if expect is not None:
            self.publication.expect(*expect)
        for track in tracks:
            self.publication.track(track)
        return self

    def start(self) -> "Encoder":
        """Connect and be at the point where the next picture is a keyframe."""
        return self.connect(VIDEO, AUDIO)

    def jump(self, ticks: int) -> None:
        self._picture += ticks
        self._sound += ticks

    def send(self, pictures: int, video: bool = True, audio: bool = True, keyframes: bool = True) -> None:
        for _ in range(pictures):
            if video:
                key = keyframes and self._count % self.gop == 0
                self.publication.packet(1, self._picture, self._picture, key, PAYLOAD)
                self._count += 1
            self._picture += PICTURE
            while self._sound < self._picture:
                if audio:
                    self.publication.packet(2, self._sound, self._sound, True, b"sound", 1024)
                self._sound += SOUND
            self.case.clock.advance(1 / 30)


@implementer(IOutputStream)
class Watched:
    """One stream of `WatchingOutput`: subscribes a Reader to each rendition."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.calls: list[str] = []
        self.broken: frozenset[str] = frozenset()
        self.subscription: Any = None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise RuntimeError(f"{name} is broken")

    def rendition_added(self, rendition: Any) -> None:
        self.subscription = rendition.subscribe(self.reader, self)
        self._called("rendition_added")

    def rendition_removed(self, name: str) -> None:
        self._called("rendition_removed")

    def closed(self, reason: str) -> None:
        self._called("closed")

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        self._called("urls")
        return {"watch": "/watch"}

    def stats(self) -> Mapping[str, Any]:
        self._called("stats")
        return {"packets": len(self.reader.packets)}


@implementer(IOutput)
class WatchingOutput:
    """`broken` names the calls that raise."""

    def __init__(self, *broken: str) -> None:
        self.broken = frozenset(broken)
        self.opened: list[Watched] = []

    def open(self, stream: Any) -> Watched | None:
        if "open" in self.broken:
            raise RuntimeError("open is broken")
        if "decline" in self.broken:
            return None
        watched = Watched()
        watched.broken = self.broken
        if "packet" in self.broken:
            watched.reader = Reader(_raise)
        self.opened.append(watched)
        return watched

    def urls(self, info: Any) -> Mapping[str, str]:
        if "urls" in self.broken:
            raise RuntimeError("urls is broken")
        return {"watch": f"/watch/{info.name}"}

    def routes(self) -> Mapping[str, Any]:
        return {}


def _raise(packet: Packet) -> None:
    raise RuntimeError("packet is broken")


@implementer(IEventListener)
class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def stream_started(self, stream: Any) -> None:
        self.heard.append(f"started {stream.name}")

    def stream_stopped(self, stream: Any, reason: str) -> None:
        self.heard.append(f"stopped {stream.name}: {reason}")

    def viewer_joined(self, stream: Any, viewer: Any) -> None:
        self.heard.append("joined")

    def viewer_left(self, stream: Any, viewer: Any) -> None:
        self.heard.append("left")

    def recording_closed(self, stream: Any, path: str) -> None: ...


@implementer(IAuthenticator)
class Keys:
    """Knows `key-of-NAME` for the streams it is given."""

    def __init__(self, *infos: StreamInfo) -> None:
        self.infos = {f"key-of-{one.name}": one for one in infos}
        self.error: Exception | None = None
        self.waiting: Deferred[None] | None = None

    async def may_publish(self, request: PublishRequest) -> StreamInfo | None:
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        return self.infos.get(request.key)

    async def may_play(self, stream: Any, request: Any) -> bool | None:
        if self.error is not None:
            raise self.error
        return True if request.token == "good" else None


class HubCase(SynchronousTestCase):
    """A hub with the streams `show` and `other`, one output and one listener."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000.0)
        self.registry = Registry()
        self.keys = Keys(info("show"), info("other"))
        self.output = WatchingOutput()
        self.listener = Listener()
        self.add("keys", IAuthenticator, self.keys)
        self.watching = self.add("watching", IOutput, self.output)
        self.add("listener", IEventListener, self.listener)
        self.hub = Hub(StreamsSettings(), self.registry, self.clock)

    def add(self, name: str, kind: Any, instance: Any) -> Running:
        running = Running(
            Plugin(name, kind, lambda settings, services: instance), self.clock.seconds, instance
        )
        running.on_failed.append(lambda: self.hub.plugin_failed(running))
        self.registry.running.append(running)
        return running

    def publish(self, encoder: Encoder) -> IPublication:
        request = PublishRequest(protocol="test", address="192.0.2.1", key=encoder.key)
        return self.successResultOf(Deferred.fromCoroutine(self.hub.publish(request, encoder)))

    def refused(self, key: str = "key-of-show") -> str:
        request = PublishRequest(protocol="test", address="192.0.2.1", key=key)
        refusal = self.failureResultOf(
            Deferred.fromCoroutine(self.hub.publish(request, Encoder(self))), Refused
        )
        return refusal.value.code

    def live(self, **how: Any) -> Encoder:
        """An encoder that feeds `show`."""
        encoder = Encoder(self, **how).start()
        encoder.send(30)
        return encoder

    @property
    def stream(self) -> Stream:
        stream = self.hub.find("show")
        assert stream is not None
        return stream

    @property
    def reader(self) -> Reader:
        """What the first stream's output was given."""
        return self.output.opened[0].reader
