"""The picture of a live stream as raw NAL units (H.264 or HEVC, annex B), by an endless HTTP answer.

The one idea: a frame gets its start codes once, and all viewers are sent those very bytes; a viewer who cannot keep up
goes on at a later keyframe.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from oxidecast.delivery.envelope import envelope
from oxidecast.interfaces import IOutput, IOutputStream, IRendition, IServices, IStream, PlayRequest, Refused
from oxidecast.media import Codec, Packet, h264, hevc
from oxidecast.settings.section import Section, Size
from oxidecast.streams.queue import PacketQueue

ANNEXB = {Codec.H264: h264.annexb, Codec.HEVC: hevc.annexb}


class AnnexBSettings(Section, frozen=True, kw_only=True):
    """[annexb]"""

    max_queue: Size = 8_388_608
    """Bytes that wait for one viewer: some seconds of a good picture."""


@lru_cache(maxsize=1)
def with_start_codes(packet: Packet) -> Packet:
    """Cached, since a packet is handed to all viewers before the next one comes."""
    return replace(packet, payload=ANNEXB[packet.track.codec](packet.payload, packet.track))


class AnnexBViewer(PacketQueue):
    """One viewer: the queue between a rendition, which never waits, and an HTTP answer, which may have to."""

    def __init__(self, output: "AnnexBStream", request: Request, max_bytes: int) -> None:
        super().__init__(output.source, max_bytes, self.flush)
        self._output, self._request, self._paused = output, request, False
        self._counted = output.stream.viewer("annexb", request.getClientAddress().host)
        output.viewers.add(self)
        request.registerProducer(self, True)
        self._subscription = output.source.subscribe(self, output)

    def packet(self, packet: Packet) -> None:
        if packet.track.codec in ANNEXB:
            super().packet(with_start_codes(packet))

    def flush(self) -> None:
        if not self._paused:
            self._request.write(b"".join(packet.payload for packet in self.take()))
            if self.over:
                self._request.unregisterProducer()
                self._request.finish()
                self.stopProducing()

    # What HTTP says (`IPushProducer`): wait, go on, the client has left.

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        self._paused = True
        self._subscription.cancel()
        self._output.viewers.discard(self)
        self._counted.leave()


@implementer(IOutputStream)
class AnnexBStream:
    """One stream and its viewers, who subscribe to it as they come."""

    def __init__(self, stream: IStream) -> None:
        self.stream, self.source = stream, stream.renditions["source"]
        self.viewers: set[AnnexBViewer] = set()

    def rendition_added(self, rendition: IRendition) -> None:
        """Only the source is shown, which is always there."""

    def rendition_removed(self, name: str) -> None: ...

    def closed(self, reason: str) -> None:
        for viewer in list(self.viewers):
            viewer.ended(reason)

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        shown = any(track.codec in ANNEXB for track in self.source.tracks)
        return {"annexb": f"/api/v1/annexb/{self.stream.name}"} if shown else {}

    def stats(self) -> Mapping[str, Any]:
        return {"viewers": len(self.viewers), "dropped": sum(viewer.dropped for viewer in self.viewers)}


@implementer(IOutput)
class AnnexBOutput(Resource):
    """The plugin while it runs, and what is found at `/api/v1/annexb/`."""

    isLeaf = True

    def __init__(self, settings: AnnexBSettings, services: IServices) -> None:
        super().__init__()
        self._settings, self._hub, self._seconds = settings, services.hub, services.reactor.seconds
        self._streams: dict[str, AnnexBStream] = {}

    def open(self, stream: IStream) -> AnnexBStream:
        self._streams = {key: one for key, one in self._streams.items() if one.stream.state != "ended"}
        self._streams[stream.id] = AnnexBStream(stream)
        return self._streams[stream.id]

    def urls(self, info: Any) -> Mapping[str, str]:
        return {"annexb": f"/api/v1/annexb/{info.name}"}

    def routes(self) -> Mapping[str, Any]:
        return {"annexb": self}

    def render_GET(self, request: Request) -> int:
        Deferred.fromCoroutine(self._play(request)).addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def _play(self, request: Request) -> None:
        left = request.notifyFinish().addErrback(lambda reason: None)
        try:
            output = await self._find(request)
        except Refused as refused:
            request.setResponseCode(404 if refused.code == "not_live" else 401)
            request.setHeader("Content-Type", "application/json")
            request.write(envelope(self._seconds(), error=refused.sentence, code=refused.code))
            request.finish()
            return
        request.setHeader("Content-Type", "application/octet-stream")
        if request.method == b"HEAD":
            request.finish()
        elif not left.called:
            AnnexBViewer(output, request, self._settings.max_queue)

    async def _find(self, request: Request) -> AnnexBStream:
        """What the address names, if this client may see it."""
        stream = self._hub.find(b"/".join(request.postpath or ()).decode("utf-8", "replace"))
        if stream is None or not self._streams[stream.id].urls(None):
            raise Refused("not_live", "No stream of this name is live in H.264 or HEVC.")
        token = request.args.get(b"token", [b""])[0].decode("utf-8", "replace")
        address = request.getClientAddress().host
        await self._hub.authorise(stream.info, PlayRequest(protocol="annexb", address=address, token=token))
        return self._streams[stream.id]
