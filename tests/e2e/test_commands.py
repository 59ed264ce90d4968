"""Commands beside a server that runs: what they change takes effect on the air."""

from collections.abc import Iterator

from tests.e2e.programs import ServerCase, publish, until

SIZE = "320x180"
SOON = 10.0
"""Seconds after which a change is taken for lost; a second is promised, and a busy machine may be late."""


class CommandTests(ServerCase):
    def said(self, *arguments: str, given: str = "") -> str:
        done = self.server.command(*arguments, input=given)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def test_a_new_account_publishes_until_its_key_is_revoked_and_it_is_disabled(self) -> None:
        password = "a password of the tests"
        self.server.secrets.add(password)
        self.said("user", "add", "studio", "--role", "streamer", given=f"{password}\n")
        login = self.server.call("POST", "/auth/login", {"username": "studio", "password": password})[1][
            "data"
        ]
        token = login["access_token"]
        self.server.secrets |= {token, login["refresh_token"]}
        self.server.call("POST", "/streams", {"title": "Show"}, token)
        first = self.said("key", "show", "show").strip()
        second = self.said("key", "rotate", "show", "--overlap", "3600").strip()
        self.server.secrets |= {first, second}

        def on_air(key: str) -> Iterator[None]:
            with publish(self.server.ingest(key), self.log("publisher"), size=SIZE) as publisher:
                self.server.wait_live("show")
                yield
                until(lambda: publisher.process.poll() is not None, SOON, "the publisher is cut")

        for _ in on_air(second):
            self.said("key", "revoke", "show")
        for _ in on_air(first):
            self.said("user", "disable", "studio")
        assert self.server.call("GET", "/streams", token=token)[0] == 401
        self.said("user", "enable", "studio")

        answer = self.server.call("GET", "/audit?target=stream:show&limit=100", token=self.server.admin)[1]
        told = [(entry["action"], entry["actor"].partition(":")[0]) for entry in answer["data"]["items"]]
        assert told == [
            ("key.revoke", "cli"),
            ("key.rotate", "cli"),
            ("key.read", "cli"),
            ("key.create", "studio"),
            ("stream.create", "studio"),
        ], told

    def test_a_publisher_from_elsewhere_is_refused_and_told_no_more(self) -> None:
        name, key = self.server.new_stream("Only from there")
        keys = self.server.call("GET", f"/streams/{name}/keys", token=self.server.admin)[1]["data"]["items"]
        path = f"/streams/{name}/keys/{keys[0]['id']}"
        change = {"allowed_addresses": ["203.0.113.0/24"]}
        assert self.server.call("PATCH", path, change, self.server.admin)[0] == 200
        with publish(self.server.ingest(key), self.log("publisher"), size=SIZE) as publisher:
            until(lambda: publisher.process.poll() is not None, SOON, "the publisher is refused")
        assert "may not be used from here" in publisher.output, publisher.output
        assert "203.0.113" not in publisher.output
