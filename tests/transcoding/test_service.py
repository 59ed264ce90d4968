"""The transcoder beside a hub, with its real child: low latency on demand, fallbacks, giving up, and probes."""

import io
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import psutil
from msgspec.structs import replace
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IHearsNotices,
    IOutput,
    IPublication,
    IThumbnails,
    ITranscoderBackend,
    PublishRequest,
)
from oxidecast.media import TICKS, Codec, vp8
from oxidecast.registry import Plugin, Registry, Running
from oxidecast.settings.sections import HardwareAcceleration, Profile, TranscodingSettings
from oxidecast.streams.hub import Hub
from oxidecast.streams.settings import StreamsSettings
from oxidecast.streams.stream import Stream
from oxidecast.streams.wanting import RenditionSpec
from oxidecast.transcoding import ladder, supervisor
from oxidecast.transcoding.backends import Nvenc, Software
from oxidecast.transcoding.service import Transcoding
from tests.streams.stage import Keys, Reader, WatchingOutput, info
from tests.transcoding.clips import audio, clip, video

reactor: Any = real_reactor

PATIENCE = 60.0
HAS_NVIDIA = Path("/dev/nvidiactl").exists()
PROFILES = (
    Profile(name="90p", width=160, height=90, bitrate=100_000, audio_bitrate=64_000),
    Profile(name="60p", width=106, height=60, bitrate=60_000, audio_bitrate=8_000),
)
MATERIAL = clip(video(2, bframes=2), audio(2, bitrate=48_000))


MIXED = (
    Profile(name="90p", codec="hevc", width=160, height=90, bitrate=100_000, audio_bitrate=64_000),
    Profile(name="60p", codec="av1", width=128, height=72, bitrate=60_000, audio_bitrate=8_000),
)


class Pretender(Nvenc):
    """Says that it works; its encoder is for hardware that is not there, or is none at all."""

    encoders = {Codec.H264: "h264_no_such_encoder"}

    async def probe(self) -> str:
        return "it works"


class StandIn(Software):
    """A device whose whole path works: the FFmpeg program, with x264."""

    name = "nvenc"
    device = "cuda"
    encoders = {**Software.encoders, Codec.AV1: "av1_no_such_encoder"}


@implementer(IEventListener, IHearsNotices)
class Listener:
    """Hears notices."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def stream_noticed(self, stream: Any, key: str, sentence: str) -> None:
        self.heard.append((key, sentence))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


class Publisher:
    """Sends `MATERIAL` over and over, in real time."""

    def __init__(self, publication: IPublication) -> None:
        self.publication = publication
        self._sent = 0
        self._began = reactor.seconds()
        self._loop = LoopingCall(self._send)
        for track in MATERIAL.tracks:
            publication.track(track)

    def start(self) -> "Publisher":
        self._loop.start(0.02)
        return self

    def stop(self, *_: object) -> None:
        if self._loop.running:
            self._loop.stop()

    def _send(self) -> None:
        packets = MATERIAL.packets
        while True:
            rounds, at = divmod(self._sent, len(packets))
            packet = packets[at]
            shift = rounds * 2 * TICKS
            if packet.dts + shift - packets[0].dts > (reactor.seconds() - self._began + 0.3) * TICKS:
                return
            self._sent += 1
            self.publication.packet(
                packet.track_id,
                packet.dts + shift,
                packet.pts + shift,
                packet.keyframe,
                packet.payload,
                packet.samples,
            )


@implementer(IThumbnails)
class Album:
    """Keeps what it is given."""

    interval = 1.0
    width = 64

    def __init__(self) -> None:
        self.pictures: list[tuple[Any, bytes, float]] = []

    def add(self, stream: Any, jpeg: bytes, at: float, tile: Any = None) -> None:
        self.pictures.append((stream, jpeg, at))

    def thumbnail_url(self, stream: Any) -> None: ...


class ServiceCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.registry = Registry()
        self.keys = Keys(info("show", transcoding_profiles=("90p", "60p")), info("plain"))
        self.output = WatchingOutput()
        self.add("keys", IAuthenticator, self.keys)
        self.add("watching", IOutput, self.output)
        self.hub = Hub(StreamsSettings(), self.registry, reactor)
        self.addCleanup(self.hub.close)

    def add(self, name: str, kind: Any, instance: Any) -> None:
        plugin = Plugin(name, kind, lambda settings, services: instance)
        self.registry.running.append(Running(plugin, reactor.seconds, instance))

    def begin(self, *backends: Any, **settings: Any) -> Transcoding:
        chosen = TranscodingSettings(**{"profiles": PROFILES} | settings)
        for backend in (Software(reactor, preset="ultrafast"), *backends):
            self.add(backend.name, ITranscoderBackend, backend)
        self.service = Transcoding(reactor, self.registry, chosen)
        self.add("transcoding", IEventListener, self.service)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        return self.service

    async def publish(self, name: str = "show") -> Stream:
        request = PublishRequest(protocol="test", address="192.0.2.1", key=f"key-of-{name}")
        publication = await self.hub.publish(request, self)  # type: ignore[arg-type]
        self.publisher = Publisher(publication).start()
        self.addCleanup(self.publisher.stop)
        await self.until(lambda: self.hub.find(name))
        stream = self.hub.find(name)
        assert stream is not None
        return stream

    def stop(self, code: str, sentence: str) -> None:
        """As the publisher's."""
        self.publisher.stop()

    async def until(self, what: Callable[[], object]) -> None:
        ends = reactor.seconds() + PATIENCE
        while not what():
            self.assertLess(reactor.seconds(), ends)
            await deferLater(reactor, 0.05)

    async def runs(self, stream: Stream, *names: str) -> None:
        await self.until(lambda: set(stream.renditions) == {"source", *names})


