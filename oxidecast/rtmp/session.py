"""The server's side of one RTMP connection: bytes in, events out; decisions in, bytes out (RTMP 1.0, 7.2).

    for event in session.receive(data):
        ...                                # may answer at once: session.accept_connect()
    transport.write(session.take_output())

A request (`ConnectRequested`, `PublishRequested`, `PlayRequested`) is answered by a method, at once or later.
Until then the session is `waiting` and reads nothing more, so nothing that the peer sent too early is lost or
out of order: its owner stops reading from the socket meanwhile, and calls `receive(b"")` after a late answer
to go on.

When `receive` raises RemoteProtocolError the connection is over: what `take_output` then has is still to be
sent, as it may tell the peer why.
"""

import os
from collections.abc import Iterator
from enum import Enum, auto

from oxidecast.formats import amf
from oxidecast.formats.flv import FOUR_CCS
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp import messages
from oxidecast.rtmp.chunks import MAX_MESSAGE_SIZE
from oxidecast.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    MetadataReceived,
    PingAnswered,
    PlayRequested,
    PlayStopped,
    PublishRequested,
    PublishStopped,
    ServerEvent,
    VideoReceived,
)
from oxidecast.rtmp.handshake import RANDOM, ServerHandshake
from oxidecast.rtmp.link import Link
from oxidecast.rtmp.messages import Message

MAX_STREAMS = 8
"""Message streams open at once on one connection. Encoders use one; createStream in a loop would use all
memory."""
MAX_NAME = 1024
"""Bytes of an app or a stream name, query included. Signed tokens in queries reach 700."""
MAX_HELD = 4 * 1024 * 1024
"""Bytes held while the owner answers a request and does not stop reading: half a second at 64 Mbit/s."""
CHUNK_SIZE = 4096
"""What we write in, unless told otherwise. Larger saves little; smaller costs the peer's CPU."""

COMMAND_CHUNK_STREAM = 3
STATUS_CHUNK_STREAM = 5
AUDIO_CHUNK_STREAM = 4
VIDEO_CHUNK_STREAM = 6

_CAN_FORWARD = 4  # Enhanced RTMP v2, FourCcInfoMask
_CAPS_EX = 2 | 4 | 8  # Enhanced RTMP v2, CapsExMask: multitrack, ModEx and its nanoseconds are understood


class _Role(Enum):
    """What a message stream is used for."""

    NONE = auto()
    ASKED_PUBLISH = auto()
    PUBLISHING = auto()
    ASKED_PLAY = auto()
    PLAYING = auto()
    ENDED = auto()
    """Used once, and refused or stopped: media still under way is dropped."""


class _Stream:
    """One message stream, from createStream to deleteStream."""

    __slots__ = ("id", "name", "reset", "role")

    def __init__(self, id: int) -> None:
        self.id = id
        self.role = _Role.NONE
        self.name = ""
        self.reset = False


