"""An encoder of our own: publishes FLV tags over a plain socket, as politely or as badly as a test wants.

The one idea: ffmpeg only does what ffmpeg does. Timestamps that wrap, a publisher without keyframes, tags sent as
fast as the server takes them and a connection that is closed only when the last of them was understood need a peer
that obeys.
"""

import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from oxidecast.rtmp.client import ClientSession
from oxidecast.rtmp.events import ClientEvent, Refused, Started, StatusReceived
from tests.e2e.programs import FFMPEG_5, FFMPEG_9

AUDIO, VIDEO, SCRIPT = 8, 9, 18
TIMEOUT = 20.0
"""Seconds that the server has for any answer."""


class Tag(NamedTuple):
    """One FLV tag: an RTMP message in a file."""

    kind: int
    timestamp: int
    body: bytes

    @property
    def header(self) -> bool:
        """Whether it configures a decoder."""
        return self.kind != SCRIPT and self.body[1:2] == b"\x00" and self.body[0] & 0x0F in (7, 0x0F)

    @property
    def keyframe(self) -> bool:
        return self.kind == VIDEO and self.body[0] >> 4 == 1


def tags(flv: bytes) -> Iterator[Tag]:
    """The tags of an FLV file (Video File Format Specification 10.1, E.4.1)."""
    offset = 13
    while offset + 11 <= len(flv):
        kind, size = flv[offset], int.from_bytes(flv[offset + 1 : offset + 4], "big")
        timestamp = int.from_bytes(flv[offset + 4 : offset + 7], "big") | flv[offset + 7] << 24
        yield Tag(kind, timestamp, flv[offset + 11 : offset + 11 + size])
        offset += 11 + size + 4


@cache
def material(
    seconds: float = 10,
    size: str = "320x180",
    gop: int = 30,
    pictures: bool = True,
    sound: bool = True,
    hevc: bool = False,
) -> tuple[Tag, ...]:
    """H.264 (or HEVC, by Enhanced RTMP) and AAC, made by ffmpeg once: 30 pictures a second, metadata left out."""
    inputs, coders = [], []
    if pictures:
        inputs += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30"]
        coder = ["libx265", "-x265-params", f"log-level=error:keyint={gop}"] if hevc else ["libx264"]
        coders += ["-c:v", *coder, "-preset", "ultrafast", "-g", str(gop), "-pix_fmt", "yuv420p"]
    if sound:
        inputs += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        coders += ["-c:a", "aac", "-b:a", "64k"]
    program = FFMPEG_9 if hevc else FFMPEG_5
    made = subprocess.run(
        [program, "-v", "error", "-nostdin", *inputs, *coders, "-t", str(seconds), "-f", "flv", "-"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    return tuple(tag for tag in tags(made.stdout) if tag.kind != SCRIPT)


def shifted(sent: Sequence[Tag], by: int) -> list[Tag]:
    """The same tags, `by` milliseconds later; RTMP's clock has 32 bits and wraps."""
    return [tag._replace(timestamp=(tag.timestamp + by) & 0xFFFFFFFF) for tag in sent]


class Encoder:
    """One connection that publishes; a context manager, which hangs up at the end."""

    def __init__(self, port: int, key: str, *, app: str = "live", source: str = "127.0.0.1") -> None:
        self.session = ClientSession("publish", app=app, tc_url=f"rtmp://127.0.0.1:{port}/{app}", name=key)
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.events: list[ClientEvent] = []
        self._flush()

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    @property
    def statuses(self) -> list[str]:
        """The codes of all onStatus messages so far."""
        return [event.code for event in self.events if isinstance(event, StatusReceived | Refused)]

    def start(self) -> "Encoder":
        """Shake hands and ask; raises AssertionError with the server's words when it says no."""
        event = self.wait(Started, Refused)
        if isinstance(event, Refused):
            self.socket.close()
            raise AssertionError(f"{event.code}: {event.description}")
        return self

    def send(self, sent: Iterable[Tag]) -> None:
        """As fast as the server takes them."""
        for tag in sent:
            if tag.kind == VIDEO:
                self.session.send_video(tag.timestamp, tag.body)
            elif tag.kind == AUDIO:
                self.session.send_audio(tag.timestamp, tag.body)
            self._flush()
            self.look()

    def play(self, sent: Sequence[Tag], speed: float = 1.0) -> None:
        """In time with a clock, `speed` times as fast as real."""
        began, first = time.monotonic(), sent[0].timestamp if sent else 0
        for tag in sent:
            due = began + ((tag.timestamp - first) & 0xFFFFFFFF) / 1000 / speed
            time.sleep(max(0.0, due - time.monotonic()))
            self.send([tag])

    def finish(self) -> None:
        """Say that it was all, and wait until the server has understood it."""
        self.session.stop()
        self._flush()
        self.wait_status("NetStream.Unpublish.Success")

    def wait_status(self, code: str) -> None:
        while code not in self.statuses:
            self._receive()

    def wait(self, *kinds: type[ClientEvent]) -> ClientEvent:
        """The first event of one of these kinds, from the beginning on."""
        while True:
            for event in self.events:
                if isinstance(event, kinds):
                    return event
            self._receive()

    def look(self) -> None:
        """Take in what has come by now, without waiting."""
        self.socket.setblocking(False)
        try:
            while True:
                self._receive()
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(TIMEOUT)

    def hung_up(self) -> bool:
        """Whether the server closes the connection, waiting for it."""
        try:
            while True:
                self._receive()
        except (EOFError, ConnectionResetError):
            return True
        except TimeoutError:
            return False

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server hung up")
        self.events.extend(self.session.receive(data))
        self._flush()

    def _flush(self) -> None:
        output = self.session.take_output()
        if output:
            self.socket.settimeout(TIMEOUT)
            self.socket.sendall(output)
