"""Recordings as their owner meets them: listed, played, kept, renamed, deleted."""

import fcntl
import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from oxidecast.database.recordings import Recording
from oxidecast.database.records import new_id
from oxidecast.delivery import files
from tests.house import Answer
from tests.web.recorded import BODY, recorded, store
from tests.web.test_api import ApiCase

RECORDINGS = "/api/v1/recordings"


class RecordingsCase(ApiCase):
    async def owned(self, **values: Any) -> Recording:
        """A recording of `self.owner`'s."""
        await self.start()
        self.owner = await self.token("streamer", "owner")
        self.owner_id = (await self.server.foundation.accounts.bearer(self.owner)).id
        return await recorded(self.server, self.owner_id, **values)

    async def get(self, path: str = "", token: str | None = None, **headers: str) -> Answer:
        return await self.ask(
            "GET", f"{RECORDINGS}{path}", token=self.owner if token is None else token, **headers
        )


class TestListing(RecordingsCase):
    async def titles(self, query: str, token: str | None = None) -> list[str]:
        answer = await self.get(query, token)
        self.assertEnvelope(answer, 200)
        self.assertEqual(answer.data["total"], len(answer.data["items"]))
        return [one["title"] for one in answer.data["items"]]

    async def test_what_is_said_of_one(self) -> None:
        one = await self.owned()
        answer = await self.get(f"/{one.id}")
        self.assertEqual(
            answer.data,
            {
                "id": one.id,
                "title": "Birds",
                "stream": None,
                "stream_id": None,
                "broadcast_id": None,
                "owner_id": self.owner_id,
                "state": "complete",
                "error": None,
                "started_at": "2026-11-24T12:00:00Z",
                "ended_at": "2026-11-24T13:00:00Z",
                "duration": 3600.0,
                "size": len(BODY),
                "file_url": f"http://localhost{RECORDINGS}/{one.id}/file",
            },
        )
        self.assertNotIn(b"some-stream", answer.body)

    async def test_owners_see_theirs_and_administrators_all(self) -> None:
        await self.owned()
        other = await self.token("streamer", "other")
        await recorded(self.server, None, title="Orphan")
        self.assertEqual(await self.titles(""), ["Birds"])
        self.assertEqual(await self.titles("", other), [])
        self.assertEqual(
            sorted(await self.titles("", await self.token("admin", "boss"))), ["Birds", "Orphan"]
        )

    async def test_filters_and_order(self) -> None:
        await self.owned()
        made = await self.ask("POST", "/api/v1/streams", {"title": "Show", "name": "show"}, self.owner)
        await recorded(self.server, self.owner_id, made.data["id"], b"x", title="Show", state="failed")
        for query, expected in (
            ("?stream=show", ["Show"]),
            (f"?stream={made.data['id']}", ["Show"]),
            ("?stream=..%2F", []),
            ("?state=complete", ["Birds"]),
            ("?q=BIR", ["Birds"]),
            ("?sort=size", ["Show", "Birds"]),
            ("?sort=-size", ["Birds", "Show"]),
        ):
            self.assertEqual((query, await self.titles(query)), (query, expected))
        for query in ("?state=lost", "?sort=path", "?page=0", "?limit=101"):
            self.assertEnvelope(await self.get(query), 422, "invalid")

    async def test_another_title(self) -> None:
        one = await self.owned()
        for body, status, code in (
            ({"title": " Owls "}, 200, None),
            ({"title": " "}, 422, "invalid"),
            ({"title": "x" * 201}, 422, "invalid"),
            ({"path": "/etc/passwd"}, 422, "invalid"),
        ):
            answer = await self.ask("PATCH", f"{RECORDINGS}/{one.id}", body, self.owner)
            self.assertEnvelope(answer, status, code)
        self.assertEqual(await self.titles(""), ["Owls"])

    async def test_a_title_read_before_anothers_change_is_not_overwritten(self) -> None:
        one = await self.owned()
        seen = (await self.get(f"/{one.id}")).headers["etag"]
        path = f"{RECORDINGS}/{one.id}"
        for status, code in ((200, None), (412, "changed_meanwhile")):
            answer = await self.ask("PATCH", path, {"title": "Owls"}, self.owner, If_Match=seen)
            self.assertEnvelope(answer, status, code)
        answer = await self.ask("DELETE", path, token=self.owner, If_Match=seen)
        self.assertEnvelope(answer, 412, "changed_meanwhile")
        self.assertTrue(store(self.server).path(one.path).exists())

    async def test_what_is_not_there(self) -> None:
        await self.owned()
        for unknown in (new_id(), "nothing", "..%2F..%2Fetc%2Fpasswd", "%00"):
            for path in (f"/{unknown}", f"/{unknown}/file", f"/{unknown}/url"):
                self.assertEnvelope(await self.get(path), 404, "not_found")


