"""Changes by a command, or by another server on the same database, take effect here within a second."""

import os
import sys
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from oxidecast.database import DatabaseUnavailable
from oxidecast.database.changes import KEEP, note_change
from oxidecast.database.records import utc
from oxidecast.interfaces import PublishRequest
from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.streams.stage import AUDIO, VIDEO, Encoder
from tests.web.test_api import ApiCase

PATIENCE = 10.0
"""Seconds after which a change is taken for lost: nothing is measured here."""


class ElsewhereCase(ApiCase):
    timeout = 60

    async def begin(self) -> None:
        await self.start()
        self.owner = await self.token("streamer", "owner")
        self.admin = await self.token("admin", "boss")

    async def until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            await deferLater(reactor, 0.02)

    async def command(self, *arguments: str) -> str:
        """Run a command, as a process of its own."""
        environ = {**os.environ, **self.environ, "OXIDECAST_DATA_DIR": str(self.folder / "data")}
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-m", "oxidecast.cli", *arguments], environ, None, reactor
        )
        self.assertEqual((code, err), (0, b""))
        return str(out.decode())


class TestCommands(ElsewhereCase):
    async def test_a_disabled_user_is_off_the_air_and_out(self) -> None:
        await self.begin()
        await self.live(self.owner)
        await self.command("user", "disable", "owner")
        await self.until(lambda: self.publisher.stopped)
        self.assertEqual((self.publisher.stopped, self.server.hub.streams), (["account_disabled"], {}))
        self.assertEnvelope(await self.ask("GET", "/api/v1/streams", token=self.owner), 401, "token_invalid")
        [entry] = (await self.server.foundation.audit.page(action="user.disable")).items
        self.assertRegex(entry.actor, "^cli:.")

    async def test_a_revoked_key_cuts_who_publishes_with_it(self) -> None:
        await self.begin()
        await self.live(self.owner)
        await self.command("key", "revoke", "show")
        await self.until(lambda: self.publisher.stopped)
        self.assertEqual(self.publisher.stopped, ["key_revoked"])

    async def test_a_rotated_key_cuts_nobody(self) -> None:
        await self.begin()
        await self.live(self.owner)
        await self.command("key", "rotate", "show")
        await self.server.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, [])


class TestTwoServers(ElsewhereCase):
    """One takes the API's calls, the other has the stream."""

    async def pair(self) -> None:
        await self.begin()
        self.here = self.server
        self.there = await self.start()
        made = await self.live(self.owner)
        self.name, self.key = made["name"], made["stream_key"]
        self.server = self.here

    async def test_a_stream_that_is_stopped_here_ends_there(self) -> None:
        await self.pair()
        await self.ask("POST", f"/api/v1/streams/{self.name}/stop", None, self.owner)
        await self.until(lambda: self.publisher.stopped)
        self.assertEqual((self.publisher.stopped, self.there.hub.streams), (["stopped"], {}))

    async def test_a_stream_that_is_deleted_here_ends_there(self) -> None:
        await self.pair()
        await self.ask("DELETE", f"/api/v1/streams/{self.name}", None, self.owner)
        await self.until(lambda: self.publisher.stopped)
        self.assertEqual(self.publisher.stopped, ["deleted"])

    async def test_an_account_that_is_deleted_here_is_off_the_air_there(self) -> None:
        await self.pair()
        user = await self.here.foundation.accounts.users.by_username("owner")
        assert user is not None
        await self.ask("DELETE", f"/api/v1/users/{user.id}", None, self.admin)
        await self.until(lambda: self.publisher.stopped)
        self.assertEqual(self.there.hub.streams, {})

    async def test_a_change_here_is_followed_there(self) -> None:
        await self.pair()
        [stream] = self.there.hub.streams.values()
        await self.ask("PATCH", f"/api/v1/streams/{self.name}", {"is_private": True}, self.owner)
        await self.until(lambda: stream.info.is_private)
        self.assertEqual(self.publisher.stopped, [])

    async def test_a_key_that_is_revoked_and_gone_before_anybody_looks(self) -> None:
        await self.pair()
        self.there.web.elsewhere.stopService()
        await self.ask("DELETE", f"/api/v1/streams/{self.name}/key", None, self.owner)
        gone = await self.here.foundation.database.execute(
            "DELETE FROM stream_keys WHERE revoked_at IS NOT NULL"
        )
        self.assertEqual(gone, 1)
        await self.there.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, ["key_revoked"])

    async def test_what_changed_while_the_database_was_away_is_not_missed(self) -> None:
        await self.pair()
        database, query = self.there.foundation.database, self.there.foundation.database.query

        def away(*_: Any, **__: Any) -> Deferred[Any]:
            return fail(DatabaseUnavailable("The database is away."))

        self.patch(database, "query", away)
        await self.ask("POST", f"/api/v1/streams/{self.name}/stop", None, self.owner)
        await self.there.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, [])
        self.patch(database, "query", query)
        await self.until(lambda: self.publisher.stopped)

    async def test_what_could_not_be_looked_at_is_looked_at_again(self) -> None:
        await self.pair()
        self.there.web.elsewhere.stopService()
        await self.ask("POST", f"/api/v1/streams/{self.name}/stop", None, self.owner)
        streams = self.there.foundation.streams
        with_owner = streams.with_owner

        async def away(stream_id: str) -> None:
            raise DatabaseUnavailable("The database is away.")

        self.patch(streams, "with_owner", away)
        await self.there.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, [])
        self.patch(streams, "with_owner", with_owner)
        await self.there.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, ["stopped"])


