"""RTMP publishers: FLV messages in, access units of a publication out.

The one idea: everything that is RTMP's own ends here. Whole milliseconds become ticks (sound by counting samples),
FLV's codec records become Tracks, and the rooms above never learn by which protocol a stream came.
"""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from types import ModuleType
from typing import Any

import msgspec
from twisted.application.service import Service
from zope.interface import implementer

from oxidecast.formats import flv
from oxidecast.formats.flv import Kind
from oxidecast.interfaces import IIngest, IPublication, IPublisher, IServices, PublishRequest
from oxidecast.media import TICKS, Codec, Track, aac, ac3, av1, h264, hevc, mp3, nal, opus, vp9
from oxidecast.media.timestamps import Unwrapper
from oxidecast.rtmp.events import PublishRequested
from oxidecast.rtmp.server import IMediaSink, RTMPConnection, RTMPPort
from oxidecast.rtmp.settings import RtmpSettings

VIDEO_ID, AUDIO_ID = 1, 2
TICKS_PER_MILLISECOND = TICKS // 1000

_MODULES: Mapping[Codec, ModuleType] = {
    Codec.H264: h264,
    Codec.HEVC: hevc,
    Codec.AV1: av1,
    Codec.VP9: vp9,
    Codec.AAC: aac,
    Codec.OPUS: opus,
    Codec.MP3: mp3,
    Codec.AC3: ac3,
}
_NAL_UNITS = frozenset({Codec.H264, Codec.HEVC})
_WITHOUT_HEADER = frozenset({Codec.MP3, Codec.AC3})
"""Codecs whose every frame says what it is."""

LONGEST_NAME = 120
"""Characters of an encoder's name that are kept."""

SLOWEST, FASTEST = 0.01, 1000
"""Frames a second that metadata may claim."""

STOP_CODES = {
    "taken_over": "NetStream.Publish.BadName",
    "replaced": "NetStream.Publish.BadName",
    "shutting_down": "NetConnection.Connect.AppShutdown",
}


