"""The last tiles of a stream as one picture: who makes it, how often, and what WebVTT says of it."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from oxidecast.delivery.hot import HotAnswer
from oxidecast.formats.framed_messages import Tile
from oxidecast.transcoding.thumbnails.child import NoThumbnail
from oxidecast.transcoding.thumbnails.output import MOST_SHEETS
from oxidecast.transcoding.thumbnails.storyboard import LARGEST_TILE, MOST_TILES, Storyboard
from tests.transcoding.thumbnails.test_output import JPEG, OTHER, ThumbnailsCase

TILE = Tile(width=160, height=90, jpeg=JPEG)


class Putting:
    """A child whose sheet is in the test's hands."""

    def __init__(self, tiles: Sequence[Tile], columns: int) -> None:
        self.tiles, self.columns = tiles, columns
        self.result: Deferred[bytes] = Deferred()

    def kill(self) -> None:
        self.result.errback(NoThumbnail("killed"))


class StoryboardCase(ThumbnailsCase):
    def setUp(self) -> None:
        super().setUp()
        self.sheets: list[Putting] = []
        self.thumbnails._sheet = self.put
        self.live()
        self.started = self.stream.started_at

    def put(self, reactor: Any, tiles: Sequence[Tile], columns: int) -> Putting:
        self.sheets.append(Putting(tiles, columns))
        return self.sheets[-1]

    def tile(self, seconds: float, tile: Tile | None = TILE) -> None:
        self.thumbnails.add(self.stream, JPEG, self.started + seconds, tile)


class TestStoryboard(StoryboardCase):
    def test_it_is_made_once_for_all_who_ask_until_the_next_tile(self) -> None:
        self.assertEqual(self.ask("show/storyboard.jpg").status, 404)
        self.tile(0)
        self.tile(10)
        self.assertEqual(self.sheets, [], "nobody has asked")
        first, second = self.begin("show/storyboard.jpg"), self.begin("show/storyboard.vtt")
        (sheet,) = self.sheets
        self.assertEqual((len(sheet.tiles), sheet.columns), (2, 10))
        sheet.result.callback(OTHER)
        answer: HotAnswer = self.successResultOf(first)
        self.assertEqual((answer.body, answer.content_type), (OTHER, b"image/jpeg"))
        self.assertEqual(answer.cache_control, b"public, max-age=10")
        text = bytes(self.successResultOf(second).body).decode()
        assert answer.etag is not None
        address = f"storyboard.jpg?v={answer.etag.decode()}#xywh"
        self.assertEqual(
            text,
            "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\n"
            f"{address}=0,0,160,90\n\n00:00:10.000 --> 00:00:20.000\n{address}=160,0,160,90\n",
        )
        self.assertEqual(self.ask("show/storyboard.jpg").body, OTHER)
        self.assertEqual(len(self.sheets), 1)
        self.tile(20)
        third = self.begin("show/storyboard.jpg")
        self.sheets[1].result.errback(NoThumbnail("it failed"))
        self.assertEqual(self.successResultOf(third).body, OTHER, "the one of before")

    def test_who_leaves_takes_nothing_from_the_others(self) -> None:
        self.tile(0)
        leaves, stays = self.begin("show/storyboard.jpg"), self.begin("show/storyboard.jpg")
        leaves.cancel()
        self.failureResultOf(leaves, CancelledError)
        self.sheets[0].result.callback(OTHER)
        self.assertEqual(self.successResultOf(stays).body, OTHER)

    def test_tiles_are_bounded_and_of_one_size(self) -> None:
        self.tile(0, None)
        self.tile(1, Tile(width=160, height=90, jpeg=b"none"))
        self.tile(2, Tile(width=160, height=90, jpeg=JPEG + bytes(LARGEST_TILE)))
        self.assertEqual(self.ask("show/storyboard.vtt").status, 404)
        for second in range(MOST_TILES + 5):
            self.tile(second)
        self.begin("show/storyboard.jpg")
        self.assertEqual(len(self.sheets[-1].tiles), MOST_TILES)
        self.sheets[-1].result.callback(OTHER)
        self.tile(1000, Tile(width=90, height=160, jpeg=JPEG))
        self.begin("show/storyboard.jpg")
        self.assertEqual(len(self.sheets[-1].tiles), 1)
        self.sheets[-1].result.callback(OTHER)

    def test_only_so_many_children(self) -> None:
        boards = [Storyboard(lambda *args: self.thumbnails.make_sheet(*args)) for _ in range(MOST_SHEETS + 1)]
        waiting = []
        for board in boards:
            board.add(TILE, 1.0)
            waiting.append(Deferred.fromCoroutine(board.sheet()))
        self.assertEqual(len(self.sheets), MOST_SHEETS)
        self.assertIsNone(self.successResultOf(waiting[-1]))
        for sheet in self.sheets:
            sheet.result.callback(OTHER)
        self.assertTrue(all(self.successResultOf(one) for one in waiting[:-1]))

    def test_it_ends_with_the_stream(self) -> None:
        self.tile(0)
        waiting = self.begin("show/storyboard.jpg")
        self.stream.end("over")
        self.assertEqual(self.successResultOf(waiting).status, 404)
        self.assertEqual(self.ask("show/storyboard.jpg").status, 404)
        self.assertEqual(self.thumbnails._sheets, {})
