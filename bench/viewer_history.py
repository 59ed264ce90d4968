"""How long the pages about viewers take over a million viewer sessions of one stream, on SQLite and on PostgreSQL.

Run by hand: `python bench/viewer_history.py [--sessions 1000000]`. It needs PostgreSQL's server programs. The whole
server runs in this process; each page is asked for over HTTP, by its owner, and the median counts.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

from urllib.request import Request, urlopen

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from oxidecast.app import Server
from oxidecast.database import partitions
from tests.database.cluster import cluster
from tests.database.crowd import BEGAN, DAYS, START, fill, flood, measure
from tests.house import LOOPBACK, Unstoppable

TIMES = 15

HOUR = "from=2026-11-22T13:00:00Z&to=2026-11-22T14:00:00Z"
"""After all others: the most that `analytics.on_air` lets into one hour of one stream."""
FLOOD = 92_000


def ask(port: int, path: str, token: str) -> tuple[float, Any]:
    """Milliseconds, and the answer's data."""
    request = Request(f"http://127.0.0.1:{port}/api/v1{path}", headers={"Authorization": f"Bearer {token}"})
    began = time.perf_counter()
    with urlopen(request, timeout=60) as answer:
        body = answer.read()
    return (time.perf_counter() - began) * 1000, json.loads(body)["data"]


def pages(sessions: int) -> dict[str, str]:
    last, since = -(-sessions // 20), START - timedelta(days=30, minutes=20)
    span = f"from={quote(since.isoformat())}&to={quote((START - timedelta(days=10, minutes=50)).isoformat())}"
    return {
        "first page": "viewers",
        "page in the middle": f"viewers?page={last // 2}",
        "last page": f"viewers?page={last}",
        "last page, oldest first, 100 a page": f"viewers?page={-(-sessions // 100)}&limit=100&sort=started",
        "of one type, page in the middle": f"viewers?connection_type=webrtc&page={last // 20}",
        "between two times, page in the middle": f"viewers?{span}&page={last // 6}",
        "of an hour in which 92,000 came, the middle": f"viewers?{HOUR}&page=2300",
        "broadcasts": "sessions",
        "a chart of 31 days": f"metrics?from={quote((START - timedelta(days=31)).isoformat())}"
        f"&to={quote(START.isoformat())}",
        "statistics": "stats",
    }


async def times(name: str, url: str, sessions: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="oxidecast-bench-"))
    server = Server.build(None, folder / "data", {**LOOPBACK, "DATABASE_URL": url}, Unstoppable())
    server.startService()
    try:
        await server.started
        foundation = server.foundation
        owner = (await foundation.accounts.users.page(limit=1, role="admin")).items[0]
        stream = await foundation.streams.create(owner.id, "Big")
        for days in range(0, DAYS + 31, 28):
            await partitions.ensure(foundation.database, BEGAN + timedelta(days=days))
        began = time.monotonic()
        await fill(foundation.database, stream.id, sessions)
        await measure(foundation.database, stream.id, 31 * 24 * 60)
        await flood(foundation.database, stream.id, FLOOD)
        print(f"{name}: {sessions} sessions made in {time.monotonic() - began:.0f} s")
        token = foundation.tokens.access(owner)
        for what, path in pages(sessions).items():
            address = f"/streams/{stream.name}/{path}"
            answers = [await deferToThread(ask, server.web.number, address, token) for _ in range(TIMES)]
            times = [milliseconds for milliseconds, _ in answers]
            total = answers[0][1].get("total", "")
            print(f"  {what:46} {statistics.median(times):6.1f} ms  (worst {max(times):.1f})  {total}")
    finally:
        await server.stopService()
        shutil.rmtree(folder)


async def main(arguments: argparse.Namespace) -> None:
    await times("SQLite", "sqlite:///oxidecast.db", arguments.sessions)
    cluster().run("CREATE DATABASE bench")
    await times("PostgreSQL", cluster().url("bench"), arguments.sessions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    chosen = parser.parse_args()
    task.react(lambda _: Deferred.fromCoroutine(main(chosen)))
