"""That the watch over secrets sees: what it fails on is what would otherwise go unnoticed."""

from twisted.logger import Logger

from oxidecast.accounts.keys import KeySafe
from tests import leaks
from tests.house import HouseCase


class LeakTests(HouseCase):
    log = Logger()

    def assertSeen(self, beginning: str) -> None:
        self.assertEqual([sentence[: len(beginning)] for sentence in leaks.seen], [beginning])
        leaks.seen.clear()

    def test_a_key_in_a_log_line(self) -> None:
        self.log.info("published with {key}", key=KeySafe(b"x" * 32).new())
        self.assertSeen("a secret in a log line")

    def test_a_statement_in_a_traceback(self) -> None:
        try:
            raise ValueError("near FROM: SELECT digest FROM stream_keys")
        except ValueError:
            self.log.failure("no")
        self.flushLoggedErrors(ValueError)
        self.assertSeen("SQL in a log line")

    async def test_what_was_really_used_is_known(self) -> None:
        await self.start()
        key = (await self.ask("POST", "/api/v1/streams", {"title": "x"}, await self.token("streamer"))).data
        self.assertIn(key["stream_key"], leaks.keys)
        self.assertIn("correct horse", leaks.planted)
        login = {"username": "a-streamer", "password": "correct horse"}
        answer = await self.ask("POST", "/api/v1/auth/login", login)
        self.assertLessEqual({answer.data["access_token"], answer.data["refresh_token"]}, leaks.planted)

    async def test_a_key_in_an_answer(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = (await self.ask("POST", "/api/v1/streams", {"title": "x"}, token)).data
        title = {"title": made["stream_key"]}
        await self.ask("PATCH", f"/api/v1/streams/{made['name']}", title, token)
        self.assertSeen("a stream key in the answer to PATCH /api/v1/streams/x")

    def test_a_path_in_an_error(self) -> None:
        leaks.look_at_answer("GET /x", 500, b'File "/srv/oxidecast/app.py"')
        self.assertSeen("SQL, or what the server is made of, in a 500 to GET /x")
