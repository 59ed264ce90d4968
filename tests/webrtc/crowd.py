"""Many viewers of our own in one process: real WHEP sessions, checks, DTLS and reports, and media that is only counted.

For benchmarks and tests that need a crowd and no pictures. A few of them, spread evenly over all, also note by the
kernel's time stamps when each frame was complete; the first one decrypts all that it gets.

`python -m tests.webrtc.crowd URL` does what its standard input says, a line each, and answers each with a line of JSON:
`add 50`, `watch 8` (seconds), `watch 20 100000` (and so many strange datagrams meanwhile), `leave`.
"""

import json
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import ClassVar
from urllib.parse import urlsplit

from oxidecast.formats import rtcp
from oxidecast.media import TICKS
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc import stun
from tests.outputs.webrtc.stage import Browser, offer
from tests.webrtc.noise import Noise

FEEDBACK = 0.285
"""Seconds between two reports with an estimate: Chromium sends 3.5 a second."""
CHECK = 2.5
"""Seconds between two checks of a path that is in use, as Chromium's."""
AT_ONCE = 8
"""Viewers that connect at the same time."""
WITHIN = 20.0
"""Seconds in which they must be connected."""
TIMED = 20
"""Viewers of whom frames are timed."""
REMEMBERED = 400
"""Datagrams of which strange ones are made."""
STRANGERS = 32
TURN = 0.01
"""Seconds between two looks at all sockets, while they only watch."""
SPOKEN = 0.002
"""Seconds between two moments at which some of them report: viewers do not know of each other."""
_BUFFER = 1 << 20
_TIMESTAMP = 35  # SO_TIMESTAMPNS, and its control message
_OPUS = 111
_PASSWORD = "abcdefghijklmnopqrstuvwx"  # in `offer`
_timespec = struct.Struct("qq").unpack


