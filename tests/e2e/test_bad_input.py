"""Whatever a peer sends: a clear end or a stream that goes on, nothing that stays, and nobody else who notices."""

import random
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import m3u8
from twisted.trial.unittest import TestCase

from oxidecast.rtmp import messages
from tests.e2e.encoder import AUDIO, VIDEO, Encoder, Tag, material, shifted
from tests.e2e.hls import Watcher, packets
from tests.e2e.hostile import Peer
from tests.e2e.programs import Program, ServerCase, publish, server, until

PER_ADDRESS = 20
HANDSHAKE = 2.0
MEGABYTE = 1 << 20

GROWTH = 48 * MEGABYTE
"""Memory that Python's allocator may keep after a test; what leaks here would be hundreds of megabytes."""

AT_ONCE = 1.0
"""Seconds within which /health is answered, whatever others do."""


class BesideAnother(ServerCase):
    """Each test does its worst beside a stream that is published and watched all the time."""

    settings = {
        "OXIDECAST_RTMP_MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "OXIDECAST_RTMP_HANDSHAKE_TIMEOUT": str(HANDSHAKE),
        "OXIDECAST_STREAMS_PUBLISHER_GRACE": "1",
        "OXIDECAST_HLS_PLAYLIST_LENGTH": "100",
        "OXIDECAST_HLS_SEGMENT_DURATION": "1",
    }
    bystander: Program
    watcher: Watcher

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        name, key = cls.server.new_stream("Bystander")
        log = cls.server.folder / "bystander.log"
        cls.bystander = publish(cls.server.ingest(key), log, size="320x180", gop=30, seconds=600)
        cls._stack.enter_context(cls.bystander)
        cls.server.wait_live(name)
        cls.watcher = cls._stack.enter_context(Watcher(cls.server.media_playlist(name)[0]))

    def setUp(self) -> None:
        super().setUp()
        self.before = self.figures()

    def figures(self) -> dict[str, float]:
        names = ("process_open_fds", "process_resident_memory_bytes", "streaming_active_streams")
        return {name: self.server.metric(name) for name in names}

    def tearDown(self) -> None:
        """The other stream did not notice, and all is as it was before."""
        known = len(self.watcher.segments)
        until(
            lambda: len(self.watcher.segments) >= known + 2, 10, f"the other plays on: {self.watcher.faults}"
        )
        self.assertEqual(self.watcher.faults, [])
        self.assertEqual(self.watcher.discontinuities, 0)
        until(lambda: self.leftovers() == [], 15, f"nothing stays behind: {self.leftovers()}")
        self.assertNotIn("Traceback", self.server.output)
        super().tearDown()

    def leftovers(self) -> list[str]:
        after = self.figures()
        found = []
        for name, allowed in (
            ("process_open_fds", 1),  # this very look
            ("streaming_active_streams", 0),
            ("process_resident_memory_bytes", GROWTH),
        ):
            if after[name] > self.before[name] + allowed:
                found.append(f"{name}: {self.before[name]:.0f} before, {after[name]:.0f} after")
        return found

    def assert_answers_at_once(self) -> None:
        """One slow answer may be the machine's fault, which others keep busy; two in a row are the server's."""
        seconds = [self.seconds_to_answer()]
        if seconds[0] >= AT_ONCE:
            seconds.append(self.seconds_to_answer())
        self.assertLess(seconds[-1], AT_ONCE, seconds)

    def seconds_to_answer(self) -> float:
        began = time.monotonic()
        self.assertEqual(self.server.get("/health")[0], 200)
        return time.monotonic() - began


