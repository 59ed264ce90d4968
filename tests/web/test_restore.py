"""A backup of a server that works, restored as README says: who had an account logs in, and keys publish."""

import os
import shutil
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from oxidecast.interfaces import PublishRequest
from tests.database.cluster import cluster, program
from tests.database.support import create_database
from tests.streams.stage import Encoder
from tests.web.test_api import LOGIN, ApiCase


class RestoreCase(ApiCase):
    timeout = 60

    async def works(self) -> None:
        """A server with a key that is known, and a client that makes streams without a pause."""
        await self.start()
        self.token_of_admin = await self.token("admin", "boss")
        made = await self.ask("POST", "/api/v1/streams", {"title": "Kept"}, self.token_of_admin)
        self.key, self.first = made.data["stream_key"], self.server
        self.made, self.writing = 0, True
        self.writer = Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        while self.writing:
            answer = await self.ask("POST", "/api/v1/streams", {"title": "More"}, self.token_of_admin)
            self.assertEqual(answer.status, 201, answer.body)
            self.made += 1

    async def ends(self) -> None:
        self.writing = False
        await self.writer
        self.assertGreater(self.made, 0)
        await self.first.stopService()

    async def restored(self) -> None:
        """A server on a new data directory, which has nothing of the old one but its secrets."""
        old, self.folder = self.folder, self.folder / "new"
        (self.folder / "data").mkdir(parents=True, mode=0o700, exist_ok=True)
        shutil.copy2(old / "data" / "secrets.toml", self.folder / "data")
        await self.start()
        login = await self.ask("POST", LOGIN, {"username": "boss", "password": "correct horse"})
        self.assertEnvelope(login, 200)
        token = login.data["access_token"]
        shown = await self.ask("GET", "/api/v1/streams/kept/key", token=token)
        self.assertEqual(shown.data["stream_key"], self.key)
        encoder = Encoder(self, key=self.key)  # type: ignore[arg-type]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=self.key)
        publication = await self.server.hub.publish(request, encoder)
        self.assertEqual(publication.stream.name, "kept")
        total = (await self.ask("GET", "/api/v1/streams", token=token)).data["total"]
        self.assertLessEqual(total, 2 + self.made)
        self.assertFalse((self.folder / "data" / "admin-password").exists(), "nothing was begun anew")

    async def run_program(self, name: str, *arguments: str, **environ: str) -> str:
        out, err, code = await getProcessOutputAndValue(
            name, arguments, {**os.environ, **environ}, str(self.folder), reactor
        )
        self.assertEqual(code, 0, err)
        return str(out.decode())


class TestSQLite(RestoreCase):
    async def test_a_copy_is_put_into_a_new_data_directory(self) -> None:
        await self.works()
        copy = self.folder / "copy.db"
        arguments = ("-m", "oxidecast.cli", "backup", str(copy), "--data-dir", str(self.folder / "data"))
        said = await self.run_program(sys.executable, *arguments)
        self.assertIn("secrets.toml", said)
        await self.ends()
        (self.folder / "new" / "data").mkdir(parents=True, mode=0o700)
        copy.rename(self.folder / "new" / "data" / "oxidecast.db")
        await self.restored()


class TestPostgres(RestoreCase):
    async def test_a_dump_is_restored_into_another_database(self) -> None:
        url, other = (cluster().url(create_database(self, cluster())) for _ in range(2))
        self.environ["DATABASE_URL"] = url
        await self.works()
        dump = str(self.folder / "oxidecast.dump")
        await self.run_program(program("pg_dump"), "--format=custom", f"--file={dump}", f"--dbname={url}")
        await self.ends()
        await self.run_program(
            program("pg_restore"), "--clean", "--if-exists", "--no-owner", f"--dbname={other}", dump
        )
        self.environ["DATABASE_URL"] = other
        await self.restored()
