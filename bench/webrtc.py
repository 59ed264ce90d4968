"""What a viewer by WebRTC costs: CPU and memory of the server's process, and how many a core serves on time.

Run by hand: `python bench/webrtc.py`; `--seconds 2 --viewers 10 --most 20` is a try of half a minute. It needs ffmpeg.
A whole server with one stream of 2.5 Mbit/s (H.264 at 30 frames a second, a keyframe every two seconds, Opus of 64
kbit/s) is in one process, and in another a crowd of real sessions (`tests/webrtc/crowd.py`): WHEP, checks, DTLS, and
the reports and checks that Chromium sends. It counts what comes, in single datagrams, and notes by the kernel's time
stamps when frames were complete. Counted is the CPU time of all of the server's threads, less what it takes without
viewers, in a window after all are connected. What the kernel does to hand datagrams to sockets of this same machine is
in it.

aiortc's own senders play the same frames, as they are, from its own process. Root's processes are scheduled before
ordinary ones (SCHED_RR), so that other work on the machine shows less.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import av

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from oxidecast.media import TICKS, Packet, h264, opus  # noqa: E402

FIRST = ("chrt", "--rr", "1") if os.geteuid() == 0 else ()
LENGTH = 10
RATE = 30
BITRATE = 2_500_000
ON_TIME = 0.05
"""Seconds within which 99 of 100 frames must be complete."""
STEP = 50
SETTLE = 2.0


def make_clip(folder: Path) -> Path:
    """Ten seconds, of a constant rate as streaming encoders make it."""
    clip = folder / "clip.mkv"
    subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            f"testsrc2=size=1280x720:rate={RATE},noise=alls=12:allf=t",
        ]
        + ["-f", "lavfi", "-i", "aevalsrc=0.2*sin(2*PI*220*t)+0.1*random(0):s=48000", "-t", str(LENGTH)]
        + ["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", str(2 * RATE), "-sc_threshold", "0"]
        + ["-b:v", str(BITRATE), "-minrate", str(BITRATE), "-maxrate", str(BITRATE)]
        + ["-bufsize", str(BITRATE), "-x264-params", "nal-hrd=cbr"]
        + ["-c:a", "libopus", "-b:a", "64k", str(clip)],
        check=True,
        timeout=120,
    )
    return clip


def demux(clip: Path) -> list[Packet]:
    """The clip as an ingest would hand it on, in the order of time."""
    with av.open(str(clip)) as container:
        tracks = {}
        for source in container.streams:
            extradata = bytes(source.codec_context.extradata or b"")
            if source.type == "video":
                tracks[source.index] = h264.track(extradata, 1)
            else:
                tracks[source.index] = opus.track(opus.dops(extradata), 2)
        packets = []
        for one in container.demux():
            if one.size:
                pts = max(0, round(one.pts * one.time_base * TICKS))
                duration = TICKS // RATE if one.stream.type == "video" else 960 * TICKS // 48_000
                packets.append(
                    Packet(tracks[one.stream.index], pts, pts, duration, one.is_keyframe, bytes(one))
                )
    return sorted(packets, key=lambda packet: packet.dts)


def looped(packets: list[Packet]) -> Iterator[tuple[int, Packet]]:
    """For ever: when each is due, in ticks."""
    offset = 0
    while True:
        for packet in packets:
            if packet.dts < LENGTH * TICKS:
                yield offset + packet.dts, packet
        offset += LENGTH * TICKS


# -- The servers: each prints its address, and does what its standard input says ---------------------------------------


class Encoder:
    """A publisher in the server's process: each packet at its time, and never a second one in the same turn."""

    def __init__(self, publication: Any, packets: list[Packet], reactor: Any) -> None:
        self._publication = publication
        self._reactor = reactor
        self._packets = looped(packets)
        self._next = next(self._packets)
        self._began = reactor.seconds()
        for track in dict.fromkeys(packet.track for packet in packets):
            publication.track(track)
        self._step()

    def stop(self, code: str, sentence: str) -> None: ...

    def _step(self) -> None:
        due, packet = self._next
        self._next = next(self._packets)
        samples = 0 if packet.track.is_video else 960
        self._publication.packet(packet.track.id, due, due, packet.keyframe, packet.payload, samples)
        at = self._began + self._next[0] / TICKS
        self._reactor.callLater(max(0.0, at - self._reactor.seconds()), self._step)