@implementer(IMediaSink, IPublisher)
class RTMPFeed:
    """One publisher's messages on their way into its publication."""

    def __init__(self, connection: RTMPConnection) -> None:
        self._connection: RTMPConnection | None = connection
        self._publication: IPublication | None = None
        self._tracks: dict[int, Track] = {}
        self._first: dict[int, int] = {}
        """Of several tracks of a kind the first that came is used: its number in the message."""
        self._unwrap = {VIDEO_ID: Unwrapper(32), AUDIO_ID: Unwrapper(32)}
        self._length_size = 4
        self._frame_rate: Fraction | None = None

    def begin(self, publication: IPublication) -> None:
        """The key was good."""
        self._publication = publication

    # -- IMediaSink

    def metadata(self, values: Mapping[str, Any]) -> None:
        publication = self._publication
        if publication is None:
            return
        video = "videocodecid" in values or values.get("hasVideo") is True
        audio = "audiocodecid" in values or values.get("hasAudio") is True
        publication.expect(video, audio)
        # Most encoders call themselves a Flash encoder in `connect`, and give their own name here.
        encoder = values.get("encoder")
        if isinstance(encoder, str) and encoder:
            publication.named(encoder[:LONGEST_NAME])
        rate = values.get("framerate")
        if isinstance(rate, float) and SLOWEST <= rate <= FASTEST:
            self._frame_rate = Fraction(rate).limit_denominator(1001)

    def video(self, timestamp: int, body: bytes) -> None:
        tag = flv.video(body)
        publication = self._publication
        if publication is None or not self._is_first(VIDEO_ID, tag.track_id):
            return
        if not isinstance(tag.codec, Codec) or tag.codec not in _MODULES:
            self._not_carried(publication, "video", tag.codec)
        elif tag.kind is Kind.SEQUENCE_HEADER:
            self._length_size = 4
            if tag.codec in _NAL_UNITS:
                self._length_size = _MODULES[tag.codec].length_size(tag.payload)
            self._announce(publication, _MODULES[tag.codec].track(tag.payload, VIDEO_ID))
        elif tag.kind is Kind.FRAMES and tag.payload:
            self._picture(publication, timestamp, tag)

    def audio(self, timestamp: int, body: bytes) -> None:
        tag = flv.audio(body)
        publication = self._publication
        if publication is None or not self._is_first(AUDIO_ID, tag.track_id):
            return
        if not isinstance(tag.codec, Codec) or tag.codec not in _MODULES:
            self._not_carried(publication, "audio", tag.codec)
        elif tag.kind is Kind.SEQUENCE_HEADER:
            # FFmpeg sends an empty one for codecs that have none.
            if tag.codec not in _WITHOUT_HEADER:
                self._announce(publication, _MODULES[tag.codec].track(tag.payload, AUDIO_ID))
        elif tag.kind is Kind.FRAMES and tag.payload:
            if tag.codec in _WITHOUT_HEADER:
                self._announce(publication, _MODULES[tag.codec].track(tag.payload, AUDIO_ID))
            self._sound(publication, timestamp, tag)

    def stopped(self, reason: str) -> None:
        self._connection = None
        publication, self._publication = self._publication, None
        if publication is not None:
            publication.close(reason)

    # -- IPublisher

    def stop(self, code: str, sentence: str) -> None:
        connection, self._connection = self._connection, None
        self._publication = None
        if connection is not None:
            connection.stop_publishing(STOP_CODES.get(code, "NetStream.Publish.Denied"), sentence)

    # -- inside

    def _is_first(self, kind: int, track_id: int) -> bool:
        return self._first.setdefault(kind, track_id) == track_id

    def _not_carried(self, publication: IPublication, kind: str, codec: Codec | str) -> None:
        name = codec.value if isinstance(codec, Codec) else codec
        publication.stream.notice(
            f"rtmp:{kind}", f"the encoder sends {name}, which is not carried; it is left out"
        )

    def _announce(self, publication: IPublication, track: Track) -> None:
        if track.is_video and track.frame_rate is None and self._frame_rate is not None:
            track = msgspec.structs.replace(track, frame_rate=self._frame_rate)
        if self._tracks.get(track.id) == track:
            return
        self._tracks[track.id] = track
        publication.stream.notice(f"rtmp:{'video' if track.is_video else 'audio'}", None)
        publication.track(track)

    def _ticks(self, kind: int, timestamp: int, nanoseconds: int) -> int:
        return self._unwrap[kind](timestamp) * TICKS_PER_MILLISECOND + nanoseconds * TICKS // 1_000_000_000

    def _picture(self, publication: IPublication, timestamp: int, tag: flv.VideoTag) -> None:
        track = self._tracks.get(VIDEO_ID)
        if track is None or track.codec is not tag.codec:
            return
        module, payload = _MODULES[track.codec], tag.payload
        if track.codec in _NAL_UNITS:
            payload = nal.four_byte_lengths(payload, self._length_size)
        if track.codec is not Codec.VP9:
            payload = module.strip(payload)
        if not payload:
            return
        if tag.keyframe:
            changed = module.in_band(payload, track)
            if changed is not None:
                self._announce(publication, changed)
        dts = self._ticks(VIDEO_ID, timestamp, tag.nanoseconds)
        pts = dts + tag.composition_time * TICKS_PER_MILLISECOND
        publication.packet(VIDEO_ID, dts, pts, tag.keyframe, payload)

    def _sound(self, publication: IPublication, timestamp: int, tag: flv.AudioTag) -> None:
        track = self._tracks.get(AUDIO_ID)
        if track is None or track.codec is not tag.codec:
            return
        dts = self._ticks(AUDIO_ID, timestamp, tag.nanoseconds)
        samples = _SAMPLES[track.codec](track, tag.payload)
        publication.packet(AUDIO_ID, dts, dts, True, tag.payload, samples)


_SAMPLES: Mapping[Codec, Callable[[Track, bytes], int]] = {
    Codec.AAC: lambda track, payload: aac.samples_per_frame(track),
    Codec.OPUS: lambda track, payload: opus.samples(payload),
    Codec.MP3: lambda track, payload: mp3.parse_header(payload).samples,
    Codec.AC3: lambda track, payload: 1536,  # ATSC A/52, 5.1: six blocks of 256
}


@implementer(IIngest)
class RTMPIngest(Service):
    """The plugin while it runs: the publish gate of the RTMP port."""

    def __init__(self, settings: RtmpSettings, services: IServices) -> None:
        self._hub = services.hub
        self._port: RTMPPort = services.ports["rtmp"]
        self._port.publish_gate = self._publish

    def addresses(self) -> Iterable[str]:
        yield f"rtmp://HOST:{self._port.number or self._port.settings.address()[1]}/live"
        if self._port.secure is not None:
            yield f"rtmps://HOST:{self._port.tls_number or self._port.settings.tls_address()[1]}/live"

    async def _publish(self, connection: RTMPConnection, request: PublishRequested) -> RTMPFeed:
        feed = RTMPFeed(connection)
        publication = await self._hub.publish(
            PublishRequest(
                protocol="rtmp", address=connection.address, key=request.key, encoder=connection.encoder
            ),
            feed,
        )
        feed.begin(publication)
        return feed
