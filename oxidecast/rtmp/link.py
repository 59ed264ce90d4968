"""What both ends of an RTMP connection share: handshake, chunks, acknowledgements and pings.

A `Link` turns bytes into the messages a session cares about (commands, data, audio, video) and deals with the
rest itself (RTMP 1.0, 5.4 and 7.1.7). What it has to say to the peer gathers in `take_output`.
"""

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.rtmp import messages
from oxidecast.rtmp.chunks import ChunkReader, ChunkWriter
from oxidecast.rtmp.handshake import ClientHandshake, ServerHandshake
from oxidecast.rtmp.messages import Message

WINDOW = 2_500_000
"""Bytes between acknowledgements, where the peer names no window; the field's usual value."""
SMALLEST_WINDOW = 4096
"""A peer that asks to be acknowledged more often than this is acknowledged this often: an answer is 16
bytes."""
MAX_UNACKNOWLEDGED = 64 * 1024 * 1024
"""Bytes sent that a peer who does acknowledge has left so. It has stopped reading, and its socket was kept
full."""

CONTROL_CHUNK_STREAM = 2  # 5.4
_DYNAMIC = 2  # 5.4.5, the limit type of Set Peer Bandwidth


class Link:
    """One connection's lower half. `feed` bytes, read `next_message()`, send `take_output()`."""

    def __init__(self, handshake: ServerHandshake | ClientHandshake) -> None:
        self.reader = ChunkReader()
        self.writer = ChunkWriter()
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        self._output: list[bytes] = []
        self._received = 0
        self._reported = 0
        self._window = WINDOW
        self._sent = 0
        self._acknowledged = 0

    @property
    def established(self) -> bool:
        """True once the handshake is over."""
        return self._handshake is None

    @property
    def unacknowledged(self) -> int:
        """Bytes sent that the peer has not said it received, or 0 while it never has."""
        return self._sent - self._acknowledged if self._acknowledged else 0

    def feed(self, data: bytes) -> None:
        """Take bytes in. Raises RemoteProtocolError from the handshake."""
        self._received += len(data)
        if self._handshake is not None:
            answer = self._handshake.receive(data)
            if answer:
                self.send(answer)
            if not self._handshake.done:
                return
            data = self._handshake.rest
            self._handshake = None
        self.reader.feed(data)
        if self._received - self._reported >= self._window:
            self._reported = self._received
            self._control(messages.ACKNOWLEDGEMENT, (self._received & 0xFFFFFFFF).to_bytes(4, "big"))

    def next_message(self) -> Message | None:
        """The next message of what was fed, control messages among them: give those that are neither audio
        nor video to `unpack`. Raises RemoteProtocolError."""
        return self.reader.next_message() if self._handshake is None else None

    def unpack(self, message: Message) -> list[Message]:
        """What of a message is for the session: itself, its parts, or nothing where it was for the link.
        Raises RemoteProtocolError."""
        match message.type_id:
            case messages.AGGREGATE:
                return messages.split_aggregate(message)
            case messages.WINDOW_ACK_SIZE:
                self._window = max(messages.uint32(message, "Window Acknowledgement Size"), SMALLEST_WINDOW)
            case messages.ACKNOWLEDGEMENT:
                self._receive_acknowledgement(messages.uint32(message, "Acknowledgement"))
            case messages.USER_CONTROL:
                kind, _, data = messages.user_control(message)
                if kind == messages.PING_RESPONSE:
                    return [message]
                if kind == messages.PING_REQUEST:
                    self.send_user_control(messages.PING_RESPONSE, data[:4])
            case _:
                return [message]
        return []

    def _receive_acknowledgement(self, sequence: int) -> None:
        """The number is 32 bits of a count; peers disagree on whether the handshake counts, so it may run
        ahead."""
        ahead = sequence - self._acknowledged & 0xFFFFFFFF
        if ahead < 0x80000000:
            self._acknowledged = min(self._acknowledged + ahead, self._sent)

    def send(self, data: bytes) -> None:
        """Put bytes, already chunked, behind what waits to be sent."""
        self._output.append(data)
        self.count_sent(len(data))

    def count_sent(self, count: int) -> None:
        """Count bytes that were sent past this link. Raises RemoteProtocolError for a peer that stopped
        reading."""
        self._sent += count
        if self.unacknowledged > MAX_UNACKNOWLEDGED:
            raise RemoteProtocolError(f"the peer left more than {MAX_UNACKNOWLEDGED} bytes unacknowledged")

    def send_message(self, csid: int, type_id: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        self.send(self.writer.message(csid, type_id, stream_id, timestamp, payload))

    def send_user_control(self, kind: int, data: bytes) -> None:
        self._control(messages.USER_CONTROL, kind.to_bytes(2, "big") + data)

    def send_windows(self) -> None:
        """How often we want to be acknowledged, and how often the peer will be (5.4.4, 5.4.5)."""
        self._control(messages.WINDOW_ACK_SIZE, WINDOW.to_bytes(4, "big"))
        self._control(messages.SET_PEER_BANDWIDTH, WINDOW.to_bytes(4, "big") + bytes((_DYNAMIC,)))

    def send_chunk_size(self, size: int) -> None:
        self.send(self.writer.set_chunk_size(size))

    def take_output(self) -> bytes:
        """All that is to be sent by now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _control(self, type_id: int, payload: bytes) -> None:
        self.send_message(CONTROL_CHUNK_STREAM, type_id, 0, 0, payload)
