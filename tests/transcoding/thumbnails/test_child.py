"""The real child process: a JPEG of a keyframe, a sentence for what is none, and death in time."""

import os
import signal
import sys
from typing import Any

import av
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from oxidecast.formats.framed_messages import Tile
from oxidecast.media import Packet
from oxidecast.transcoding.thumbnails.child import COMMAND, LATE, Child, NoThumbnail, Sheet
from tests.transcoding.clips import plain


def keyframe(payload: bytes | None = None) -> Packet:
    clip = plain()
    track = next(track for track in clip.tracks if track.is_video)
    first = clip.video[0]
    return Packet(track, first.dts, first.pts, 3000, True, first.payload if payload is None else payload)


class Timed:
    """The real reactor's processes on a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class TestChild(TestCase):
    timeout = 30

    async def test_a_keyframe_becomes_a_jpeg(self) -> None:
        child = Child(reactor, keyframe(), 320)
        await child.result
        tile = child.tile
        assert tile is not None
        self.assertEqual((tile.width, tile.height), (160, 90))
        jpeg = await Child(reactor, keyframe(), 160).result
        self.assertTrue(jpeg.startswith(b"\xff\xd8\xff"))
        decoder: Any = av.CodecContext.create("mjpeg", "r")
        (frame,) = decoder.decode(av.Packet(jpeg))
        self.assertEqual((frame.width, frame.height), (160, 90))

    async def test_tiles_become_one_picture(self) -> None:
        child = Child(reactor, keyframe(), 320)
        await child.result
        tile = child.tile
        assert tile is not None
        for count, size in ((1, (1600, 90)), (10, (1600, 90)), (17, (1600, 180))):
            jpeg = await Sheet(reactor, [tile] * count, 10).result
            decoder: Any = av.CodecContext.create("mjpeg", "r")
            (frame,) = decoder.decode(av.Packet(jpeg))
            self.assertEqual((frame.width, frame.height), size)

    async def test_what_are_no_tiles_is_a_sentence(self) -> None:
        good = Child(reactor, keyframe(), 320)
        await good.result
        assert good.tile is not None
        for tiles in (
            [],
            [Tile(width=160, height=90, jpeg=b"")],
            [Tile(width=160, height=90, jpeg=b"\xff\xd8\xff no more")],
            [good.tile, Tile(width=160, height=90, jpeg=good.tile.jpeg[:50])],
            [Tile(width=64, height=36, jpeg=good.tile.jpeg)],
        ):
            error = await self.assertFailure(Sheet(reactor, tiles, 10).result, NoThumbnail)
            self.assertTrue(str(error))
            self.assertNotIn("Traceback", str(error))

    async def test_damage_is_a_sentence(self) -> None:
        for payload in (b"", b"\0\0\0\5\x65abcd", bytes(1000)):
            error = await self.assertFailure(Child(reactor, keyframe(payload), 160).result, NoThumbnail)
            self.assertTrue(str(error))
            self.assertNotIn("Traceback", str(error))

    async def test_one_that_takes_too_long_is_killed(self) -> None:
        timed = Timed()
        sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
        child = Child(timed, keyframe(), 160, sleeper)
        pid = child.transport.pid  # type: ignore[union-attr]
        timed.clock.advance(LATE)
        error: Any = await self.assertFailure(child.result, NoThumbnail)
        self.assertTrue(error.late)
        self.assertRaises(ProcessLookupError, os.kill, pid, signal.SIGTERM)

    async def test_one_that_is_not_wanted_any_more_is_killed(self) -> None:
        child = Child(reactor, keyframe(), 160)
        child.kill()
        error: Any = await self.assertFailure(child.result, NoThumbnail)
        self.assertFalse(error.late)

    async def test_a_child_that_speaks_nonsense_is_killed(self) -> None:
        script = "import sys, time; sys.stdout.write('nonsense' * 9); sys.stdout.flush(); time.sleep(60)"
        error = await self.assertFailure(
            Child(reactor, keyframe(), 160, (sys.executable, "-c", script)).result, NoThumbnail
        )
        self.assertIn("frame", str(error))

    async def test_a_program_that_is_not_there(self) -> None:
        await self.assertFailure(Child(reactor, keyframe(), 160, ("/nowhere/python",)).result, NoThumbnail)
        self.assertIn("still", COMMAND[-1])
