"""What Prometheus reads of WebRTC. Sums only rise, so what a viewer had is kept when it leaves."""

from collections.abc import Collection, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from oxidecast.outputs.webrtc.stream import WebRTCStream
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.port import WebRTCPort

COUNTED = {
    "nacks": "Packets that viewers missed",
    "resent": "Packets sent again",
    "keyframes_wanted": "Keyframes that viewers asked for",
    "replays": "Groups of pictures sent again to who asked for a keyframe",
    "dropped": "Sends that failed",
    "stalls": "Times at which the connection of a viewer by TCP took no more",
}


class Sums:
    """Over all viewers who left."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(COUNTED, 0)
        self.sessions = 0
        self.connected = 0

    def add(self, viewer: Viewer) -> None:
        self.sessions += 1
        self.connected += bool(viewer.profile)
        for name in COUNTED:
            self.values[name] += getattr(viewer.figures, name)


def collect(
    port: WebRTCPort, streams: Iterable[WebRTCStream], sums: Sums, labels: Collection[str]
) -> Iterator[Metric]:
    """Of the port, and of the streams that may be labels."""
    streams = list(streams)
    viewers = [viewer for stream in streams for viewer in stream.viewers]
    yield GaugeMetricFamily("oxidecast_webrtc_sessions", "Sessions now", value=len(port))
    yield CounterMetricFamily(
        "oxidecast_webrtc_sessions_opened", "Sessions since the start", value=sums.sessions + len(viewers)
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_sessions_connected",
        "Sessions of which the handshake was done",
        value=sums.connected + sum(bool(viewer.profile) for viewer in viewers),
    )
    for name, text in COUNTED.items():
        value = sums.values[name] + sum(getattr(viewer.figures, name) for viewer in viewers)
        yield CounterMetricFamily(f"oxidecast_webrtc_{name}", text, value=value)
    yield CounterMetricFamily(
        "oxidecast_webrtc_failed_handshakes", "Handshakes that failed", value=port.failed_handshakes
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_expired", "Sessions of which nothing was heard any more", value=port.expired
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_refused", "Sessions that there was no room for", value=port.refused
    )
    received = CounterMetricFamily(
        "oxidecast_webrtc_received_datagrams", "Datagrams that came", labels=["kind"]
    )
    for kind, count in sorted(port.datagrams.items()):
        received.add_metric([kind], count)
    yield received
    if port.number:
        yield CounterMetricFamily("oxidecast_webrtc_sent_bytes", "Datagrams sent", value=port.socket.bytes)
        yield CounterMetricFamily(
            "oxidecast_webrtc_send_calls", "System calls that sent something", value=port.socket.calls
        )
        yield CounterMetricFamily(
            "oxidecast_webrtc_lost_datagrams", "Datagrams that could not be sent", value=port.socket.dropped
        )
    watching = GaugeMetricFamily("oxidecast_webrtc_viewers", "Viewers now", labels=["stream"])
    for stream in streams:
        if stream.stream.name in labels and stream.is_open:
            watching.add_metric([stream.stream.name], sum(v.counted is not None for v in stream.viewers))
    yield watching
