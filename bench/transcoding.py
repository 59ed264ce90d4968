"""What a ladder costs: CPU time of the transcoder's child beside one FFmpeg command with the same x264 settings.

1080p30 of some 5 Mbit/s, with sound, into 720p + 480p + 360p; both read the same coded stream as fast as they can, and
their CPU time (user and system, all threads) is what is compared. Run in turns, the medians count.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import msgspec

from oxidecast.formats import framed
from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.formats.framed_messages import End, Figures, Job
from oxidecast.media import TICKS, Track, aac, h264
from oxidecast.settings.sections import TranscodingSettings
from oxidecast.transcoding.backends import Software
from oxidecast.transcoding.profiles import Rendition, job, ladder, low_latency

NAMES = ("720p", "480p", "360p")


def source(ffmpeg: str, path: Path, seconds: int) -> None:
    """A moving picture with grain, which codes like a camera's."""
    pictures = (
        f"testsrc2=size=1920x1080:rate=30,noise=alls=12:allf=t:all_seed=1,gblur=0.7,trim=duration={seconds}"
    )
    sound = f"anoisesrc=a=0.1:d={seconds}:r=48000,aformat=channel_layouts=stereo"
    command = [ffmpeg, "-y", "-v", "error", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-sc_threshold", "0", "-bf", "2"]
    command += ["-b:v", "5M", "-maxrate", "5M", "-bufsize", "5M", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-c:a", "aac", "-b:a", "160k", str(path)], check=True)


def packets(path: Path) -> tuple[list[Track], list[FramedPacket]]:
    """The file as a publisher sends it."""
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        tracks = [h264.track(bytes(video.extradata or b"")), aac.track(bytes(audio.extradata or b""))]
        made = []
        for packet in file.demux(video, audio):
            if packet.dts is None or packet.pts is None:
                continue
            scale = packet.time_base * TICKS
            number, samples = (1, 0) if packet.stream is video else (2, 1024)
            dts, pts = (TICKS + round(at * scale) for at in (packet.dts, packet.pts))
            made.append(FramedPacket(number, dts, pts, packet.is_keyframe, bytes(packet), samples))
    return tracks, made


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Seconds of CPU that a process took, once it has ended well."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return usage.ru_utime + usage.ru_stime


def child() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "oxidecast.transcoding.worker", str(os.getpid()), "0"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ours(asked: Job, tracks: list[Track], sent: list[FramedPacket]) -> tuple[float, list[Any]]:
    """CPU seconds, and all that the child said."""
    data = framed.message(asked) + b"".join(framed.track(track) for track in tracks)
    data += b"".join(framed.packet(*msgspec.structs.astuple(packet)) for packet in sent)
    process = child()
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None

    def write() -> None:
        stdin.write(data + framed.message(End()))
        stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    said, reader = [], FrameReader()
    while chunk := stdout.read1(1 << 18):  # type: ignore[attr-defined]
        said += reader.receive(chunk)
    writer.join()
    return cpu(process), said


def latency(
    asked: Job, tracks: list[Track], sent: list[FramedPacket]
) -> tuple[dict[int, list[float]], float]:
    """Seconds from a picture's way in to its way out, by feed, in real time; and from the child's start to its first
    coded picture. Sent as they are decoded, so that the source's own B-frames are not counted."""
    process = child()
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None
    began, went, first = time.monotonic(), {}, 0.0

    def write() -> None:
        stdin.write(framed.message(asked) + b"".join(framed.track(track) for track in tracks))
        start = time.monotonic()
        for packet in sent:
            time.sleep(max(0.0, start + (packet.dts - sent[0].dts) / TICKS - time.monotonic()))
            if packet.track_id == 1:
                went[packet.pts] = time.monotonic()
            stdin.write(framed.packet(*msgspec.structs.astuple(packet)))
            stdin.flush()
        stdin.write(framed.message(End()))
        stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    took: dict[int, list[float]] = {feed.feed: [] for feed in asked.videos}
    reader = FrameReader()
    while chunk := stdout.read1(1 << 18):  # type: ignore[attr-defined]
        now = time.monotonic()
        for item in reader.receive(chunk):
            if isinstance(item, FramedPacket) and item.track_id in took:
                first = first or now - began
                took[item.track_id].append(now - went[item.pts])
    writer.join()
    cpu(process)
    return took, first


def theirs(
    ffmpeg: str, path: Path, renditions: tuple[Rendition, ...], backend: Software
) -> tuple[float, float]:
    """CPU seconds, and bits a second of all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        outs = {str(Path(folder, f"{one.name}.mp4")): one for one in renditions}
        labels = [f"v{at}" for at in range(len(outs))]
        graph = [f"[0:v]split={len(outs)}{''.join(f'[{label}i]' for label in labels)}"]
        outputs: list[str] = []
        for label, (out, one) in zip(labels, outs.items(), strict=True):
            graph.append(f"[{label}i]{backend.scaling(*one.size)}[{label}]")
            assert one.audio is not None
            sound = ["-map", "0:a", "-c:a", "aac", "-b:a", str(one.audio.bitrate)]
            outputs += ["-map", f"[{label}]", *backend.arguments(one.target), *sound, out]
        command = [ffmpeg, "-y", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path)]
        process = subprocess.Popen([*command, "-filter_complex", ";".join(graph), *outputs])
        seconds = cpu(process)
        bits = 0.0
        for out in outs:
            with av.open(out) as file:
                stream = file.streams.video[0]
                bits += (
                    8 * sum(p.size for p in file.demux(stream)) / float(stream.duration * stream.time_base)
                )
        return seconds, bits


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    system = shutil.which("ffmpeg") or "ffmpeg"
    programs = {"Debian's ffmpeg": system, "FFmpeg of imageio-ffmpeg": imageio_ffmpeg.get_ffmpeg_exe()}
    backend = Software(None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "source.mp4")
        source(system, path, arguments.seconds)
        tracks, sent = packets(path)
        profiles = TranscodingSettings().profiles
        renditions = ladder(profiles, NAMES, tracks[0], tracks[1]).renditions
        asked = msgspec.structs.replace(job(renditions, backend), lossless=True)
        results: dict[str, list[float]] = {"ours": [], **{name: [] for name in programs}}
        rates: dict[str, float] = {}
        for _ in range(arguments.runs):
            seconds, said = ours(asked, tracks, sent)
            results["ours"].append(seconds)
            made = [one for one in said if isinstance(one, FramedPacket) and one.track_id < 64]
            rates["ours"] = 8 * sum(len(one.payload) for one in made) / arguments.seconds
            figures = [one for one in said if isinstance(one, Figures)][-1]
            assert all(feed.made == feed.taken for feed in figures.feeds), figures
            for name, program in programs.items():
                seconds, rates[name] = theirs(program, path, renditions, backend)
                results[name].append(seconds)
        made = low_latency(renditions[-1], "360p, no B-frames")
        names = {one.video: one.name for one in (*renditions, made)}
        took, first = latency(job([*renditions, made], backend), tracks, sent)
    own = statistics.median(results["ours"])
    print("| | CPU, s | of a core in real time | ours / it | pictures, Mbit/s |")
    for name, times in results.items():
        middle = statistics.median(times)
        share = 100 * middle / arguments.seconds
        print(f"| {name} | {middle:.2f} | {share:.0f} % | {own / middle:.2f} | {rates[name] / 1e6:.2f} |")
    print(f"first coded picture {first:.2f} s after the child's start\n| added latency | p50 | p99 |")
    for feed, each in took.items():
        at = statistics.quantiles(each, n=100)
        print(f"| {names[feed]} | {1000 * at[49]:.0f} ms | {1000 * at[98]:.0f} ms |")


if __name__ == "__main__":
    main()
