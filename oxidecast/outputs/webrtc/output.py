"""WebRTC as an output plugin: streams by name, sessions by id, and the port that all of them share."""

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import IMeasured, IOutput, IReloadable, IServices, IStream, ITotals
from oxidecast.outputs.webrtc.figures import Sums, collect, totals
from oxidecast.outputs.webrtc.sources import SOURCE
from oxidecast.outputs.webrtc.stream import WebRTCStream, address
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.outputs.webrtc.whep import WHEPResource
from oxidecast.streams.info import StreamInfo
from oxidecast.webrtc.port import WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings
from oxidecast.webrtc.signalling import Gates


@implementer(IOutput, IMeasured, ITotals, IReloadable)
class WebRTCOutput:
    """The plugin while it runs."""

    log = Logger()

    def __init__(self, settings: WebrtcSettings, services: IServices) -> None:
        self.services = services
        self.port: WebRTCPort = services.ports["webrtc"]
        self.port.used = True
        self.streams: dict[str, WebRTCStream] = {}
        """By public name and by id."""
        self.sessions: dict[str, Viewer] = {}
        """By the id in their address."""
        self.sums = Sums()
        self.port.gates["whep"] = WHEPResource(self)

    def open(self, stream: IStream) -> WebRTCStream:
        for key, old in list(self.streams.items()):
            if not old.is_open:
                del self.streams[key]
        output = WebRTCStream(stream, self.services)
        self.streams[stream.name] = self.streams[stream.id] = output
        return output

    def urls(self, info: StreamInfo) -> Mapping[str, str]:
        return address(info.name)

    def routes(self) -> Mapping[str, Any]:
        return {"webrtc": Gates(self.port.gates)}

    def reload(self, settings: WebrtcSettings) -> None:
        """The port has taken the same."""

    def metrics(self, streams: Collection[str]) -> Iterable[Metric]:
        return collect(self.port, set(self.streams.values()), self.sums, streams)

    def totals(self) -> Mapping[str, float]:
        return totals(set(self.streams.values()), self.sums)

    # -- what WHEP calls

    def add(self, viewer: Viewer) -> str:
        """Keep a viewer for as long as it is there; the answer is its session's id."""
        session = secrets.token_urlsafe(18)
        self.sessions[session] = viewer

        def gone() -> None:
            self.sessions.pop(session, None)
            self.sums.add(viewer)

        viewer.on_gone = gone
        return session

    def joined(self, viewer: Viewer, found: WebRTCStream, client: str, viewer_id: str) -> None:
        """Count the viewer once it is connected; one that joined by the API is counted already."""

        def connected() -> None:
            known = found.stream.viewers.get(viewer_id)
            viewer.counts = known is None
            viewer.counted = known if known is not None else found.stream.viewer("webrtc", client)
            viewer.counted.rendition = (
                viewer.pictures.feed.name if viewer.pictures.feed is not None else SOURCE
            )

        viewer.on_connected = connected
