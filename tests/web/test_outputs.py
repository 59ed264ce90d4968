"""What an owner chooses for the outputs of a stream, through the API."""

from tests.web.test_api import ApiCase

PATH = "/api/v1/streams/show/outputs"


class TestOutputs(ApiCase):
    async def test_what_the_outputs_of_a_stream_do(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token)
        listed = (await self.ask("GET", PATH, token=token)).data
        self.assertEqual(
            [one["name"] for one in listed], ["hls", "multicast", "recording", "thumbnails", "webrtc"]
        )
        self.assertEqual([one["state"] for one in listed], ["running"] * 5)
        self.assertEqual(listed[0]["choices"], None)
        self.assertEqual(
            listed[1]["choices"], {"enabled": None, "open_to_everybody": False, "renditions": {}}
        )

    async def test_choices_are_kept_and_followed_at_once(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = await self.live(token)
        chosen = {"enabled": False, "open_to_everybody": False, "renditions": {}}
        answer = await self.ask("PUT", f"{PATH}/multicast", {"enabled": False}, token)
        self.assertEnvelope(answer, 200)
        self.assertEqual(answer.data["choices"], chosen)
        self.assertEqual((await self.ask("GET", f"{PATH}/multicast", token=token)).data["choices"], chosen)
        self.assertEqual(
            self.server.hub.streams[made["id"]].info.outputs, {"multicast": chosen}, "the live stream knows"
        )
        # Choices are whole: what is left out is as if it had never been chosen.
        answer = await self.ask("PUT", f"{PATH}/multicast", {}, token)
        self.assertEqual(answer.data["choices"], {**chosen, "enabled": None})

    async def test_a_stream_that_is_not_live_has_choices_too(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.ask("POST", "/api/v1/streams", {"title": "Show"}, token)
        answer = await self.ask("PUT", f"{PATH}/multicast", {"renditions": {"720p": False}}, token)
        self.assertEqual(
            (answer.data["state"], answer.data["choices"]["renditions"]), ("idle", {"720p": False})
        )

    async def test_only_the_owner_and_an_admin_may(self) -> None:
        await self.start()
        owner, other = await self.token("streamer"), await self.token("streamer", "another")
        admin = await self.token("admin", "boss")
        await self.live(owner)
        for method, path, body in (
            ("GET", PATH, None),
            ("GET", f"{PATH}/multicast", None),
            ("PUT", f"{PATH}/multicast", {}),
        ):
            for token, status, code in (
                ("", 401, "unauthorised"),
                (other, 403, "forbidden"),
                (owner, 200, None),
                (admin, 200, None),
            ):
                self.assertEnvelope(await self.ask(method, path, body, token), status, code)

    async def test_strangers_do_not_learn_that_a_private_stream_exists(self) -> None:
        await self.start()
        await self.live(await self.token("streamer"), is_private=True)
        other = await self.token("streamer", "another")
        self.assertEnvelope(await self.ask("GET", PATH, token=other), 404, "not_found")

    async def test_what_cannot_be_chosen(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token, is_private=True)
        for output, body, status, code in (
            ("multicast", {"enabled": True}, 409, "not_confirmed"),
            ("multicast", {"enabled": "yes"}, 422, "invalid"),
            ("multicast", {"colour": "red"}, 422, "invalid"),
            ("multicast", {"renditions": {str(n): True for n in range(51)}}, 422, "invalid"),
            ("multicast", {"renditions": {"r" * 65: True}}, 422, "invalid"),
            ("hls", {}, 409, "no_choices"),
            ("teletext", {}, 404, "not_found"),
        ):
            with self.subTest(output=output, body=body):
                answer = await self.ask("PUT", f"{PATH}/{output}", body, token)
                self.assertEnvelope(answer, status, code)
        self.assertIn("hls, multicast", answer.json["error"])