def serve_ours(clip: Path) -> None:
    from twisted.internet import reactor as default_reactor
    from twisted.internet.defer import Deferred

    from oxidecast.interfaces import PublishRequest
    from oxidecast.tap import makeService
    from oxidecast.webrtc import capacity
    from tests.house import LOOPBACK

    reactor: Any = default_reactor
    environ = {
        **LOOPBACK,
        "OXIDECAST_LOGGING_LEVEL": "warn",
        "OXIDECAST_WEBRTC_MAX_SESSIONS": "5000",
        "OXIDECAST_WEBRTC_MAX_SESSIONS_PER_ADDRESS": "5000",
        "OXIDECAST_PLUGINS_DISABLED": '["hls", "multicast", "recording", "thumbnails"]',
    }
    folder = TemporaryDirectory()
    os.environ.update(environ)
    server: Any = makeService({"config": None, "data-dir": folder.name, "demo": False})
    server.startService()

    async def begin() -> None:
        await server.started
        foundation = server.foundation
        owner = (await foundation.accounts.users.page(limit=1, role="admin")).items[0]
        stream = await foundation.streams.create(owner.id, "Show", name="show")
        key = await foundation.keys.create(stream.id)
        publisher: Any = type("Publisher", (), {"stop": lambda *_: None})()
        publication = await server.hub.publish(
            PublishRequest(protocol="rtmp", address="127.0.0.1", key=key.text), publisher
        )
        Encoder(publication, demux(clip), reactor)
        print(f"http://127.0.0.1:{server.web.number}/api/v1/webrtc/show/whep", flush=True)

    limits = capacity.CEILING, capacity.LATE

    def change(what: str, on: bool) -> None:
        if what == "segmenting":
            server.webrtc.socket.segmenting = on
        else:
            capacity.CEILING, capacity.LATE = limits if on else (10.0, 10.0)

    def orders() -> None:
        for line in sys.stdin:
            what, _, on = line.strip().partition(" ")
            reactor.callFromThread(change, what, on == "on")
        reactor.callFromThread(os._exit, 0)

    Thread(target=orders, daemon=True).start()
    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(begin()).addErrback(lambda failure: failure.printTraceback())
    )
    reactor.run()


