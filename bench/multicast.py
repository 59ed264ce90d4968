"""What multicast MPEG-TS costs and how evenly it leaves, beside FFmpeg doing the same in the same namespace.

Run by hand, as root: `python bench/multicast.py`. Two hosts (network namespaces with a wire between, `netns.py`);
nobody has joined but the receiver that measures gaps. Only CPU time of the sending processes is counted, by the
scheduler's nanoseconds (/proc/PID/schedstat), in a window that leaves their start out. The contestants alternate,
and the median counts. All senders are scheduled before ordinary processes (SCHED_RR), so that other work on the machine
shows less in the figures.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import av
import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from oxidecast.delivery.pacing import DATAGRAM, Pacer  # noqa: E402
from oxidecast.delivery.udp import MulticastSocket, SendOptions  # noqa: E402
from oxidecast.media import TICKS, Codec, Packet, Track  # noqa: E402
from oxidecast.metrics.lateness import Lateness  # noqa: E402
from oxidecast.outputs.multicast.group import Group  # noqa: E402
from oxidecast.outputs.multicast.settings import Addresses, MulticastSettings  # noqa: E402
from oxidecast.streams.rendition import Rendition  # noqa: E402
from oxidecast.streams.settings import StreamsSettings  # noqa: E402
from tests.delivery.receiving import Receiver  # noqa: E402
from tests.e2e.netns import LINK, Network  # noqa: E402

FFMPEG = "/usr/bin/ffmpeg"
FIRST = ("chrt", "--rr", "1")
STREAMS, MANY = 20, 100
RATE = 5_000_000
VIDEO, AUDIO = 4_500_000, 128_000
"""With what a transport stream adds, a little below `RATE`."""
SETTLE = 3.0
"""Seconds before a window."""
HEADERS = 42
"""Bytes of Ethernet, IP and UDP that the interface counts with each of FFmpeg's datagrams."""
BUCKETS = (1, 2, 3, 5, 7.5, 10, 12.5, 15, 20, 30, 50)
"""Milliseconds, for gaps."""


