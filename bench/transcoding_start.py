"""How much later than its source a rendition is: the whole server, with ffmpeg publishing 1080p30 by RTMP in real time.

Two figures, by a plugin of this script's inside the server, which watches renditions as any output does. *Latency*:
from the source's packet to the rendition's of the same `pts`. *Start*: from the end of the source's first segment (its
second keyframe) to the end of each rendition's first whole segment (its second keyframe).
"""

import argparse
import json
import statistics
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.transcoding import NAMES, source
from tests.e2e.programs import FFMPEG_5, Program, server, until

PLUGIN = """
    import json, os, time
    from zope.interface import implementer
    from oxidecast.interfaces import IOutput, IOutputStream, ISubscriber
    from oxidecast.registry import Plugin

    SEEN = {}

    @implementer(ISubscriber)
    class Watch:
        def __init__(self, name):
            self.seen = SEEN.setdefault(name, [])
        def packet(self, packet):
            if packet.track.is_video:
                self.seen.append((packet.pts, time.monotonic(), packet.keyframe))
        def restarted(self, reason): ...
        def ended(self, reason): ...

    @implementer(IOutputStream)
    class Stream:
        def __init__(self): self.subscriptions = []
        def rendition_added(self, rendition):
            self.subscriptions.append(rendition.subscribe(Watch(rendition.name)))
        def rendition_removed(self, name): ...
        def closed(self, reason):
            with open(os.environ["BENCH_SEEN"] + ".part", "w") as file:
                json.dump(SEEN, file)
            os.rename(os.environ["BENCH_SEEN"] + ".part", os.environ["BENCH_SEEN"])
        def urls(self, rendition): return {}
        def stats(self): return {}

    @implementer(IOutput)
    class Output:
        def open(self, stream): return Stream()
        def urls(self, info): return {}
        def routes(self): return {}

    bench = Plugin("bench", IOutput, lambda settings, services: Output())
"""


def run(path: Path, seconds: int) -> dict[str, list[tuple[int, float, bool]]]:
    """What was seen: by rendition, `pts`, the time, and whether it was a keyframe."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "oxidecast/plugins").mkdir(parents=True)
        (folder / "oxidecast/plugins/bench_dropin.py").write_text(textwrap.dedent(PLUGIN))
        seen = folder / "seen.json"
        settings = {
            "PYTHONPATH": f"{folder}:{Path(__file__).resolve().parents[1]}",
            "BENCH_SEEN": str(seen),
            "OXIDECAST_LOGGING_LEVEL": "info",
        }
        with server(settings=settings) as running:
            stream, key = running.new_stream("Bench", transcoding_profiles=list(NAMES))
            command = [FFMPEG_5, "-v", "error", "-re", "-i", str(path), "-c", "copy", "-t", str(seconds)]
            with Program([*command, "-f", "flv", running.ingest(key)], folder / "encoder.log") as encoder:
                encoder.process.wait()
            running.call("POST", f"/streams/{stream}/stop", token=running.admin)
            until(seen.exists, 20, "what was seen")
            found: dict[str, Any] = json.loads(seen.read_text())
            return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    starts: dict[str, list[float]] = {name: [] for name in NAMES}
    p50: dict[str, list[float]] = {name: [] for name in NAMES}
    p99: dict[str, list[float]] = {name: [] for name in NAMES}
    firsts: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "source.mp4")
        source(FFMPEG_5, path, arguments.seconds)
        for _ in range(arguments.runs):
            seen = run(path, arguments.seconds)
            went = {pts: at for pts, at, _ in seen["source"]}
            keys = [at for _, at, keyframe in seen["source"] if keyframe]
            for name in NAMES:
                own = [at for _, at, keyframe in seen[name] if keyframe]
                starts[name].append(own[1] - keys[1])
                firsts[name].append(own[0] - keys[0])
                # Without the first two seconds: what came while the child started is caught up with.
                begins = seen["source"][0][0] + 4 * 90_000
                late = [at - went[pts] for pts, at, _ in seen[name] if pts in went and pts > begins]
                cuts = statistics.quantiles(late, n=100)
                p50[name].append(cuts[49])
                p99[name].append(cuts[98])
            time.sleep(1)
    print("| | first picture | first segment | latency p50 | p99 |")
    for name in NAMES:
        row = [statistics.median(each[name]) for each in (firsts, starts, p50, p99)]
        print(f"| {name} |" + "".join(f" {1000 * one:.0f} ms |" for one in row))


if __name__ == "__main__":
    main()
