"""Streams that are recorded: real files, which an independent reader plays."""

import os
import resource
import signal
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from zope.interface.verify import verifyObject

from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.interfaces import IFollowsStream, IMeasured, IOutput, IOutputStream, IRecorder, IReloadable
from oxidecast.media import Codec, Track
from oxidecast.outputs.recording import file, room
from oxidecast.outputs.recording.rows import RETRY
from oxidecast.settings.sections import StorageSettings
from tests.outputs.recording.stage import AUDIO, VIDEO, Played, RealEncoder, RecordingCase

WIDE = msgspec.structs.replace(VIDEO, profile="another")
VP8 = Track(id=1, codec=Codec.VP8, extradata=b"", codec_string="vp8", width=64, height=48)


class TestRecorded(RecordingCase):
    async def test_interfaces(self) -> None:
        output = await self.begin()
        self.encoder().send(1)
        for interface in (IOutput, IMeasured, IReloadable, IRecorder):
            verifyObject(interface, output)
        for interface in (IOutputStream, IFollowsStream):
            verifyObject(interface, self.stream.outputs[-1].output)

    async def test_from_the_first_picture_to_the_end(self) -> None:
        await self.begin()
        self.encoder().send(150)
        started = self.stream.started_at
        self.stream.end("over")
        [one] = await self.rows()
        self.assertEqual((one.title, one.owner_id, one.stream_name), ("Show", self.info.owner_id, "show"))
        self.assertEqual((one.error, round(one.started_at.timestamp() - started, 3)), ("", 0))
        self.near(one.duration, 5, 0.05)
        path = self.path(one)
        self.assertEqual(one.size, path.stat().st_size)
        played = Played(path)
        self.assertEqual((played.codecs, len(played.times)), (["h264", "aac"], 150))
        self.near(played.duration, 5.07, delta=0.05)  # B-frames show later than they are decoded.

    async def test_its_name_tells_stream_and_start_and_only_we_may_read_it(self) -> None:
        await self.begin()
        self.encoder().send(90)
        self.stream.end("over")
        [one] = await self.rows()
        self.assertEqual(one.path, f"{self.info.id}/show-20270115T080000Z-{one.id}.mp4")
        self.assertEqual(self.path(one).stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.folder / "recordings").stat().st_mode & 0o777, 0o700)
        self.assertNotIn("key-of-show", str(self.path(one)))

    async def test_listeners_are_told(self) -> None:
        await self.begin()
        self.encoder().send(90)
        self.stream.end("over")
        [one] = await self.rows()
        self.assertEqual(self.events.paths, [self.path(one)])

    async def test_a_stream_that_nobody_wants_recorded(self) -> None:
        await self.begin()
        self.keys.infos["key-of-show"] = msgspec.structs.replace(self.info, recording_enabled=False)
        self.encoder().send(90)
        self.assertEqual(self.stream.outputs[-1].stats()["state"], "off")
        self.stream.end("over")
        self.assertFalse((self.folder / "recordings").exists())

    async def test_one_that_ends_at_once_leaves_nothing(self) -> None:
        output = await self.begin()
        encoder = self.encoder()
        encoder.send(1)
        self.change(recording_enabled=False)
        await self.until(lambda: not output.figures.active)
        [one] = await self.rows()
        self.assertEqual(len(Played(self.path(one)).times), 1)

    async def test_switched_on_and_off_while_live(self) -> None:
        await self.begin()
        self.keys.infos["key-of-show"] = msgspec.structs.replace(self.info, recording_enabled=False)
        encoder = self.encoder()
        encoder.send(100)
        self.change(recording_enabled=True)
        encoder.send(90)
        self.change(recording_enabled=False)
        encoder.send(30)
        [one] = await self.rows()
        played = Played(self.path(one))
        # From the keyframe before: the cache of the last group of pictures comes first.
        self.assertEqual((len(played.times), played.times[0] < 0.1), (94, True))
        self.change(recording_enabled=True)
        encoder.send(90)
        self.stream.end("over")
        self.assertEqual(len(await self.rows(count=2)), 2)

    async def test_sound_alone(self) -> None:
        await self.begin()
        encoder = RealEncoder(self).connect(AUDIO, expect=(False, True))
        encoder.send(150, video=False)
        self.stream.end("over")
        [one] = await self.rows()
        played = Played(self.path(one))
        self.assertEqual(played.codecs, ["aac"])
        self.near(played.duration, 5, 0.1)

    async def test_pictures_that_pause_do_not_fill_the_memory(self) -> None:
        await self.begin()
        encoder = self.encoder()
        encoder.send(30)
        encoder.send(900, video=False)
        encoder.send(60)
        self.stream.end("over")
        [one] = await self.rows()
        played = Played(self.path(one))
        self.assertEqual(len(played.times), 90)
        self.near(played.duration, 33, 0.2)

    async def test_what_it_says_of_itself(self) -> None:
        output = await self.begin()
        encoder = self.encoder()
        encoder.send(150)
        await self.until(lambda: self.stats()["bytes"])
        stats = self.stats()
        self.assertEqual((stats["state"], stats["parts"]), ("recording", 1))
        self.assertGreater(stats["duration"], 1)
        [one] = await self.rows("writing")
        self.assertEqual(stats["recording"], one.id)
        stats = self.stats()  # More may be written by now.
        figures = {family.name: family.samples[0].value for family in output.metrics([])}
        self.assertEqual(
            (figures["oxidecast_recordings_active"], figures["oxidecast_recordings_failed"]), (1, 0)
        )
        self.assertEqual(figures["oxidecast_recording_bytes"], stats["bytes"])

    def stats(self) -> Any:
        return self.stream.outputs[-1].stats()


