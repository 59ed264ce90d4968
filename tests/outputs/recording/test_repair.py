"""What servers leave behind when they die, and what the next one makes of it."""

import fcntl
import os
import re
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.database.recordings import Recording
from oxidecast.database.records import new_id
from oxidecast.delivery.stored import InUse, Store
from oxidecast.formats import fmp4
from oxidecast.media import Packet
from oxidecast.outputs.recording.file import INDEX_ROOM
from oxidecast.outputs.recording.fragmenter import Fragmenter
from oxidecast.outputs.recording.repair import (
    NEVER_CAME,
    Repair,
    finish_file,
    name_of,
    read_name,
)
from tests.outputs.recording.stage import AUDIO, PICTURES, SOUND, VIDEO, Played, RecordingCase
from tests.settings.support import temporary_folder
from tests.streams.stage import info

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


@cache
def unfinished(fragments: int = 3, end: bytes = b"") -> bytes:
    """A file as it lies there when its server dies: no length, no index, and perhaps half a fragment."""
    fragmenter = Fragmenter((VIDEO, AUDIO))
    scale = fmp4.timescale(VIDEO)
    parts = [fmp4.init_segment((VIDEO, AUDIO), 0), fmp4.segment_index(1, scale, (), INDEX_ROOM)]
    at = sound = 90_000
    while len(parts) < fragments + 2:
        for one in PICTURES:
            done = fragmenter.push(Packet(VIDEO, at, at + one.pts - one.dts, 3000, one.keyframe, one.payload))
            if done is not None and len(parts) < fragments + 2:
                parts.append(done.data)
            at += 3000
            while sound < at:
                fragmenter.push(Packet(AUDIO, sound, sound, 1920, True, SOUND))
                sound += 1920
    return b"".join(parts) + end


class TestNames(SynchronousTestCase):
    def test_a_name_says_what_a_row_would(self) -> None:
        one, recording_id = info("show"), new_id()
        name = name_of(one, "show", START, recording_id)
        self.assertEqual(name, f"{one.id}/show-20261124T120000Z-{recording_id}.mp4")
        self.assertEqual(read_name(name), (one.id, START, recording_id))

    @given(st.text(max_size=80), st.text(max_size=80))
    def test_whatever_a_stream_is_called_its_file_lies_in_its_folder(self, name: str, id: str) -> None:
        made = name_of(info("show", id=id), name, START, new_id())
        self.assertTrue(Store(Path("/r")).path(made).is_relative_to("/r"))
        self.assertRegex(made, r"^[A-Za-z0-9-]+/[a-z0-9-]+-20261124T120000Z-[0-9a-f-]{36}\.mp4$")

    def test_others(self) -> None:
        for name in ("x/y.mp4", f"{new_id()}/show-99999999T999999Z-{new_id()}.mp4", "", "../../etc/passwd"):
            self.assertIs(read_name(name), None)


