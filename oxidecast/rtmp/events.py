"""What a session tells its owner. Whatever may hold a stream key is left out of every repr."""

from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from oxidecast.formats.amf import Value


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """The peer said `connect`. Nothing more is read until `accept_connect` or `reject_connect`."""

    app: str = field(repr=False)
    """As sent, less its query and slashes at its ends: `live`."""
    query: str = field(repr=False)
    """What followed "?" in the app."""
    tc_url: str = field(repr=False)
    flash_ver: str
    four_ccs: tuple[str, ...]
    """The codecs of Enhanced RTMP the peer knows, `*` for all; empty for a peer without it."""
    caps_ex: int
    """CapsExMask bits of Enhanced RTMP v2."""
    object_encoding: int
    """0 for AMF0, 3 for AMF3 as well."""
    parameters: dict[str, Value] = field(repr=False)
    """The whole command object."""


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The peer wants to publish. Nothing more is read until `accept_publish` or `reject_publish`."""

    stream_id: int
    name: str = field(repr=False)
    """Raw, at most session.MAX_NAME bytes; for most encoders the stream key. Never to be used as a path."""
    kind: str
    """`live`, `record` or `append`."""
    app: str = field(repr=False)

    @property
    def key(self) -> str:
        """The name before its "?"."""
        return self.name.partition("?")[0]

    @property
    def query(self) -> str:
        return self.name.partition("?")[2]


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """The peer wants to watch. Nothing more is read until `accept_play` or `reject_play`."""

    stream_id: int
    name: str = field(repr=False)
    start: float
    """-2 live or recorded, -1 live only, else seconds into a recording."""
    duration: float
    """-1 until the end."""
    reset: bool
    app: str = field(repr=False)

    @property
    def path(self) -> str:
        """The name before its "?"."""
        return self.name.partition("?")[0]

    @property
    def query(self) -> str:
        return self.name.partition("?")[2]


class AudioReceived(msgspec.Struct, frozen=True, gc=False):
    """An audio message on a stream that is published, or that we play. `payload` is an FLV audio tag's
    body."""

    stream_id: int
    timestamp: int
    """Milliseconds, 32 bits, as the peer counts them."""
    payload: bytes

    def __repr__(self) -> str:
        return f"AudioReceived({self.stream_id}, {self.timestamp}, {len(self.payload)} bytes)"


class VideoReceived(msgspec.Struct, frozen=True, gc=False):
    """A video message on a stream that is published, or that we play. `payload` is an FLV video tag's
    body."""

    stream_id: int
    timestamp: int
    payload: bytes

    def __repr__(self) -> str:
        return f"VideoReceived({self.stream_id}, {self.timestamp}, {len(self.payload)} bytes)"


@dataclass(frozen=True, slots=True)
class MetadataReceived:
    """onMetaData, with or without `@setDataFrame`."""

    stream_id: int
    timestamp: int
    values: dict[str, Value] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublishStopped:
    """The peer ended its publishing; the connection goes on."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PlayStopped:
    """The peer ended its watching; the connection goes on."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The peer answered `ping`, with the same number."""

    timestamp: int


ServerEvent: TypeAlias = (
    ConnectRequested
    | PublishRequested
    | PlayRequested
    | AudioReceived
    | VideoReceived
    | MetadataReceived
    | PublishStopped
    | PlayStopped
    | PingAnswered
)


@dataclass(frozen=True, slots=True)
class Started:
    """The server took what we asked for: media may flow on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """A status of the server's, such as NetStream.Play.UnpublishNotify. Its text is the server's own."""

    code: str
    level: str
    description: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused the connection or the stream. Its text may quote the key we sent."""

    code: str
    description: str = field(repr=False)


ClientEvent: TypeAlias = (
    Started | StatusReceived | Refused | AudioReceived | VideoReceived | MetadataReceived | PingAnswered
)