class TestPublishers(RecordingCase):
    async def test_one_that_comes_back_goes_on_in_the_same_file(self) -> None:
        await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        encoder.publication.close("left")
        self.clock.advance(5)
        self.encoder(at=777).send(90)
        self.stream.end("over")
        [one] = await self.rows()
        played = Played(self.path(one))
        self.assertEqual(len(played.times), 180)
        self.assertEqual(played.times, sorted(played.times))
        self.near(played.times[90] - played.times[89], 5, 0.1)
        self.near(one.duration, 11, 0.1)

    async def test_one_that_comes_back_otherwise_begins_another_file(self) -> None:
        await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        encoder.publication.close("left")
        self.encoder(WIDE, AUDIO).send(60)
        self.stream.end("over")
        first, second = await self.rows(count=2)
        self.assertEqual((first.stream_id, first.title), (second.stream_id, second.title))
        self.assertEqual([len(Played(self.path(one)).times) for one in (first, second)], [90, 60])
        self.assertLess(Played(self.path(second)).times[0], 0.1)

    async def test_what_a_file_cannot_hold_is_left_out_and_said(self) -> None:
        await self.begin()
        encoder = self.encoder(VP8, AUDIO)
        encoder.send(90)
        self.assertIn("cannot hold vp8", self.notices)
        self.stream.end("over")
        [one] = await self.rows()
        self.assertEqual(Played(self.path(one)).codecs, ["aac"])


class TestLength(RecordingCase):
    async def test_a_long_one_goes_on_in_another_file_and_nothing_is_missing(self) -> None:
        await self.begin(max_duration=4)
        self.encoder().send(300)
        self.stream.end("over")
        ones = await self.rows(count=3)
        played = [Played(self.path(one)) for one in ones]
        self.assertEqual(sum(len(one.times) for one in played), 300)
        for one, following in pairwise(ones):
            gap = following.started_at.timestamp() - one.started_at.timestamp() - one.duration
            self.near(gap, 0, 0.05)

    async def test_a_new_length_holds_for_what_is_being_written(self) -> None:
        output = await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        output.reload(msgspec.structs.replace(output.settings, max_duration=1.0))
        encoder.send(30)
        self.assertEqual(len(await self.rows()), 1)


