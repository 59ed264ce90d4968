"""The client's side of one RTMP connection: publishes or plays one stream. For relays, pushes and tests.

It asks by itself, step by step (RTMP 1.0, 7.2.1.1, 7.2.1.3, 7.2.2.1, 7.2.2.6), until `Started` or `Refused`:

    transport.write(session.take_output())
    for event in session.receive(data): ...
    transport.write(session.take_output())
"""

import os
from collections.abc import Iterator
from typing import Literal

from oxidecast.formats import amf
from oxidecast.formats.flv import FOUR_CCS
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp import messages
from oxidecast.rtmp.events import (
    AudioReceived,
    ClientEvent,
    MetadataReceived,
    PingAnswered,
    Refused,
    Started,
    StatusReceived,
    VideoReceived,
)
from oxidecast.rtmp.handshake import RANDOM, ClientHandshake
from oxidecast.rtmp.link import Link
from oxidecast.rtmp.messages import Message

CHUNK_SIZE = 65_536
"""What we write in: one chunk for most messages."""

_COMMAND_CHUNK_STREAM = 3
_STREAM_CHUNK_STREAM = 8
_DATA_CHUNK_STREAM = 5
_AUDIO_CHUNK_STREAM = 4
_VIDEO_CHUNK_STREAM = 6

_CONNECT, _RELEASE, _FC_PUBLISH, _CREATE_STREAM = 1.0, 2.0, 3.0, 4.0  # transaction numbers
_CAN_DECODE = 1  # Enhanced RTMP v2, FourCcInfoMask


class ClientSession:
    """One connection with one stream on it."""

    def __init__(
        self,
        purpose: Literal["publish", "play"],
        *,
        app: str,
        tc_url: str,
        name: str,
        chunk_size: int = CHUNK_SIZE,
        random: bytes | None = None,
    ) -> None:
        handshake = ClientHandshake(os.urandom(RANDOM) if random is None else random)
        self._link = Link(handshake)
        self._link.send(handshake.start())
        self._purpose = purpose
        self._app, self._tc_url, self._name = app, tc_url, name
        self._chunk_size = chunk_size
        self._asked = False
        self.stream_id = 0
        """The message stream, once createStream was answered."""
        self._started = False

    def receive(self, data: bytes) -> Iterator[ClientEvent]:
        """Take bytes in and give the events they complete: iterate to the end. Raises RemoteProtocolError."""
        self._link.feed(data)
        if self._link.established and not self._asked:
            self._asked = True
            self._connect()
        return self._events()

    def take_output(self) -> bytes:
        """What is to be sent now: call it at the start, and after each `receive` and each method below."""
        return self._link.take_output()

    def send_audio(self, timestamp: int, payload: bytes) -> None:
        self._send(_AUDIO_CHUNK_STREAM, messages.AUDIO, timestamp, payload)

    def send_video(self, timestamp: int, payload: bytes) -> None:
        self._send(_VIDEO_CHUNK_STREAM, messages.VIDEO, timestamp, payload)

    def send_metadata(self, timestamp: int, values: dict[str, amf.Value]) -> None:
        body = amf.encode("@setDataFrame", "onMetaData", amf.EcmaArray(values))
        self._send(_DATA_CHUNK_STREAM, messages.DATA_AMF0, timestamp, body)

    def stop(self) -> None:
        """Say that the stream is over."""
        if self._purpose == "publish":
            self._command("FCUnpublish", 5.0, None, self._name)
        self._command("deleteStream", 6.0, None, self.stream_id)
        self._started = False

    def _events(self) -> Iterator[ClientEvent]:
        while (message := self._link.next_message()) is not None:
            for part in self._link.unpack(message):
                event = self._receive(part)
                if event is not None:
                    yield event

    def _receive(self, message: Message) -> ClientEvent | None:
        match message.type_id:
            case messages.AUDIO:
                return AudioReceived(message.stream_id, message.timestamp, message.payload)
            case messages.VIDEO:
                return VideoReceived(message.stream_id, message.timestamp, message.payload)
            case messages.DATA_AMF0 | messages.DATA_AMF3:
                match messages.values(message):
                    case ["onMetaData", dict() as metadata, *_]:
                        return MetadataReceived(message.stream_id, message.timestamp, metadata)
            case messages.COMMAND_AMF0 | messages.COMMAND_AMF3:
                return self._receive_command(message)
            case messages.USER_CONTROL:
                return PingAnswered(messages.user_control(message)[1])
        return None

    def _receive_command(self, message: Message) -> ClientEvent | None:
        match messages.values(message):
            case ["_result", float() as transaction, *_] if transaction == _CONNECT:
                self._create_stream()
            case ["_result", float() as transaction, _, float() as stream_id, *_] if (
                transaction == _CREATE_STREAM
            ):
                if not 0 < stream_id <= 0xFFFFFFFF:
                    raise RemoteProtocolError("createStream was answered by an impossible stream id")
                self.stream_id = int(stream_id)
                self._ask()
            case ["_error", float() as transaction, *rest] if transaction in (_CONNECT, _CREATE_STREAM):
                code, _, description = _status(rest)
                return Refused(code, description)
            case ["onStatus", _, *rest]:
                code, level, description = _status(rest)
                if code in ("NetStream.Publish.Start", "NetStream.Play.Start"):
                    self._started = True
                    return Started(self.stream_id)
                if level == "error" and not self._started:
                    return Refused(code, description)
                return StatusReceived(code, level, description)
        return None

    def _connect(self) -> None:
        known = dict.fromkeys(FOUR_CCS, _CAN_DECODE)
        self._link.send_chunk_size(self._chunk_size)
        self._command(
            "connect",
            _CONNECT,
            {
                "app": self._app,
                "type": "nonprivate",
                "flashVer": "FMLE/3.0 (compatible; OxideCast)",
                "tcUrl": self._tc_url,
                "fourCcList": list(FOUR_CCS),
                "videoFourCcInfoMap": {k: v for k, v in known.items() if FOUR_CCS[k].is_video},
                "audioFourCcInfoMap": {k: v for k, v in known.items() if not FOUR_CCS[k].is_video},
            },
        )

    def _create_stream(self) -> None:
        self._link.send_windows()
        if self._purpose == "publish":
            self._command("releaseStream", _RELEASE, None, self._name)
            self._command("FCPublish", _FC_PUBLISH, None, self._name)
        self._command("createStream", _CREATE_STREAM, None)

    def _ask(self) -> None:
        arguments = [self._name, "live"] if self._purpose == "publish" else [self._name, -1]
        payload = amf.encode(self._purpose, 0, None, *arguments)
        self._link.send_message(_STREAM_CHUNK_STREAM, messages.COMMAND_AMF0, self.stream_id, 0, payload)

    def _command(self, name: str, transaction: float, *values: object) -> None:
        payload = amf.encode(name, transaction, *values)
        self._link.send_message(_COMMAND_CHUNK_STREAM, messages.COMMAND_AMF0, 0, 0, payload)

    def _send(self, csid: int, type_id: int, timestamp: int, payload: bytes) -> None:
        if not self._started:
            raise LocalProtocolError("nothing is published before the server said that it started")
        self._link.send_message(csid, type_id, self.stream_id, timestamp, payload)


def _status(values: list[amf.Value]) -> tuple[str, str, str]:
    """Code, level and description of the information object, wherever it stands."""
    for value in values:
        if isinstance(value, dict) and "code" in value:
            code, level, description = (value.get(key) for key in ("code", "level", "description"))
            return str(code), str(level), description if isinstance(description, str) else ""
    return "", "", ""