def stats_now(service: Transcoding, stream: Stream) -> Any:
    stats = service.stats(stream.id)
    assert stats is not None
    return stats.renditions


class TestRenditions(ServiceCase):
    async def test_a_ladder_from_beginning_to_end(self) -> None:
        service = self.begin()
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertEqual([one.name for one in stream.listed()], ["source", "90p", "60p"])
        # The source's sound fits the one profile, and is coded again for the other.
        plan = service.ladders[stream.id].plan
        self.assertEqual([one.audio.codec for one in plan if one.audio], ["copy", "aac"])
        source, small = Reader(), Reader()
        stream.source.subscribe(source)
        stream.renditions["90p"].subscribe(small)
        await self.until(lambda: len([one for one in small.of(True) if one.keyframe]) > 3)
        keyframes = {packet.pts for packet in source.of(True) if packet.keyframe}
        self.assertLessEqual(
            {one.pts for one in small.of(True) if one.keyframe and one.pts > min(keyframes)}, keyframes
        )
        for packets in (small.of(True), small.of(False)):
            for before, after in pairwise(packets):
                self.assertGreater(after.dts, before.dts)
        # Picture by picture the same as the source's.
        shown = sorted(packet.pts for packet in small.of(True))[:-5]
        from_source = sorted(packet.pts for packet in source.of(True))
        first = max(shown[0], from_source[0])
        self.assertEqual(
            [at for at in shown if at >= first], [at for at in from_source if first <= at <= shown[-1]]
        )
        self.assertEqual(
            [(track.id, track.is_video) for track in stream.renditions["90p"].tracks], [(1, True), (2, False)]
        )
        stats = service.stats(stream.id)
        assert stats is not None
        self.assertEqual([one.name for one in stats.renditions], ["90p", "60p"])
        # In the beginning many pictures have come that are not coded yet.
        await self.until(lambda: all(abs(one.frame_rate_in - 30) < 3 for one in stats_now(service, stream)))
        for made in stats_now(service, stream):
            self.assertTrue(made.speed)
            self.assertLess(abs(made.frame_rate_out - 30), 3)
            self.assertEqual((made.dropped, made.duplicated), (0, 0))
        metrics = {metric.name: metric.samples for metric in service.metrics([stream.name])}
        for name in (
            "frame_rate_in",
            "frame_rate_out",
            "speed",
            "dropped",
            "duplicated",
            "left_out",
            "queue",
        ):
            labels = [one.labels for one in metrics[f"oxidecast_transcoding_{name}"]]
            self.assertEqual(labels, [{"stream": "show", "rendition": one} for one in ("90p", "60p")])
        for name in ("restarts", "memory_bytes", "cpu_seconds"):
            self.assertEqual(
                [one.labels for one in metrics[f"oxidecast_transcoding_{name}"]], [{"stream": "show"}]
            )
        pid = service.ladders[stream.id].supervisor.pid  # type: ignore[union-attr]
        stream.end("the test is over")
        self.assertEqual(small.words, ["ended: the test is over"])
        await self.until(lambda: not psutil.pid_exists(pid or 0))
        self.assertEqual(service.active, 0)

    async def test_thumbnails_come_from_the_pictures_that_are_decoded(self) -> None:
        kept = Album()
        self.add("album", IThumbnails, kept)
        self.begin()
        stream = await self.publish()
        await self.until(lambda: len(kept.pictures) >= 2)
        for place, (of, jpeg, at) in enumerate(kept.pictures):
            self.assertIs(of, stream)
            with av.open(io.BytesIO(jpeg)) as picture:
                self.assertEqual(picture.streams.video[0].width, Album.width)
            self.assertLess(abs(at - kept.pictures[0][2] - place * Album.interval), 0.1)
            self.assertLess(abs(at - stream.started_at - place * Album.interval), 2)
        # A keeper that raises harms nothing.
        kept.pictures = None  # type: ignore[assignment]
        await self.runs(stream, "90p", "60p")
        await self.until(lambda: self.flushLoggedErrors(AttributeError))
        self.assertEqual(stream.state, "live")

    async def test_what_webrtc_will_want(self) -> None:
        self.patch(ladder, "LINGER", 0.2)
        service = self.begin()
        stream = await self.publish("plain")
        self.assertEqual(service.active, 0)
        wants = [stream.want(spec) for spec in (RenditionSpec("90p", low_latency=True), RenditionSpec())]
        second = stream.want(RenditionSpec())
        pictures = await wants[0].rendition(PATIENCE)
        sound = await wants[1].rendition(PATIENCE)
        reader, listener = Reader(), Reader()
        pictures.subscribe(reader)
        sound.subscribe(listener)
        await self.until(lambda: len(reader.of(True)) > 30 and len(listener.packets) > 30)
        self.assertTrue(all(packet.dts == packet.pts for packet in reader.of(True)))
        self.assertEqual([track.codec for track in pictures.tracks], [Codec.H264, Codec.OPUS])
        self.assertEqual([track.codec for track in sound.tracks], [Codec.OPUS])
        # Whoever lost a keyframe gets another between the source's; sound alone has none.
        source = Reader()
        stream.source.subscribe(source)
        await self.until(lambda: not source.of(True)[-1].keyframe)
        self.assertTrue(pictures.want_keyframe())
        self.assertFalse(sound.want_keyframe())
        self.assertFalse(stream.source.want_keyframe())

        def of_its_own() -> set[int]:
            known = {packet.pts for packet in source.of(True) if packet.keyframe}
            since = source.of(True)[0].pts
            return {one.pts for one in reader.of(True) if one.keyframe and one.pts > since} - known

        await self.until(of_its_own)
        # Outputs that did not ask for them hear nothing of them.
        self.assertEqual(self.output.opened[0].calls.count("rendition_added"), 1)
        self.assertEqual([one.name for one in stream.listed()], ["source"])
        for want in (*wants, wants[0]):
            want.release()
        await self.runs(stream, "opus")
        second.release()
        await self.runs(stream)
        self.assertEqual(service.active, 0)

    async def test_vp8_for_who_has_no_h264(self) -> None:
        self.begin()
        stream = await self.publish("plain")
        want = stream.want(RenditionSpec("90p", low_latency=True, codec=Codec.VP8))
        pictures = await want.rendition(PATIENCE)
        reader = Reader()
        pictures.subscribe(reader)
        await self.until(lambda: len(reader.of(True)) > 30)
        made = reader.of(True)
        self.assertEqual([track.codec for track in pictures.tracks], [Codec.VP8, Codec.OPUS])
        self.assertEqual((pictures.name, pictures.listed), ("90p:vp8", False))
        track = pictures.tracks[0]
        self.assertEqual((track.width, track.height), (160, 90))
        self.assertEqual([packet.keyframe for packet in made], [vp8.is_keyframe(one.payload) for one in made])
        self.assertTrue(all(packet.dts == packet.pts for packet in made))
        # Both codecs of one profile are made side by side, with keyframes at the same times.
        other = await stream.want(RenditionSpec("90p", low_latency=True)).rendition(PATIENCE)
        second = Reader()
        other.subscribe(second)
        await self.until(lambda: len([one for one in second.of(True) if one.keyframe]) > 2)
        times = {one.pts for one in second.of(True) if one.keyframe}
        await self.until(lambda: max(times) <= reader.of(True)[-1].pts)
        self.assertEqual(times - {one.pts for one in reader.of(True) if one.keyframe}, set())
        want.release()

    async def test_what_nobody_can_make_does_not_come(self) -> None:
        self.begin()
        stream = await self.publish("plain")
        self.assertIsNone(await stream.want(RenditionSpec("1080p", low_latency=True)).rendition(0.2))

    async def test_a_device_that_fails_in_mid_stream(self) -> None:
        service = self.begin(Pretender(reactor), hardware_acceleration=HardwareAcceleration(enabled=True))
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertEqual(service.ladders[stream.id].backend.name, "software")
        self.assertIn("nvenc failed", stream.notices["transcoding:fallback"])
        text = {metric.name: metric for metric in service.metrics([stream.name])}
        self.assertEqual(text["oxidecast_transcoding_fallbacks"].samples[0].value, 1)
        self.assertEqual(text["streaming_transcoding_jobs_active"].samples[0].value, 1)

    async def test_a_device_from_end_to_end_that_is_lost_in_mid_stream(self) -> None:
        listener = Listener()
        self.add("listener", IEventListener, listener)
        device = StandIn(reactor, preset="ultrafast")
        service = self.begin(device, hardware_acceleration=HardwareAcceleration(enabled=True))
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertIsNotNone(device.program)
        reader = Reader()
        stream.renditions["90p"].subscribe(reader)
        await self.until(lambda: len([one for one in reader.of(True) if one.keyframe]) > 2)
        shown = sorted(packet.pts for packet in reader.of(True))[:-5]
        self.assertEqual({after - before for before, after in pairwise(shown)}, {3000})
        stats = service.stats(stream.id)
        assert stats is not None
        self.assertEqual((stats.backend, stats.restarts), ("nvenc", 0))
        pid = service.ladders[stream.id].supervisor.pid  # type: ignore[union-attr]
        (ffmpeg,) = psutil.Process(pid).children()
        self.assertEqual(ffmpeg.name(), "ffmpeg")
        ffmpeg.kill()
        await self.until(lambda: service.ladders[stream.id].backend.name == "software")
        await self.runs(stream, "90p", "60p")
        self.assertIn("FFmpeg failed", stream.notices["transcoding:fallback"])
        self.assertEqual([key for key, _ in listener.heard], ["transcoding:fallback"])
        await self.until(lambda: not psutil.pid_exists(pid or 0))

    async def test_a_device_that_lacks_a_codec_leaves_it_to_software(self) -> None:
        device = StandIn(reactor, preset="ultrafast")
        service = self.begin(device, hardware_acceleration=HardwareAcceleration(enabled=True), profiles=MIXED)
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertEqual(list(device.lacks), [Codec.AV1])
        codecs = {name: one.tracks[0].codec for name, one in stream.renditions.items()}
        self.assertEqual(codecs, {"source": Codec.H264, "90p": Codec.HEVC, "60p": Codec.AV1})
        self.assertIn("av1 is made in software: ", stream.notices["transcoding:codecs"])
        self.assertEqual(service.ladders[stream.id].backend.name, "nvenc")
        pid = service.ladders[stream.id].supervisor.pid  # type: ignore[union-attr]
        self.assertEqual([one.name() for one in psutil.Process(pid).children()], ["ffmpeg"])
        stream.change_info(info("show", transcoding_profiles=("90p",)))
        await self.runs(stream, "90p")
        self.assertEqual(stream.notices, {})

    async def test_a_codec_that_nothing_makes_is_left_out_and_why_is_said(self) -> None:
        service = self.begin(mode="on_demand", profiles=MIXED)
        stream = await self.publish()
        self.assertEqual(list(stream.planned), ["90p", "60p"])
        service.software().lacks = {Codec.AV1: "the media library has no such encoder"}
        stream.change_info(stream.info)
        self.assertEqual(list(stream.planned), ["90p"])
        why = "this server cannot encode av1: the media library has no such encoder"
        self.assertEqual(stream.left_out, {"60p": why})
        # What needs no AV1 of it is made all the same.
        pictures = await stream.want(RenditionSpec("60p", low_latency=True)).rendition(PATIENCE)
        self.assertEqual(pictures.tracks[0].codec, Codec.H264)

    async def test_what_is_planned_is_what_comes(self) -> None:
        service = self.begin(profiles=MIXED)
        stream = await self.publish()
        planned = dict(stream.planned)
        await self.runs(stream, "90p", "60p")
        for name, one in planned.items():
            tracks = stream.renditions[name].tracks
            self.assertEqual(
                (one.codec, one.width, one.height, one.frame_rate, one.codecs),
                (
                    tracks[0].codec,
                    tracks[0].width,
                    tracks[0].height,
                    tracks[0].frame_rate,
                    tuple(track.codec_string for track in tracks),
                ),
            )
        self.assertEqual(stream.planned, planned)
        # A device may choose another level: then what came counts from there on.
        track = replace(stream.renditions["90p"].tracks[0], codec_string="hvc1.1.6.L150.90")
        service.ladders[stream.id].began("90p", [track])
        self.assertEqual(stream.planned["90p"].codecs, ("hvc1.1.6.L150.90", "mp4a.40.2"))
        stream.change_info(stream.info)
        self.assertEqual(stream.planned["90p"].codecs, ("hvc1.1.6.L150.90", "mp4a.40.2"))
        self.assertEqual(stream.planned["60p"], planned["60p"])

    async def test_a_device_that_is_not_there(self) -> None:
        if HAS_NVIDIA:
            return
        service = self.begin(Nvenc(reactor), hardware_acceleration=HardwareAcceleration(enabled=True))
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertEqual(service.ladders[stream.id].backend.name, "software")
        found = {one.name: one for one in service.backends()}
        self.assertEqual(found["nvenc"].state, "unavailable")
        self.assertIn("libcuda", found["nvenc"].detail)
        self.assertIn("libcuda", stream.notices["transcoding:fallback"])
        counted = {metric.name: metric.samples[0].value for metric in service.metrics([]) if metric.samples}
        self.assertEqual(counted["oxidecast_transcoding_fallbacks"], 1)
        # It is said while something is made, also when that begins again.
        stream.change_info(info("show"))
        await self.runs(stream)
        self.assertEqual(stream.notices, {})
        stream.change_info(info("show", transcoding_profiles=("90p",)))
        await self.runs(stream, "90p")
        self.assertIn("libcuda", stream.notices["transcoding:fallback"])
        self.assertEqual(service._counts["fallbacks"], 1)

    async def test_given_up_and_begun_anew(self) -> None:
        self.patch(supervisor, "MOST_DEATHS", 1)
        service = self.begin()
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        made = service.ladders[stream.id].supervisor
        assert made is not None and made.pid is not None
        os.kill(made.pid, signal.SIGKILL)
        await self.runs(stream)
        self.assertIn("cannot be made", stream.notices["transcoding:given_up"])
        # It takes no place, and is not promised because somebody looks at it.
        self.assertEqual(service.active, 0)
        service.ladders[stream.id].settle()
        self.assertEqual((stream.planned, service.active), ({}, 0))
        self.publisher.stop()
        self.publisher.publication.close("it left")
        await self.publish()
        await self.runs(stream, "90p", "60p")
        self.assertEqual(stream.notices, {})

    async def test_what_was_given_up_is_tried_again_when_something_else_is_wanted_and_after_a_while(
        self,
    ) -> None:
        self.patch(supervisor, "MOST_DEATHS", 1)
        self.patch(ladder, "NEXT_TRY", 0.5)
        service = self.begin()
        stream = await self.publish()
        for names in (("90p", "60p"), ("90p", "60p"), ("60p",)):
            if len(names) == 1:
                stream.change_info(info("show", transcoding_profiles=names))
            await self.runs(stream, *names)
            self.assertEqual((stream.notices, service.active), ({}, 1))
            made = service.ladders[stream.id].supervisor
            assert made is not None and made.pid is not None
            os.kill(made.pid, signal.SIGKILL)
            await self.runs(stream)

    async def test_sound_alone_takes_no_place_of_a_ladder(self) -> None:
        service = self.begin(max_concurrent=1)
        stream = await self.publish()
        await self.runs(stream, "90p", "60p")
        plain = await self.publish("plain")
        plain.want(RenditionSpec())
        await self.runs(plain, "opus")
        self.assertEqual((service.active, plain.notices), (1, {}))
        plain.want(RenditionSpec("90p", low_latency=True))
        await self.until(lambda: "transcoding:full" in plain.notices)
        await self.runs(plain, "opus")
        # There is room when the other wants none any more.
        stream.change_info(info("show"))
        await self.runs(plain, "opus", "90p:live")
        self.assertEqual((service.active, plain.notices), (1, {}))

    async def test_qualities_are_offered_only_while_there_is_room_for_them(self) -> None:
        self.keys.infos["key-of-plain"] = info("plain", transcoding_profiles=("90p",))
        listener = Listener()
        self.add("listener", IEventListener, listener)
        service = self.begin(max_concurrent=1, mode="on_demand")
        stream, other = await self.publish(), await self.publish("plain")
        self.assertEqual((list(stream.planned), list(other.planned)), (["90p", "60p"], ["90p"]))
        want = stream.want(RenditionSpec("60p"))
        await self.until(lambda: not other.planned)
        self.assertIn("max_concurrent", other.withheld)
        self.assertEqual(other.left_out, {"90p": other.withheld})
        self.assertEqual((list(stream.planned), stream.withheld), (["90p", "60p"], ""))
        # Nobody can want what is not offered, so it is told before anybody does.
        self.assertEqual(list(other.notices), ["transcoding:full"])
        self.assertEqual(listener.heard, [("transcoding:full", other.notices["transcoding:full"])])
        metrics = {metric.name: metric.samples for metric in service.metrics([])}
        self.assertEqual(metrics["oxidecast_transcoding_waiting"][0].value, 1)
        stats = service.stats(other.id)
        assert stats is not None
        self.assertEqual((stats.state, stats.left_out), ("waiting for a place", other.left_out))
        await self.runs(stream, "60p")
        waiting = other.want(RenditionSpec("90p", low_latency=True))
        self.assertIsNone(await waiting.rendition(PATIENCE))
        self.assertIn("transcoding:full", other.notices)
        waiting.release()
        self.patch(ladder, "LINGER", 0.1)
        want.release()
        await self.until(lambda: list(other.planned) == ["90p"])
        self.assertEqual((other.withheld, other.left_out), ("", {}))
        await self.runs(other, "90p:live")
        self.assertEqual((other.notices, stream.planned), ({}, {}))

    async def test_a_stop_while_encoders_are_tried(self) -> None:
        service = self.begin(Nvenc(reactor))
        service._later.reset(0)
        me = psutil.Process()
        await self.until(me.children)
        stopping: Deferred[Any] = service.stopService()
        await stopping
        self.assertLess(len(service.found), 2, "the others are not tried any more")
        self.assertEqual([one for one in me.children() if "probe" in " ".join(one.cmdline())], [])