class TestDisk(RecordingCase):
    async def failed(self) -> Any:
        """The recording failed and says why; the stream goes on."""
        await self.until(lambda: "recording:failed" in self.stream.notices)
        self.assertEqual(self.stream.state, "live")
        self.assertEqual(self.stream.outputs[-1].stats()["state"], "failed")
        self.assertEqual(self.output_plugin.figures.failed, 1)
        return self.stream.notices["recording:failed"]

    async def test_a_full_one_is_not_begun_on(self) -> None:
        self.patch(room, "FLOOR", 1 << 60)
        await self.begin()
        self.encoder().send(90)
        self.assertIn("MiB are free", await self.failed())
        self.assertEqual((await self.recordings.page()).total, 0)
        self.assertFalse((self.folder / "recordings").exists())

    async def test_the_operators_bound(self) -> None:
        await self.begin(StorageSettings(max_storage_size=200_000))
        encoder = self.encoder()
        encoder.send(600)
        await self.until(lambda: "recording:failed" in self.stream.notices)
        self.assertIn("max_storage_size", await self.failed())
        [one] = await self.rows("failed")
        self.assertLessEqual(one.size, 200_000)
        self.assertIn("max_storage_size", one.error)
        self.assertEqual(self.path(one).stat().st_size, one.size)
        self.near(Played(self.path(one)).duration, one.duration, 0.1)

    async def test_one_that_gets_full_keeps_what_was_whole(self) -> None:
        """As an operator's quota would: a write is refused in the middle."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(signal.signal, signal.SIGXFSZ, signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        [one] = await self.rows("writing")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (one.size + 1000, before[1]))
            encoder.send(90)
            sentence = await self.failed()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.clock.advance(RETRY)  # The database was refused its writes, too.
        self.assertIn("File too large", sentence)
        self.assertNotIn(str(self.folder), sentence)
        [over] = await self.rows("failed")
        self.assertEqual((over.id, over.size), (one.id, one.size))
        self.assertEqual(self.path(one).stat().st_size, one.size)
        self.near(Played(self.path(one)).duration, over.duration, 0.1)

    async def test_one_that_does_not_keep_up(self) -> None:
        waiting = threading.Event()
        self.addCleanup(waiting.set)
        write = file.Writing.write

        def slow(self: Any, pieces: Any) -> None:
            waiting.wait(10)
            write(self, pieces)

        self.patch(file.Writing, "write", slow)
        await self.begin(max_buffer=300_000)
        encoder = self.encoder()
        encoder.send(3000)
        waiting.set()
        self.assertIn("does not keep up", await self.failed())
        [one] = await self.rows("failed")
        self.assertGreater(len(Played(self.path(one)).times), 10)

    async def test_it_is_tried_again_when_it_is_switched_on_again(self) -> None:
        self.patch(room, "FLOOR", 1 << 60)
        await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        await self.failed()
        self.patch(room, "FLOOR", 0)
        self.change(recording_enabled=False)
        self.assertNotIn("recording:failed", self.stream.notices)
        self.change(recording_enabled=True)
        encoder.send(90)
        self.stream.end("over")
        self.assertEqual(len(await self.rows()), 1)

    async def test_a_directory_that_cannot_be_made(self) -> None:
        await self.begin(StorageSettings(recordings_path="test.db/recordings"))
        self.encoder().send(90)
        sentence = await self.failed()
        self.assertIn("could not be written", sentence)
        self.assertNotIn(str(self.folder), sentence)


class TestStopping(RecordingCase):
    async def test_by_its_id(self) -> None:
        output = await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        [one] = await self.rows("writing")
        self.assertFalse(await output.stop_recording("nothing"))
        self.assertTrue(await output.stop_recording(one.id))
        self.assertFalse(await output.stop_recording(one.id))
        encoder.send(90)
        self.assertEqual(self.stream.outputs[-1].stats()["state"], "off")
        self.assertEqual(len(Played(self.path(one)).times), 90)
        await self.rows()
        self.assertEqual((await self.recordings.page()).total, 1)

    async def test_with_the_server(self) -> None:
        output = await self.begin()
        self.encoder().send(90)
        self.hub.close()
        await output.stopService()
        [one] = await self.rows()
        self.assertEqual(len(Played(self.path(one)).times), 90)

    async def test_a_row_that_was_deleted_does_not_come_back(self) -> None:
        output = await self.begin()
        encoder = self.encoder()
        encoder.send(90)
        [one] = await self.rows("writing")
        await output.stop_recording(one.id)
        await self.recordings.delete(one.id)
        encoder.send(30)
        self.hub.close()
        await output.stopService()
        self.assertEqual((await self.recordings.page()).total, 0)


class TestDatabaseAway(RecordingCase):
    async def test_the_file_is_written_and_the_row_comes_later(self) -> None:
        await self.begin()
        execute = self.database.execute
        away = [True]

        async def refuse(*args: Any) -> int:
            if away[0]:
                raise DatabaseUnavailable("the database is away")
            return await execute(*args)

        self.patch(self.database, "execute", refuse)
        encoder = self.encoder()
        encoder.send(90)
        self.stream.end("over")
        await self.until(lambda: self.events.paths)
        self.assertEqual((await self.recordings.page()).total, 0)
        self.assertEqual(len(Played(self.events.paths[0]).times), 90)
        away[0] = False
        self.clock.advance(RETRY)
        [one] = await self.rows()
        self.assertEqual(self.path(one), self.events.paths[0])

    async def test_after_a_restart(self) -> None:
        output = await self.begin()
        execute = self.database.execute

        async def refuse(*args: Any) -> int:
            raise DatabaseUnavailable("the database is away")

        self.database.execute = refuse  # type: ignore[assignment, method-assign]
        self.encoder().send(90)
        self.stream.end("over")
        await self.until(lambda: self.events.paths)
        await output.stopService()
        self.database.execute = execute  # type: ignore[method-assign]
        self.plugin()
        [one] = await self.rows()
        self.assertEqual((one.title, one.owner_id, one.error), ("Show", self.info.owner_id, ""))
        self.assertEqual((self.path(one), one.size), (self.events.paths[0], os.stat(self.path(one)).st_size))
        self.near(one.duration, 3, 0.1)

    def files(self) -> list[Path]:
        return sorted((self.folder / "recordings").rglob("*.mp4"))
