"""Joining, staying and leaving, through the API."""

import re
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.task import deferLater

from oxidecast.media import Codec
from oxidecast.streams.wanting import RenditionSpec
from tests.house import Answer
from tests.streams.stage import VIDEO
from tests.web.test_api import PLANNED, ApiCase

STREAM = "/api/v1/streams/show"


class ViewersCase(ApiCase):
    async def on_air(self, **stream: Any) -> None:
        await self.start()
        self.owner = await self.token("streamer")
        await self.live(self.owner, **stream)

    async def join(self, kind: str = "hls", token: str = "", query: str = "", **more: Any) -> Answer:
        return await self.ask("POST", f"{STREAM}/join{query}", {"connection_type": kind, **more}, token)

    async def count(self) -> int:
        return int((await self.ask("GET", STREAM, token=self.owner)).data["viewer_count"])


class TestJoining(ViewersCase):
    async def test_it_says_where_to_watch_and_how_to_stay(self) -> None:
        await self.on_air()
        answer = await self.join()
        self.assertEnvelope(answer, 200)
        joined = answer.data
        self.assertEqual(
            joined["stream_url"],
            f"http://localhost/api/v1/hls/show/playlist.m3u8?viewer={joined['viewer_id']}",
        )
        self.assertEqual((joined["connection_type"], joined["heartbeat_interval"]), ("hls", 10.0))
        self.assertEqual(await self.count(), 1)

    async def test_nobody_joins_what_is_not_live(self) -> None:
        await self.start()
        answer = await self.ask("POST", "/api/v1/streams/my-stream/join", {"connection_type": "hls"})
        self.assertEnvelope(answer, 404, "not_live")

    async def test_what_cannot_be_joined(self) -> None:
        await self.on_air()
        for body, status in (
            ({"connection_type": "pigeon"}, 422),
            ({"connection_type": "flv"}, 404),
            ({"connection_type": "hls", "quality_profile": "8k"}, 422),
            ({}, 422),
        ):
            answer = await self.ask("POST", f"{STREAM}/join", body)
            self.assertEqual((body, answer.status), (body, status))
        self.assertEqual(await self.count(), 0)

    async def test_a_quality_that_is_known_may_be_asked_for(self) -> None:
        await self.on_air()
        for profile in ("source", "720p", None):
            self.assertEnvelope(await self.join(quality_profile=profile), 200)

    async def test_a_quality_that_is_made_on_demand_is_made_for_who_watches_it_by_multicast(self) -> None:
        await self.on_air()
        stream = self.server.hub.find("show")
        assert stream is not None
        for kind, wanted in (("hls", {}), ("multicast", {RenditionSpec("720p"): 1})):
            stream.plan({"720p": PLANNED})
            url = f"{STREAM}/url?connection_type={kind}&quality_profile=720p"
            # The group's number is being written down.
            while (answer := await self.ask("GET", url)).status == 404:
                await deferLater(reactor, 0.02)
            joined = await self.join(kind, quality_profile="720p")
            self.assertEnvelope(joined, 200)
            self.assertTrue(joined.data["stream_url"].startswith(answer.data["url"]))
            self.assertEqual(stream.wanted, wanted)
        await self.ask("DELETE", f"/api/v1/viewers/{joined.data['viewer_id']}")
        self.assertEqual(stream.wanted, {})

    async def test_a_quality_is_made_for_who_watches_by_multicast_what_cannot_be_carried(self) -> None:
        await self.on_air()
        stream = self.server.hub.find("show")
        assert stream is not None
        av1 = msgspec.structs.replace(VIDEO, codec=Codec.AV1, codec_string="av01.0.00M.08")
        stream.source.restart((av1,), "it comes back in another codec")
        for quality in (None, "source"):
            stream.plan({"720p": PLANNED})
            while (await self.ask("GET", f"{STREAM}/url?connection_type=multicast")).status == 404:
                await deferLater(reactor, 0.02)
            joined = await self.join("multicast", quality_profile=quality)
            self.assertEnvelope(joined, 200)
            self.assertEqual(stream.wanted, {RenditionSpec("720p"): 1})
            await self.ask("DELETE", f"/api/v1/viewers/{joined.data['viewer_id']}")
            self.assertEqual(stream.wanted, {})

    async def test_a_quality_for_which_there_is_no_room(self) -> None:
        self.environ["OXIDECAST_TRANSCODING_MODE"] = "on_demand"
        await self.on_air(transcoding_profiles=["720p"])
        stream = self.server.hub.find("show")
        assert stream is not None
        self.assertEqual(list(stream.planned), ["720p"])
        stream.plan({}, "the server is full")
        for kind in ("hls", "multicast"):
            url = f"{STREAM}/url?connection_type={kind}&quality_profile=720p"
            for answer in (await self.ask("GET", url), await self.join(kind, quality_profile="720p")):
                self.assertEnvelope(answer, 503, "no_quality")
                self.assertEqual(
                    answer.json["error"], "The quality 720p is not to be had now: the server is full."
                )
                self.assertIn("retry-after", answer.headers)
        self.assertEqual(
            [one["name"] for one in (await self.ask("GET", STREAM)).data["qualities"]], ["source"]
        )
        self.assertEqual(await self.count(), 0)

    async def test_a_quality_that_is_not_made_of_this_source(self) -> None:
        await self.on_air(transcoding_profiles=["720p"])
        stream = self.server.hub.find("show")
        assert stream is not None
        stream.left_out = {"720p": "the source has no pictures"}
        for kind, withheld in (("hls", ""), ("multicast", "the server is full")):
            stream.plan({}, withheld)
            url = f"{STREAM}/url?connection_type={kind}&quality_profile=720p"
            for answer in (await self.ask("GET", url), await self.join(kind, quality_profile="720p")):
                self.assertEnvelope(answer, 422, "invalid")
                self.assertIn(
                    "720p is not made of this stream: the source has no pictures", answer.json["error"]
                )
        self.assertEqual(await self.count(), 0)

    async def test_a_private_stream_is_joined_with_a_token(self) -> None:
        await self.on_air(is_private=True)
        self.assertEnvelope(await self.join(), 401, "private")
        stranger = await self.token("viewer")
        self.assertEnvelope(await self.join(token=stranger), 403, "forbidden")
        url = (await self.join(token=self.owner)).data["stream_url"]
        token = re.search(r"token=([^&]+)&viewer=", url)
        assert token is not None
        self.assertEnvelope(await self.join(query=f"?token={token[1]}"), 200)

    async def test_a_token_does_not_renew_itself(self) -> None:
        """Who was given an address to watch by for five minutes has it for five minutes."""
        await self.on_air(is_private=True)
        made = (await self.ask("GET", STREAM, token=self.owner)).data
        tokens = self.server.foundation.tokens

        def lasts(url: str) -> int:
            token = re.search(r"token=([^&]+)", url)
            assert token is not None
            return tokens.verify_playback(token[1], made["id"], "127.0.0.1").exp

        short = tokens.playback(made["id"], lifetime=20)
        ends = tokens.verify_playback(short, made["id"], "127.0.0.1").exp
        answer = await self.join(query=f"?token={short}")
        self.assertLessEqual(lasts(answer.data["stream_url"]), ends)
        url = f"/api/v1/streams/show/url?connection_type=hls&token={short}"
        self.assertLessEqual(lasts((await self.ask("GET", url)).data["url"]), ends)
        # Its owner, who is known by an access token, gets a whole one.
        self.assertGreater(lasts((await self.ask("GET", url, token=self.owner)).data["url"]), ends + 60)

    async def test_one_address_joins_only_so_often(self) -> None:
        await self.on_air()
        for _ in range(100):
            answer = await self.join()
        self.assertEnvelope(answer, 200)
        answer = await self.join()
        self.assertEnvelope(answer, 429, "too_many_viewers")
        self.assertEqual(answer.headers["retry-after"], "10")