class TestFile(RecordingsCase):
    async def test_the_whole(self) -> None:
        one = await self.owned()
        answer = await self.get(f"/{one.id}/file")
        self.assertEqual((answer.status, answer.body), (200, BODY))
        headers = {name: answer.headers[name] for name in ("content-type", "accept-ranges", "content-length")}
        expected = {"content-type": "video/mp4", "accept-ranges": "bytes", "content-length": str(len(BODY))}
        self.assertEqual(headers, expected)
        self.assertEqual(
            answer.headers["content-disposition"], 'inline; filename="show-20261124T120000Z.mp4"'
        )

    async def test_to_keep(self) -> None:
        one = await self.owned()
        answer = await self.get(f"/{one.id}/file?download=1")
        self.assertEqual(
            answer.headers["content-disposition"], 'attachment; filename="show-20261124T120000Z.mp4"'
        )
        self.assertEnvelope(await self.get(f"/{one.id}/file?download=yes"), 422, "invalid")

    async def test_one_longer_than_a_piece(self) -> None:
        body = os.urandom(files.PIECE * 3 + 5)
        one = await self.owned(body=body)
        self.assertEqual((await self.get(f"/{one.id}/file")).body, body)
        start = files.PIECE - 7
        answer = await self.get(f"/{one.id}/file", Range=f"bytes={start}-")
        self.assertEqual((answer.status, answer.body), (206, body[start:]))

    async def test_ranges(self) -> None:
        one = await self.owned()
        whole = len(BODY)
        for asked, status, where, body in (
            ("bytes=0-0", 206, f"bytes 0-0/{whole}", BODY[:1]),
            ("bytes=10-19", 206, f"bytes 10-19/{whole}", BODY[10:20]),
            ("bytes=1000-99999", 206, f"bytes 1000-1023/{whole}", BODY[1000:]),
            ("bytes=-4", 206, f"bytes 1020-1023/{whole}", BODY[-4:]),
            ("bytes=0-1,3-4", 200, None, BODY),
            ("lines=0-1", 200, None, BODY),
        ):
            answer = await self.get(f"/{one.id}/file", Range=asked)
            self.assertEqual((asked, answer.status, answer.body), (asked, status, body))
            self.assertEqual(answer.headers.get("content-range"), where)
        answer = await self.get(f"/{one.id}/file", Range=f"bytes={whole}-")
        self.assertEnvelope(answer, 416, "range_not_satisfiable")
        self.assertEqual(answer.headers["content-range"], f"bytes */{whole}")

    async def test_conditions(self) -> None:
        one = await self.owned()
        tag = (await self.get(f"/{one.id}/file")).headers["etag"]
        answer = await self.get(f"/{one.id}/file", If_None_Match=tag)
        self.assertEqual((answer.status, answer.body), (304, b""))
        for condition, status in ((tag, 206), ('"other"', 200), ("Tue, 24 Nov 2026 12:00:00 GMT", 200)):
            answer = await self.get(f"/{one.id}/file", Range="bytes=0-1", If_Range=condition)
            self.assertEqual((condition, answer.status), (condition, status))

    async def test_head(self) -> None:
        one = await self.owned()
        answer = await self.ask("HEAD", f"{RECORDINGS}/{one.id}/file", token=self.owner)
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(BODY)))

    async def test_a_file_that_somebody_removed(self) -> None:
        one = await self.owned()
        store(self.server).path(one.path).unlink()
        self.assertEnvelope(await self.get(f"/{one.id}/file"), 404, "not_found")

    async def test_a_path_that_leads_elsewhere_is_not_followed(self) -> None:
        await self.owned()
        (self.folder / "data" / "secret.mp4").write_bytes(b"secret")
        for path in ("../secret.mp4", "/etc/passwd", "some-stream/../../secret.mp4"):
            one = await recorded(self.server, self.owner_id)
            database = self.server.foundation.database
            await database.execute(
                "UPDATE recordings SET path = :path WHERE id = :id", {"path": path, "id": one.id}
            )
            self.assertEnvelope(await self.get(f"/{one.id}/file"), 404, "not_found")
        link = await recorded(self.server, self.owner_id)
        place = store(self.server).path(link.path)
        place.unlink()
        place.symlink_to(self.folder / "data" / "secret.mp4")
        answer = await self.get(f"/{link.id}/file")
        self.assertEqual(answer.status, 404)
        self.assertNotIn(b"secret", answer.body)

    async def test_an_allowed_origin_may_read_what_a_player_needs(self) -> None:
        self.environ["OXIDECAST_CORS_ORIGINS"] = '["https://good.example"]'
        one = await self.owned()
        answer = await self.get(f"/{one.id}/file", Origin="https://good.example")
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://good.example")
        self.assertIn("Content-Range", answer.headers["access-control-expose-headers"])
        answer = await self.get(f"/{one.id}/file", Origin="https://evil.example")
        self.assertNotIn("access-control-allow-origin", answer.headers)

    async def test_who_reads_slowly_makes_us_hold_little(self) -> None:
        size = 200 * files.PIECE
        one = await self.owned(body=bytes(size))
        asked: list[int] = []
        pread = os.pread

        def counted(file: int, length: int, at: int) -> bytes:
            asked.append(at + length)
            return pread(file, length, at)

        self.patch(os, "pread", counted)
        with socket.create_connection(("127.0.0.1", self.server.web.number)) as client:
            client.sendall(self.head(one))
            before = -1
            while before != len(asked) or not asked:
                before = len(asked)
                await deferLater(reactor, 0.1)
            # What the kernel's own buffers hold, and a piece.
            self.assertLess(asked[-1], size // 2)

    async def test_no_file_stays_open(self) -> None:
        one = await self.owned(body=bytes(files.PIECE * 200))
        await self.get(f"/{one.id}/file", Range="bytes=0-1")
        await self.ask("HEAD", f"{RECORDINGS}/{one.id}/file", token=self.owner)
        await self.get(f"/{one.id}/file", Range="bytes=999999999-")
        await self.leave_early(one)
        while self.open_files():
            await deferLater(reactor, 0.01)

    def open_files(self) -> list[str]:
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue
            if target.startswith(str(self.folder)) and target.endswith(".mp4"):
                found.append(target)
        return found

    def head(self, one: Recording) -> bytes:
        lines = f"GET {RECORDINGS}/{one.id}/file HTTP/1.1", "Host: x", f"Authorization: Bearer {self.owner}"
        return "\r\n".join((*lines, "", "")).encode()

    async def leave_early(self, one: Recording) -> None:
        """Ask for a long file, and go away in the middle of it."""
        with socket.create_connection(("127.0.0.1", self.server.web.number)) as client:
            client.sendall(self.head(one))
            while not self.open_files():
                await deferLater(reactor, 0.01)


class TestAddress(RecordingsCase):
    async def address(self, one: Recording) -> str:
        answer = await self.get(f"/{one.id}/url")
        self.assertEnvelope(answer, 200)
        self.assertEqual(answer.data["expires_in"], 7200.0)
        return str(answer.data["url"]).removeprefix(f"http://localhost{RECORDINGS}")

    async def test_it_opens_the_file_without_a_login(self) -> None:
        one = await self.owned()
        answer = await self.get(await self.address(one), "")
        self.assertEqual((answer.status, answer.body), (200, BODY))

    async def test_it_ends_with_its_owners_account(self) -> None:
        one = await self.owned()
        address = await self.address(one)
        await self.server.foundation.accounts.change(self.owner_id, disabled=True)
        self.assertEnvelope(await self.get(address, ""), 401, "token_invalid")

    async def test_it_ends_with_the_tokens_of_who_gave_it_away(self) -> None:
        one = await self.owned()
        accounts = self.server.foundation.accounts
        for change in ({"disabled": True}, {"password": "another long one"}, {"role": "viewer"}):
            admin = await self.token("admin", f"admin-{next(iter(change))}")
            answer = await self.get(f"/{one.id}/url", admin)
            address = str(answer.data["url"]).removeprefix(f"http://localhost{RECORDINGS}")
            self.assertEqual((await self.get(address, "")).status, 200)
            await accounts.change((await accounts.bearer(admin)).id, **change)
            self.assertEnvelope(await self.get(address, ""), 401, "token_invalid")

    async def test_it_is_for_one_network_where_that_is_asked_for(self) -> None:
        one = await self.owned()
        address = (await self.get(f"/{one.id}/url?bind_address=true")).data["url"]
        await self.opens_here_only(address)

    async def test_the_settings_bind_all_of_them(self) -> None:
        self.environ["OXIDECAST_AUTH_BIND_PLAYBACK_TOKENS"] = "true"
        await self.opens_here_only(await self.address(await self.owned()))

    async def opens_here_only(self, address: str) -> None:
        path = address.removeprefix(f"http://localhost{RECORDINGS}")
        self.assertEqual((await self.get(path, "")).status, 200)
        self.from_address = "127.0.0.2"
        self.assertEnvelope(await self.get(path, ""), 401, "token_invalid")

    async def test_it_opens_nothing_else(self) -> None:
        one = await self.owned()
        other = await recorded(self.server, self.owner_id)
        token = (await self.address(one)).partition("?")[2]
        for path in (f"/{other.id}/file", f"/{one.id}/url", f"/{one.id}", ""):
            self.assertEqual((await self.get(f"{path}?{token}", "")).status, 401)
        self.assertEqual((await self.ask("DELETE", f"{RECORDINGS}/{one.id}?{token}")).status, 401)

    async def test_tokens_that_are_none(self) -> None:
        one = await self.owned()
        tokens = self.server.foundation.tokens
        for token in ("", "x", self.owner, tokens.playback(new_id()), tokens.playback(one.id) + "x"):
            self.assertEnvelope(await self.get(f"/{one.id}/file?token={token}", ""), 401, "token_invalid")

    async def test_it_says_no_path(self) -> None:
        one = await self.owned()
        self.assertNotIn(str(self.folder), await self.address(one))


class TestDeleting(RecordingsCase):
    async def test_row_and_file_are_gone(self) -> None:
        one = await self.owned()
        for _ in range(2):
            self.assertEnvelope(await self.ask("DELETE", f"{RECORDINGS}/{one.id}", token=self.owner), 200)
        self.assertEnvelope(await self.get(f"/{one.id}"), 404, "not_found")
        self.assertEqual(list(store(self.server).directory.rglob("*")), [])

    async def test_a_file_that_is_gone_already(self) -> None:
        one = await self.owned()
        store(self.server).path(one.path).unlink()
        self.assertEnvelope(await self.ask("DELETE", f"{RECORDINGS}/{one.id}", token=self.owner), 200)
        self.assertEqual((await self.get()).data["total"], 0)

    async def test_one_that_another_server_writes(self) -> None:
        one = await self.owned(state="writing")
        path = store(self.server).path(one.path)
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            answer = await self.ask("DELETE", f"{RECORDINGS}/{one.id}", token=self.owner)
            self.assertEnvelope(answer, 409, "in_use")
        self.assertTrue(path.exists())

    async def test_strangers_do_not_learn_that_it_is_there(self) -> None:
        one = await self.owned()
        other = await self.token("streamer", "other")
        for path in (f"/{one.id}", f"/{one.id}/file", f"/{one.id}/url"):
            self.assertEnvelope(await self.get(path, other), 404, "not_found")