class ServerSession:
    """One connection. Its owner alone touches sockets and time."""

    def __init__(self, *, chunk_size: int = CHUNK_SIZE, random: bytes | None = None) -> None:
        """`random` is handshake.RANDOM bytes, for tests that want the same answer twice."""
        self._link = Link(ServerHandshake(os.urandom(RANDOM) if random is None else random))
        self._link.reader.max_message_size = messages.MAX_AMF_MESSAGE  # nobody may send media yet
        self._chunk_size = chunk_size
        self._streams: dict[int, _Stream] = {}
        self._published: set[int] = set()
        self._app = ""
        self._connect_transaction: float | None = None
        self._connected = False
        self._closed = False
        self._waiting = False

    # Bytes

    def receive(self, data: bytes) -> Iterator[ServerEvent]:
        """Take bytes in and give the events they complete, each made when it is asked for: iterate to the
        end. Raises RemoteProtocolError, from the iterator too."""
        if not self._closed:
            try:
                self._link.feed(data)
                if self._waiting and self._link.reader.buffered > MAX_HELD:
                    raise RemoteProtocolError(f"the peer sent {MAX_HELD} bytes without waiting for an answer")
            except RemoteProtocolError:
                self._closed = True
                raise
        return self._events()

    def take_output(self) -> bytes:
        """What is to be sent now: call it after each `receive` and each method below."""
        return self._link.take_output()

    @property
    def waiting(self) -> bool:
        """True while a request waits for its answer: stop reading from the socket."""
        return self._waiting

    @property
    def established(self) -> bool:
        """True once the handshake is over."""
        return self._link.established

    @property
    def connected(self) -> bool:
        """True once `connect` was accepted."""
        return self._connected

    @property
    def unacknowledged(self) -> int:
        """Bytes sent that the peer has not acknowledged, or 0 while it never has."""
        return self._link.unacknowledged

    @property
    def chunk_size(self) -> int:
        """What media shared between viewers must be cut into (`chunks.whole_message`)."""
        return self._chunk_size

    def count_sent(self, count: int) -> None:
        """Count bytes of shared media that were written past this session. Raises RemoteProtocolError."""
        self._link.count_sent(count)

    # Answers

    def accept_connect(self) -> None:
        transaction = self._answer_connect()
        self._connected = True
        self._link.send_windows()
        self._link.send_chunk_size(self._chunk_size)
        forwarded = dict.fromkeys(FOUR_CCS, _CAN_FORWARD)
        self._command(
            0,
            "_result",
            transaction,
            {"fmsVer": "FMS/3,5,7,7009", "capabilities": 31, "mode": 1},
            {
                "level": "status",
                "code": "NetConnection.Connect.Success",
                "description": "Connection succeeded.",
                "objectEncoding": 0,
                "fourCcList": list(FOUR_CCS),
                "videoFourCcInfoMap": {k: v for k, v in forwarded.items() if FOUR_CCS[k].is_video},
                "audioFourCcInfoMap": {k: v for k, v in forwarded.items() if not FOUR_CCS[k].is_video},
                "capsEx": _CAPS_EX,
            },
        )

    def reject_connect(self, description: str, code: str = "NetConnection.Connect.Rejected") -> None:
        """Say no; nothing more is read. Send the output and close the connection."""
        transaction = self._answer_connect()
        self._closed = True
        self._command(0, "_error", transaction, None, _info("error", code, description))

    def accept_publish(self, stream_id: int) -> None:
        stream = self._answer(stream_id, _Role.ASKED_PUBLISH, _Role.PUBLISHING)
        self._published.add(stream_id)
        self._link.reader.max_message_size = MAX_MESSAGE_SIZE
        self._link.send_user_control(messages.STREAM_BEGIN, stream.id.to_bytes(4, "big"))
        self.send_status(stream.id, "NetStream.Publish.Start", "Publishing.")

    def reject_publish(
        self, stream_id: int, description: str, code: str = "NetStream.Publish.BadName"
    ) -> None:
        self._answer(stream_id, _Role.ASKED_PUBLISH, _Role.ENDED)
        self.send_status(stream_id, code, description, level="error")

    def accept_play(self, stream_id: int) -> None:
        stream = self._answer(stream_id, _Role.ASKED_PLAY, _Role.PLAYING)
        self._link.send_user_control(messages.STREAM_BEGIN, stream.id.to_bytes(4, "big"))
        if stream.reset:
            self.send_status(stream.id, "NetStream.Play.Reset", "Playing and resetting.")
        self.send_status(stream.id, "NetStream.Play.Start", "Started playing.")
        self._data(stream.id, 0, "|RtmpSampleAccess", True, True)

    def reject_play(
        self, stream_id: int, description: str, code: str = "NetStream.Play.StreamNotFound"
    ) -> None:
        self._answer(stream_id, _Role.ASKED_PLAY, _Role.ENDED)
        self.send_status(stream_id, code, description, level="error")

    # Things to say unasked

    def send_status(self, stream_id: int, code: str, description: str, *, level: str = "status") -> None:
        """An onStatus about a stream, or about the connection (stream 0)."""
        self._command(stream_id, "onStatus", 0, None, _info(level, code, description))

    def end_publish(self, stream_id: int, code: str, description: str) -> None:
        """Stop a publisher with an error; media still under way from it is dropped."""
        self._leave(stream_id, _Role.PUBLISHING)
        self._published.discard(stream_id)
        self.send_status(stream_id, code, description, level="error")

    def end_play(self, stream_id: int) -> None:
        """Tell a viewer that the stream is over."""
        self._leave(stream_id, _Role.PLAYING)
        self._link.send_user_control(messages.STREAM_EOF, stream_id.to_bytes(4, "big"))
        self.send_status(stream_id, "NetStream.Play.UnpublishNotify", "The stream ended.")
        self.send_status(stream_id, "NetStream.Play.Stop", "Stopped playing.")

    def ping(self, timestamp: int) -> None:
        """Ask for a sign of life: `PingAnswered` with the same 32-bit number."""
        self._link.send_user_control(messages.PING_REQUEST, timestamp.to_bytes(4, "big"))

    def send_audio(self, stream_id: int, timestamp: int, payload: bytes) -> None:
        self._link.send_message(AUDIO_CHUNK_STREAM, messages.AUDIO, stream_id, timestamp, payload)

    def send_video(self, stream_id: int, timestamp: int, payload: bytes) -> None:
        self._link.send_message(VIDEO_CHUNK_STREAM, messages.VIDEO, stream_id, timestamp, payload)

    def send_metadata(self, stream_id: int, timestamp: int, values: dict[str, amf.Value]) -> None:
        self._data(stream_id, timestamp, "onMetaData", amf.EcmaArray(values))

    # Reading

    def _events(self) -> Iterator[ServerEvent]:
        next_message = self._link.next_message
        try:
            while not (self._closed or self._waiting) and (message := next_message()) is not None:
                if message.type_id == messages.VIDEO or message.type_id == messages.AUDIO:
                    media = self._receive_media(message)
                    if media is not None:
                        yield media
                    continue
                for part in self._link.unpack(message):
                    event = self._receive(part)
                    if event is not None:
                        yield event
        except RemoteProtocolError:
            self._closed = True
            raise

    def _receive(self, message: Message) -> ServerEvent | None:
        match message.type_id:
            case messages.COMMAND_AMF0 | messages.COMMAND_AMF3:
                return self._receive_command(message)
            case messages.DATA_AMF0 | messages.DATA_AMF3:
                return self._receive_data(message)
            case messages.AUDIO | messages.VIDEO:
                return self._receive_media(message)
            case messages.USER_CONTROL:
                return PingAnswered(messages.user_control(message)[1])
        return None

    def _receive_media(self, message: Message) -> AudioReceived | VideoReceived | None:
        """What is still under way after the end of a stream is dropped, and so are empty messages, which some
        encoders send to keep the connection alive."""
        if message.stream_id not in self._published:
            stream = self._streams.get(message.stream_id)
            if stream is None or stream.role is not _Role.ENDED:
                raise RemoteProtocolError(
                    f"media on message stream {message.stream_id}, which is not published"
                )
            return None
        if not message.payload:
            return None
        received = VideoReceived if message.type_id == messages.VIDEO else AudioReceived
        return received(message.stream_id, message.timestamp, message.payload)

    def _receive_data(self, message: Message) -> ServerEvent | None:
        if message.stream_id not in self._published:
            return None
        values = messages.values(message)
        if values[:1] == ["@setDataFrame"]:
            del values[0]
        match values:
            case ["onMetaData", dict() as metadata, *_]:
                return MetadataReceived(message.stream_id, message.timestamp, metadata)
        return None

    def _receive_command(self, message: Message) -> ServerEvent | None:
        match messages.values(message):
            case [str() as name, float() as transaction, *arguments]:
                pass
            case _:
                raise RemoteProtocolError("command does not begin with a name and a transaction number")
        if name == "connect":
            return self._receive_connect(transaction, arguments)
        if not self._connected:
            raise RemoteProtocolError("a command came before connect")
        argument = arguments[1] if len(arguments) > 1 else None
        match name:
            case "createStream":
                self._create_stream(transaction)
            case "publish":
                return self._receive_publish(message.stream_id, arguments)
            case "play":
                return self._receive_play(message.stream_id, arguments)
            case "deleteStream":
                for stream in self._streams.values():
                    if stream.id == argument:
                        del self._streams[stream.id]
                        return self._stopped(stream)
            case "closeStream":
                if message.stream_id in self._streams:
                    return self._stopped(self._streams[message.stream_id])
            case "FCUnpublish":
                self._command(0, "onFCUnpublish", 0, None, _info("status", "NetStream.Unpublish.Success", ""))
                for stream in self._streams.values():
                    if stream.role is _Role.PUBLISHING and stream.name == argument:
                        return self._stopped(stream)
            case "FCPublish":
                self._command(0, "onFCPublish", 0, None, _info("status", "NetStream.Publish.Start", ""))
                self._result(transaction)
            case "releaseStream" | "_checkbw" | "FCSubscribe":
                self._result(transaction)
            case "getStreamLength":
                self._result(transaction, 0.0)
            case "_result" | "_error" | "onStatus":
                pass  # an answer to nothing we asked
            case _ if transaction:
                info = _info("error", "NetConnection.Call.Failed", "This server does not know the command.")
                self._command(message.stream_id, "_error", transaction, None, info)
        return None

    def _receive_connect(self, transaction: float, arguments: list[amf.Value]) -> ServerEvent:
        if self._connected:
            raise RemoteProtocolError("connect came a second time")
        self._connect_transaction = transaction
        match arguments:
            case [dict() as parameters, *_]:
                pass
            case _:
                raise RemoteProtocolError("connect has no command object")
        app = parameters.get("app")
        if not isinstance(app, str) or len(app.encode()) > MAX_NAME:
            self.reject_connect("The app is missing or too long.")
            raise RemoteProtocolError(f"connect names no app, or one longer than {MAX_NAME} bytes")
        app, _, query = app.partition("?")
        self._app = app.strip("/")
        self._waiting = True
        four_ccs = parameters.get("fourCcList")
        maps = [parameters.get("videoFourCcInfoMap"), parameters.get("audioFourCcInfoMap")]
        named = [*four_ccs] if isinstance(four_ccs, list) else []
        named += [four_cc for known in maps if isinstance(known, dict) for four_cc in known]
        return ConnectRequested(
            app=self._app,
            query=query,
            tc_url=_text(parameters.get("tcUrl")),
            flash_ver=_text(parameters.get("flashVer"))[:64],
            four_ccs=tuple(dict.fromkeys(four_cc for four_cc in named if isinstance(four_cc, str))),
            caps_ex=_small_int(parameters.get("capsEx")),
            object_encoding=_small_int(parameters.get("objectEncoding")),
            parameters=parameters,
        )

    def _create_stream(self, transaction: float) -> None:
        if len(self._streams) >= MAX_STREAMS:
            raise RemoteProtocolError(
                f"createStream asks for more than {MAX_STREAMS} streams on one connection"
            )
        stream_id = next(number for number in range(1, MAX_STREAMS + 1) if number not in self._streams)
        self._streams[stream_id] = _Stream(stream_id)
        self._result(transaction, stream_id)

    def _receive_publish(self, stream_id: int, arguments: list[amf.Value]) -> ServerEvent | None:
        if arguments[1:2] == [False]:  # 7.2.2.6 has a name here; Flash says false to stop
            return self._stopped(self._streams[stream_id]) if stream_id in self._streams else None
        stream = self._unused(stream_id, "publish")
        kind = arguments[2] if len(arguments) > 2 else None
        stream.name = self._name(stream, arguments, "NetStream.Publish.BadName")
        stream.role = _Role.ASKED_PUBLISH
        self._waiting = True
        return PublishRequested(stream.id, stream.name, kind if kind in _KINDS else "live", self._app)

    def _receive_play(self, stream_id: int, arguments: list[amf.Value]) -> ServerEvent:
        stream = self._unused(stream_id, "play")
        stream.name = self._name(stream, arguments, "NetStream.Play.StreamNotFound")
        start, duration, reset = ([*arguments[2:5], None, None, None])[:3]
        stream.role = _Role.ASKED_PLAY
        stream.reset = bool(reset) if reset is not None else True
        self._waiting = True
        return PlayRequested(
            stream_id=stream.id,
            name=stream.name,
            start=start if isinstance(start, float) else -2.0,
            duration=duration if isinstance(duration, float) else -1.0,
            reset=stream.reset,
            app=self._app,
        )

    def _unused(self, stream_id: int, command: str) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            raise RemoteProtocolError(
                f"{command} on message stream {stream_id}, which createStream did not make"
            )
        if stream.role not in (_Role.NONE, _Role.ENDED):
            raise RemoteProtocolError(f"{command} on message stream {stream_id}, which is in use")
        return stream

    def _name(self, stream: _Stream, arguments: list[amf.Value], code: str) -> str:
        name = arguments[1] if len(arguments) > 1 else None
        if not isinstance(name, str) or not name or len(name.encode()) > MAX_NAME:
            self.send_status(stream.id, code, f"A stream name has 1 to {MAX_NAME} bytes.", level="error")
            raise RemoteProtocolError(f"stream name is missing, empty or longer than {MAX_NAME} bytes")
        return name

    def _stopped(self, stream: _Stream) -> ServerEvent | None:
        role, stream.role, stream.name = stream.role, _Role.ENDED, ""
        self._published.discard(stream.id)
        if role is _Role.PUBLISHING:
            self.send_status(stream.id, "NetStream.Unpublish.Success", "Stopped publishing.")
            return PublishStopped(stream.id)
        return PlayStopped(stream.id) if role is _Role.PLAYING else None

    # Writing

    def _answer_connect(self) -> float:
        if self._connect_transaction is None:
            raise LocalProtocolError("no connect waits for an answer")
        transaction, self._connect_transaction = self._connect_transaction, None
        self._waiting = False
        return transaction

    def _answer(self, stream_id: int, asked: _Role, becomes: _Role) -> _Stream:
        stream = self._leave(stream_id, asked)
        stream.role = becomes
        self._waiting = False
        return stream

    def _leave(self, stream_id: int, role: _Role) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.role is not role:
            raise LocalProtocolError(f"message stream {stream_id} is not in the state {role.name}")
        stream.role = _Role.ENDED
        return stream

    def _result(self, transaction: float, *values: object) -> None:
        self._command(0, "_result", transaction, None, *values)

    def _command(self, stream_id: int, name: str, transaction: float, *values: object) -> None:
        csid = STATUS_CHUNK_STREAM if stream_id else COMMAND_CHUNK_STREAM
        payload = amf.encode(name, transaction, *values)
        self._link.send_message(csid, messages.COMMAND_AMF0, stream_id, 0, payload)

    def _data(self, stream_id: int, timestamp: int, name: str, *values: object) -> None:
        payload = amf.encode(name, *values)
        self._link.send_message(STATUS_CHUNK_STREAM, messages.DATA_AMF0, stream_id, timestamp, payload)


_KINDS = ("live", "record", "append")


def _info(level: str, code: str, description: str) -> dict[str, str]:
    return {"level": level, "code": code, "description": description}


def _text(value: amf.Value) -> str:
    return value if isinstance(value, str) else ""


def _small_int(value: amf.Value) -> int:
    """A number of flags; what is none, or no sane one, counts as 0."""
    return int(value) if isinstance(value, float) and 0 <= value < 1 << 16 else 0