class HostilePeerTests(BesideAnother):
    """Peers that mean no good."""

    def assert_thrown_out(self, peer: Peer, words: str) -> None:
        """The peer is shown the door, and the log has a sentence with these words about it."""
        self.assertTrue(peer.thrown_out(5), "the server hangs up")
        self.assertIn(words, self.server.output)

    def test_random_bytes(self) -> None:
        noise = random.Random(1)
        for _ in range(50):
            with Peer(self.server.rtmp, shake=False) as peer:
                try:
                    peer.send(noise.randbytes(noise.randrange(1, 20_000)))
                    peer.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                self.assertTrue(peer.thrown_out(5))

    def test_random_bytes_after_a_good_handshake(self) -> None:
        noise = random.Random(2)
        for _ in range(50):
            with Peer(self.server.rtmp) as peer:
                try:
                    peer.send(noise.randbytes(noise.randrange(1, 20_000)))
                    peer.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                self.assertTrue(peer.thrown_out(5))

    def test_random_bytes_in_media(self) -> None:
        noise = random.Random(3)
        _, key = self.server.new_stream("Noise")
        for _ in range(30):
            with Encoder(self.server.rtmp, key).start() as encoder:
                try:
                    encoder.send(material()[:20])
                    for _ in range(20):
                        body = bytes((noise.choice((0x17, 0x27, 0x90, 0xAF, 0x2F, 0x91)),))
                        kind = noise.choice((AUDIO, VIDEO))
                        encoder.send([Tag(kind, 1000, body + noise.randbytes(noise.randrange(200)))])
                except (OSError, EOFError):
                    continue

    def test_half_a_handshake_then_silence(self) -> None:
        with Peer(self.server.rtmp, shake=False) as peer:
            peer.send(b"\x03" + bytes(700))
            began = time.monotonic()
            self.assertTrue(peer.thrown_out(HANDSHAKE + 8), "the server hangs up")
            self.assertGreater(time.monotonic() - began, HANDSHAKE - 0.5)

    def test_a_handshake_then_silence(self) -> None:
        with Peer(self.server.rtmp) as peer:
            self.assertTrue(peer.thrown_out(HANDSHAKE + 8), "the server hangs up")

    def test_ten_thousand_connections_from_one_address(self) -> None:
        # One of them is the other stream's.
        held = [Peer(self.server.rtmp, shake=False) for _ in range(PER_ADDRESS - 1)]
        try:
            opened = len(held)
            while opened < 10_000:
                batch = [socket.create_connection(("127.0.0.1", self.server.rtmp), 15) for _ in range(100)]
                opened += len(batch)
                for connection in batch:
                    with connection:
                        try:
                            self.assertEqual(connection.recv(1), b"", "one too many is hung up on")
                        except ConnectionResetError:
                            pass
                if opened % 2000 < 100:
                    self.assert_answers_at_once()
                    fds = self.server.metric("process_open_fds")
                    self.assertLess(fds, self.before["process_open_fds"] + PER_ADDRESS + 10)
                    # Those that are held have fallen silent in the handshake.
                    held += [Peer(self.server.rtmp, shake=False) for _ in range(2)]
        finally:
            for peer in held:
                peer.socket.close()

    def test_AMF_nested_seventy_thousand_deep(self) -> None:
        # Within the size that a command may have, and far beyond it.
        for levels in (15_000, 70_000):
            with Peer(self.server.rtmp) as peer:
                deep = b"\x02\x00\x07connect\x00\x3f\xf0" + bytes(6) + b"\x03\x00\x01a" * levels
                try:
                    peer.message(messages.COMMAND_AMF0, deep)
                except OSError:
                    pass
                self.assertTrue(peer.thrown_out(5))
        self.assertIn("nest deeper", self.server.output)

    def test_a_long_string_of_four_gigabytes(self) -> None:
        with Peer(self.server.rtmp) as peer:
            peer.message(messages.COMMAND_AMF0, b"\x02\x00\x07connect" + b"\x0c\xff\xff\xff\xff" + b"x" * 100)
            self.assert_thrown_out(peer, "4294967295 bytes")

    def test_sixteen_megabytes_announced_on_many_chunk_streams_before_publishing(self) -> None:
        with Peer(self.server.rtmp) as peer:
            peer.connect()
            peer.announce(4, 0xFFFFFF)
            self.assert_thrown_out(peer, "16777215")

    def test_sixteen_megabytes_sent_on_many_chunk_streams_by_a_publisher(self) -> None:
        _, key = self.server.new_stream("Large")
        with Peer(self.server.rtmp) as peer:
            peer.connect()
            peer.publish(key)
            peer.expect(b"NetStream.Publish.Start")
            peer.message(messages.SET_CHUNK_SIZE, (8 * MEGABYTE).to_bytes(4, "big"), csid=2)
            sent = 0
            try:
                for csid in range(3, 63):
                    head = bytes((csid,)) + bytes(3) + b"\xff\xff\xff\x09\x01\x00\x00\x00"
                    peer.send(head + bytes(8 * MEGABYTE))
                    sent += 8
            except OSError:
                pass
            self.assertTrue(peer.thrown_out(5), "the server hangs up")
            self.assertLess(sent, 200, "long before it has taken it all")

    def test_chunk_size_zero(self) -> None:
        with Peer(self.server.rtmp) as peer:
            peer.message(messages.SET_CHUNK_SIZE, bytes(4), csid=2)
            self.assert_thrown_out(peer, "Set Chunk Size says 0")

    def test_a_publish_name_of_ten_thousand_characters(self) -> None:
        with Peer(self.server.rtmp) as peer:
            peer.connect()
            peer.publish("n" * 10_000)
            self.assertTrue(peer.thrown_out(5))
            self.assertIn(b"NetStream.Publish.BadName", peer.received)

    def test_publish_names_that_are_paths_are_unknown_keys(self) -> None:
        for name in ("../../etc/passwd", "..", "/", "a/../b", "\x00", "%2e%2e%2f", "live\n"):
            with Peer(self.server.rtmp) as peer:
                peer.connect()
                peer.publish(name)
                self.assertTrue(peer.thrown_out(5), name)
                self.assertIn(b"NetStream.Publish.BadName", peer.received)
        self.assertNotIn("passwd\n", self.server.output)
        files = {path.name for path in (self.server.folder / "data").iterdir()}
        database = {"oxidecast.db", "oxidecast.db-wal", "oxidecast.db-shm"}
        own = {"secrets.toml", "admin-password", "server-id", "recordings"}
        self.assertLessEqual(files, database | own)

    def test_streams_are_made_without_end(self) -> None:
        with Peer(self.server.rtmp) as peer:
            peer.connect()
            try:
                for transaction in range(100):
                    peer.command("createStream", transaction + 3, None)
            except OSError:
                pass
            self.assert_thrown_out(peer, "createStream asks for more")

    def test_a_peer_that_never_reads(self) -> None:
        """Pings without end, the answers to which nobody fetches."""
        with Peer(self.server.rtmp) as peer:
            peer.connect()
            ping = b"\x42" + bytes(3) + b"\x00\x00\x06\x04" + bytes(4) + b"\x00\x06" + bytes(4)
            peer.socket.settimeout(3)
            try:
                for _ in range(2000):
                    peer.send(ping * 2000)
            except (OSError, TimeoutError):
                pass
            memory = self.server.metric("process_resident_memory_bytes")
            self.assertLess(memory, self.before["process_resident_memory_bytes"] + GROWTH)
            self.assert_answers_at_once()


