"""What the API costs, and what logins cost everybody else.

Run by hand: `python bench/api.py`. It needs `wrk`, and PostgreSQL for the second table. A real server on a database of
200 streams is asked for pages of the list by kept connections (requests a second, p99, and the server's CPU), and
logged in to from several connections; while that runs its own measure of the reactor's lateness is read from
`/metrics`, and what a look at `/health` takes. The median of the runs counts.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.database.cluster import cluster
from tests.e2e.programs import Server

STREAMS = 200
CONNECTIONS = 8
LOGINS = 4
"""Connections that log in, one login after another; two threads hash."""
PASSWORD = "a password of some length"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sqlite-only", action="store_true")
    options = parser.parse_args()
    measure("SQLite", {}, options)
    if not options.sqlite_only:
        cluster().run("CREATE DATABASE bench")
        measure("PostgreSQL", {"DATABASE_URL": cluster().url("bench")}, options)


def measure(engine: str, settings: dict[str, str], options: argparse.Namespace) -> None:
    limits = {"OXIDECAST_RATE_LIMIT_LOGIN_ATTEMPTS": "1000000", "OXIDECAST_LOGGING_LEVEL": "warn"}
    with TemporaryDirectory() as folder, Server(Path(folder), settings={**limits, **settings}) as server:
        for number in range(STREAMS):
            server.new_stream(f"Stream {number}")
        print(f"\n{engine}")
        for path in ("/streams", "/streams?limit=100", "/streams/stream-7"):
            runs = [wrk(server, path, options.seconds) for _ in range(options.runs)]
            rate, p99, cpu = (statistics.median(figures) for figures in zip(*runs, strict=True))
            print(f"  GET {path:22} {rate:7.0f} requests/s   p99 {p99:6.1f} ms   {cpu:6.2f} ms of CPU each")
        runs = [logins(server, options.seconds) for _ in range(options.runs)]
        names = ("logins/s", "p50 ms", "p99 ms", "reactor lateness p99 ms", "/health p99 ms")
        for name, figures in zip(names, zip(*runs, strict=True), strict=True):
            print(f"  {name:26} {statistics.median(figures):7.1f}")
        print(f"  reactor lateness at rest   {lateness(server, lambda: time.sleep(options.seconds)):7.1f}")
        server.stop()


def wrk(server: Server, path: str, seconds: int) -> tuple[float, float, float]:
    """Requests a second, p99 in milliseconds, CPU milliseconds a request."""
    before = cpu(server)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", f"{server.url}/api/v1{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = cpu(server) - before
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    assert "Non-2xx" not in said, said
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    return requests / seconds, float(p99) * {"us": 0.001, "ms": 1, "s": 1000}[unit], used * 1000 / requests


def logins(server: Server, seconds: int) -> tuple[float, ...]:
    """Logins a second, their p50 and p99, lateness p99, and p99 of looks at /health, all in milliseconds."""
    password = (server.folder / "data" / "admin-password").read_text().strip()
    body = json.dumps({"username": "admin", "password": password})
    took: list[float] = []
    looks: list[float] = []
    until = time.monotonic() + seconds

    def log_in() -> None:
        connection = HTTPConnection("127.0.0.1", server.http)
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("POST", "/api/v1/auth/login", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took.append(time.monotonic() - began)

    def look() -> None:
        connection = HTTPConnection("127.0.0.1", server.http)
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("GET", "/health")
            connection.getresponse().read()
            looks.append(time.monotonic() - began)
            time.sleep(0.01)

    def everything() -> None:
        threads = [threading.Thread(target=log_in) for _ in range(LOGINS)] + [threading.Thread(target=look)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    late = lateness(server, everything)
    return len(took) / seconds, p(took, 0.5), p(took, 0.99), late, p(looks, 0.99)


def lateness(server: Server, work: Callable[[], None]) -> float:
    """The bound in milliseconds that 99 % of the reactor's looks at its own lateness were within, during `work`."""
    before = buckets(server)
    work()
    after = buckets(server)
    total = after["+Inf"] - before["+Inf"]
    return next(float(bound) * 1000 for bound in after if after[bound] - before[bound] >= 0.99 * total)


def buckets(server: Server) -> dict[str, float]:
    text = server.get("/metrics")[1].decode()
    found = re.findall(r'oxidecast_reactor_lateness_seconds_bucket\{le="([^"]+)"\} ([\d.]+)', text)
    return {bound: float(count) for bound, count in found}


def cpu(server: Server) -> float:
    text = server.get("/metrics")[1].decode()
    return float(re.search(r"^process_cpu_seconds_total ([\d.e+]+)", text, re.M)[1])  # type: ignore[index]


def p(times: list[float], part: float) -> float:
    return sorted(times)[min(int(len(times) * part), len(times) - 1)] * 1000


if __name__ == "__main__":
    main()
