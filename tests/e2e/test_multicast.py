"""Multicast between two hosts: a real encoder into the server on one, real receivers on the other."""

import io
import json
import random
import re
import shutil
import signal
import socket
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from twisted.trial.unittest import TestCase

from oxidecast.formats.fec import COLUMN_PORT, ROW_PORT, FECDecoder
from oxidecast.formats.rtp import RTPPacket
from tests.delivery.receiving import Received, Receiver
from tests.e2e.netns import LINK, SENDER_4, Network
from tests.e2e.programs import FFMPEG_5, Program, Server, publish, until
from tests.e2e.ts import Stream, p99
from tests.e2e.vlc import watching

GROUP, PORT = "239.255.0.1", 30_000
GOP = 1.0
"""Seconds between the encoder's keyframes."""


class MulticastCase(TestCase):
    """Two hosts. `start` runs a server on one; the test itself stands there too, so that it reaches the API."""

    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.network.remove)
        self.folder = Path(tempfile.mkdtemp(prefix="oxidecast-multicast-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.stack.enter_context(self.network.sender.entered())

    def start(self, settings: Mapping[str, str] | None = None, *arguments: str) -> Server:
        data = self.folder / f"server-{time.monotonic_ns()}"
        data.mkdir()
        chosen = {
            "OXIDECAST_MULTICAST_INTERFACE": LINK,
            "OXIDECAST_STREAMS_PUBLISHER_GRACE": "5",
            **(settings or {}),
        }
        server = self.stack.enter_context(Server(data, *arguments, settings=chosen))
        self.addCleanup(server.assert_clean)
        return server

    def encode(self, server: Server, key: str, **how: Any) -> Program:
        log = self.folder / f"encoder-{time.monotonic_ns()}.log"
        return self.stack.enter_context(publish(server.ingest(key), log, **{"gop": 30, **how}))

    def live(self, server: Server, title: str = "News", **how: Any) -> str:
        name, key = server.new_stream(title)
        self.encode(server, key, **how)
        server.wait_live(name)
        return name

    def receive(
        self, group: str = GROUP, port: int = PORT, source: str = "", seconds: float = 0
    ) -> tuple[Receiver, list[Received]]:
        """Join on the other host, and listen."""
        with self.network.receiver.entered():
            receiver = Receiver(group, port, LINK, source)
        self.addCleanup(receiver.close)
        return receiver, listen(receiver, seconds)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}-{time.monotonic_ns()}.log"

    def on_receiver(self, *command: str) -> Program:
        log = self.log(Path(command[0]).name)
        program = self.stack.enter_context(Program([*self.network.receiver.command, *command], log))
        # A `timeout` that is killed leaves its program behind; one that is asked to end takes it along.
        self.stack.callback(end, program)
        return program


def end(program: Program) -> None:
    if program.process.poll() is None:
        program.process.terminate()
        program.process.wait(10)


def listen(
    receiver: Receiver, seconds: float, enough: Callable[[list[Received]], bool] = lambda _: False
) -> list[Received]:
    """What comes in so many seconds."""
    received: list[Received] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not enough(received):
        received += receiver.read()
        time.sleep(0.02)
    return received


def stream_of(received: list[Received]) -> Stream:
    return Stream((one.at, one.data) for one in received)


class PlayersTests(MulticastCase):
    """What people watch with."""

    def test_vlc_plays_and_loses_nothing(self) -> None:
        server = self.start()
        name = self.live(server)
        self.assertEqual(server.stream(name)["stream_urls"]["multicast"], f"udp://@{GROUP}:{PORT}")
        with watching(f"udp://@{GROUP}:{PORT}", self.log("vlc"), self.network.receiver) as player:
            counters = player.wait_frames(8 * 30, 30)
        self.assertEqual(counters.get("discontinuities", 0), 0)
        self.assertGreater(counters["buffers played"], 100)

    def test_vlc_plays_the_channel_list(self) -> None:
        server = self.start()
        self.live(server, "Morning, “Höhe”")
        channels = self.folder / "channels.m3u"
        channels.write_bytes(server.get("/api/v1/multicast/channels.m3u")[1])
        self.folder.chmod(0o755)
        with watching(str(channels), self.log("vlc"), self.network.receiver) as player:
            player.wait_frames(60, 30)
            self.assertIn("Morning “Höhe”", player.playlist())

    def test_vlc_lists_what_is_announced(self) -> None:
        server = self.start({"OXIDECAST_MULTICAST_SAP": "true"})
        self.live(server, "Evening show")
        _, key = server.new_stream("A private one", is_private=True)
        self.encode(server, key)
        more = ("--services-discovery=sap",)
        with watching("", self.log("vlc"), self.network.receiver, more) as player:
            until(lambda: "Evening show" in player.playlist(), 30, "VLC lists the stream")
            self.assertNotIn("A private one", player.playlist())

    def test_ffmpeg_finds_no_break(self) -> None:
        server = self.start()
        self.live(server)
        address = f"udp://{GROUP}:{PORT}?localaddr=10.77.0.2&fifo_size=100000"
        reader = ["-v", "debug", "-i", address, "-map", "0", "-c", "copy", "-t", "6", "-f", "null", "-"]
        program = self.on_receiver("timeout", "40", FFMPEG_5, "-nostdin", *reader)
        self.assertEqual(program.process.wait(40), 0, program.output[-2000:])
        self.assertNotIn("Continuity check failed", program.output)
        self.assertIn("service_name    : News", program.output)
        self.assertGreater(int(re.findall(r"frame= *(\d+)", program.output)[-1]), 4 * 30)

    def test_gstreamer_finds_no_break(self) -> None:
        server = self.start()
        self.live(server)
        source = [
            "udpsrc",
            f"address={GROUP}",
            f"port={PORT}",
            f"multicast-iface={LINK}",
            "buffer-size=4000000",
        ]
        sink = ["fakesink", "sync=false", "silent=false"]
        picture = ["d.", "!", "queue", "!", "h264parse", "!", *sink, "name=picture"]
        sound = ["d.", "!", "queue", "!", "aacparse", "!", *sink, "name=sound"]
        debug = ["env", "GST_DEBUG=tsdemux:4,mpegtspacketizer:4"]
        program = self.on_receiver(
            *debug,
            "timeout",
            "60",
            "gst-launch-1.0",
            "-v",
            *source,
            "!",
            "tsdemux",
            "name=d",
            *picture,
            *sound,
        )
        until(lambda: program.output.count("(picture:sink) (") > 8 * 30, 40, "GStreamer has pictures")
        self.assertGreater(program.output.count("(sound:sink) ("), 100)
        self.assertNotIn("CONTINUITY: Mismatch", program.output)

    def test_sound_and_pictures_stay_together(self) -> None:
        server = self.start()
        name, key = server.new_stream("Flash and beep")
        self.stack.enter_context(flash_and_beep(server.ingest(key), self.log("encoder")))
        server.wait_live(name)
        receiver, _ = self.receive()
        data = b"".join(one.data for one in listen(receiver, 8))
        offsets = apart(data)
        self.assertGreater(len(offsets), 4)
        self.assertLess(max(map(abs, offsets)), 0.04, offsets)


class WireTests(MulticastCase):
    """What is on the wire."""

    def test_a_late_receiver_starts_within_a_group_of_pictures(self) -> None:
        server = self.start()
        self.live(server)
        for _ in range(3):
            began = time.time()
            receiver, _ = self.receive()
            received = listen(
                receiver, 5, lambda received: any(pid == 0x100 for _, pid in stream_of(received).starts)
            )
            stream = stream_of(received)
            # Joining takes the network a moment, and what arrives was sent up to 0.2 s ago.
            self.assertLess(stream.starts[0][0] - began, GOP + 0.5)
            for table in (0x00, 0x11, 0x1000):
                self.assertLess(stream.tables[table][0] - received[0].at, 0.2)
            receiver.close()

    def test_a_takeover_breaks_no_counter(self) -> None:
        server = self.start()
        name, key = server.new_stream("Handed over")
        self.encode(server, key)
        server.wait_live(name)
        with watching(f"udp://@{GROUP}:{PORT}", self.log("vlc"), self.network.receiver) as player:
            player.wait_frames(60, 30)
            receiver, received = self.receive()
            received += listen(receiver, 1)
            self.encode(server, key, size="426x240")
            received += listen(receiver, 5)
            until(lambda: server.stream(name)["tracks"][0]["width"] == 426, 10, "the newcomer has taken over")
            received += listen(receiver, 3)
            # VLC goes on without being told.
            player.wait_frames(60, 30)
        stream = stream_of(received)
        self.assertEqual(stream.faults, [])
        self.assertGreater(stream.broken[0x100], 0)
        self.assertGreater(stream.broken[0x1001], 0)

    def test_a_stream_that_comes_again_with_another_codec_is_heard(self) -> None:
        """By a player that stayed tuned over its end."""
        server = self.start({"OXIDECAST_STREAMS_PUBLISHER_GRACE": "1"})
        name, key = server.new_stream("Other sound")
        encoder = self.encode(server, key)
        server.wait_live(name)
        with watching(f"udp://@{GROUP}:{PORT}", self.log("vlc"), self.network.receiver) as player:
            player.wait_frames(60, 30)
            encoder.stop(signal.SIGKILL)
            until(lambda: server.stream(name)["state"] == "idle", 10, "the stream is over")
            self.encode(server, key, audio=("libmp3lame", "-b:a", "96k"))
            server.wait_live(name)
            before = player.counters()["buffers played"]
            until(lambda: player.counters().get("buffers played", 0) > before + 100, 20, "the sound goes on")

    def test_an_encoder_that_comes_back_leaves_the_group_tuned(self) -> None:
        server = self.start()
        name, key = server.new_stream("Back again")
        encoder = self.encode(server, key)
        server.wait_live(name)
        receiver, received = self.receive()
        received += listen(receiver, 1)
        encoder.stop(signal.SIGKILL)
        received += listen(receiver, 2)
        self.encode(server, key)
        until(lambda: server.stream(name)["state"] == "live", 10, "the encoder is back")
        received += listen(receiver, 3)
        stream = stream_of(received)
        self.assertEqual(stream.faults, [])
        self.assertLess(max(later.at - earlier.at for earlier, later in pairwise(received)), 0.2)
        self.assertGreater(stream.starts[-1][0], received[-1].at - GOP - 0.5)

    def test_a_constant_rate_is_constant(self) -> None:
        rate = 2_000_000
        server = self.start({"OXIDECAST_MULTICAST_CBR": "true", "OXIDECAST_MULTICAST_RATE": str(rate)})
        self.live(server, size="320x180")
        receiver, _ = self.receive()
        received = listen(receiver, 5)
        stream = stream_of(received)
        self.assertEqual(stream.faults, [])
        self.assertGreater(stream.packets[0x1FFF], 0)
        seconds = received[-1].at - received[0].at
        found = sum(len(one.data) for one in received[1:]) * 8 / seconds
        self.assert_within(found, rate, 0.02 * rate)

    def test_an_encoder_beyond_the_constant_rate_is_told_of(self) -> None:
        server = self.start({"OXIDECAST_MULTICAST_RATES": '{"source": 320000}'})
        name = self.live(server, size="1280x720")
        until(
            lambda: any("constant rate of 320000" in notice for notice in server.stream(name)["notices"]),
            20,
            "people are told",
        )
        receiver, _ = self.receive()
        self.assertEqual(stream_of(listen(receiver, 2)).faults, [])

    def test_source_specific_groups(self) -> None:
        server = self.start({"OXIDECAST_MULTICAST_BASE_ADDRESS": "232.1.1.1"})
        name = self.live(server)
        address = f"udp://{SENDER_4}@232.1.1.1:{PORT}"
        self.assertEqual(server.stream(name)["stream_urls"]["multicast"], address)
        _, received = self.receive("232.1.1.1", PORT, SENDER_4, 2)
        self.assertEqual(stream_of(received).faults, [])
        self.assertGreater(len(received), 20)
        _, nothing = self.receive("232.1.1.1", PORT, "10.77.0.9", 1)
        self.assertEqual(nothing, [])
        with watching(address, self.log("vlc"), self.network.receiver) as player:
            player.wait_frames(60, 30)

    def test_ipv6(self) -> None:
        server = self.start({"OXIDECAST_MULTICAST_BASE_ADDRESS": "ff15::7:1"})
        name = self.live(server)
        self.assertEqual(server.stream(name)["stream_urls"]["multicast"], f"udp://@[ff15::7:1]:{PORT}")
        _, received = self.receive("ff15::7:1", PORT, seconds=3)
        self.assertEqual(stream_of(received).faults, [])
        self.assertGreater(len(received), 50)

    def test_a_wire_that_is_cut_and_laid_again(self) -> None:
        server = self.start()
        name = self.live(server)
        receiver, received = self.receive(seconds=1)
        self.assertGreater(len(received), 20)
        self.network.cut()
        until(lambda: self.figures(server, name)["dropped"] > 0, 10, "what cannot be sent is counted")
        self.assertTrue(self.figures(server, name)["errors"])
        self.network.connect()
        receiver, _ = self.receive()
        received = listen(receiver, 15, lambda received: len(received) > 100)
        self.assertGreater(len(received), 100)
        self.assertEqual(server.output.count("sending fails"), 1, server.output)

    def figures(self, server: Server, name: str) -> dict[str, Any]:
        outputs = {output["name"]: output for output in server.stream(name)["outputs"]}
        figures: dict[str, Any] = outputs["multicast"]["stats"]["source"]
        return figures

    def assert_within(self, found: float, wanted: float, delta: float) -> None:
        self.assertLessEqual(abs(found - wanted), delta, f"{found} is not {wanted}")


COPIES = """
# Makes a second rendition of every stream, from the packets of the first.
from zope.interface import implementer
from oxidecast.interfaces import IEventListener, ISubscriber
from oxidecast.registry import Plugin

@implementer(ISubscriber)
class Copy:
    def __init__(self, stream):
        self.stream = stream
        self.rendition = stream.add_rendition("copy", stream.renditions["source"].tracks)
        stream.renditions["source"].subscribe(self)
    def packet(self, packet): self.rendition.push(packet)
    def restarted(self, reason): self.rendition.restart(self.stream.renditions["source"].tracks, reason)
    def ended(self, reason): ...

@implementer(IEventListener)
class Copies:
    def stream_started(self, stream): Copy(stream)
    def stream_stopped(self, stream, reason): ...
    def viewer_joined(self, stream, viewer): ...
    def viewer_left(self, stream, viewer): ...
    def recording_closed(self, stream, path): ...

copies = Plugin("copies", IEventListener, lambda settings, services: Copies())
"""


class ManyGroupsTests(MulticastCase):
    def test_two_streams_of_two_renditions(self) -> None:
        plugins = self.folder / "plugins"
        plugins.mkdir()
        (plugins / "copies_dropin.py").write_text(COPIES)
        settings = {"OXIDECAST_PLUGINS_PATH": f'["{plugins}"]'}
        server = self.start(settings)
        for title, size in (("First", "640x360"), ("Second", "426x240")):
            self.live(server, title, size=size)
        addresses = [(f"239.255.0.{n + 1}", PORT + n) for n in range(4)]
        receivers = [self.receive(*address)[0] for address in addresses]
        with watching(f"udp://@239.255.0.3:{PORT + 2}", self.log("vlc"), self.network.receiver) as player:
            player.wait_frames(150, 30)
        for receiver in receivers:
            received = receiver.read()
            self.assertGreater(len(received), 100)
            self.assertEqual(stream_of(received).faults, [])
        listed = json.loads(server.get("/api/v1/multicast/channels.json")[1])["data"]["channels"]
        self.assertEqual(
            [(one["stream"], one["rendition"], one["group"], one["port"]) for one in listed],
            [
                (stream, rendition, *address)
                for (stream, rendition), address in zip(
                    [(s, r) for s in ("first", "second") for r in ("source", "copy")], addresses, strict=True
                )
            ],
        )
        # Addresses are for good: in another order, after a restart, they are the same.
        server.restart()
        name, key = "second", server.command("key", "show", "second").stdout.strip()
        self.encode(server, key, size="426x240")
        server.wait_live(name)
        self.assertEqual(server.stream(name)["stream_urls"]["multicast"], f"udp://@239.255.0.3:{PORT + 2}")


class OnDemandTests(MulticastCase):
    def test_a_quality_is_sent_for_who_has_joined_it(self) -> None:
        profile = '[{"name": "90p", "width": 160, "height": 90, "bitrate": 100000}]'
        server = self.start(
            {
                "OXIDECAST_TRANSCODING_MODE": "on_demand",
                "OXIDECAST_TRANSCODING_PRESET": "ultrafast",
                "OXIDECAST_TRANSCODING_PROFILES": profile,
            }
        )
        name, key = server.new_stream("Small", transcoding_profiles=["90p"])
        self.encode(server, key)
        server.wait_live(name)
        # Where it will be is known before it is made.
        query, address = "connection_type=multicast&quality_profile=90p", f"udp://@239.255.0.2:{PORT + 1}"
        self.assertEqual(server.call("GET", f"/streams/{name}/url?{query}")[1]["data"]["url"], address)
        receiver, nothing = self.receive("239.255.0.2", PORT + 1, seconds=1)
        self.assertEqual(nothing, [])
        wanted = {"connection_type": "multicast", "quality_profile": "90p"}
        status, joined = server.call("POST", f"/streams/{name}/join", wanted)
        self.assertEqual((status, joined["data"]["stream_url"]), (200, address))
        reader = ["-v", "info", "-i", f"{address}?localaddr=10.77.0.2&fifo_size=100000", "-map", "0"]
        program = self.on_receiver(
            "timeout", "40", FFMPEG_5, "-nostdin", *reader, "-frames:v", "30", "-f", "null", "-"
        )
        self.assertEqual(program.process.wait(40), 0, program.output[-2000:])
        self.assertIn("160x90", program.output)
        self.assertEqual(re.findall(r"frame= *(\d+)", program.output)[-1], "30")
        self.assertEqual(stream_of(receiver.read()).faults, [])
        self.assertEqual(server.call("DELETE", f"/viewers/{joined['data']['viewer_id']}")[0], 200)


class PrivateTests(MulticastCase):
    def test_a_private_stream_is_sent_when_its_owner_insists(self) -> None:
        server = self.start()
        name, key = server.new_stream("Board meeting", is_private=True)
        self.encode(server, key)
        server.wait_live(name)
        path = f"/streams/{name}/outputs/multicast"
        receiver, received = self.receive(seconds=1)
        self.assertEqual(received, [])
        self.assertNotIn("multicast", server.stream(name)["stream_urls"])
        status, answer = server.call("PUT", path, {"enabled": True}, server.admin)
        self.assertEqual((status, answer["code"]), (409, "not_confirmed"))
        self.assertIn("open_to_everybody", answer["error"])
        wanted = {"enabled": True, "open_to_everybody": True}
        status, answer = server.call("PUT", path, wanted, server.admin)
        self.assertEqual((status, answer["data"]["choices"]), (200, {**wanted, "renditions": {}}))
        received = listen(receiver, 5, lambda received: len(received) > 50)
        self.assertGreater(len(received), 50)
        status, answer = server.call(
            "GET", f"/streams/{name}/url?connection_type=multicast", token=server.admin
        )
        self.assertEqual((status, answer["data"]["url"]), (200, f"udp://@{GROUP}:{PORT}"))
        self.assertEqual(server.call("GET", f"/streams/{name}/url?connection_type=multicast")[0], 401)
        self.assertEqual(server.get("/api/v1/multicast/channels.m3u")[1], b"#EXTM3U\n")
        server.call("PUT", path, {"enabled": False}, server.admin)
        listen(receiver, 0.5)
        self.assertEqual(listen(receiver, 1), [])


class RTPTests(MulticastCase):
    def test_gstreamer_recovers_what_is_lost_on_the_way(self) -> None:
        """The server's own RTP and FEC; a relay before GStreamer loses packets as a seed says."""
        server = self.start({"OXIDECAST_MULTICAST_ENCAPSULATION": "rtp", "OXIDECAST_MULTICAST_FEC": "10x10"})
        self.live(server, size="640x360")
        with self.network.receiver.entered():
            receivers = {
                offset: Receiver(GROUP, PORT + offset, LINK) for offset in (0, COLUMN_PORT, ROW_PORT)
            }
            forward = self.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        for receiver in receivers.values():
            self.addCleanup(receiver.close)
        received = self.folder / "received.ts"
        media = "caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33"
        fec = "caps=application/x-rtp,media=video,clock-rate=90000,payload=96"
        source = ["udpsrc", "address=127.0.0.1", "buffer-size=4000000"]
        program = self.on_receiver(
            *["timeout", "90", "gst-launch-1.0", "rtpst2022-1-fecdec", "name=fec", "size-time=8000000000"],
            *[*source, "port=5000", media, "!", "fec.sink"],
            *[*source, f"port={5000 + COLUMN_PORT}", fec, "!", "fec.fec_0"],
            *[*source, f"port={5000 + ROW_PORT}", fec, "!", "fec.fec_1"],
            *["fec.src", "!", "rtpjitterbuffer", "latency=4000", "!", "rtpmp2tdepay", "!"],
            *["filesink", "buffer-mode=unbuffered", f"location={received}"],
        )
        until(lambda: "PLAYING" in program.output, 20, "GStreamer listens")
        for receiver in receivers.values():
            receiver.read()
        chance, lost = random.Random(7), 0
        ours, decoder, sent = [], FECDecoder(300), []
        deadline = time.monotonic() + 60
        # A burst of ten and a single one, and so far apart that no matrix holds two bursts.
        while len(sent) < 1200 and time.monotonic() < deadline:
            time.sleep(0.01)
            for offset, receiver in receivers.items():
                for one in receiver.read():
                    if offset:
                        ours += decoder.fec(one.data)
                    else:
                        place = len(sent) % 200
                        if place == 0:
                            burst, single = chance.randrange(50), 70 + chance.randrange(25)
                        sent.append(one.data)
                        if len(sent) > 200 and (burst <= place < burst + 10 or place == single):
                            lost += 1
                            continue
                        ours += decoder.media(one.data)
                    forward.sendto(one.data, ("127.0.0.1", 5000 + offset))
        self.assertGreaterEqual(len(sent), 1200)
        self.assertGreaterEqual(lost, 55)
        # The last matrix's columns come with the next one's packets.
        whole = b"".join(RTPPacket.parse(data).payload for data in sent[:1000])
        until(lambda: received.stat().st_size >= len(whole), 20, "GStreamer has everything")
        self.assertTrue(received.read_bytes().startswith(whole), "every packet was recovered")
        self.assertEqual(ours[:1000], sent[:1000])
        self.assertGreaterEqual(decoder.recovered, 44)
        numbers = [RTPPacket.parse(data).sequence for data in sent]
        self.assertTrue(all((later - earlier) % 0x10000 == 1 for earlier, later in pairwise(numbers)))

    def test_vlc_plays_rtp(self) -> None:
        """VLC counts no frames of RTP, and words of its log depend on the moment at which it joins: where no keyframe
        comes while it fills its buffer, its "first picture" is never told of. So it writes what it shows to a file."""
        server = self.start({"OXIDECAST_MULTICAST_ENCAPSULATION": "rtp"})
        name = self.live(server, size="320x180")
        address = server.stream(name)["stream_urls"]["multicast"]
        self.assertEqual(address, f"rtp://@{GROUP}:{PORT}")
        shown = self.folder / "shown.yuv"
        shown.touch()
        shown.chmod(0o666)
        self.folder.chmod(0o755)
        picture = 320 * 180 * 3 // 2

        def pictures() -> int:
            return shown.stat().st_size // picture

        more = ("-vv", "--vout=yuv", f"--yuv-file={shown}")
        with watching(address, self.log("vlc"), self.network.receiver, more) as player:
            # The first ones may be late, while decoder and output are made.
            until(lambda: pictures() > 30, 30, "VLC shows pictures")
            before = len(player.output)
            start = pictures()
            until(lambda: pictures() > start + 4 * 30, 20, "VLC goes on")
            for words in ("TS discontinuity", "buffer deadlock"):
                self.assertNotIn(words, player.output[before:])
        with shown.open("rb") as file:
            different = {file.read(picture) for _ in range(pictures())}
        self.assertGreater(len(different), 4 * 30)


@pytest.mark.alone
class TimingTests(MulticastCase):
    """Counted to the millisecond, so nothing else may run."""

    def check_clock(self, size: str = "640x360", **settings: str) -> None:
        server = self.start(settings)
        self.live(server, size=size)
        receiver, _ = self.receive(seconds=1)
        receiver.read()
        received = listen(receiver, 15)
        stream = stream_of(received)
        self.assertEqual(stream.faults, [])
        intervals = stream.clock_intervals()
        self.assertGreater(len(intervals), 300)
        self.assertLessEqual(p99(intervals), 0.04)
        self.assertLess(p99(stream.clock_jitter()), 0.005)
        gaps = [later.at - earlier.at for earlier, later in pairwise(received)]
        self.assertLess(p99(gaps), 0.025)

    def test_the_clock_at_a_variable_rate(self) -> None:
        self.check_clock()

    def test_the_clock_at_a_constant_rate(self) -> None:
        self.check_clock(OXIDECAST_MULTICAST_CBR="true", OXIDECAST_MULTICAST_RATE="4000000")

    def test_the_clock_of_a_slow_group(self) -> None:
        self.check_clock("320x180", OXIDECAST_MULTICAST_CBR="true", OXIDECAST_MULTICAST_RATE="1000000")

    def test_the_delay_from_publish_to_wire(self) -> None:
        """A frame's decoding time is the lead behind the clock that it leaves at, less what it waited."""
        server = self.start()
        self.live(server)
        receiver, _ = self.receive(seconds=2)
        stream = stream_of(listen(receiver, 10))
        self.assertGreater(len(stream.waits), 200)
        # The lead is 450 ms; a frame that left at once would be that early.
        self.assertLess(0.45 - min(stream.waits), 0.2, sorted(stream.waits)[:5])
        self.assertGreater(min(stream.waits), 0)


def flash_and_beep(url: str, log: Path) -> Program:
    """An encoder whose picture is white, and whose tone sounds, for the first tenth of every second."""
    picture = "color=black:s=320x180:r=30,drawbox=c=white:t=fill:enable='lt(mod(t,1),0.1)'"
    sound = "aevalsrc='0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000"
    return Program(
        ["setpriv", "--pdeathsig=KILL", "timeout", "120", FFMPEG_5, "-v", "error", "-nostdin"]
        + ["-re", "-f", "lavfi", "-i", picture, "-re", "-f", "lavfi", "-i", sound]
        + ["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-bf", "2", "-pix_fmt", "yuv420p"]
        + ["-c:a", "aac", "-b:a", "96k", "-f", "flv", url],
        log,
    )


def apart(data: bytes) -> list[float]:
    """Seconds by which each beep comes after its flash, as a decoder has them."""
    flashes, beeps = [], []
    with av.open(io.BytesIO(data), format="mpegts") as container:
        dark = silent = False
        quiet_since = 0.0
        for frame in container.decode(video=0, audio=0):
            if frame.pts is None:
                continue
            at = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                plane = bytes(frame.reformat(format="gray").planes[0])
                bright = sum(plane) > 128 * len(plane)
                if bright and dark:
                    flashes.append(at)
                dark = not bright
            elif isinstance(frame, av.AudioFrame):
                samples = array("f", bytes(frame.planes[0]))
                loud = next((index for index, sample in enumerate(samples) if abs(sample) > 0.2), None)
                if loud is not None:
                    if silent and at - quiet_since > 0.3:
                        beeps.append(at + loud / frame.sample_rate)
                    silent = False
                elif not silent:
                    silent, quiet_since = True, at
    return [
        min((beep - flash for beep in beeps), key=abs)
        for flash in flashes[:-1]
        if beeps and beeps[0] - 0.5 < flash < beeps[-1] + 0.5
    ]