class Watcher:
    """One viewer. `said` is what all of them sent first: checks, a handshake, reports."""

    said: ClassVar[list[bytes]] = []

    def __init__(self, url: str, timed: bool = False, verifying: bool = False) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.timed = timed
        self.verifying = verifying
        if timed:
            self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        self.at = 0.0
        """When it reports next."""
        self.check_at = 0.0
        self.ssrc = 0
        self.first = self.last = -1
        """Sequence numbers of pictures since `reset`."""
        self.pictures = self.sounds = self.octets = self.unauthentic = self.foreign = 0
        self.frames: list[tuple[int, float]] = []
        """Timestamp of each frame, and when it was complete (UTC)."""
        self.status, answer, self.location = post(url, self._offer())
        if self.status != 201:
            return
        passive = "a=setup:passive" in answer
        self.browser = Browser(answer, now=time.monotonic(), server=not passive)
        candidate = next(
            line.split() for line in answer.split("\r\n") if " 127.0.0.1 " in line and "typ host" in line
        )
        self.socket.connect((candidate[4], int(candidate[5])))

    def _offer(self) -> str:
        port = self.socket.getsockname()[1]
        return offer().replace(
            f"a=ice-pwd:{_PASSWORD}",
            f"a=ice-pwd:{_PASSWORD}\r\na=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host",
        )

    @property
    def connected(self) -> bool:
        return self.browser.receiver is not None

    def begin(self) -> None:
        self._send([self.browser.check()])
        if not self.browser.dtls._server:
            self._send(self.browser.start(time.monotonic()))

    def due(self, now: float) -> None:
        """What a browser says from time to time."""
        if not self.connected:
            self._send(self.browser.dtls.timeout(now))
            return
        self.at = now + FEEDBACK * random.uniform(0.9, 1.1)
        block = struct.pack(">IIIIII", self.ssrc, 0, max(0, self.last), 0, 0, 0)
        report = rtcp.receiver_report(1, [block], b"crowd") + rtcp.estimate(1, 8_000_000, [self.ssrc])
        self._send([self.browser.say(report)])
        if now >= self.check_at:
            self.check_at = now + CHECK
            self._send([self.browser.check()])

    def _send(self, datagrams: list[bytes]) -> None:
        if len(self.said) < REMEMBERED:
            self.said += datagrams
        for datagram in datagrams:
            try:
                self.socket.send(datagram)
            except ConnectionRefusedError:
                pass  # The server is gone; the next reading says so, too.

    def reset(self) -> None:
        self.first = self.last = -1
        self.pictures = self.sounds = self.octets = self.unauthentic = 0
        self.frames = []

    def read(self, buffer: bytearray, now: float) -> None:
        """All that has come. This is most of what the whole process does."""
        if self.timed or self.verifying or not self.connected:
            self._read_with_care(now)
            return
        receive = self.socket.recv_into
        try:
            while True:
                size = receive(buffer)
                kind = buffer[1] & 0x7F
                if buffer[0] < 128 or 64 <= kind < 96:
                    self._other(bytes(buffer[:size]), now)
                    continue
                self.octets += size
                if kind == _OPUS:
                    self.sounds += 1
                else:
                    self.pictures += 1
                    self.last = buffer[2] << 8 | buffer[3]
                    if self.first < 0:
                        self.first = self.last
        except (BlockingIOError, ConnectionRefusedError):
            pass

    def _read_with_care(self, now: float) -> None:
        try:
            while True:
                datagram, ancillary, _, _ = self.socket.recvmsg(2048, 64)
                if datagram[0] < 128 or 64 <= datagram[1] & 0x7F < 96:
                    self._other(datagram, now)
                    continue
                self.octets += len(datagram)
                if datagram[1] & 0x7F == _OPUS:
                    self.sounds += 1
                else:
                    self.pictures += 1
                    self.last = int.from_bytes(datagram[2:4], "big")
                    if self.first < 0:
                        self.first = self.last
                    self.ssrc = int.from_bytes(datagram[8:12], "big")
                    if datagram[1] & 0x80 and ancillary:
                        seconds, nanoseconds = _timespec(ancillary[0][2])
                        self.frames.append(
                            (int.from_bytes(datagram[4:8], "big"), seconds + nanoseconds / 1e9)
                        )
                if self.verifying and self.browser.receiver is not None:
                    try:
                        self.browser.receiver.unprotect(datagram)
                    except RemoteProtocolError:
                        self.unauthentic += 1
        except (BlockingIOError, ConnectionRefusedError):
            pass

    def _other(self, datagram: bytes, now: float) -> None:
        """A check of the server's, an answer, or a step of the handshake."""
        if datagram[0] < 4 and datagram[:2] == b"\0\1":
            message = stun.parse(datagram)
            host, port = self.socket.getpeername()
            mapped = [stun.xor_mapped_address(host, port, message.transaction)]
            key = stun.IntegrityKey(_PASSWORD)
            self._send([stun.build(stun.BINDING_RESPONSE, message.transaction, mapped, key)])
        elif datagram[0] < 64:
            self._send(self.browser.receive(datagram, now))

    @property
    def lost(self) -> int:
        """Packets of pictures that did not come, of those since `reset`; less than 65,536 fit."""
        return (self.last - self.first & 0xFFFF) + 1 - self.pictures if self.first >= 0 else 0


