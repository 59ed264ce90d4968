"""Pictures of live streams over real HTTP, made by the real child process of what an encoder really sends."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from oxidecast.interfaces import IThumbnails, PublishRequest
from tests.streams.stage import Encoder
from tests.transcoding.clips import plain
from tests.web.test_api import ApiCase

STREAMS = "/api/v1/streams"
JPEG = b"\xff\xd8\xff by somebody else"


class ThumbnailsCase(ApiCase):
    async def on_air(self, **stream: Any) -> None:
        """A stream with a moving picture."""
        await self.start()
        self.owner = await self.token("streamer")
        made = await self.ask("POST", STREAMS, {"title": "Show", **stream}, self.owner)
        request = PublishRequest(protocol="test", address="192.0.2.1", key=made.data["stream_key"])
        encoder = Encoder(self)  # type: ignore[arg-type]
        publication = await self.server.hub.publish(request, encoder)
        clip = plain()
        for track in clip.tracks:
            publication.track(track)
        for one in clip.packets:
            publication.packet(one.track_id, one.dts, one.pts, one.keyframe, one.payload, one.samples)

    async def url(self) -> str | None:
        url: str | None = (await self.ask("GET", f"{STREAMS}/show", token=self.owner)).data["thumbnail_url"]
        return url.removeprefix("http://localhost") if url is not None else None

    def hand_over(self, jpeg: bytes) -> None:
        stream = self.server.hub.find("show")
        (thumbnails,) = self.server.registry.of(IThumbnails)
        thumbnails.instance.add(stream, jpeg, 1_000_000_000.0)


class TestThumbnails(ThumbnailsCase):
    async def test_a_live_stream_has_a_picture_by_itself(self) -> None:
        await self.on_air()
        self.assertIsNone(await self.url())
        while (url := await self.url()) is None:
            await _soon()
        answer = await self.ask("GET", url)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "image/jpeg"))
        self.assertTrue(answer.body.startswith(b"\xff\xd8\xff") and answer.body.endswith(b"\xff\xd9"))

    async def test_head_conditions_and_other_sites_pages(self) -> None:
        await self.on_air()
        self.hand_over(JPEG)
        url = await self.url()
        assert url is not None
        answer = await self.ask("HEAD", url)
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(JPEG)))
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        again = await self.ask("GET", url, If_None_Match=answer.headers["etag"])
        self.assertEqual((again.status, again.body), (304, b""))
        again = await self.ask("GET", url, If_Modified_Since=answer.headers["last-modified"])
        self.assertEqual((again.status, again.body), (304, b""))
        self.hand_over(JPEG + b" later")
        again = await self.ask("GET", url, If_None_Match=answer.headers["etag"])
        self.assertEqual((again.status, again.body), (200, JPEG + b" later"))

    async def test_a_private_stream_s_picture_takes_a_token(self) -> None:
        await self.on_air(is_private=True)
        self.hand_over(JPEG)
        url = await self.url()
        assert url is not None
        self.assertEqual((await self.ask("GET", url)).status, 401)
        self.assertEqual((await self.ask("GET", url, token=self.owner)).body, JPEG)
        self.assertEqual((await self.ask("GET", url, token=await self.token("viewer"))).status, 401)

    async def test_a_storyboard(self) -> None:
        await self.on_air(is_private=True)
        while await self.url() is None:
            await _soon()
        board = "/api/v1/thumbnails/show/storyboard"
        self.assertEqual((await self.ask("GET", f"{board}.vtt")).status, 401)
        url = (await self.ask("GET", f"{STREAMS}/show/url", token=self.owner)).data["url"]
        token = url.partition("token=")[2]
        self.assertEqual((await self.ask("GET", f"{board}.vtt?pass=x")).status, 401)
        for listed in (
            await self.ask("GET", f"{board}.vtt", token=self.owner),
            await self.ask("GET", f"{board}.vtt?token={token}"),
        ):
            self.assertNotIn("token", listed.body.decode())
        self.assertEqual(listed.headers["content-type"], "text/vtt; charset=utf-8")
        self.assertEqual(listed.headers["cache-control"], "private, max-age=10")
        line = listed.body.decode().splitlines()[-1]
        where, _, fragment = line.partition("#")
        self.assertRegex(fragment, "^xywh=0,0,[0-9]+,[0-9]+$")
        sheet = await self.ask("GET", f"/api/v1/thumbnails/show/{where}")
        self.assertEqual((sheet.status, sheet.headers["content-type"]), (200, "image/jpeg"))
        again = await self.ask("GET", f"/api/v1/thumbnails/show/{where}", If_None_Match=sheet.headers["etag"])
        self.assertEqual(again.status, 304)
        # What opens the sheet opens nothing else, and not the next broadcast's.
        opens = where.partition("&")[2]
        for other in (f"{board}.vtt", "/api/v1/thumbnails/show.jpg"):
            self.assertEqual((await self.ask("GET", f"{other}?{opens}")).status, 401)
        for changed in (opens[:-1], f"{opens}0", opens[:-1] + "1", opens.replace("=", "=0", 1), "pass=%ff"):
            self.assertEqual((await self.ask("GET", f"{board}.jpg?{changed}")).status, 401)
        self.server.hub.find("show").started_at += 1  # type: ignore[union-attr]
        self.assertEqual((await self.ask("GET", f"{board}.jpg?{opens}")).status, 401)

    async def test_a_pass_of_a_token_that_is_for_one_address(self) -> None:
        await self.on_air(is_private=True)
        while await self.url() is None:
            await _soon()
        asked = f"{STREAMS}/show/url?bind_address=true"
        token = (await self.ask("GET", asked, token=self.owner)).data["url"].partition("token=")[2]
        listed = await self.ask("GET", f"/api/v1/thumbnails/show/storyboard.vtt?token={token}")
        where = listed.body.decode().splitlines()[-1].partition("#")[0]
        self.assertEqual((await self.ask("GET", f"/api/v1/thumbnails/show/{where}")).status, 200)
        self.from_address = "127.9.0.1"
        self.assertEqual((await self.ask("GET", f"/api/v1/thumbnails/show/{where}")).status, 401)

    async def test_no_picture_outlives_its_stream(self) -> None:
        await self.on_air()
        self.hand_over(JPEG)
        stream = self.server.hub.find("show")
        assert stream is not None
        stream.end("over")
        self.assertIsNone(await self.url())
        self.assertEqual((await self.ask("GET", "/api/v1/thumbnails/show.jpg")).status, 404)


async def _soon() -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.1, waiting.callback, None)
    await waiting
