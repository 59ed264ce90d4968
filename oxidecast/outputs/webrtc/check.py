"""What `oxidecast check` says about WebRTC: whether its port can be had."""

from collections.abc import Iterator

from oxidecast.webrtc.datagrams import DatagramSocket
from oxidecast.webrtc.settings import WebrtcSettings


def check(settings: WebrtcSettings) -> Iterator[tuple[str, str]]:
    """The port is bound for real, and given back."""
    where = f"UDP port {settings.port} on {settings.host or 'all addresses'}"
    try:
        DatagramSocket(settings.host, settings.port).close()
    except OSError as error:
        yield "fail", f"WebRTC {where}: {error.strerror}; free it, or set webrtc.port"
        return
    yield "ok", f"WebRTC {where} is free"