class OddPublisherTests(BesideAnother):
    """Publishers that mean well."""

    def outcome(self, name: str) -> m3u8.M3U8:
        """The playlist of a stream after its end."""
        address, _ = self.server.media_playlist(name)

        def ended() -> str | None:
            text = self.server.get(address)[1].decode()
            return text if "#EXT-X-ENDLIST" in text else None

        playlist = m3u8.loads(until(ended, 10, "the playlist ends"))
        folder = address.rpartition("/")[0]
        self.files = []
        for number, segment in enumerate(playlist.segments):
            path = self.server.folder / f"{name}-{number}.mp4"
            init = segment.init_section.uri
            path.write_bytes(b"".join(self.server.get(f"{folder}/{uri}")[1] for uri in (init, segment.uri)))
            self.files.append(path)
        return playlist

    def carried(self, *parts: list[Tag] | tuple[Tag, ...]) -> m3u8.M3U8:
        """What comes of these tags, published one part after the other."""
        name, key = self.server.new_stream("Odd")
        with Encoder(self.server.rtmp, key).start() as encoder:
            for part in parts:
                encoder.send(part)
            encoder.finish()
            self.name = name
            return self.outcome(name)

    def assert_whole(self, playlist: m3u8.M3U8, seconds: float) -> None:
        """One run of segments, that together last so long."""
        self.assertFalse(any(segment.discontinuity for segment in playlist.segments))
        self.assert_near(sum(segment.duration for segment in playlist.segments), seconds, 0.15)
        self.assertEqual(len({segment.init_section.uri for segment in playlist.segments}), 1)
        for path in self.files:
            times = [float(packet["dts_time"]) for packet in packets(path, "v:0")]
            self.assertEqual(times, sorted(set(times)))

    def test_time_stamps_that_jump_back(self) -> None:
        sent = shifted(material(4), 3_600_000)
        media = [tag for tag in material(4) if not tag.header]
        self.assert_whole(self.carried(sent, media), 8)

    def test_time_stamps_that_jump_forward(self) -> None:
        media = [tag for tag in material(4) if not tag.header]
        self.assert_whole(self.carried(material(4), shifted(media, 7_200_000)), 8)

    def test_time_stamps_that_wrap(self) -> None:
        self.assert_whole(self.carried(shifted(material(4), 0xFFFFFFFF - 2000)), 4)

    def test_a_track_that_appears_late(self) -> None:
        media = material(6)
        early = [tag for tag in media if tag.kind == VIDEO and tag.timestamp < 3000]
        late = [tag for tag in media if tag.timestamp >= 3000]
        config = [tag._replace(timestamp=3000) for tag in media if tag.kind == AUDIO and tag.header]
        playlist = self.carried(early, config, late)
        self.assertEqual(sum(segment.discontinuity for segment in playlist.segments), 1)
        self.assertEqual(len({segment.init_section.uri for segment in playlist.segments}), 2)
        self.assert_near(sum(segment.duration for segment in playlist.segments), 6, 0.15)
        self.assertEqual(packets(self.files[0], "a:0"), [])
        self.assertTrue(packets(self.files[-1], "a:0"))

    def test_a_picture_that_changes_its_size(self) -> None:
        playlist = self.carried(material(3), shifted(material(3, "160x90"), 3000))
        self.assertEqual(sum(segment.discontinuity for segment in playlist.segments), 1)
        self.assertEqual(len({segment.init_section.uri for segment in playlist.segments}), 2)
        self.assert_near(sum(segment.duration for segment in playlist.segments), 6, 0.15)
        self.assertIn("RESOLUTION=160x90", self.server.get(self.server.hls(self.name))[1].decode())

    def test_sound_without_pictures(self) -> None:
        playlist = self.carried(material(4, pictures=False))
        self.assert_near(sum(segment.duration for segment in playlist.segments), 4, 0.1)

    def test_a_publisher_that_dies_in_the_middle_of_a_group(self) -> None:
        name, key = self.server.new_stream("Dies")
        with Encoder(self.server.rtmp, key).start() as encoder:
            encoder.play([tag for tag in material(4) if tag.timestamp < 2500])
            self.server.wait_live(name)
        playlist = self.outcome(name)
        self.assert_whole(playlist, 2.5)

    def test_a_publisher_that_falls_silent(self) -> None:
        """It holds nothing for ever: here the limit is told by the API of another server."""
        with server(settings={"OXIDECAST_RTMP_STREAM_TIMEOUT": "2", **self.settings}) as other:
            name, key = other.new_stream("Silent")
            with Encoder(other.rtmp, key).start() as encoder:
                encoder.send(material(4))
                other.wait_live(name)
                self.assertTrue(encoder.hung_up())
                until(lambda: other.stream(name)["state"] == "idle", 10, "the stream ends")

    def test_a_viewer_that_makes_up_sessions_and_paths(self) -> None:
        for path in (
            "/api/v1/hls/bystander/~x/source/playlist.m3u8",
            "/api/v1/hls/bystander/%2e%2e/secrets.toml",
            "/api/v1/hls/../../../data/secrets.toml",
            "/api/v1/hls/" + "a" * 5000,
            "/api/v1/hls/bystander/~%00/source/playlist.m3u8",
        ):
            status, body = self.server.get(path)
            self.assertIn(status, (400, 404, 414), path)
            self.assertNotIn(b"secret", body)


