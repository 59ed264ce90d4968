"""What takes minutes: `make soak`. The short forms are in `tests/e2e/test_multicast.py`."""

import re
import time
from itertools import pairwise
from pathlib import Path

from tests.e2e.netns import LINK
from tests.e2e.programs import FFMPEG_5, Program, until
from tests.e2e.test_multicast import COPIES, GROUP, PORT, MulticastCase, listen, stream_of
from tests.e2e.ts import Stream, p99
from tests.e2e.vlc import watching

MINUTE = 60
LONG = 5 * MINUTE
FAST = 20_000_000
HISTOGRAM = (0.002, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.05)


def gaps(stream_times: list[float]) -> str:
    """How long it was between two datagrams, as a table."""
    found = sorted(later - earlier for earlier, later in pairwise(stream_times))
    rows = [
        f"{bound * 1000:g} ms: {sum(gap <= bound for gap in found) / len(found):.4%}" for bound in HISTOGRAM
    ]
    return f"gaps p99 {p99(found) * 1000:.1f} ms, longest {found[-1] * 1000:.1f} ms; within " + ", ".join(
        rows
    )


class SoakTests(MulticastCase):
    timeout = 900

    def test_a_minute_of_two_streams_of_two_renditions(self) -> None:
        """VLC, FFmpeg and GStreamer at once: nothing is lost."""
        plugins = self.folder / "plugins"
        plugins.mkdir()
        (plugins / "copies_dropin.py").write_text(COPIES)
        server = self.start({"OXIDECAST_PLUGINS_PATH": f'["{plugins}"]'})
        for title, size in (("First", "640x360"), ("Second", "426x240")):
            self.live(server, title, size=size, seconds=300)
        receivers = [self.receive(f"239.255.0.{n + 1}", PORT + n)[0] for n in range(4)]
        address = f"udp://239.255.0.2:{PORT + 1}?localaddr=10.77.0.2&fifo_size=100000"
        reader = [
            "-v",
            "debug",
            "-i",
            address,
            "-map",
            "0",
            "-c",
            "copy",
            "-t",
            str(MINUTE),
            "-f",
            "null",
            "-",
        ]
        ffmpeg = self.on_receiver("timeout", "120", FFMPEG_5, "-nostdin", *reader)
        source = ["udpsrc", "address=239.255.0.3", f"port={PORT + 2}", f"multicast-iface={LINK}"]
        sink = ["fakesink", "sync=false", "silent=false", "name=picture"]
        gstreamer = self.on_receiver(
            *["env", "GST_DEBUG=tsdemux:4,mpegtspacketizer:4", "timeout", "120", "gst-launch-1.0", "-v"],
            *[*source, "buffer-size=4000000", "!", "tsdemux", "!", "h264parse", "!", *sink],
        )
        streams = [Stream() for _ in receivers]
        with watching(f"udp://@{GROUP}:{PORT}", self.log("vlc"), self.network.receiver) as player:
            until(lambda: player.counters().get("frames displayed"), 30, "VLC plays")
            before, began = player.counters(), time.monotonic()
            while time.monotonic() < began + MINUTE:
                for stream, receiver in zip(streams, receivers, strict=True):
                    for one in receiver.read():
                        stream.take(one.at, one.data)
                time.sleep(0.05)
            after = player.counters()
        shown = after["frames displayed"] - before["frames displayed"]
        print(
            f"VLC: {shown} frames displayed in {MINUTE} s, {after['frames lost'] - before['frames lost']} lost,"
            f" {after.get('discontinuities', 0)} discontinuities"
        )
        self.assertGreater(shown, MINUTE * 30 * 0.98)
        self.assertEqual(after["frames lost"] - before["frames lost"], 0)
        self.assertEqual(after.get("discontinuities", 0), 0)
        for stream in streams:
            self.assertEqual(stream.faults, [])
        ffmpeg.process.wait(60)
        self.assertNotIn("Continuity check failed", ffmpeg.output)
        frames = int(re.findall(r"frame= *(\d+)", ffmpeg.output)[-1])
        print(f"FFmpeg: {frames} frames; GStreamer: {gstreamer.output.count('(picture:sink) (')} buffers")
        self.assertGreater(frames, (MINUTE - 3) * 30)
        self.assertGreater(gstreamer.output.count("(picture:sink) ("), (MINUTE - 5) * 30)
        self.assertNotIn("CONTINUITY: Mismatch", gstreamer.output)

    def test_five_minutes_of_twenty_megabits(self) -> None:
        """tshark and FFmpeg find every transport packet; the clock is what DVB asks for."""
        server = self.start()
        name, key = server.new_stream("Fast")
        self.encode_fast(server.ingest(key))
        server.wait_live(name)
        capture = self.folder / "wire.pcap"
        dump = self.on_receiver(
            *[
                "timeout",
                str(LONG + 60),
                "tshark",
                "-q",
                "-i",
                LINK,
                "-f",
                f"udp port {PORT}",
                "-w",
                str(capture),
            ],
            *["-a", f"duration:{LONG}", "-B", "64"],
        )
        address = f"udp://{GROUP}:{PORT}?localaddr=10.77.0.2&fifo_size=1000000&buffer_size=8000000"
        reader = ["-v", "debug", "-i", address, "-map", "0", "-c", "copy", "-t", str(LONG), "-f", "null", "-"]
        ffmpeg = self.on_receiver("timeout", str(LONG + 60), FFMPEG_5, "-nostdin", *reader)
        receiver, _ = self.receive()
        stream, times, octets = Stream(), [], 0
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            for one in receiver.read():
                stream.take(one.at, one.data)
                times.append(one.at)
                octets += len(one.data)
            time.sleep(0.02)
        dump.process.wait(60)
        ffmpeg.process.wait(60)
        intervals, jitter = stream.clock_intervals(), stream.clock_jitter()
        rate = octets * 8 / (times[-1] - times[0])
        print(
            f"{rate / 1e6:.1f} Mbit/s, {sum(stream.packets.values())} transport packets, {len(stream.faults)} faults"
        )
        print(f"PCR interval p99 {p99(intervals) * 1000:.1f} ms, longest {max(intervals) * 1000:.1f} ms")
        print(f"PCR jitter p99 {p99(jitter) * 1000:.2f} ms; {gaps(times)}")
        self.assertGreater(rate, FAST * 0.8)
        self.assertEqual(stream.faults, [])
        self.assertNotIn("Continuity check failed", ffmpeg.output)
        found = self.tshark(capture)
        print(found)
        self.assertNotIn("missing", found)
        self.assertGreater(capture.stat().st_size, octets, "and it has seen them all")
        self.assertLessEqual(p99(intervals), 0.04)
        self.assertLess(p99(jitter), 0.005)

    def encode_fast(self, url: str) -> Program:
        """A clip of 20 Mbit/s, made once and sent over and over: to encode that would take all of this machine."""
        clip = self.folder / "fast.flv"
        made = Program(
            [FFMPEG_5, "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"]
            + [
                "-f",
                "lavfi",
                "-i",
                "sine=sample_rate=48000",
                "-t",
                "20",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
            ]
            + ["-g", "30", "-b:v", str(FAST), "-minrate", str(FAST), "-maxrate", str(FAST), "-bufsize", "5M"]
            + ["-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p", "-c:a", "aac", str(clip)],
            self.log("clip"),
        )
        self.assertEqual(made.process.wait(120), 0, made.output)
        send = [
            "-re",
            "-stream_loop",
            "-1",
            "-i",
            str(clip),
            "-c",
            "copy",
            "-t",
            str(LONG + 60),
            "-f",
            "flv",
            url,
        ]
        return self.stack.enter_context(
            Program(
                ["setpriv", "--pdeathsig=KILL", FFMPEG_5, "-v", "error", "-nostdin", *send], self.log("fast")
            )
        )

    def tshark(self, capture: Path) -> str:
        """What its expert says of the capture."""
        read = [
            "timeout",
            "300",
            "tshark",
            "-r",
            str(capture),
            "-d",
            f"udp.port=={PORT},mp2t",
            "-q",
            "-z",
            "expert",
        ]
        program = self.on_receiver(*read)
        program.process.wait(300)
        return program.output

    def test_gaps_at_a_constant_rate(self) -> None:
        """With `burst` 7, the default, and with `burst` 1."""
        for burst in ("7", "1"):
            settings = {
                "OXIDECAST_MULTICAST_CBR": "true",
                "OXIDECAST_MULTICAST_RATE": "5000000",
                "OXIDECAST_MULTICAST_BURST": burst,
                "OXIDECAST_MULTICAST_BASE_ADDRESS": f"239.255.{burst}.1",
            }
            server = self.start(settings)
            self.live(server, f"Burst {burst}")
            receiver, _ = self.receive(f"239.255.{burst}.1", seconds=1)
            receiver.read()
            received = listen(receiver, MINUTE)
            self.assertEqual(stream_of(received).faults, [])
            times = [one.at for one in received]
            print(f"burst {burst}: {gaps(times)}")
            # One burst is 10 ms of the stream; timers are good for one or two more.
            self.assertLess(p99([later - earlier for earlier, later in pairwise(times)]), 0.0125)
            server.stop()
