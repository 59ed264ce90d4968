"""The child's way out: frames of the pipe's format, whole, from any thread.

When the server does not read, who writes waits; its pictures then pile up to their bound and are dropped there.
"""

import os
import threading

import msgspec

from oxidecast.formats import framed
from oxidecast.formats.framed_messages import Message, Trouble
from oxidecast.media import Track


class Output:
    """Writes to a descriptor. An error of the pipe (the server has gone) ends the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def track(self, feed: int, track: Track) -> None:
        self._write(framed.track(msgspec.structs.replace(track, id=feed)))

    def packet(self, feed: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0) -> None:
        self._write(framed.packet(feed, dts, pts, keyframe, payload, samples))

    def message(self, message: Message) -> None:
        self._write(framed.message(message))

    def fail(self, sentence: str, feed: int = 0) -> None:
        """Say why and end the process: what the threads still have is of no use without the one that failed."""
        self.message(Trouble(sentence=sentence, fatal=True, feed=feed))
        os._exit(FAILED)

    def _write(self, frame: bytes) -> None:
        left = memoryview(frame)
        with self._lock:
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                os._exit(GONE)


FAILED, GONE = 3, 4
"""Exit codes: an encoder does not work; nobody reads."""