class FullDiskTests(TestCase):
    """The database's disk is full."""

    def test_live_media_goes_on_and_writing_says_why_it_cannot(self) -> None:
        with TemporaryDirectory(prefix="oxidecast-disk-") as disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M,mode=0700", "tmpfs", disk], check=True)
            try:
                self.fill_and_look(Path(disk))
            finally:
                subprocess.run(["umount", "--lazy", disk], check=True)

    def fill_and_look(self, disk: Path) -> None:
        with server(settings={"OXIDECAST_DATA_DIR": str(disk / "data")}) as running:
            password = (disk / "data" / "admin-password").read_text().strip()
            login = {"username": "admin", "password": password}
            status, answer = running.call("POST", "/auth/login", login)
            self.assertEqual(status, 200)
            token = answer["data"]["access_token"]
            running.secrets |= {password, token}

            def create(title: str) -> tuple[int, dict[str, object]]:
                return running.call("POST", "/streams", {"title": title}, token)

            _, answer = create("Live")
            name, key = answer["data"]["name"], answer["data"]["stream_key"]  # type: ignore[index]
            _, answer = create("Later")
            later, second_key = answer["data"]["name"], answer["data"]["stream_key"]  # type: ignore[index]
            running.secrets |= {str(key), str(second_key)}
            with publish(running.ingest(key), running.folder / "one.log", size="320x180"):
                until(lambda: running.get(f"/api/v1/hls/{name}/playlist.m3u8")[0] == 200, 20, "it is live")
                with Watcher(running.media_playlist(name)[0]) as watcher:
                    filler = disk / "filler"
                    with filler.open("wb", buffering=0) as file:
                        try:
                            while file.write(bytes(4096)):
                                pass
                        except OSError:
                            pass
                    refused: dict[str, object] = {}

                    def is_refused() -> bool:
                        nonlocal refused
                        status, refused = create("One more")
                        return status == 503

                    until(is_refused, 20, "writing is refused")
                    self.assertEqual((refused["success"], refused["code"]), (False, "database_away"))
                    self.assertIn("disk is full", running.output)
                    # Who has a key can still begin to publish.
                    with publish(running.ingest(second_key), running.folder / "two.log", size="320x180"):
                        until(
                            lambda: running.get(f"/api/v1/hls/{later}/playlist.m3u8")[0] == 200,
                            20,
                            "so is this",
                        )
                    filler.unlink()
                    until(lambda: create("Room again")[0] == 201, 10, "writing works again")
                    known = len(watcher.segments)
                    until(lambda: len(watcher.segments) > known, 10, "the first plays on")
                self.assertEqual((watcher.faults, watcher.discontinuities), ([], 0))