class TestTwoServersOnPostgres(TestTwoServers):
    def setUp(self) -> None:
        super().setUp()
        self.environ["DATABASE_URL"] = cluster().url(create_database(self, cluster()))


class TestLongAway(ElsewhereCase):
    async def test_who_was_away_for_longer_than_rows_are_kept_looks_at_everything(self) -> None:
        await self.begin()
        elsewhere = self.server.web.elsewhere
        elsewhere.stopService()
        made = await self.live(self.owner)
        database = self.server.foundation.database
        await database.execute("UPDATE streams SET accepts_publishing = false")  # and no row of it is left
        await elsewhere.look()
        self.assertEqual(self.publisher.stopped, [])
        elsewhere._read -= KEEP + 1
        await elsewhere.look()
        self.assertEqual(self.publisher.stopped, ["stopped"])
        self.assertFalse(self.server._keys._remembered, made["name"])


class TestItsOwnChanges(ElsewhereCase):
    async def test_a_stream_that_was_stopped_and_is_live_again_stays(self) -> None:
        await self.begin()
        self.server.web.elsewhere.stopService()
        made = await self.live(self.owner)
        for action in ("stop", "start"):
            await self.ask("POST", f"/api/v1/streams/{made['name']}/{action}", None, self.owner)
        self.assertEqual(self.publisher.stopped, ["stopped"])
        again = Encoder(self, key=made["stream_key"])  # type: ignore[arg-type]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=made["stream_key"])
        publication = await self.server.hub.publish(request, again)
        for track in (VIDEO, AUDIO):
            publication.track(track)
        publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        await self.server.web.elsewhere.look()
        self.assertEqual(again.stopped, [])
        [stream] = self.server.hub.streams.values()
        self.assertEqual(stream.state, "live")

    async def test_a_stream_without_an_account_is_nobodys_change(self) -> None:
        self.environ["OXIDECAST_RTMP_ENABLE_AUTH"] = "false"
        await self.begin()
        encoder = Encoder(self, key="anything")  # type: ignore[arg-type]
        request = PublishRequest(protocol="rtmp", address="192.0.2.1", key="anything")
        await self.server.hub.publish(request, encoder)
        [stream] = self.server.hub.streams.values()
        self.assertEqual(stream.info.owner_id, "")
        await self.server.foundation.database.transaction(
            note_change, utc(self.server.foundation.reactor), stream_id=stream.id
        )
        await self.server.web.elsewhere.look()
        self.assertEqual(encoder.stopped, [])
