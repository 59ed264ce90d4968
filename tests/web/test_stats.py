"""Figures, as the API gives them to those who may see them."""

from oxidecast.web import stats as module
from tests.web.test_api import ApiCase

STATS = "/api/v1/stats"


class TestServerStats(ApiCase):
    async def test_an_idle_server(self) -> None:
        await self.start()
        answer = await self.ask("GET", STATS, token=await self.token("admin"))
        self.assertEnvelope(answer, 200)
        self.assertEqual(answer.data["streams"], {"live": 0, "waiting": 0, "publishers": 0})
        self.assertEqual((answer.data["viewers"], answer.data["bitrate"]), (0, 0))
        self.assertEqual(
            [(one["name"], one["state"]) for one in answer.data["outputs"]],
            [
                ("hls", "running"),
                ("multicast", "running"),
                ("recording", "running"),
                ("thumbnails", "running"),
                ("webrtc", "running"),
            ],
        )
        self.assertEqual([one["name"] for one in answer.data["ingests"]], ["rtmp", "testpattern", "webrtc"])
        self.assertEqual(answer.data["ingests"][2]["figures"]["publishers"], 0)
        self.assertEqual(answer.data["outputs"][0]["figures"], {})
        self.assertEqual(answer.data["outputs"][4]["figures"]["sessions"], 0)
        self.assertGreaterEqual(answer.data["http"]["connections"], 1)

    async def test_viewers_by_what_they_watch_by(self) -> None:
        await self.start()
        await self.live(await self.token("streamer"))
        stream = self.server.hub.find("show")
        assert stream is not None
        for output in ("hls", "hls", "multicast"):
            stream.viewer(output, "192.0.2.1")
        answer = (await self.ask("GET", STATS, token=await self.token("admin"))).data
        self.assertEqual(answer["streams"], {"live": 1, "waiting": 0, "publishers": 1})
        self.assertEqual((answer["viewers"], answer["viewers_by_output"]), (3, {"hls": 2, "multicast": 1}))
        self.assertEqual(
            [(one["streams"], one["viewers"]) for one in answer["outputs"]],
            [(1, 2), (1, 1), (1, 0), (1, 0), (1, 0)],
        )

    async def test_the_process(self) -> None:
        await self.start()
        process = (await self.ask("GET", STATS, token=await self.token("admin"))).data["process"]
        self.assertTrue(all(value > 0 for value in process.values()), process)

    async def test_a_system_that_does_not_say(self) -> None:
        await self.start()
        for name in ("STATM", "DESCRIPTORS"):
            self.patch(module, name, self.folder / "none")
        process = (await self.ask("GET", STATS, token=await self.token("admin"))).data["process"]
        self.assertEqual((process["resident_bytes"], process["open_files"]), (None, None))

    async def test_it_is_for_admins(self) -> None:
        await self.start()
        self.assertEnvelope(await self.ask("GET", STATS), 401, "unauthorised")
        self.assertEnvelope(
            await self.ask("GET", STATS, token=await self.token("streamer")), 403, "forbidden"
        )


class TestStreamStats(ApiCase):
    async def test_a_live_stream(self) -> None:
        await self.start()
        owner = await self.token("streamer")
        await self.live(owner)
        answer = await self.ask("GET", "/api/v1/streams/show/stats", token=owner)
        self.assertEnvelope(answer, 200)
        self.assertEqual((answer.data["is_live"], answer.data["publisher"]["protocol"]), (True, "test"))
        self.assertEqual([one["name"] for one in answer.data["renditions"]], ["source"])
        self.assertEqual(
            [one["name"] for one in answer.data["outputs"]],
            ["hls", "multicast", "recording", "thumbnails", "webrtc"],
        )

    async def test_one_whose_publisher_left(self) -> None:
        await self.start()
        owner = await self.token("streamer")
        await self.live(owner)
        [stream] = self.server.hub.streams.values()
        assert stream.publication is not None
        stream.publication.close("left")
        answer = (await self.ask("GET", "/api/v1/streams/show/stats", token=owner)).data
        self.assertEqual((answer["state"], answer["publisher"]), ("waiting", None))

    async def test_one_that_is_not_live(self) -> None:
        await self.start()
        owner = await self.token("streamer")
        await self.ask("POST", "/api/v1/streams", {"title": "Show"}, owner)
        answer = (await self.ask("GET", "/api/v1/streams/show/stats", token=owner)).data
        self.assertEqual((answer["is_live"], answer["state"], answer["renditions"]), (False, "idle", []))

    async def test_it_is_for_the_owner(self) -> None:
        await self.start()
        await self.live(await self.token("streamer"))
        path = "/api/v1/streams/show/stats"
        self.assertEnvelope(await self.ask("GET", path), 401, "unauthorised")
        other = await self.token("streamer", "another")
        self.assertEnvelope(await self.ask("GET", path, token=other), 403, "forbidden")
