"""[rtmp]: the port that encoders publish to, and the same with TLS."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Count, Invalid, Seconds, Section


class RtmpSettings(Section, frozen=True, kw_only=True):
    """[rtmp]"""

    reloadable: ClassVar[frozenset[str]] = frozenset(
        {
            "max_connections",
            "max_connections_per_address",
            "handshake_timeout",
            "publish_timeout",
            "connection_timeout",
            "stream_timeout",
        }
    )

    bind_address: str = "0.0.0.0:1935"
    tls_bind_address: str = "0.0.0.0:1936"
    chunk_size: Annotated[int, Meta(ge=128, le=0xFFFFFF)] = 65_536
    max_connections: Count = 1000
    max_connections_per_address: Count = 50
    handshake_timeout: Seconds = 10.0
    publish_timeout: Seconds = 20.0
    connection_timeout: Seconds = 20.0
    stream_timeout: Seconds = 20.0
    enable_auth: bool = True
    proxy_protocol: bool = False

    def __post_init__(self) -> None:
        self.address()
        self.tls_address()

    def address(self) -> tuple[str, int]:
        """`bind_address` as host and port; an IPv6 host comes without its brackets."""
        return _host_and_port("bind_address", self.bind_address)

    def tls_address(self) -> tuple[str, int]:
        """The same of `tls_bind_address`."""
        return _host_and_port("tls_bind_address", self.tls_bind_address)


def _host_and_port(key: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise Invalid(key, 'must be "host:port"')
    if ":" in host and not bracketed:
        raise Invalid(key, 'must be "[host]:port" where the host is an IPv6 address')
    return host[1:-1] if bracketed else host, int(port)
