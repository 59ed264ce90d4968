"""The API's own description: true to the routes, and the server true to it."""

import json
import os
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.web.recorded import recorded
from tests.web.test_api import ApiCase

DOCUMENT, PAGE = "/api/v1/openapi.json", "/api/v1/docs"


class TestDocument(ApiCase):
    async def document(self) -> Any:
        await self.start()
        answer = await self.ask("GET", DOCUMENT)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/json"))
        return answer.json

    async def test_it_has_every_route(self) -> None:
        document = await self.document()
        described = {
            (method.upper(), path) for path, methods in document["paths"].items() for method in methods
        }
        routes = self.server.web.api.routes
        self.assertEqual(described, {(route.method, route.path) for route in routes})

    async def test_every_operation_says_what_it_does(self) -> None:
        document = await self.document()
        ids: Counter[str] = Counter()
        for methods in document["paths"].values():
            for operation in methods.values():
                ids[operation["operationId"]] += 1
                self.assertTrue(operation["summary"], operation["operationId"])
        self.assertEqual(max(ids.values()), 1)

    async def test_every_reference_leads_somewhere(self) -> None:
        document = await self.document()
        for reference in re.findall(
            r'"\$ref": ?"#/([^"]+)"', (await self.ask("GET", DOCUMENT)).body.decode()
        ):
            there = document
            for step in reference.split("/"):
                there = there[step]

    async def test_no_secret_setting_or_path_is_in_it(self) -> None:
        await self.document()
        body = (await self.ask("GET", DOCUMENT)).body
        self.assertNotIn(str(self.folder).encode(), body)
        self.assertNotIn(b"digest", body)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        self.links |= {found[name] for name in ("href", "src") if name in found}


class TestPage(ApiCase):
    async def page(self) -> Any:
        await self.start()
        return await self.ask("GET", PAGE)

    async def test_it_is_html_that_can_do_nothing(self) -> None:
        answer = await self.page()
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
        policy = answer.headers["content-security-policy"]
        self.assertRegex(policy, r"^default-src 'none'; style-src 'sha256-[^']+'; ")
        self.assertNotIn("unsafe", policy)
        links = _Links()
        links.feed(answer.body.decode())
        self.assertNotIn("script", links.tags)

    async def test_its_links_lead_to_itself_and_to_the_document(self) -> None:
        links = _Links()
        links.feed((await self.page()).body.decode())
        self.assertEqual({link for link in links.links if not link.startswith("#")}, {"openapi.json"})
        self.assertLessEqual({link[1:] for link in links.links if link.startswith("#")}, links.ids)

    async def test_every_path_is_on_it(self) -> None:
        body = (await self.page()).body.decode()
        for route in self.server.web.api.routes:
            self.assertIn(f">/api/v1{route.path}<", body)

    async def test_below_it_there_is_nothing(self) -> None:
        await self.start()
        for path in (f"{PAGE}/x", f"{DOCUMENT}/x"):
            self.assertEnvelope(await self.ask("GET", path), 404, "not_found")
        self.assertEnvelope(await self.ask("POST", PAGE), 405, "method_not_allowed")


ACCEPTED = '["2xx", "401", "403", "404", "409", "412", "422", "429"]'
"""What may come of a request that the document allows: a 422 says, by field, what no schema can (which profiles there
are, that a time lies ahead), a 412 that a version is not the present one."""

HOOKS = """
import schemathesis
from schemathesis.core.parameters import ParameterLocation

@schemathesis.hook
def filter_case(context, case):
    # In a path a list of one name is written like the name: it is no request that could be refused.
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    return path is None or not path.mode.is_negative
"""

BUDGET = 35
"""Seconds of requests, for all roles together."""
ROLES = 5


class FuzzedCase(ApiCase):
    """Schemathesis asks what the document allows, and what it does not, of streams and users that there are."""

    timeout = 120

    async def fuzz(self, token: str, **known: list[str]) -> None:
        """`known` are values for the parameters of paths."""
        document = (await self.ask("GET", DOCUMENT)).json
        for methods in document["paths"].values():
            for operation in methods.values():
                for parameter in operation["parameters"]:
                    if parameter["in"] == "path" and parameter["name"] in known:
                        parameter["schema"] = {"enum": known[parameter["name"]]}
        operations = sum(len(methods) for methods in document["paths"].values())
        settings = self.folder / "schemathesis.toml"
        settings.write_text(f"[checks.positive_data_acceptance]\nexpected-statuses = {ACCEPTED}\n")
        (self.folder / "hooks.py").write_text(HOOKS)
        file = self.folder / "openapi.json"
        file.write_text(json.dumps(document))
        arguments = [
            *(
                "--config-file",
                str(settings),
                "run",
                str(file),
                "--url",
                f"http://127.0.0.1:{self.server.web.number}/api/v1",
            ),
            *("--checks", "all", "--phases", "coverage,fuzzing", "--max-time", str(BUDGET // ROLES)),
            *("--seed", "1", "--warnings", "off", "--generation-database", "none", "--no-color"),
            *("--suppress-health-check", "filter_too_much"),
            *(["--header", f"Authorization: Bearer {token}"] if token else []),
        ]
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(self.folder)}
        script = Path(sys.executable).with_name("schemathesis")
        out, err, code = await getProcessOutputAndValue(
            str(script), arguments, environ, str(self.folder), reactor
        )
        self.assertEqual(code, 0, (out + err).decode(errors="replace")[-6000:])
        asked = re.search(rb"(\d+) generated", out)
        # On a machine that is busy with other tests there is time for few.
        self.assertGreaterEqual(int(asked[1]) if asked else 0, operations)

    async def streams(self, token: str) -> list[str]:
        """Some that are live, some that are not."""
        names = [f"idle-{number}" for number in range(4)]
        for name in names:
            await self.ask("POST", "/api/v1/streams", {"title": "x", "name": name}, token)
        for name in ("live-0", "live-1"):
            await self.live(token, name=name)
            names.append(name)
        return names

    async def by_an_admin(self) -> None:
        await self.start()
        token = await self.token("admin")
        users = [
            (await self.server.foundation.accounts.create(f"user{number}", "correct horse", "streamer")).id
            for number in range(3)
        ]
        recordings = [(await recorded(self.server, None)).id for _ in range(4)]
        await self.fuzz(token, stream=await self.streams(token), user=users, recording=recordings)


class TestFuzzed(FuzzedCase):
    async def test_by_nobody(self) -> None:
        self.environ["OXIDECAST_AUTH_OPEN_REGISTRATION"] = "true"
        await self.start()
        await self.fuzz("", stream=await self.streams(await self.token("streamer")))

    async def test_by_an_owner(self) -> None:
        await self.start()
        token = await self.token("streamer")
        owner = await self.server.foundation.accounts.bearer(token)
        recordings = [(await recorded(self.server, owner.id)).id for _ in range(4)]
        outputs = ["hls", "multicast", "recording"]
        await self.fuzz(token, stream=await self.streams(token), output=outputs, recording=recordings)

    async def test_by_an_admin(self) -> None:
        await self.by_an_admin()

    async def test_by_a_viewer(self) -> None:
        await self.start()
        await self.fuzz(await self.token("viewer"), stream=await self.streams(await self.token("streamer")))


class TestFuzzedOnPostgres(FuzzedCase):
    """The statements that are made of what comes have to be those of both engines."""

    async def test_by_an_admin(self) -> None:
        self.environ["DATABASE_URL"] = cluster().url(create_database(self, cluster()))
        await self.by_an_admin()
