"""A viewer of our own by WHEP: keeps each packet with the moment at which it came, and reads them afterwards.

The one idea: a browser's buffers and its screen say nothing of the server. Here what the server sent is looked at as
it came: when each picture was whole, and what its sender reports say that belongs together.
"""

import select
import socket
import threading
import time
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

import av
from aiortc.rtp import RtpPacket

from oxidecast.formats import rtcp
from oxidecast.formats.rtp_h264 import H264Depacketizer
from oxidecast.media import TICKS
from oxidecast.media.opus import SAMPLE_RATE
from tests.e2e import clock
from tests.outputs.webrtc.stage import Browser, offer
from tests.transcoding.child import beeps

SOUND = 111
CHECK = 2.0
"""Seconds between two checks, by which a viewer says that it is there."""


class Viewer(threading.Thread):
    """Watches one stream until `stop`."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        request = Request(address, data=offer().encode(), headers={"Content-Type": "application/sdp"})
        with urlopen(request, timeout=15) as answer:
            text = answer.read().decode()
        candidates = (line for line in text.splitlines() if line.startswith("a=candidate"))
        candidate = next(line for line in candidates if " udp " in line.lower())
        self._to = (candidate.split()[4], int(candidate.split()[5]))
        self._browser = Browser(text, now=time.time())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._over = threading.Event()
        self.packets: list[tuple[float, RtpPacket]] = []
        self.reports: list[rtcp.SenderReport] = []
        self.start()

    def run(self) -> None:
        browser, checked, started = self._browser, 0.0, False
        while not self._over.is_set():
            now = time.time()
            if now - checked > CHECK:
                checked = now
                self._socket.sendto(browser.check(), self._to)
            if not started and browser.answered:
                started = True
                for datagram in browser.start(now):
                    self._socket.sendto(datagram, self._to)
            if not select.select([self._socket], [], [], 0.05)[0]:
                continue
            data = self._socket.recv(2048)
            for answer in browser.receive(data, time.time()):
                self._socket.sendto(answer, self._to)
            now = time.time()
            self.packets += [(now, packet) for packet in browser.rtp]
            for said in browser.rtcp:
                self.reports += [one for one in rtcp.parse(said) if isinstance(one, rtcp.SenderReport)]
            browser.rtp.clear()
            browser.rtcp.clear()
            browser.answered = browser.answered[-1:]

    def stop(self) -> "Viewer":
        self._over.set()
        self.join(10)
        self._socket.close()
        return self

    def seen(self) -> clock.Seen:
        """What came: pictures when they were whole, flashes and beeps by the time that reports give them."""
        by_ssrc: dict[int, list[tuple[float, RtpPacket]]] = {}
        for one in self.packets:
            by_ssrc.setdefault(one[1].ssrc, []).append(one)
        sound = max((of for of in by_ssrc.values() if of[0][1].payload_type == SOUND), key=len)
        video = max((of for of in by_ssrc.values() if of[0][1].payload_type != SOUND), key=len)
        pictures: list[tuple[int, float]] = []
        flashes, before = [], True
        came, shown = _pictures(video)
        begin = self._begin(video, TICKS)
        for frame in shown:
            moment = clock.read(bytes(frame.planes[0]), frame.planes[0].line_size)
            if moment is None or frame.pts not in came:
                continue
            pictures.append((moment, came[frame.pts]))
            middle = frame.planes[0].line_size * (frame.height // 2) + frame.width // 2
            white = bytes(frame.planes[0])[middle] > 126
            if white and not before:
                flashes.append(begin + frame.pts / TICKS)
            before = white
        heard = beeps(_sounds(sound))
        begin = self._begin(sound, SAMPLE_RATE)
        return clock.Seen(pictures, flashes, [begin + at for at in heard])

    def _begin(self, packets: list[tuple[float, RtpPacket]], rate: int) -> float:
        """The time of a stream's first timestamp, as its reports have it."""
        first = packets[0][1]
        return median(
            report.ntp / (1 << 32) - rtcp.UNIX_TO_NTP - _since(first.timestamp, report.timestamp) / rate
            for report in self.reports
            if report.ssrc == first.ssrc
        )


def _since(first: int, timestamp: int) -> int:
    return (timestamp - first + (1 << 31)) % (1 << 32) - (1 << 31)


def _pictures(packets: list[tuple[float, RtpPacket]]) -> tuple[dict[int, float], list[Any]]:
    """When each picture was whole, by its time since the first, and the decoded pictures."""
    decoder: Any = av.CodecContext.create("h264", "r")
    depacketizer, came, shown = H264Depacketizer(), {}, []
    first = packets[0][1]
    for at, packet in packets:
        sequence = first.sequence_number + ((packet.sequence_number - first.sequence_number) & 0xFFFF)
        for frame in depacketizer.receive(sequence, packet.timestamp, bool(packet.marker), packet.payload):
            coded = av.Packet(_annexb(frame.payload))
            coded.pts = _since(first.timestamp, frame.timestamp)
            came[coded.pts] = at
            shown += decoder.decode(coded)
    return came, [*shown, *decoder.decode(None)]


def _annexb(payload: bytes) -> bytes:
    made, at = [], 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        made.append(b"\0\0\0\1" + payload[at + 4 : at + 4 + size])
        at += 4 + size
    return b"".join(made)


def _sounds(packets: list[tuple[float, RtpPacket]]) -> list[Any]:
    """The decoded sound, its times in ticks since the first."""
    decoder: Any = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = SAMPLE_RATE, "stereo"
    made, first = [], packets[0][1].timestamp
    for _, packet in packets:
        coded = av.Packet(packet.payload)
        coded.pts = _since(first, packet.timestamp)
        for frame in decoder.decode(coded):
            frame.pts = coded.pts * TICKS // SAMPLE_RATE
            made.append(frame)
    return made
