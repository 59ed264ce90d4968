"""The whole server with receivers of webhooks: what they are told, and what their answers do."""

import json
from typing import Any

from twisted.internet.defer import Deferred

from oxidecast.database.streams import StreamChange
from oxidecast.interfaces import IAuthenticator, IEventListener, PlayRequest, PublishRequest, Refused
from oxidecast.webhooks import batches
from oxidecast.webhooks.batches import MOST
from oxidecast.webhooks.hooks import Webhooks
from tests.house import HouseCase
from tests.streams.stage import AUDIO, PAYLOAD, PICTURE, VIDEO
from tests.webhooks.receiver import SECRET, Posted, Receiver
from tests.webhooks.test_signature import readme_verify

STOPPED = StreamChange(accepts_publishing=False)


class Encoder:
    """A publisher inside the process."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def stop(self, code: str, sentence: str) -> None:
        self.stopped.append(code)


class HooksCase(HouseCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(batches, "INTERVAL", 0.05)

    def listening(self, receiver: Receiver, *events: str) -> None:
        receiver.listen(self)
        endpoint = {"name": "site", "url": receiver.url, "secret": SECRET, "allow_private": True}
        if events:
            endpoint["events"] = list(events)
        self.environ["OXIDECAST_WEBHOOKS_ENDPOINTS"] = json.dumps([endpoint])

    def deciding(self, what: str, receiver: Receiver, **settings: str) -> None:
        receiver.listen(self)
        values = {"url": receiver.url, "secret": SECRET, "allow_private": "true", **settings}
        for key, value in values.items():
            self.environ[f"OXIDECAST_WEBHOOKS_ON_{what.upper()}_{key.upper()}"] = value

    async def stream(self, title: str, **more: Any) -> Any:
        """A stream of the first user: what the API says of it."""
        foundation = self.server.foundation
        (admin,) = (await foundation.accounts.users.page(role="admin")).items
        info = await foundation.streams.create(admin.id, title, **more)
        return info, (await foundation.keys.create(info.id)).text

    async def publish(self, key: str) -> Any:
        request = PublishRequest(protocol="rtmp", address="192.0.2.1", key=key, encoder="a test")
        publication = await self.server.hub.publish(request, Encoder())
        publication.expect(True, True)
        publication.track(VIDEO)
        publication.track(AUDIO)
        publication.packet(1, 0, 0, True, PAYLOAD)
        publication.packet(1, PICTURE, PICTURE, False, PAYLOAD)
        return publication

    async def refused(self, key: str) -> Refused:
        try:
            await self.publish(key)
        except Refused as refused:
            return refused
        raise AssertionError("it was let in")

    async def play(self, info: Any, token: str = "") -> str:
        try:
            await self.server.hub.authorise(
                info, PlayRequest(protocol="hls", address="192.0.2.9", token=token)
            )
        except Refused as refused:
            return refused.code
        return "plays"

    def assert_signed(self, *posts: Posted) -> None:
        verify = readme_verify()
        for post in posts:
            self.assertTrue(verify(post.headers, post.body, SECRET), post)
            self.assertEqual(post.headers["webhook-id"], post.json["id"])


class Events(HooksCase):
    async def test_what_an_owner_is_told(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "stream.notice")
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        stream = self.server.hub.streams[info.id]
        for sentence in ("the device was lost", "the device was lost", None):
            stream.notice("transcoding:fallback", sentence)
        # The other one is multicast's, which does not take these tracks.
        posts = [post.json["data"] for post in await receiver.wait(2)]
        (noticed,) = [one for one in posts if one["about"] == "transcoding:fallback"]
        self.assertEqual((noticed["stream"]["name"], noticed["sentence"]), ("a-show", "the device was lost"))

    async def test_a_stream_from_its_start_to_its_end(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "stream.started", "stream.stopped")
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        (started,) = await receiver.wait(1)
        self.assertEqual(started.json["type"], "stream.started")
        self.assertEqual(started.json["data"]["stream"]["name"], "a-show")
        self.assertEqual(
            started.json["data"]["tracks"],
            [
                {"codec": VIDEO.codec_string, "kind": "video", "width": 640, "height": 360},
                {"codec": AUDIO.codec_string, "kind": "audio", "sample_rate": 48000, "channels": 2},
            ],
        )
        self.server.hub.streams[info.id].end("it was enough")
        _, stopped = await receiver.wait(2)
        self.assertEqual(
            (stopped.json["type"], stopped.json["data"]["reason"]), ("stream.stopped", "it was enough")
        )
        self.assert_signed(started, stopped)
        for post in receiver.posts:
            self.assertNotIn(key.encode(), post.body)

    async def test_what_ends_with_the_server_is_told_before_it_is_gone(self) -> None:
        receiver = Receiver()
        self.listening(receiver)
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        self.server.hub.streams[info.id].viewer("hls", "192.0.2.9")
        await self.server.stopService()
        self.assertEqual(
            sorted(post.json["type"] for post in receiver.posts),
            ["stream.started", "stream.stopped", "viewers.changed"],
        )

    async def test_viewers_come_together(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "viewers.changed")
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        stream = self.server.hub.streams[info.id]
        viewers = [stream.viewer("hls", f"192.0.2.{number}") for number in range(3)]
        viewers[0].leave()
        (post,) = await receiver.wait(1)
        data = post.json["data"]
        self.assertEqual([one["viewer"] for one in data["joined"]], [one.id for one in viewers])
        self.assertEqual([one["viewer"] for one in data["left"]], [viewers[0].id])
        self.assertEqual(
            (data["joined"][1]["address"], data["joined"][1]["output"], data["omitted"]),
            ("192.0.2.1", "hls", 0),
        )
        self.assertEqual(data["joined"][0]["stream"], {"id": info.id, "name": "a-show"})

    async def test_a_crowd_is_counted_and_not_listed(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "viewers.changed")
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        for number in range(MOST + 23):
            self.server.hub.streams[info.id].viewer("hls", f"192.0.2.{number}")
        (post,) = await receiver.wait(1)
        self.assertEqual((len(post.json["data"]["joined"]), post.json["data"]["omitted"]), (MOST, 23))
        self.assertLess(len(post.body), 40_000)

    async def test_refusals_come_together_and_without_their_keys(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "publish.refused")
        await self.start()
        for number in range(3):
            await self.refused(f"a-guess-{number}")
        info, key = await self.stream(
            "Stopped",
        )
        await self.server.foundation.streams.update(info.id, STOPPED)
        await self.refused(key)
        (post,) = await receiver.wait(1)
        refusals = post.json["data"]["refusals"]
        self.assertEqual([one["code"] for one in refusals], ["bad_key"] * 3 + ["stream_stopped"])
        self.assertEqual((refusals[0]["address"], refusals[0]["stream"]), ("192.0.2.1", None))
        self.assertNotIn(b"a-guess", post.body)
        self.assertNotIn(key.encode(), post.body)

    async def test_a_recording_is_told_of_by_its_id_and_not_by_its_path(self) -> None:
        receiver = Receiver()
        self.listening(receiver)
        await self.start()
        info, key = await self.stream("A show")
        await self.publish(key)
        self.server.hub.tell(
            "recording_closed", self.server.hub.streams[info.id], f"/var/lib/show/1-{info.id}.mp4"
        )
        posts = await receiver.wait(2)
        self.assertEqual(posts[1].json["type"], "recording.closed")
        self.assertEqual(posts[1].json["data"]["recording"], info.id)
        self.assertNotIn(b"/var/lib", posts[1].body)

    async def test_figures(self) -> None:
        receiver = Receiver()
        self.listening(receiver, "stream.started")
        await self.start()
        _, key = await self.stream("A show")
        await self.publish(key)
        await receiver.wait(1)
        await self.server.stopService()
        text = self.server.metrics.render().decode()
        self.assertIn('oxidecast_webhooks_deliveries_total{endpoint="site",result="delivered"} 1.0', text)
        self.assertIn('oxidecast_webhooks_queue{endpoint="site"} 0.0', text)
        self.assertIn('oxidecast_webhooks_dropped_total{endpoint="site"} 0.0', text)
        self.assertNotIn("127.0.0.1", text)

    async def test_without_settings_nobody_is_asked_and_nothing_is_made(self) -> None:
        await self.start()
        (running,) = (one for one in self.server.registry.of(IEventListener) if one.name == "webhooks")
        self.assertIs(type(running.instance), Webhooks)
        self.assertEqual([one.name for one in self.server.registry.of(IAuthenticator)], ["accounts"])


class Publishing(HooksCase):
    async def test_it_is_told_the_stream_and_not_the_key(self) -> None:
        receiver = Receiver()
        self.deciding("publish", receiver)
        await self.start()
        _, key = await self.stream("A show")
        await self.publish(key)
        (post,) = receiver.posts
        self.assert_signed(post)
        self.assertEqual(post.json["type"], "publish.requested")
        self.assertEqual(post.json["data"]["stream"]["name"], "a-show")
        self.assertEqual(post.json["data"]["encoder"], "a test")
        self.assertNotIn("key", post.json["data"])
        self.assertNotIn(key.encode(), post.body)

    async def test_it_refuses_a_key_that_the_server_knows(self) -> None:
        self.deciding("publish", Receiver((403, b'{"reason": "Your plan has ended."}', {})))
        await self.start()
        _, key = await self.stream("A show")
        refused = await self.refused(key)
        self.assertEqual((refused.code, refused.sentence), ("refused", "Your plan has ended."))
        self.assertEqual(self.server.hub.streams, {})

    async def test_it_knows_a_key_that_the_server_does_not(self) -> None:
        receiver = Receiver((200, b'{"stream": "a-show"}', {}))
        self.deciding("publish", receiver)
        await self.start()
        await self.stream("A show")
        publication = await self.publish("a-key-of-their-own")
        self.assertEqual(publication.stream.name, "a-show")
        self.assertEqual(receiver.posts[0].json["data"]["key"], "a-key-of-their-own")

    async def test_a_stream_that_there_is_not(self) -> None:
        self.deciding("publish", Receiver((200, b'{"stream": "../etc/passwd"}', {})))
        await self.start()
        self.assertEqual((await self.refused("a-key")).code, "bad_key")

    async def test_a_stream_of_a_disabled_account_or_a_stopped_one(self) -> None:
        self.deciding("publish", Receiver((200, b'{"stream": "a-show"}', {})))
        await self.start()
        foundation = self.server.foundation
        owner = await foundation.accounts.create("owner", "correct horse", "streamer")
        info = await foundation.streams.create(owner.id, "A show")
        await foundation.streams.update(info.id, STOPPED)
        self.assertEqual((await self.refused("a-key")).code, "stopped")
        await foundation.accounts.set_disabled(owner.id, True)
        self.assertEqual((await self.refused("a-key")).code, "account_disabled")

    async def test_without_a_stream_an_unknown_key_stays_unknown(self) -> None:
        self.deciding("publish", Receiver((200, b'{"allow": true}', {})))
        await self.start()
        self.assertEqual((await self.refused("a-key")).code, "bad_key")

    async def test_a_key_that_is_revoked_while_it_thinks_does_not_publish(self) -> None:
        receiver = Receiver(None)
        self.deciding("publish", receiver)
        await self.start()
        info, key = await self.stream("A show")
        asked = Deferred.fromCoroutine(self.refused(key))
        await receiver.wait(1)
        await self.server.foundation.keys.revoke_newest(info.id)
        receiver.held[0].finish()
        self.assertEqual((await asked).code, "bad_key")

    async def test_failing_closed(self) -> None:
        self.deciding("publish", Receiver((500, b"", {})))
        await self.start()
        _, key = await self.stream("A show")
        self.assertEqual((await self.refused(key)).code, "unavailable")

    async def test_failing_open_lets_in_whom_the_server_knows(self) -> None:
        self.deciding("publish", Receiver(None), on_failure="allow", timeout="0.2")
        await self.start()
        _, key = await self.stream("A show")
        await self.publish(key)
        self.assertEqual((await self.refused("a-guess")).code, "bad_key")
        text = self.server.metrics.render().decode()
        self.assertIn('oxidecast_webhooks_decisions_total{action="publish",outcome="failed"} 2.0', text)


class Playing(HooksCase):
    async def test_it_refuses_a_public_stream(self) -> None:
        receiver = Receiver((403, b"", {}))
        self.deciding("play", receiver)
        await self.start()
        info, _ = await self.stream("A show")
        self.assertEqual(await self.play(info, "a-token"), "refused")
        data = receiver.posts[0].json["data"]
        self.assertEqual(
            (data["stream"]["name"], data["protocol"], data["address"]), ("a-show", "hls", "192.0.2.9")
        )
        self.assertNotIn("token", data)

    async def test_only_yes_opens_a_private_one(self) -> None:
        self.deciding("play", Receiver((200, b"", {}), (200, b'{"allow": true}', {})))
        await self.start()
        first, _ = await self.stream("First", is_private=True)
        second, _ = await self.stream("Second", is_private=True)
        self.assertEqual(await self.play(first), "private")
        self.assertEqual(await self.play(second), "plays")

    async def test_a_private_one_opens_for_a_token_of_the_operators(self) -> None:
        receiver = Receiver((200, b'{"allow": true}', {}), (200, b"", {}))
        self.deciding("play", receiver, send_token="true")
        await self.start()
        info, _ = await self.stream("A show", is_private=True)
        self.assertEqual(await self.play(info, "a ticket of ours"), "plays")
        self.assertEqual(receiver.posts[0].json["data"]["token"], "a ticket of ours")
        # Where nobody knows it either, the server says what it knows of it.
        self.assertEqual(await self.play(info, "another"), "token_invalid")

    async def test_failing_open_opens_no_private_stream(self) -> None:
        self.deciding("play", Receiver((500, b"", {})), on_failure="allow")
        await self.start()
        public, _ = await self.stream("Public")
        private, _ = await self.stream("Private", is_private=True)
        self.assertEqual((await self.play(public), await self.play(private)), ("plays", "private"))

    async def test_failing_closed_closes_public_ones(self) -> None:
        self.deciding("play", Receiver((500, b"", {})))
        await self.start()
        info, _ = await self.stream("A show")
        self.assertEqual(await self.play(info), "unavailable")
