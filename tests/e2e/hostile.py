"""A peer that speaks RTMP only as far as it wants to.

The one idea: the bytes are the test's own. It shakes hands like anybody, and from there on says what no client would.
"""

import os
import socket
import time

from oxidecast.formats import amf
from oxidecast.rtmp import messages
from oxidecast.rtmp.chunks import whole_message

TIMEOUT = 15.0


class Peer:
    """A raw connection to the RTMP port; a context manager."""

    def __init__(self, port: int, shake: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.received = b""
        if shake:
            self.send(b"\x03" + bytes(8) + os.urandom(1528))
            head = b""
            while len(head) < 3073:
                data = self.socket.recv(65536)
                assert data, "the server hung up in the handshake"
                head += data
            self.send(head[1:1537])
            self.received = head[3073:]

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def message(self, type_id: int, payload: bytes, stream_id: int = 0, csid: int = 3) -> None:
        """A whole message in chunks of 128."""
        self.send(whole_message(csid, type_id, stream_id, 0, payload, 128))

    def command(self, *values: object) -> None:
        self.message(messages.COMMAND_AMF0, amf.encode(*values))

    def connect(self) -> None:
        """Be let in, as far as createStream."""
        self.command("connect", 1, {"app": "live", "tcUrl": "rtmp://127.0.0.1/live"})
        self.expect(b"NetConnection.Connect.Success")
        self.command("createStream", 2, None)
        self.expect(b"_result")

    def publish(self, key: str) -> None:
        payload = amf.encode("publish", 3, None, key, "live")
        self.message(messages.COMMAND_AMF0, payload, stream_id=1, csid=8)

    def expect(self, words: bytes) -> None:
        while words not in self.received:
            data = self.socket.recv(65536)
            assert data, f"the server hung up instead of saying {words!r}: {self.received!r}"
            self.received += data
        self.received = self.received.partition(words)[2]

    def announce(self, csid: int, length: int, type_id: int = messages.VIDEO, stream_id: int = 1) -> None:
        """The first chunk of a message of `length` bytes, and no more of it."""
        head = bytes((csid,)) + bytes(3) + length.to_bytes(3, "big") + bytes((type_id,))
        self.send(head + stream_id.to_bytes(4, "little") + bytes(128))

    def thrown_out(self, seconds: float = TIMEOUT) -> bool:
        """Whether the server hangs up within so many seconds. What it says first is kept in `received`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False
            if not data:
                return True
            self.received += data
        return False
