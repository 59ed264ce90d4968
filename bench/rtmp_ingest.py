"""CPU of a server per RTMP publisher, side by side with nginx-rtmp: `python bench/rtmp_ingest.py`.

Debian's ffmpeg sends one prepared clip (`-c copy`, so that encoding costs nothing) to each server in turn, by many
connections at once; what is counted is the server's own CPU time in /proc, less what it takes when idle. nginx-rtmp
only takes the stream; OxideCast is measured twice: like that (`plugins.disabled = ["hls"]`), and with HLS made of it.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.programs import FFMPEG_5, free_port, server, until  # noqa: E402

PUBLISHERS = 20
BITRATE = 600_000
SECONDS = 15.0
ROUNDS = 3

NGINX = """
daemon off; worker_processes 1; error_log {folder}/error.log; pid {folder}/nginx.pid;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096; application live {{ live on; }} }} }}
"""


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, its ended children left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy(pid: int, seconds: float = SECONDS) -> float:
    """Percent of a core that a process uses now."""
    began, before = time.monotonic(), cpu(pid)
    time.sleep(seconds)
    return 100 * (cpu(pid) - before) / (time.monotonic() - began)


def make_clip(folder: Path) -> Path:
    """Ten seconds of H.264 and AAC at `BITRATE`."""
    clip = folder / "clip.flv"
    video = BITRATE - 64_000
    subprocess.run(
        [FFMPEG_5, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-f", "lavfi"]
        + ["-i", "sine=sample_rate=48000", "-t", "10", "-c:v", "libx264", "-preset", "veryfast", "-g", "60"]
        + ["-b:v", str(video), "-minrate", str(video), "-maxrate", str(video), "-bufsize", str(video // 2)]
        + ["-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", "64k", str(clip)],
        check=True,
    )
    return clip


@contextmanager
def publishers(clip: Path, urls: list[str]) -> Iterator[None]:
    children = [
        subprocess.Popen(
            [FFMPEG_5, "-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
            + ["-f", "flv", url],
            stderr=subprocess.DEVNULL,
        )
        for url in urls
    ]
    try:
        time.sleep(5)
        yield
        assert all(child.poll() is None for child in children), "a publisher was thrown out"
    finally:
        for child in children:
            child.kill()
            child.wait()


def ours(clip: Path, hls: bool) -> float:
    settings = {"OXIDECAST_RTMP_MAX_CONNECTIONS_PER_ADDRESS": "1000", "OXIDECAST_RTMP_ENABLE_AUTH": "false"}
    if not hls:
        settings["OXIDECAST_PLUGINS_DISABLED"] = '["hls"]'
    with server(settings=settings) as running:
        pid = running.process.pid
        idle = busy(pid, 5)
        with publishers(clip, [running.ingest(f"stream-{number}") for number in range(PUBLISHERS)]):
            return (busy(pid) - idle) / PUBLISHERS


def nginx(clip: Path) -> float:
    with TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
        master = subprocess.Popen(
            ["nginx", "-p", name, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        try:
            children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
            worker = int(until(lambda: children.read_text().split(), 5, "nginx has a worker")[0])
            with publishers(clip, [f"rtmp://127.0.0.1:{port}/live/{number}" for number in range(PUBLISHERS)]):
                return busy(worker) / PUBLISHERS
        finally:
            master.terminate()
            master.wait()


def main() -> None:
    if shutil.which("nginx") is None:
        sys.exit("nginx is missing: apt-get install nginx-light libnginx-mod-rtmp")
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder))
        contenders: dict[str, Callable[[], float]] = {
            "nginx-rtmp": lambda: nginx(clip),
            "OxideCast without HLS": lambda: ours(clip, False),
            "OxideCast with HLS": lambda: ours(clip, True),
        }
        figures: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, measure in contenders.items():
                figures[name].append(measure())
    print(
        f"% of a core per publisher of {BITRATE // 1000} kbit/s ({PUBLISHERS} at once, median of {ROUNDS}):"
    )
    rival = statistics.median(figures["nginx-rtmp"])
    for name, values in figures.items():
        median = statistics.median(values)
        print(
            f"  {name:<22} {median:.3f}  ({median / rival:.2f} of nginx-rtmp)  {[round(v, 3) for v in values]}"
        )


if __name__ == "__main__":
    main()
