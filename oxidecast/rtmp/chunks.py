"""Chunks: how messages share one byte stream (RTMP 1.0, 5.3). Bytes to messages and back.

The one idea is to work per message, not per chunk: where the bytes of several chunks of one message lie one
after the other, they are cut out in a single slice and the one-byte headers between them are deleted by
stride, so that a chunk size of 128 costs no more than one of 65,536.

Nothing is ever allocated by an announced size: memory grows with the bytes that came, and those of
half-received messages are bounded over all chunk streams together.
"""

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp.messages import ABORT, SET_CHUNK_SIZE, Message

DEFAULT_CHUNK_SIZE = 128
"""5.4.1: until a Set Chunk Size says otherwise."""
MAX_CHUNK_SIZE = 0xFFFFFF
"""5.4.1: no message is longer, so no chunk needs to be."""
MAX_MESSAGE_SIZE = 8 * 1024 * 1024
"""Bytes of one message: a keyframe of 4K at 200 Mbit/s takes 3 MB; the format would allow 16 MiB."""
MAX_PARTIAL = 12 * 1024 * 1024
"""Bytes held of messages that are not whole yet: one of the longest, and what interleaves with it."""
MAX_CHUNK_STREAMS = 64
"""Chunk streams in use. Real encoders use up to eight; the format would allow 65,597."""

_LONGEST_RUN = 512
"""Chunks looked at ahead: enough for 64 KiB by chunks of 128, and little work lost where chunk streams
interleave."""
_EXTENDED = 0xFFFFFF
_MASK = 0xFFFFFFFF


class _ChunkStream:
    """What the last header on a chunk stream said, for later headers to leave out."""

    __slots__ = ("delta", "extended", "length", "partial", "stream_id", "timestamp", "type_id")

    def __init__(self) -> None:
        self.timestamp = 0
        self.delta = 0
        self.extended = -1
        """The extended timestamp field as sent, or -1."""
        self.length = 0
        self.type_id = 0
        self.stream_id = 0
        self.partial: bytearray | None = None