class TestStaying(ViewersCase):
    async def test_a_heartbeat_needs_nothing_but_the_id(self) -> None:
        await self.on_air(is_private=True)
        viewer = (await self.join(token=self.owner)).data["viewer_id"]
        for token in ("", "expired"):
            answer = await self.ask("POST", f"/api/v1/viewers/{viewer}/heartbeat", token=token)
            self.assertEnvelope(answer, 200)
            self.assertEqual(answer.data, {"heartbeat_interval": 10.0})

    async def test_of_nobody_it_is_a_404(self) -> None:
        await self.on_air()
        self.assertEnvelope(await self.ask("POST", "/api/v1/viewers/x/heartbeat"), 404, "not_found")


class TestLeaving(ViewersCase):
    async def test_every_way_to_leave(self) -> None:
        await self.on_air()
        for method in ("by id", "by body", "by query"):
            viewer = (await self.join()).data["viewer_id"]
            self.assertEqual((method, await self.count()), (method, 1))
            for _ in range(2):
                if method == "by id":
                    answer = await self.ask("DELETE", f"/api/v1/viewers/{viewer}")
                elif method == "by body":
                    answer = await self.ask("DELETE", f"{STREAM}/leave", {"viewer_id": viewer})
                else:
                    answer = await self.ask("DELETE", f"{STREAM}/leave?viewer_id={viewer}")
                self.assertEnvelope(answer, 200)
            self.assertEqual((method, await self.count()), (method, 0))

    async def test_it_must_be_said_who(self) -> None:
        await self.on_air()
        for body in (None, {}, {"viewer_id": 5}):
            self.assertEnvelope(await self.ask("DELETE", f"{STREAM}/leave", body), 422, "invalid")


class TestHLS(ViewersCase):
    async def playing(self, url: str) -> str:
        """Open an address as a player does; the answer is its media playlist's."""
        path = url.removeprefix("http://localhost")
        for number in range(1, 200):
            self.encode(number)
        master = await self.ask("GET", path)
        self.assertEqual(master.status, 200, master.body)
        media = next(line for line in master.body.decode().splitlines() if line.startswith("~"))
        path = f"{path.partition('?')[0].rpartition('/')[0]}/{media}"
        self.assertEqual((await self.ask("GET", path)).status, 200)
        return path

    def encode(self, number: int) -> None:
        self.publication.packet(1, number * 3000, number * 3000, number % 30 == 0, b"\0\0\0\1\x65")

    async def test_who_joined_and_plays_is_counted_once(self) -> None:
        await self.on_air()
        [stream] = self.server.hub.streams.values()
        assert stream.publication is not None
        self.publication = stream.publication
        joined = (await self.join()).data
        path = await self.playing(joined["stream_url"])
        self.assertEqual(await self.count(), 1)
        # Gone as a joined viewer, and still playing: counted by what it loads.
        await self.ask("DELETE", f"/api/v1/viewers/{joined['viewer_id']}")
        self.assertEqual(await self.count(), 0)
        await self.ask("GET", path)
        self.assertEqual(await self.count(), 1)

    async def test_who_plays_without_joining_is_another(self) -> None:
        await self.on_air()
        [stream] = self.server.hub.streams.values()
        assert stream.publication is not None
        self.publication = stream.publication
        await self.join()
        await self.playing("http://localhost/api/v1/hls/show/playlist.m3u8")
        self.assertEqual(await self.count(), 2)
