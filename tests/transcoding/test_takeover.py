"""What becomes of a ladder's pictures when the source begins anew, or its sound becomes another: with the real child.

The encoders look ahead as a server's do: when another publisher takes over they still hold pictures of the one before.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec.structs import replace
from twisted.internet import reactor as real_reactor
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IPublisher,
    ITranscoderBackend,
    PublishRequest,
)
from oxidecast.media import TICKS, Packet
from oxidecast.registry import Registry
from oxidecast.settings.sections import Profile, TranscodingSettings
from oxidecast.streams.hub import Hub
from oxidecast.streams.settings import StreamsSettings
from oxidecast.streams.stream import Stream
from oxidecast.transcoding import ladder
from oxidecast.transcoding.backends import Software
from oxidecast.transcoding.service import Transcoding
from tests.streams.stage import Keys, Reader, info
from tests.transcoding.clips import Clip, audio, clip, video
from tests.transcoding.test_service import ServiceCase

reactor: Any = real_reactor

PROFILES = (
    Profile(name="hevc", codec="hevc", width=160, height=90, bitrate=100_000, audio_bitrate=64_000),
    Profile(name="h264", width=128, height=72, bitrate=60_000, audio_bitrate=64_000),
)
NAMES = ("hevc", "h264")
SECONDS = 2
SILENT = clip(video(SECONDS))
QUIET = clip(video(SECONDS), audio(SECONDS, bitrate=48_000))
SLOW = clip(video(SECONDS), audio(SECONDS, bitrate=48_000, rate=44_100))


def _loud() -> Clip:
    """The quiet one's sound at 150 kbit/s and more."""
    beep = max((packet.payload for packet in audio(1, bitrate=256_000)[1]), key=len)
    return Clip(
        QUIET.tracks,
        [replace(one, payload=beep) if one.track_id == 2 else one for one in QUIET.packets],
    )


LOUD = _loud()


@implementer(IPublisher)
class Sender:
    """Sends clips in real time, one after the other, and the last one over and over."""

    def __init__(self, *clips: Clip) -> None:
        self._clips = clips
        self._at = self._round = 0
        self._publication: Any = None
        self._began = reactor.seconds()
        self._loop = LoopingCall(self._send)

    def start(self, publication: Any) -> None:
        self._publication = publication
        kinds = {track.is_video for track in self._clips[0].tracks}
        publication.expect(video=True in kinds, audio=False in kinds)
        for track in self._clips[0].tracks:
            publication.track(track)
        self._loop.start(0.02)

    def stop(self, *_: object) -> None:
        if self._loop.running:
            self._loop.stop()

    def _send(self) -> None:
        until = (reactor.seconds() - self._began + 0.1) * TICKS
        while self._loop.running:
            packets = self._clips[min(self._round, len(self._clips) - 1)].packets
            packet, shift = packets[self._at], self._round * SECONDS * TICKS
            if packet.dts + shift - packets[0].dts > until:
                return
            self._at += 1
            if self._at == len(packets):
                self._at, self._round = 0, self._round + 1
            self._publication.packet(
                packet.track_id,
                packet.dts + shift,
                packet.pts + shift,
                packet.keyframe,
                packet.payload,
                packet.samples,
            )


def parts(reader: Reader) -> list[list[Packet]]:
    """What was heard between discontinuities."""
    found: list[list[Packet]] = [[]]
    for one in reader.seen:
        if isinstance(one, Packet):
            found[-1].append(one)
        else:
            found.append([])
    return found


def times(packets: Sequence[Packet]) -> list[int]:
    return sorted(packet.pts for packet in packets if packet.track.is_video)


