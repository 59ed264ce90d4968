"""Thumbnails as a plugin of a real hub on a clock: when one is made, by whom, and what those get who ask for it."""

import json
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.formats.framed_messages import Tile
from oxidecast.interfaces import (
    IMeasured,
    IOutput,
    IOutputStream,
    IReloadable,
    IThumbnails,
    PlayRequest,
    Refused,
)
from oxidecast.media import Packet
from oxidecast.transcoding.thumbnails.child import NoThumbnail
from oxidecast.transcoding.thumbnails.output import LARGEST, MISSED, MOST_CHILDREN, ThumbnailsOutput
from oxidecast.transcoding.thumbnails.settings import ThumbnailsSettings
from tests.streams.stage import AUDIO, VIDEO, Encoder, HubCase, info

JPEG, OTHER = b"\xff\xd8\xff one", b"\xff\xd8\xff another"


class Making:
    """A child whose picture is in the test's hands."""

    def __init__(self, reactor: Any, keyframe: Packet, width: int) -> None:
        self.keyframe, self.width = keyframe, width
        self.result: Deferred[bytes] = Deferred()
        self.tile: Tile | None = None
        self.killed = False

    def kill(self) -> None:
        self.killed = True
        self.result.errback(NoThumbnail("killed"))


class ThumbnailsCase(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.children: list[Making] = []
        services: Any = SimpleNamespace(reactor=self.clock, hub=self.hub, secret=lambda purpose: b"s" * 32)
        self.thumbnails = ThumbnailsOutput(ThumbnailsSettings(), services, self.make)
        self.registry.running.remove(self.watching)
        self.add("thumbnails", IOutput, self.thumbnails)
        self.resource = self.thumbnails.routes()["thumbnails"]
        self.thumbnails.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.thumbnails.running:
            self.thumbnails.stopService()

    def make(self, *args: Any) -> Any:
        self.children.append(Making(*args))
        return self.children[-1]

    def begin(self, path: str = "show.jpg", query: str = "", **fields: str) -> Any:
        """An answer, or a Deferred of it."""
        request = HotRequest()
        request.client = IPv4Address("TCP", "192.0.2.7", 1)
        request.method = b"GET"
        request.path, request.raw_query = path.encode(), query.encode()
        request.fields = {name.encode(): value.encode() for name, value in fields.items()}
        return self.resource.hot(request)

    def ask(self, path: str = "show.jpg", query: str = "", **fields: str) -> HotAnswer:
        answer = self.begin(path, query, **fields)
        found: HotAnswer = self.successResultOf(answer) if isinstance(answer, Deferred) else answer
        return found

    def metrics(self) -> dict[tuple[str, ...], float]:
        samples = [one for family in self.thumbnails.metrics(()) for one in family.samples]
        return {(one.name, *one.labels.values()): one.value for one in samples}

    def go_on(self, encoder: Encoder, seconds: int) -> None:
        encoder.send(seconds * 30)


class TestMaking(ThumbnailsCase):
    def test_it_provides_what_it_says(self) -> None:
        self.live()
        for interface in (IOutput, IThumbnails, IReloadable, IMeasured):
            verifyObject(interface, self.thumbnails)
        verifyObject(IHotResource, self.resource)
        verifyObject(IOutputStream, self.thumbnails.streams["show"])

    def test_a_new_stream_has_a_picture_soon_and_then_every_interval(self) -> None:
        encoder = self.live()
        self.clock.advance(1)
        (child,) = self.children
        self.assertTrue(child.keyframe.keyframe and child.keyframe.track.is_video)
        self.assertEqual(child.width, 640)
        child.result.callback(JPEG)
        self.go_on(encoder, 8)
        self.assertEqual(len(self.children), 1)
        self.go_on(encoder, 3)
        self.assertEqual(len(self.children), 2)
        self.assertGreater(self.children[1].keyframe.dts, child.keyframe.dts)

    def test_a_publisher_that_is_away_costs_nothing(self) -> None:
        self.live()
        self.clock.advance(1)
        self.children[0].result.callback(JPEG)
        self.clock.pump([1] * 12)
        self.assertEqual(len(self.children), 1)
        self.assertEqual(self.ask().status, 200)

    def test_sound_alone_has_no_picture(self) -> None:
        Encoder(self).connect(AUDIO).send(60)
        self.clock.advance(5)
        self.assertEqual(self.children, [])
        self.assertEqual(self.ask().status, 404)

    def test_only_so_many_children_at_once_and_who_waited_longest_is_next(self) -> None:
        names = [f"s{number}" for number in range(MOST_CHILDREN + 2)]
        for name in names:
            self.keys.infos[f"key-of-{name}"] = info(name)
            Encoder(self, key=f"key-of-{name}").connect(VIDEO).send(60)
        self.clock.pump([1] * 3)
        self.assertEqual(len(self.children), MOST_CHILDREN)
        for child in self.children[:]:
            child.result.callback(JPEG)
        self.clock.advance(1)
        self.assertEqual(len(self.children), MOST_CHILDREN + 2)
        for child in self.children[MOST_CHILDREN:]:
            child.result.callback(JPEG)
        self.assertEqual([self.ask(f"{name}.jpg").status for name in names], [200] * len(names))

    def test_none_is_made_while_they_are_handed_over(self) -> None:
        encoder = self.live()
        self.thumbnails.add(self.stream, JPEG, 1000.0)
        for _ in range(3):
            self.go_on(encoder, 10)
            self.thumbnails.add(self.stream, OTHER, 1010.0)
        self.assertEqual(self.children, [])
        self.assertEqual(self.ask().body, OTHER)
        self.go_on(encoder, int(MISSED * 10) + 2)
        self.assertEqual(len(self.children), 1)
        self.assertEqual(self.metrics()["oxidecast_thumbnails_made_total", "transcoder"], 4)

    def test_what_fails_is_counted_and_tried_again(self) -> None:
        encoder = self.live()
        self.clock.advance(1)
        self.children[0].result.errback(NoThumbnail("it took too long", late=True))
        self.assertEqual(self.ask().status, 404)
        self.go_on(encoder, 11)
        self.children[1].result.callback(b"no picture at all")
        self.assertEqual(self.ask().status, 404)
        self.go_on(encoder, 11)
        self.children[2].result.callback(JPEG + bytes(LARGEST))
        self.assertEqual(self.ask().status, 404)
        figures = self.metrics()
        self.assertEqual(figures["oxidecast_thumbnails_failed_total",], 3)
        self.assertEqual(figures["oxidecast_thumbnails_late_total",], 1)

    def test_the_picture_goes_with_the_stream_and_so_does_the_child(self) -> None:
        encoder = self.live()
        self.clock.advance(1)
        self.children[0].result.callback(JPEG)
        self.go_on(encoder, 11)
        stream = self.stream
        stream.end("over")
        self.assertTrue(self.children[1].killed)
        self.assertEqual(self.thumbnails.streams, {})
        self.assertEqual(self.ask().status, 404)
        self.thumbnails.add(stream, JPEG, 0.0)
        self.assertEqual(self.thumbnails.streams, {})
        self.assertIsNone(self.thumbnails.thumbnail_url(stream))

    def test_the_end_waits_for_the_children(self) -> None:
        self.live()
        self.clock.advance(1)
        self.successResultOf(self.thumbnails.stopService())
        self.assertTrue(self.children[0].killed)

    def test_new_settings_are_followed(self) -> None:
        encoder = self.live()
        self.thumbnails.reload(msgspec.structs.replace(ThumbnailsSettings(), interval=3.0, width=320))
        self.go_on(encoder, 1)
        self.children[0].result.callback(JPEG)
        self.go_on(encoder, 4)
        self.assertEqual([child.width for child in self.children], [320, 320])


class TestAnswers(ThumbnailsCase):
    def setUp(self) -> None:
        super().setUp()
        self.live()
        self.thumbnails.add(self.stream, JPEG, 1_000_000_000.0)

    def test_who_asks_gets_the_shared_bytes(self) -> None:
        answer = self.ask()
        self.assertEqual((answer.status, answer.content_type, answer.body), (200, b"image/jpeg", JPEG))
        self.assertEqual(answer.cache_control, b"public, max-age=10")
        self.assertIn(b"Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n", answer.head)
        self.assertTrue(answer.cors)
        self.assertIs(self.ask(), answer)
        self.assertIs(self.ask(f"{self.stream.id}.jpg"), answer)

    def test_another_picture_has_another_tag_and_address(self) -> None:
        tag, url = self.ask().etag, self.thumbnails.thumbnail_url(self.stream)
        assert tag is not None
        self.assertEqual(url, f"/api/v1/thumbnails/show.jpg?v={tag.decode()}")
        self.thumbnails.add(self.stream, OTHER, 1_000_000_010.0)
        self.assertNotEqual(self.ask().etag, tag)
        self.assertNotEqual(self.thumbnails.thumbnail_url(self.stream), url)

    def test_what_does_not_exist(self) -> None:
        for path in (
            "",
            ".jpg",
            "show",
            "show.png",
            "nothing.jpg",
            "show.jpg/x",
            "key-of-show.jpg",
            "\ufffd.jpg",
        ):
            answer = self.ask(path)
            self.assertEqual(
                (answer.status, json.loads(bytes(answer.body))["code"]), (404, "not_found"), path
            )

    def test_a_private_stream_takes_a_token(self) -> None:
        asked: list[PlayRequest] = []

        async def authorise(stream: Any, request: PlayRequest) -> None:
            asked.append(request)
            if request.token != "good":
                raise Refused("private", "This stream is private.")

        self.patch(self.hub, "authorise", authorise)
        self.ask()
        self.assertEqual(asked, [], "a public one is as public as the list")
        self.stream.change_info(msgspec.structs.replace(self.stream.info, is_private=True))
        refused = self.ask()
        self.assertEqual((refused.status, refused.cache_control), (401, b"no-store"))
        self.assertEqual(self.ask(query="token=good").cache_control, b"private, max-age=10")
        self.assertEqual(self.ask(authorization="Bearer good").body, JPEG)
        self.assertEqual((asked[0].protocol, asked[0].address), ("thumbnails", "192.0.2.7"))