def post(url: str, text: str) -> tuple[int, str, str]:
    """Status, body and Location of an offer's answer."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
    try:
        connection.request(
            "POST", parts.path, text, {"Content-Type": "application/sdp", "Connection": "close"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Location", "")
    finally:
        connection.close()


class Crowd:
    """All of them, and their one loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.watchers: list[Watcher] = []
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(2048)
        self._earliest: dict[float, float] = {}

    def add(self, count: int) -> dict[str, object]:
        """Let so many more join. Who is refused is counted by status."""
        refused: dict[int, int] = {}
        began = time.monotonic()
        spread = max(1, (len(self.watchers) + count) // TIMED)
        for number in range(0, count, AT_ONCE):
            fresh = []
            for one in range(number, min(number + AT_ONCE, count)):
                timed = one % spread == 0 or one == count - 1
                watcher = Watcher(self.url, timed, verifying=not self.watchers and one == 0)
                if watcher.status != 201:
                    refused[watcher.status] = refused.get(watcher.status, 0) + 1
                    watcher.socket.close()
                    continue
                self._selector.register(watcher.socket, selectors.EVENT_READ, watcher)
                watcher.begin()
                fresh.append(watcher)
                self.watchers.append(watcher)
                self.run(0)
            if not self.run(WITHIN, lambda fresh=fresh: all(watcher.connected for watcher in fresh)):
                raise TimeoutError("viewers did not connect")
        return {"watching": len(self.watchers), "refused": refused, "seconds": time.monotonic() - began}

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Turn the loop; False when `until` did not come true in time."""
        end = time.monotonic() + seconds
        watching = until is None and seconds > 0
        read_at = speak_at = 0.0
        while True:
            # Asleep, and not in select: a server that has to wake its viewers pays for it, and no true one does.
            if watching:
                time.sleep(SPOKEN)
            now = time.monotonic()
            if now >= read_at:
                read_at = now + TURN if watching else 0.0
                for key, _ in self._selector.select(0.0 if watching else min(0.01, seconds)):
                    key.data.read(self._buffer, now)
            if until is not None and until():
                return True
            if now >= speak_at:
                speak_at = now + SPOKEN
                for watcher in self.watchers:
                    if now >= watcher.at:
                        watcher.due(now)
            if now >= end:
                return until is None

    def watch(self, seconds: float, strange: int = 0) -> dict[str, object]:
        """Count for so long. So many strange datagrams go to the server meanwhile, one half of them from viewers' own
        sockets."""
        for watcher in self.watchers:
            watcher.reset()
        cpu = time.process_time()
        if strange:
            self._shout(seconds, strange)
        else:
            self.run(seconds)
        cpu = time.process_time() - cpu
        late = sorted(self._lateness())
        return {
            "watching": len(self.watchers),
            "pictures": sum(watcher.pictures for watcher in self.watchers),
            "fewest": min((watcher.pictures for watcher in self.watchers), default=0),
            "sounds": sum(watcher.sounds for watcher in self.watchers),
            "rate": sum(watcher.octets for watcher in self.watchers)
            * 8
            / seconds
            / max(1, len(self.watchers)),
            "octets": sum(watcher.octets for watcher in self.watchers),
            "lost": sum(watcher.lost for watcher in self.watchers),
            "unauthentic": sum(watcher.unauthentic for watcher in self.watchers),
            "frames": len(late),
            "p50": late[len(late) // 2] if late else 0.0,
            "p99": late[len(late) * 99 // 100] if late else 0.0,
            "latest": late[-1] if late else 0.0,
            "cpu": cpu / seconds,
        }

    def _shout(self, seconds: float, count: int) -> None:
        noise = Noise(count, Watcher.said)
        strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(STRANGERS)]
        server = self.watchers[0].socket.getpeername()
        each = -(-count * TURN // seconds)
        try:
            for number in range(count):
                if number % 2:
                    self.watchers[number // 2 % len(self.watchers)].socket.send(noise.datagram())
                else:
                    strangers[number // 2 % STRANGERS].sendto(noise.datagram(), server)
                if number % each == 0:
                    self.run(TURN)
        finally:
            for stranger in strangers:
                stranger.close()

    def _lateness(self) -> list[float]:
        """Of each frame that was timed, in seconds, behind the one that came most punctually ever.

        All viewers of ours have the timestamps of their stream, so that who is served last is late each time; other
        servers begin anew with each viewer, and are spared that."""
        late = []
        for watcher in self.watchers:
            moments = [(at - timestamp / TICKS) for timestamp, at in watcher.frames]
            if not moments:
                continue
            # Random origins are further apart: they are out of half a day.
            origin = next((known for known in self._earliest if abs(known - moments[0]) < 1), None)
            if origin is None:
                origin = moments[0]
            self._earliest[origin] = min(self._earliest.get(origin, moments[0]), *moments)
            late += [moment - self._earliest[origin] for moment in moments]
        return late

    def leave(self) -> dict[str, object]:
        """All go, and say so."""
        for watcher in self.watchers:
            watcher._send(watcher.browser.dtls.close())
            self._selector.unregister(watcher.socket)
            watcher.socket.close()
        self.watchers = []
        return {}


class Orders:
    """Standard input, which is read beside the sockets. One order at a time."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def read(self, buffer: bytearray, now: float) -> None:
        self.lines.append(sys.stdin.readline())


def main() -> None:
    crowd, orders = Crowd(sys.argv[1]), Orders()
    crowd._selector.register(sys.stdin, selectors.EVENT_READ, orders)
    while True:
        crowd.run(86_400, lambda: bool(orders.lines))
        what, *arguments = orders.lines.pop().split() or [""]
        if not what:
            return
        result = getattr(crowd, what)(*(float(one) if "." in one else int(one) for one in arguments))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