class TakeoverCase(ServiceCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.add("keys", IAuthenticator, Keys(info("show", transcoding_profiles=NAMES)))
        self.hub = Hub(StreamsSettings(), self.registry, reactor)
        self.addCleanup(self.hub.close)

    def begin_as_a_server(self) -> Transcoding:
        self.add("software", ITranscoderBackend, Software(reactor, preset="veryfast"))
        self.service = Transcoding(reactor, self.registry, TranscodingSettings(profiles=PROFILES))
        self.add("transcoding", IEventListener, self.service)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        return self.service

    async def send(self, *clips: Clip) -> Sender:
        """Another publisher, who takes over from the last one."""
        sender = Sender(*clips)
        self.addCleanup(sender.stop)
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        sender.start(await self.hub.publish(request, sender))
        return sender

    async def show(self, *clips: Clip) -> Stream:
        """Begin with these. `source` and `readers` hear it all."""
        await self.send(*clips)
        await self.until(lambda: self.hub.find("show"))
        stream = self.hub.find("show")
        assert stream is not None
        self.source = Reader()
        stream.source.subscribe(self.source)
        await self.runs(stream, *NAMES)
        self.readers = {name: Reader() for name in NAMES}
        for name, reader in self.readers.items():
            stream.renditions[name].subscribe(reader)
        return stream

    async def some(self, pictures: int = 40) -> None:
        """Until the source has sent so many since it last began."""
        await self.until(lambda: len(times(parts(self.source)[-1])) >= pictures)

    async def follow(self) -> None:
        """Until all are where the source has begun."""
        for reader in self.readers.values():
            await self.until(lambda reader=reader: len(times(parts(reader)[-1])) > 5)
            await self.until(lambda reader=reader: len(parts(reader)) >= len(parts(self.source)))

    def assert_whole(self) -> None:
        """Each picture of the source is there once, and what begins anew is what did there. The last part goes on."""
        for name, reader in self.readers.items():
            self.assertEqual(reader.words, self.source.words, name)
            made, sent = parts(reader), parts(self.source)
            first = times(made[0])[0]
            for part, whole in zip(made[:-1], sent[:-1], strict=True):
                self.assertEqual(times(part), [at for at in times(whole) if at >= first], name)
            shown = times(made[-1])[:-5]
            self.assertEqual(
                shown,
                [at for at in times(sent[-1]) if max(first, times(sent[-1])[0]) <= at <= shown[-1]],
                name,
            )
            for kind in (True, False):
                for before, after in pairwise(reader.of(kind)):
                    self.assertGreater(after.dts, before.dts)

    def rates(self, name: str) -> list[set[int]]:
        """Of each part's sound."""
        return [
            {one.track.sample_rate for one in part if not one.track.is_video}
            for part in parts(self.readers[name])
        ]


class TestTakeover(TakeoverCase):
    async def test_sound_that_comes_and_goes(self) -> None:
        self.begin_as_a_server()
        await self.show(SILENT)
        await self.some(60)
        for other in (QUIET, SILENT):
            await self.send(other)
            await self.until(lambda: self.source.words)
            await self.some()
            await self.follow()
        self.assertEqual(len(self.source.words), 2)
        self.assert_whole()
        for name in NAMES:
            self.assertEqual(self.rates(name), [set(), {48_000}, set()])

    async def test_sound_of_another_rate(self) -> None:
        self.begin_as_a_server()
        await self.show(QUIET)
        await self.some(60)
        await self.send(SLOW)
        await self.until(lambda: self.source.words)
        await self.some()
        await self.follow()
        self.assert_whole()
        for name in NAMES:
            self.assertEqual(self.rates(name), [{48_000}, {44_100}])

    async def test_publishers_in_short_order(self) -> None:
        self.begin_as_a_server()
        await self.show(SILENT)
        await self.some(60)
        for number, other in enumerate((QUIET, SILENT, QUIET), 1):
            await self.send(other)
            await self.until(lambda number=number: len(self.source.words) == number)
        await self.some()
        await self.follow()
        self.assert_whole()


class TestLouder(TakeoverCase):
    async def test_sound_that_becomes_louder_leaves_the_pictures_alone(self) -> None:
        self.patch(ladder, "LISTEN_AGAIN", TICKS)
        service = self.begin_as_a_server()
        stream = await self.show(QUIET, LOUD)
        made = service.ladders[stream.id]

        def codings() -> set[str]:
            return {one.audio.codec for one in made.plan if one.audio is not None}

        self.assertEqual(codings(), {"copy"})
        peaks = {name: one.peak for name, one in stream.planned.items()}
        await self.some(180)
        # It is copied as it was, and the playlists say how much it is.
        self.assertEqual((codings(), self.source.words), ({"copy"}, []))
        for name, one in stream.planned.items():
            self.assertGreater(one.peak, peaks[name] + 50_000)
        self.assert_whole()
        # The next one to come is listened to before anything of it is made.
        await self.send(LOUD)
        await self.until(lambda: self.source.words)
        await self.some()
        await self.follow()
        self.assertEqual(codings(), {"aac"})
        self.assert_whole()

    async def test_a_beginning_in_silence_is_not_copied(self) -> None:
        service = self.begin_as_a_server()
        hush = min((one.payload for one in QUIET.audio), key=len)
        silence = [replace(one, payload=hush) if one.track_id == 2 else one for one in QUIET.packets]
        stream = await self.show(Clip(QUIET.tracks, silence), LOUD)
        await self.some(90)
        coded = [one.audio.codec for one in service.ladders[stream.id].plan if one.audio is not None]
        self.assertEqual(coded, ["aac", "aac"])
        self.assert_whole()
