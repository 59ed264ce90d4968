"""What `oxidecast check` says about WebRTC: whether its port can be had, for UDP and TCP."""

import socket
from collections.abc import Iterator

from oxidecast.webrtc.datagrams import DatagramSocket
from oxidecast.webrtc.settings import WebrtcSettings


def check(settings: WebrtcSettings) -> Iterator[tuple[str, str]]:
    """The port is bound for real, and given back."""
    on = f"port {settings.port} on {settings.host or 'all addresses'}"
    kind = "UDP"
    try:
        udp = DatagramSocket(settings.host, settings.port)
        udp.close()
        kind = "TCP"
        host = settings.host or ("::" if udp.has_ipv6 else "")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, settings.port))
    except OSError as error:
        yield "fail", f"WebRTC {kind} {on}: {error.strerror}; free it, or set webrtc.port"
        return
    yield "ok", f"WebRTC {on} is free, for UDP and TCP"