class ChunkReader:
    """Chunks in, messages out. Set Chunk Size and Abort are carried out here, as they change what follows."""

    def __init__(
        self,
        *,
        max_message_size: int = MAX_MESSAGE_SIZE,
        max_partial: int = MAX_PARTIAL,
        max_chunk_streams: int = MAX_CHUNK_STREAMS,
    ) -> None:
        self.max_message_size = max_message_size
        """May be changed between messages; holds for those that begin later."""
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self._max_partial = max_partial
        self._max_chunk_streams = max_chunk_streams
        self._streams: dict[int, _ChunkStream] = {}
        self._partial = 0
        self._buffer: bytes | bytearray = b""
        self._offset = 0
        self._need = 1
        """Buffered bytes, from its start, without which the next chunk is not whole."""

    @property
    def buffered(self) -> int:
        """Bytes held: unread ones, and those of messages that are not whole yet."""
        return len(self._buffer) - self._offset + self._partial

    def feed(self, data: bytes) -> None:
        """Take bytes in; `next_message` reads them."""
        offset = self._offset
        if offset == len(self._buffer):
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer[offset:])
            elif offset:
                del self._buffer[:offset]
            self._buffer += data
        self._need -= offset
        self._offset = 0

    def receive(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises RemoteProtocolError."""
        self.feed(data)
        return list(iter(self.next_message, None))

    def next_message(self) -> Message | None:
        """The next whole message in what was fed, or None until more comes. Raises RemoteProtocolError."""
        while True:
            buffer, offset = self._buffer, self._offset
            available = len(buffer)
            if available < self._need or offset >= available:
                return None

            # 5.3.1.1, basic header
            start = offset
            first = buffer[offset]
            csid = first & 0x3F
            offset += 1
            if csid == 0:
                if offset + 1 > available:
                    return None
                csid = 64 + buffer[offset]
                offset += 1
            elif csid == 1:
                if offset + 2 > available:
                    return None
                csid = 64 + buffer[offset] + (buffer[offset + 1] << 8)
                offset += 2
            form = first >> 6
            one_byte = offset - start == 1

            stream = self._streams.get(csid)
            if stream is None:
                stream = self._open(csid, form)
            partial = stream.partial

            # 5.3.1.2, message header: read into locals, kept once the chunk's payload is here
            timestamp, delta, extended = stream.timestamp, stream.delta, stream.extended
            length, type_id, stream_id = stream.length, stream.type_id, stream.stream_id
            if form < 3:
                size = 11 if form == 0 else 7 if form == 1 else 3
                if offset + size > available:
                    return None
                if partial is not None:
                    raise RemoteProtocolError("chunk begins a message inside another one on its chunk stream")
                field = buffer[offset] << 16 | buffer[offset + 1] << 8 | buffer[offset + 2]
                if form < 2:
                    length = buffer[offset + 3] << 16 | buffer[offset + 4] << 8 | buffer[offset + 5]
                    type_id = buffer[offset + 6]
                    if length > self.max_message_size:
                        raise RemoteProtocolError(
                            f"message length {length} is over the limit of {self.max_message_size}"
                        )
                    if form == 0:
                        stream_id = int.from_bytes(buffer[offset + 7 : offset + 11], "little")
                offset += size
                extended = -1
                if field == _EXTENDED:
                    if offset + 4 > available:
                        return None
                    field = extended = int.from_bytes(buffer[offset : offset + 4], "big")
                    offset += 4
                # A fmt 3 that begins the next message adds this field again, the absolute one too (5.3.1.2.4)
                delta = field
                timestamp = field if form == 0 else timestamp + field & _MASK
            else:
                if extended >= 0:
                    # 5.3.1.3 repeats the field; some encoders do not, and then these bytes are payload
                    if offset + 4 > available:
                        return None
                    if int.from_bytes(buffer[offset : offset + 4], "big") == extended:
                        offset += 4
                if partial is None:
                    if length > self.max_message_size:
                        raise RemoteProtocolError(
                            f"message length {length} is over the limit of {self.max_message_size}"
                        )
                    timestamp = timestamp + delta & _MASK

            # 5.3.1, chunk data
            left = length if partial is None else length - len(partial)
            chunk_size = self.chunk_size
            if left <= chunk_size:
                end = offset + left
                if end > available:
                    self._need = end
                    return None
                payload = bytes(buffer[offset:end])
                if partial is not None:
                    self._partial -= len(partial)
                    partial += payload
                    payload = bytes(partial)
                    stream.partial = None
                self._offset = end
            else:
                if offset + chunk_size > available:
                    self._need = offset + chunk_size
                    return None
                end = offset + chunk_size
                if one_byte and extended < 0 and end < available and buffer[end] == 0xC0 | csid:
                    piece, end = self._run(buffer, offset, left, 0xC0 | csid)
                else:
                    piece = bytearray(buffer[offset:end])
                self._offset = end
                if len(piece) < left:
                    self._partial += len(piece)
                    if self._partial > self._max_partial:
                        raise RemoteProtocolError(
                            f"unfinished messages hold more than {self._max_partial} bytes"
                        )
                    if partial is None:
                        stream.partial = piece
                        stream.timestamp, stream.delta, stream.extended = timestamp, delta, extended
                        stream.length, stream.type_id, stream.stream_id = length, type_id, stream_id
                    else:
                        partial += piece
                    continue
                if partial is not None:
                    self._partial -= len(partial)
                    partial += piece
                    piece = partial
                    stream.partial = None
                payload = bytes(piece)

            stream.timestamp, stream.delta, stream.extended = timestamp, delta, extended
            stream.length, stream.type_id, stream.stream_id = length, type_id, stream_id
            if type_id == SET_CHUNK_SIZE or type_id == ABORT:  # noqa: SIM109 (on the hot path)
                self._control(type_id, payload)
                continue
            return Message(type_id, stream_id, timestamp, payload, csid)

    def _run(self, buffer: bytes | bytearray, start: int, left: int, marker: int) -> tuple[bytearray, int]:
        """The payload of the chunk at `start` and of the fmt 3 chunks of one byte of header that follow it
        without a gap, up to `left` bytes; and where they end."""
        chunk_size = self.chunk_size
        stride = chunk_size + 1
        more = min((left - 1) // chunk_size, _LONGEST_RUN)
        headers = buffer[start + chunk_size : start + more * stride : stride]
        ours = len(headers) - len(headers.lstrip(bytes((marker,))))
        size = min(left, (ours + 1) * chunk_size)
        if start + size + ours > len(buffer):  # the last of them is not all here
            ours -= 1
            size = (ours + 1) * chunk_size
        end = start + size + ours
        piece = bytearray(buffer[start:end])
        del piece[chunk_size::stride]
        return piece, end

    def _open(self, csid: int, form: int) -> _ChunkStream:
        if form != 0 and form != 1:
            # fmt 1 is let through: librtmp begins some chunk streams with it, on message stream 0
            raise RemoteProtocolError(f"chunk stream {csid} begins with a header of format {form}")
        if len(self._streams) >= self._max_chunk_streams:
            raise RemoteProtocolError(f"more than {self._max_chunk_streams} chunk streams are in use")
        stream = self._streams[csid] = _ChunkStream()
        return stream

    def _control(self, type_id: int, payload: bytes) -> None:
        if len(payload) < 4:
            raise RemoteProtocolError("Set Chunk Size or Abort message is shorter than 4 bytes")
        value = int.from_bytes(payload[:4], "big")
        if type_id == ABORT:
            stream = self._streams.get(value)
            if stream is not None and stream.partial is not None:
                self._partial -= len(stream.partial)
                stream.partial = None
            return
        if not 1 <= value <= 0x7FFFFFFF:  # 5.4.1: the first bit is zero
            raise RemoteProtocolError(f"Set Chunk Size says {value}, which is not from 1 to 0x7FFFFFFF")
        self.chunk_size = min(value, MAX_CHUNK_SIZE)


class ChunkWriter:
    """Messages in, chunks out, with the shortest header that says it."""

    def __init__(self, chunk_size: int = DEFAULT_CHUNK_SIZE) -> None:
        self._streams: dict[int, tuple[int, int, int, int, int]] = {}
        self.chunk_size = chunk_size

    def set_chunk_size(self, size: int) -> bytes:
        """The message that announces it; what is written later uses it."""
        if not 1 <= size <= MAX_CHUNK_SIZE:
            raise LocalProtocolError(f"chunk size {size} is not from 1 to 0xFFFFFF")
        announced = self.message(2, SET_CHUNK_SIZE, 0, 0, size.to_bytes(4, "big"))
        self.chunk_size = size
        return announced

    def message(self, csid: int, type_id: int, stream_id: int, timestamp: int, payload: bytes) -> bytes:
        timestamp &= _MASK
        length = len(payload)
        form, field = 0, timestamp
        last = self._streams.get(csid)
        if last is not None and last[0] == stream_id and (delta := timestamp - last[3]) >= 0:
            field = delta
            if last[1:3] != (type_id, length):
                form = 1
            elif last[4] != delta:
                form = 2
            else:
                form = 3
        self._streams[csid] = (stream_id, type_id, length, timestamp, field)
        return _chunks(csid, form, field, type_id, stream_id, payload, self.chunk_size)


def whole_message(
    csid: int, type_id: int, stream_id: int, timestamp: int, payload: bytes, chunk_size: int
) -> bytes:
    """A message that leans on none before it, so that the same bytes serve every viewer whose chunk size is
    this. The chunk stream must not be used by a ChunkWriter on the same connection."""
    return _chunks(csid, 0, timestamp & _MASK, type_id, stream_id, payload, chunk_size)


def _basic_header(form: int, csid: int) -> bytes:
    if 2 <= csid < 64:
        return bytes((form << 6 | csid,))
    if 64 <= csid < 320:
        return bytes((form << 6, csid - 64))
    if 320 <= csid < 65600:
        return bytes((form << 6 | 1, csid - 64 & 0xFF, csid - 64 >> 8))
    raise LocalProtocolError(f"chunk stream {csid} is not from 2 to 65,599")


def _chunks(
    csid: int, form: int, field: int, type_id: int, stream_id: int, payload: bytes, chunk_size: int
) -> bytes:
    length = len(payload)
    if length > MAX_CHUNK_SIZE:
        raise LocalProtocolError(f"message of {length} bytes is longer than RTMP's 16 MiB")
    extended = field.to_bytes(4, "big") if field >= _EXTENDED else b""
    header = _basic_header(form, csid)
    if form < 3:
        header += min(field, _EXTENDED).to_bytes(3, "big")
    if form < 2:
        header += length.to_bytes(3, "big") + bytes((type_id,))
    if form < 1:
        header += stream_id.to_bytes(4, "little")
    header += extended
    if length <= chunk_size:
        return header + payload
    between = _basic_header(3, csid) + extended
    return header + between.join(
        [payload[start : start + chunk_size] for start in range(0, length, chunk_size)]
    )