class TestFile(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store(temporary_folder(self) / "recordings")
        self.name = f"{new_id()}/show-20261124T120000Z-{new_id()}.mp4"

    def left(self, body: bytes) -> Path:
        file = self.store.create(self.name)
        os.write(file, body)
        os.close(file)
        return self.store.path(self.name)

    def test_it_is_as_if_it_had_been_finished(self) -> None:
        body = unfinished()
        path = self.left(body)
        found = finish_file(self.store, self.name, INDEX_ROOM)
        assert found is not None
        self.assertEqual((found.size, round(found.duration, 1), found.finished), (len(body), 6.0, False))
        played = Played(path)
        self.assertEqual(len(played.times), 180)
        self.assertAlmostEqual(played.duration, 6.07, 1)
        self.assertIn(b"sidx", path.read_bytes()[:2000])

    def test_what_is_not_whole_is_cut_off(self) -> None:
        body, longer = unfinished(2), unfinished(3)
        for end in (1, 7, 8, 100, len(longer) - len(body) - 1):
            path = self.left(longer[: len(body) + end])
            found = finish_file(self.store, self.name, INDEX_ROOM)
            assert found is not None
            self.assertEqual((found.size, round(found.duration, 1)), (len(body), 4.0), end)
            self.assertEqual(path.stat().st_size, len(body))
            self.assertEqual(len(Played(path).times), 120)
            path.unlink()

    def test_twice_is_as_good_as_once(self) -> None:
        path = self.left(unfinished())
        finish_file(self.store, self.name, INDEX_ROOM)
        once = path.read_bytes()
        found = finish_file(self.store, self.name, INDEX_ROOM)
        assert found is not None
        self.assertTrue(found.finished)
        self.assertEqual(path.read_bytes(), once)

    def test_one_that_holds_nothing_is_removed(self) -> None:
        for body in (unfinished(0), unfinished(0)[:100], b"\0" * 50):
            path = self.left(body)
            self.assertIs(finish_file(self.store, self.name, INDEX_ROOM), None)
            self.assertFalse(path.exists())

    def test_an_empty_one_may_just_have_been_made(self) -> None:
        path = self.left(b"")
        self.assertRaises(InUse, finish_file, self.store, self.name, INDEX_ROOM)
        old = time.time() - 3600
        os.utime(path, (old, old))
        self.assertIs(finish_file(self.store, self.name, INDEX_ROOM), None)
        self.assertFalse(path.exists())

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_is_in_it(self, data: st.DataObject) -> None:
        body = bytearray(unfinished(2))
        heads = [
            match.start() for match in re.finditer(b"moov|moof|traf|trun|tfhd|tfdt|mdat|mdhd|mehd", body)
        ]
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.sampled_from(heads)) + data.draw(st.integers(-4, 24))
            body[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
        path = self.left(bytes(body[: data.draw(st.integers(1, len(body)))]))
        found = finish_file(self.store, self.name, INDEX_ROOM)
        if found is not None:
            self.assertEqual(path.stat().st_size, found.size)
            path.unlink()


class TestRepair(RecordingCase):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        await self.begin()
        await self.output_plugin._repairing
        self.store = self.output_plugin.store
        self.now = START

    async def repaired(self) -> int:
        repair = Repair(self.store, self.recordings, maybeDeferred, INDEX_ROOM, lambda: self.now)
        return await repair.run()

    async def left(self, body: bytes | None, row: bool = True, stream_id: str = "") -> Recording:
        recording_id = new_id()
        one = Recording(
            id=recording_id,
            stream_id=stream_id or self.info.id,
            owner_id=self.info.owner_id,
            title="Birds",
            path=f"{stream_id or self.info.id}/show-20261124T120000Z-{recording_id}.mp4",
            state="writing",
            started_at=START,
        )
        if body is not None:
            file = self.store.create(one.path)
            os.write(file, body)
            os.close(file)
        if row:
            await self.recordings.add(one)
        return one

    async def found(self, one: Recording) -> Any:
        return await self.recordings.get(one.id)

    async def test_a_row_says_what_its_file_says(self) -> None:
        body = unfinished(2, b"half")
        one = await self.left(body)
        self.assertEqual(await self.repaired(), 1)
        row = await self.found(one)
        self.assertEqual((row.state, row.size), ("complete", len(body) - 4))
        self.near(row.duration, 4, 0.05)
        self.assertEqual((row.ended_at, row.title), (START + timedelta(seconds=row.duration), "Birds"))
        self.assertIn("the server ended", row.error)
        self.assertEqual(await self.repaired(), 0)

    async def test_a_file_without_a_row_gets_one(self) -> None:
        one = await self.left(unfinished(2), row=False)
        await self.repaired()
        row = await self.found(one)
        self.assertEqual((row.title, row.owner_id, row.stream_id), ("Show", self.info.owner_id, self.info.id))
        self.assertEqual((row.started_at, row.path), (START, one.path))

    async def test_one_whose_stream_is_gone_is_the_administrators(self) -> None:
        one = await self.left(unfinished(2), row=False, stream_id=new_id())
        await self.repaired()
        row = await self.found(one)
        self.assertEqual((row.owner_id, row.stream_id, row.state), (None, None, "complete"))

    async def test_one_that_holds_nothing(self) -> None:
        with_row, without = await self.left(unfinished(0)), await self.left(unfinished(0), row=False)
        await self.repaired()
        row = await self.found(with_row)
        self.assertEqual((row.state, row.error), ("failed", "nothing was written"))
        self.assertIs(await self.found(without), None)
        self.assertEqual(list(self.store.names()), [])

    async def test_what_a_living_server_writes_is_left_alone(self) -> None:
        one = await self.left(unfinished(2, b"half"))
        before = self.store.path(one.path).read_bytes()
        with self.store.path(one.path).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertEqual(await self.repaired(), 0)
        self.assertEqual((await self.found(one)).state, "writing")
        self.assertEqual(self.store.path(one.path).read_bytes(), before)

    async def test_our_own_too(self) -> None:
        self.encoder().send(90)
        [one] = await self.rows("writing")
        self.assertEqual(await self.repaired(), 0)
        self.assertEqual((await self.found(one)).state, "writing")

    async def test_a_row_whose_file_may_grow_elsewhere_is_given_up_late(self) -> None:
        one = await self.left(None)
        self.now = START + NEVER_CAME
        await self.repaired()
        self.assertEqual((await self.found(one)).state, "writing")
        self.now += timedelta(seconds=1)
        await self.repaired()
        self.assertEqual((await self.found(one)).state, "failed")

    async def test_complete_ones_and_strange_files_stay_as_they_are(self) -> None:
        one = await self.left(b"anything")
        await self.recordings.update(Recording(**{**self.fields(one), "state": "complete"}))
        strange = self.store.directory / "notes.txt"
        strange.write_text("mine")
        other = self.store.directory / "folder" / "film.mp4"
        other.parent.mkdir()
        other.write_bytes(b"film")
        self.assertEqual(await self.repaired(), 0)
        self.assertEqual((strange.read_text(), other.read_bytes()), ("mine", b"film"))
        self.assertEqual(self.store.path(one.path).read_bytes(), b"anything")

    def fields(self, one: Recording) -> dict[str, Any]:
        return {field: getattr(one, field) for field in one.__struct_fields__}

    async def test_what_cannot_be_opened_keeps_nobody_else_waiting(self) -> None:
        broken, good = await self.left(b"x"), await self.left(unfinished(2))
        path = self.store.path(broken.path)
        path.unlink()
        path.symlink_to("/etc/passwd")
        self.assertEqual(await self.repaired(), 1)
        self.assertEqual((await self.found(good)).state, "complete")
        self.assertEqual((await self.found(broken)).state, "writing")