def serve_aiortc(clip: Path) -> None:
    from fractions import Fraction

    from aioice import ice
    from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
    from aiortc.mediastreams import MediaStreamError

    ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    packets = demux(clip)
    began = time.monotonic()
    connections = set()

    def made(packet: Packet, due: int) -> Any:
        data = h264.annexb(packet.payload, packet.track) if packet.track.is_video else packet.payload
        one = av.Packet(data)
        one.pts, one.time_base = due, Fraction(1, TICKS)
        return one

    class Clip(MediaStreamTrack):  # type: ignore[misc]
        """One kind of the clip's packets, each at its time."""

        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            self._packets = looped(
                [packet for packet in packets if packet.track.is_video is (kind == "video")]
            )
            passed = (time.monotonic() - began) * TICKS
            self._skip = passed

        async def recv(self) -> Any:
            if self.readyState != "live":
                raise MediaStreamError
            due, packet = next(self._packets)
            while due < self._skip:
                due, packet = next(self._packets)
            await asyncio.sleep(max(0.0, began + due / TICKS - time.monotonic()))
            return made(packet, due)

    async def answer(offer: str) -> str:
        connection = RTCPeerConnection()
        connections.add(connection)
        for kind in ("video", "audio"):
            connection.addTrack(Clip(kind))
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        body = (await answer((await reader.readexactly(length)).decode())).encode()
        writer.write(b"HTTP/1.1 201 Created\r\nLocation: /\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        os._exit(0)

    asyncio.run(run())


SERVERS = {"ours": serve_ours, "aiortc": serve_aiortc}


# -- The parent --------------------------------------------------------------------------------------------------------


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of a process have used."""
    return (
        sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def memory(pid: int) -> int:
    """Bytes that are the process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


class Contest:
    """A server and its crowd."""

    def __init__(self, which: str, clip: Path, seconds: float) -> None:
        self.seconds = seconds
        self._server = self._start(__file__, "--serve", which, "--clip", str(clip))
        assert self._server.stdout is not None
        url = self._server.stdout.readline().strip()
        self._crowd = self._start("-m", "tests.webrtc.crowd", url)
        self.pid = self._server.pid

    def _start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [*FIRST, sys.executable, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._crowd, self._server):
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _say(self, process: "subprocess.Popen[str]", line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def switch(self, what: str, on: bool) -> None:
        """`segmenting`, and `limit`: whether new viewers are refused when the server is busy."""
        self._say(self._server, f"{what} {'on' if on else 'off'}")

    def crowd(self, order: str) -> dict[str, Any]:
        self._say(self._crowd, order)
        assert self._crowd.stdout is not None
        answer: dict[str, Any] = json.loads(self._crowd.stdout.readline())
        return answer

    def measure(self) -> dict[str, Any]:
        """A window: `server` is the share of a core."""
        self.crowd(f"watch {SETTLE}")
        before, began = cpu(self.pid), time.monotonic()
        found = self.crowd(f"watch {self.seconds:.1f}")
        found["server"] = (cpu(self.pid) - before) / (time.monotonic() - began)
        return found


def tell(name: str, found: dict[str, Any], idle: float) -> float:
    count = found["watching"]
    each = (found["server"] - idle) / max(1, count) * 100
    print(
        f"  {name:10} {count:5} viewers of {found['rate'] / 1e6:.2f} Mbit/s  {found['server'] * 100:6.1f} % of a core, "
        f"{each:6.3f} % each;  late p50 {found['p50'] * 1000:5.1f} p99 {found['p99'] * 1000:6.1f} "
        f"longest {found['latest'] * 1000:6.1f} ms;  lost {found['lost']}, forged {found['unauthentic']};  "
        f"the crowd {found['cpu'] * 100:.0f} %",
        flush=True,
    )
    return each


def ours(clip: Path, options: argparse.Namespace) -> None:
    with Contest("ours", clip, options.seconds) as contest:
        time.sleep(SETTLE)
        idle = contest.measure()["server"]
        print(f"ours, without viewers: {idle * 100:.1f} % of a core")
        contest.switch("limit", False)
        contest.crowd("add 10")
        empty, had = memory(contest.pid), 10
        for count in options.viewers:
            contest.crowd(f"add {count - had}")
            each: dict[str, list[float]] = {"GSO": [], "GSO off": []}
            for _ in range(options.runs):
                for name in each:
                    contest.switch("segmenting", name == "GSO")
                    each[name].append(tell(name, contest.measure(), idle))
            contest.switch("segmenting", True)
            medians = ", ".join(f"{name} {statistics.median(values):.3f} %" for name, values in each.items())
            kilobytes = (memory(contest.pid) - empty) / 1024 / max(1, count - 10)
            print(f"  {count} viewers: {medians} of a core each; {kilobytes:.0f} KB each")
            had = count
        most = 0
        while had + STEP <= options.most:
            contest.crowd(f"add {STEP}")
            had += STEP
            found = contest.measure()
            tell("how many", found, idle)
            if found["p99"] > ON_TIME or found["lost"]:
                break
            most = had
        print(f"  on time (p99 below {ON_TIME * 1000:.0f} ms): {most or had}")


def limited(clip: Path, options: argparse.Namespace) -> None:
    with Contest("ours", clip, options.seconds) as contest:
        idle = contest.measure()["server"]
        while True:
            came = contest.crowd("add 20")
            if came["refused"] or came["watching"] >= options.most:
                break
            contest.crowd("watch 0.5")
        print(f"  as many as are let in: {came['watching']}, then {came['refused']}")
        tell("let in", contest.measure(), idle)


def aiortc(clip: Path, options: argparse.Namespace) -> None:
    with Contest("aiortc", clip, options.seconds) as contest:
        idle = contest.measure()["server"]
        for count in options.others:
            contest.crowd(f"add {count}")
            tell("aiortc", contest.measure(), idle)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--viewers", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--most", type=int, default=800, help="where the search for the largest number ends")
    parser.add_argument(
        "--others",
        type=int,
        nargs="*",
        default=[10, 10],
        help="viewers that aiortc's server gets, one after another",
    )
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--clip", type=Path)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](options.clip)
        return
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder))
        ours(clip, options)
        limited(clip, options)
        if options.others:
            aiortc(clip, options)


if __name__ == "__main__":
    main()