def make_clip(folder: Path) -> Path:
    """Ten seconds of H.264 and AAC."""
    clip = folder / "clip.mp4"
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-f", "lavfi"]
        + ["-i", "sine=sample_rate=48000", "-t", "10", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50"]
        + ["-b:v", str(VIDEO), "-minrate", str(VIDEO), "-maxrate", str(VIDEO), "-bufsize", str(VIDEO // 4)]
        + ["-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", str(AUDIO), str(clip)],
        check=True,
        timeout=120,
    )
    return clip


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of a process have used."""
    return (
        sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


# -- Our side: a process in the sender's namespace -------------------------------------------------------------------


def demux(clip: Path) -> tuple[list[Track], list[Packet]]:
    """The clip as an ingest would hand it on."""
    with av.open(str(clip)) as container:
        tracks = {}
        for number, source in enumerate(container.streams, 1):
            codec = Codec(source.codec_context.name)
            rate = source.codec_context.sample_rate if codec is Codec.AAC else 0
            extradata = bytes(source.codec_context.extradata)
            tracks[source.index] = Track(
                number, codec, extradata, "", sample_rate=rate, channels=1 if rate else 0
            )
        packets = []
        for one in container.demux():
            if one.size:
                ticks = [round(value * one.time_base * TICKS) for value in (one.dts, one.pts, one.duration)]
                packets.append(Packet(tracks[one.stream.index], *ticks, one.is_keyframe, bytes(one)))
    return list(tracks.values()), sorted(packets, key=lambda packet: packet.dts)


def looped(packets: Sequence[Packet]) -> Iterator[Packet]:
    length = 10 * TICKS
    offset = TICKS
    while True:
        for packet in packets:
            yield msgspec.structs.replace(packet, dts=packet.dts + offset, pts=packet.pts + offset)
        offset += length


class Source:
    """One rendition that an encoder feeds, and its group: the server's own, from the packet to the wire."""

    def __init__(
        self,
        number: int,
        tracks: list[Track],
        packets: list[Packet],
        kind: str,
        rate: int,
        pacer: Pacer,
        reactor: Any,
    ) -> None:
        constant = kind in ("constant", "single")
        settings = MulticastSettings(
            interface=LINK, cbr=constant, rate=rate, burst=1 if kind == "single" else 7
        )
        info = SimpleNamespace(title=f"stream {number}", category="", is_private=False)
        stream: Any = SimpleNamespace(id=str(number), name=f"s{number}", info=info, notice=lambda *_: None)
        self.rendition = Rendition(
            "source", tuple(tracks), StreamsSettings(), pacer.seconds, lambda *_: None, lambda *_: None
        )
        group, port = Addresses(settings).of(number)
        self.group = Group(stream, "source", number, group, port, settings, pacer, reactor, lambda: None)
        if kind != "source":
            self.group.feed(self.rendition, None)
        self._packets = looped(packets)
        self._next = next(self._packets)
        self._seconds = pacer.seconds
        self._began = pacer.seconds() + number % 40 / 1000 - self._next.dts / TICKS

    def feed(self) -> None:
        """Hand on what an encoder would have sent by now."""
        now = self._seconds()
        while self._began + self._next.dts / TICKS <= now:
            packet = self._next
            self._next = next(self._packets)
            self.rendition.push(packet)

    @property
    def socket(self) -> MulticastSocket:
        return self.group.sink.sockets[0]


def send_streams(clip: Path, count: int, kind: str, rate: int, seconds: float) -> dict[str, float]:
    from twisted.internet import reactor as default_reactor
    from twisted.internet.task import LoopingCall

    reactor: Any = default_reactor
    tracks, packets = demux(clip)
    times = max(1, rate // RATE)
    if times > 1:
        packets = [msgspec.structs.replace(packet, payload=packet.payload * times) for packet in packets]
    pacer = Pacer(reactor)
    groups = [Source(number, tracks, packets, kind, rate, pacer, reactor) for number in range(count)]
    began: list[float] = []

    def feed() -> None:
        for group in groups:
            group.feed()

    def begin() -> None:
        for group in groups:
            if group.group.flow is not None:
                group.group.flow.lateness = Lateness()
        began.extend((cpu_self(), sum(group.socket.bytes for group in groups)))

    LoopingCall(feed).start(0.008)
    reactor.callLater(SETTLE, begin)
    reactor.callLater(SETTLE + seconds, reactor.stop)
    reactor.run()
    lateness = Lateness()
    for flow in filter(None, (group.group.flow for group in groups)):
        lateness.counts = [a + b for a, b in zip(lateness.counts, flow.lateness.counts, strict=True)]
        lateness.maximum = max(lateness.maximum, flow.lateness.maximum)
    return {
        "cpu": cpu_self() - began[0],
        "bytes": sum(group.socket.bytes for group in groups) - began[1],
        "dropped": sum(group.socket.dropped for group in groups),
        **lateness.stats(),
    }


def cpu_self() -> float:
    return time.process_time()


def send_flat_out(batch: int, segmenting: bool, seconds: float) -> dict[str, float]:
    socket = MulticastSocket("239.255.0.1", 30_000, LINK, SendOptions(buffer_size=4 << 20), time.monotonic)
    socket.segmenting = segmenting
    data = bytes(batch * DATAGRAM)
    began, until = cpu_self(), time.monotonic() + seconds
    while time.monotonic() < until:
        socket.send(data, DATAGRAM)
    return {"cpu": cpu_self() - began, "bytes": socket.bytes, "dropped": socket.dropped}


# -- The parent ------------------------------------------------------------------------------------------------------


def child(network: Network, *arguments: Any) -> dict[str, float]:
    command = [*network.sender.command, *FIRST, sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def per_gbit(found: dict[str, float]) -> float:
    return found["cpu"] / (found["bytes"] * 8 / 1e9)


def wire_bytes(network: Network) -> int:
    with network.sender.entered():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    fields = next(line for line in lines if line.strip().startswith(LINK)).partition(":")[2].split()
    return int(fields[8]) - HEADERS * int(fields[9])


def ffmpeg(network: Network, clip: Path, processes: int, seconds: float) -> float:
    """CPU-seconds per Gbit of `STREAMS` streams, by so many processes."""
    each = STREAMS // processes
    running = []
    try:
        for first in range(0, STREAMS, each):
            command = ["timeout", "120", FFMPEG, "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip)]
            for number in range(first, first + each):
                to = f"udp://239.255.0.{number + 1}:{30_000 + number}?pkt_size={DATAGRAM}&ttl=1"
                command += ["-map", "0", "-c", "copy", "-f", "mpegts", to]
            running.append(
                subprocess.Popen(
                    [*network.sender.command, *FIRST, *command],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        time.sleep(2 * SETTLE)
        # `timeout` runs FFmpeg as its child; `ip netns exec` becomes `timeout`.
        pids = [int(Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text()) for one in running]
        before, sent = sum(map(cpu, pids)), wire_bytes(network)
        time.sleep(seconds)
        return (sum(map(cpu, pids)) - before) / ((wire_bytes(network) - sent) * 8 / 1e9)
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait()


def gaps(network: Network, clip: Path, kind: str, rate: int, seconds: float) -> tuple[list[float], int]:
    """Milliseconds between datagrams as the receiver's kernel stamps them, and how many datagrams came."""
    with network.receiver.entered():
        receiver = Receiver("239.255.0.1", 30_000, LINK)
    done = subprocess.Popen(
        [
            *network.sender.command,
            *FIRST,
            sys.executable,
            __file__,
            "--child",
            "streams",
            str(clip),
            "1",
            kind,
        ]
        + [str(rate), str(seconds)],
        stdout=subprocess.DEVNULL,
    )
    found = []
    try:
        while done.poll() is None:
            time.sleep(0.2)
            found += receiver.read()
    finally:
        done.kill()
        done.wait()
        receiver.close()
    times = [one.at for one in found if one.at > found[0].at + SETTLE]
    # What left in one call has one stamp, or stamps microseconds apart.
    all_gaps = [(after - before) * 1000 for before, after in pairwise(times)]
    return [gap for gap in all_gaps if gap > 0.2], len(times)


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def histogram(values: Sequence[float]) -> str:
    parts, low = [], 0.0
    for high in (*BUCKETS, float("inf")):
        share = sum(low < value <= high for value in values) / len(values)
        if share:
            parts.append(f"{low:g}-{high:g} ms {100 * share:.1f} %")
        low = high
    return ", ".join(parts)


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cpu", "flat", "many", "gaps"], help="one part of it")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, *rest = options.child
        if what == "streams":
            clip, count, kind, rate, seconds = rest
            print(json.dumps(send_streams(Path(clip), int(count), kind, int(rate), float(seconds))))
        else:
            batch, segmenting, seconds = rest
            print(json.dumps(send_flat_out(int(batch), segmenting == "True", float(seconds))))
        return
    parts = [options.only] if options.only else ["cpu", "flat", "many", "gaps"]
    with TemporaryDirectory() as folder, Network() as network:
        clip = make_clip(Path(folder))
        if "cpu" in parts:
            compare(network, clip, options.seconds, options.rounds)
        if "flat" in parts:
            flat_out(network, options.rounds)
        if "many" in parts:
            many(network, clip, options.seconds, options.rounds)
        if "gaps" in parts:
            evenness(network, clip, options.seconds)


def compare(network: Network, clip: Path, seconds: float, rounds: int) -> None:
    results: dict[str, list[float]] = {}
    for _ in range(rounds):
        # The source alone costs what an ingest costs in the server: FFmpeg's figures hold its reading of the file.
        source = child(network, "streams", clip, STREAMS, "source", RATE, seconds)["cpu"]
        for kind in ("variable", "constant"):
            found = child(network, "streams", clip, STREAMS, kind, RATE, seconds)
            results.setdefault(f"ours, {kind} rate", []).append(per_gbit(found))
            found["cpu"] -= source
            results.setdefault(f"ours, {kind} rate, without the source", []).append(per_gbit(found))
        for processes in (STREAMS, 1):
            results.setdefault(f"ffmpeg, {processes} processes", []).append(
                ffmpeg(network, clip, processes, seconds)
            )
    print(f"{STREAMS} paced streams of 5 Mbit/s, CPU-seconds per Gbit, median (range) of {rounds}:")
    for name, values in results.items():
        print(f"  {name}: {median(values)}")


def flat_out(network: Network, rounds: int) -> None:
    print(f"one group flat out, CPU-seconds per Gbit, median (range) of {rounds}:")
    for batch, segmenting in ((1, False), (5, True), (7, True), (49, True)):
        values = [per_gbit(child(network, "flat", batch, segmenting, 1.0)) for _ in range(rounds)]
        print(f"  {f'batches of {batch}' if segmenting else 'single sends'}: {median(values)}")


def many(network: Network, clip: Path, seconds: float, rounds: int) -> None:
    for kind in ("variable", "constant"):
        found = [child(network, "streams", clip, MANY, kind, RATE, seconds) for _ in range(rounds)]
        core = statistics.median(100 * one["cpu"] / seconds for one in found)
        worst = [one["p99_ms"] for one in found]
        print(
            f"{MANY} streams of 5 Mbit/s, {kind} rate: lateness p50 {found[0]['p50_ms']} ms, "
            f"p99 {statistics.median(worst)} ms ({min(worst)} to {max(worst)}), "
            f"longest {max(one['max_ms'] for one in found)} ms, {core:.0f} % of a core, "
            f"{sum(one['dropped'] for one in found):.0f} dropped"
        )


def evenness(network: Network, clip: Path, seconds: float) -> None:
    for rate in (RATE, 4 * RATE):
        for kind in ("variable", "constant", "single"):
            found, count = gaps(network, clip, kind, rate, seconds)
            name = {"single": "constant rate, burst 1"}.get(kind, f"{kind} rate")
            print(
                f"{rate // 1_000_000} Mbit/s, {name}: {count} datagrams in {len(found) + 1} bursts; gaps "
                f"between bursts p50 {quantile(found, 0.5):.1f} ms, p99 {quantile(found, 0.99):.1f} ms, "
                f"longest {max(found):.1f} ms; {histogram(found)}"
            )


if __name__ == "__main__":
    main()
