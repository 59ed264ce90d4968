"""Our FEC before GStreamer's receiver and FFmpeg's sender, which know nothing of each other or of us."""

import dataclasses
import random
import select
import shutil
import signal
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import TestCase

from oxidecast.formats.fec import COLUMN_PORT, ROW_PORT, FECDecoder, FECGenerator, FECPacket, Matrix
from oxidecast.formats.rtp import RTPPacket, TSWrapper
from tests.e2e.programs import FFMPEG_5, Program, until

HOST = "127.0.0.1"
MATRIX = Matrix(10, 10)
PACE = 1000
"""Packets a second, in tens: slow enough for the small socket buffers of a busy machine."""


def free_ports() -> int:
    """A UDP port that is free, as are those of its FEC."""
    while True:
        with ExitStack() as sockets:
            first = sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
            try:
                for offset in (COLUMN_PORT, ROW_PORT):
                    sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind((HOST, port + offset))
            except (OSError, OverflowError):
                continue
            return port


def bound(ports: set[int]) -> bool:
    """Whether somebody listens on all these UDP ports."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return ports <= {int(line.split()[1].split(":")[1], 16) for line in lines}


class GStreamerTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oxidecast-fec-"))
        self.addCleanup(shutil.rmtree, self.folder)
        source = random.Random(1)
        self.payloads = [b"".join(b"\x47" + source.randbytes(187) for _ in range(7)) for _ in range(700)]

    def receive(self, lost: set[int], matrix: Matrix) -> bytes:
        """What a GStreamer pipeline makes of our stream, when the packets `lost` do not arrive."""
        port, received = free_ports(), self.folder / "received.ts"
        media = "caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33"
        fec = "caps=application/x-rtp,media=video,clock-rate=90000,payload=96"
        source = ["udpsrc", f"address={HOST}", "buffer-size=4000000"]
        pipeline = (
            ["rtpst2022-1-fecdec", "name=fec", "size-time=4000000000"]
            + [*source, f"port={port}", media, "!", "fec.sink"]
            + [*source, f"port={port + COLUMN_PORT}", fec, "!", "fec.fec_0"]
            + [*source, f"port={port + ROW_PORT}", fec, "!", "fec.fec_1"]
            + ["fec.src", "!", "rtpjitterbuffer", "latency=2000", "!", "rtpmp2tdepay", "!"]
            + ["filesink", "buffer-mode=unbuffered", f"location={received}"]
        )
        size = sum(map(len, self.payloads))
        with Program(["timeout", "60", "gst-launch-1.0", *pipeline], self.folder / "gst.log") as program:
            until(
                lambda: bound({port, port + COLUMN_PORT, port + ROW_PORT}) and "PLAYING" in program.output,
                20,
                "GStreamer listens",
            )
            self.send(port, lost, matrix)
            try:
                until(lambda: received.stat().st_size >= size, 10, "GStreamer has everything")
            finally:
                program.stop(signal.SIGINT)
        return received.read_bytes()

    def send(self, port: int, lost: set[int], matrix: Matrix) -> None:
        # Sequence numbers and times wrap on the way.
        wrapper, generator = TSWrapper(0x5EED, 0xFF00), FECGenerator(matrix)
        start = time.monotonic()
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for first in range(0, len(self.payloads), 10):
                time.sleep(max(0, start + first / PACE - time.monotonic()))
                clock = int((time.monotonic() - start) * 90_000) + 0xFFFFFF00
                packets = wrapper.wrap(self.payloads[first : first + 10], clock)
                columns, rows = generator.protect(packets)
                for number, packet in enumerate(packets, first):
                    if number not in lost:
                        sender.sendto(packet, (HOST, port))
                for packet in columns:
                    sender.sendto(packet, (HOST, port + COLUMN_PORT))
                for packet in rows:
                    sender.sendto(packet, (HOST, port + ROW_PORT))

    def test_it_recovers_bursts_and_scattered_losses(self) -> None:
        source = random.Random(3)
        lost = {17, 42}
        for matrix in (100, 200, 300):
            first = matrix + source.randrange(90)
            lost |= set(range(first, first + 10))
            lost.add(source.choice([n for n in range(matrix, matrix + 100) if n not in lost]))
        lost |= {400 + 11 * n for n in range(10)} | {401 + 11 * n for n in range(9)}
        self.assertEqual(self.receive(lost, MATRIX), b"".join(self.payloads))

    def test_it_recovers_bursts_by_columns_alone(self) -> None:
        lost = {n for first in (5, 133, 240, 377, 460) for n in range(first, first + 10)}
        self.assertEqual(self.receive(lost, Matrix(10, 10, both=False)), b"".join(self.payloads))


class FFmpegTests(TestCase):
    def setUp(self) -> None:
        """A few seconds of FFmpeg's `prompeg`, as they arrived."""
        port = free_ports()
        folder = Path(tempfile.mkdtemp(prefix="oxidecast-fec-"))
        self.addCleanup(shutil.rmtree, folder)
        self.arrived: list[tuple[int, bytes]] = []
        with ExitStack() as stack:
            sockets = {}
            for offset in (0, COLUMN_PORT, ROW_PORT):
                listener = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                listener.bind((HOST, port + offset))
                sockets[listener] = offset
            encode = (
                "-re -f lavfi -i testsrc2=s=320x180:r=30 -t 3 -c:v libx264 -preset ultrafast -b:v 1M -bf 0"
            )
            output = f"-f rtp_mpegts -fec prompeg=l=5:d=6 rtp://{HOST}:{port}?pkt_size=1328"
            command = ["timeout", "30", FFMPEG_5, "-v", "error", *encode.split(), *output.split()]
            program = stack.enter_context(Program(command, folder / "ffmpeg.log"))
            while True:
                ended = program.process.poll() is not None
                readable = select.select(list(sockets), [], [], 0 if ended else 0.1)[0]
                if ended and not readable:
                    break
                self.arrived += [(sockets[each], each.recv(2048)) for each in readable]
            self.assertEqual((program.process.returncode, program.output), (0, ""))
        self.media = [data for offset, data in self.arrived if offset == 0]
        self.assertGreater(len(self.media), 150)

    def test_our_fec_of_its_media_is_its_fec(self) -> None:
        columns, rows = FECGenerator(Matrix(5, 6)).protect(self.media)
        for offset, ours in [(COLUMN_PORT, columns), (ROW_PORT, rows)]:
            theirs = [data for where, data in self.arrived if where == offset]
            # It sends a row with the next one's first packet; numbers begin anywhere, and its clock differs.
            self.assertGreater(len(theirs), 20)
            self.assertEqual(self.sums(ours[: len(theirs)]), self.sums(theirs))

    @staticmethod
    def sums(packets: list[bytes]) -> list[FECPacket]:
        return [dataclasses.replace(FECPacket.parse(data), sequence=0, timestamp=0) for data in packets]

    def test_we_recover_its_packets(self) -> None:
        start = RTPPacket.parse(self.media[0]).sequence
        # The first three matrices lose a burst and one more, of which every packet can be repaired.
        lost = {start + n & 0xFFFF for n in (7, 8, 9, 10, 11, 24, 30, 42, 43, 44, 45, 46, 64, 71, 78, 82)}
        decoder, packets = FECDecoder(30), []
        for offset, data in self.arrived:
            if offset:
                packets += decoder.fec(data)
            elif RTPPacket.parse(data).sequence not in lost:
                packets += decoder.media(data)
        self.assertEqual(packets + decoder.flush(), self.media)
        self.assertEqual((decoder.lost, decoder.refused), (0, 0))
        # And those whose FEC came first, because it was read first.
        self.assertGreaterEqual(decoder.recovered, len(lost))
