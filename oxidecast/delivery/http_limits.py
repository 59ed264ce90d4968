"""What one client, and all of them together, may take of the HTTP port."""

import msgspec


class HTTPLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the HTTP port. Sizes are bytes, times seconds, counted by a clock that ticks once a
    second."""

    max_connections: int = 10_000
    """Connections served at once, upgraded and endless ones included; further ones are told 503 and
    closed."""
    max_uri: int = 8192
    """The request target. RFC 9112 asks for 8000 at least; playback tokens travel in it."""
    max_header_bytes: int = 16_384
    """All header fields of a request. Browsers with large cookies reach 8 KiB."""
    max_headers: int = 100
    max_body: int = 65_536
    """A request's body, kept in memory: JSON or an SDP of a few KiB. At 10,000 connections this is 640 MB at
    worst."""
    header_timeout: int = 10
    """From a request's first byte, or the connection's start, to the end of its head."""
    body_timeout: int = 30
    """From the end of a head to the end of its body."""
    idle_timeout: int = 75
    """Without a request on a kept connection. Players poll every few seconds."""
    write_stall_timeout: int = 30
    """While the client reads nothing of the answer."""
    answer_timeout: int = 60
    """How long a hot resource's Deferred may keep a client waiting."""
    linger_timeout: int = 5
    """How long a refused client may go on sending before the connection is cut, so that it can read why."""
