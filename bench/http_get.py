"""CPU per HTTP request of the server's hot path, beside nginx and twisted.web serving the same bytes.

Run by hand: `python bench/http_get.py`. It needs `nginx` and `wrk`. Only the server's own CPU time is
measured (utime + stime of its process, from /proc); the runs of the contestants alternate, and the median
counts. nginx has one worker, sendfile on and no access log, and its files lie in memory; once as Debian
ships it, and once with its cache of open files, which most installations do not have.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES = {"playlist.m3u8": 500, "segment.m4s": 600_000}
CASES = {
    "playlist, 500 B, polled": ("playlist.m3u8", False),
    "playlist, 500 B, every request different": ("playlist.m3u8", True),
    "segment, 600 KB, every request different": ("segment.m4s", True),
}
DIFFERENT = """
local n = 0
request = function()
    n = n + 1
    return wrk.format("GET", wrk.path .. "?_HLS_msn=" .. n)
end
"""
PREFIX = "/api/v1/hls/"
CONTESTANTS = ["ours", "nginx", "nginx, file cache", "bare Twisted", "twisted.web"]
TICKS = os.sysconf("SC_CLK_TCK")

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    {tuning}
    types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        add_header Cache-Control "public, max-age=3600";
        add_header Access-Control-Allow-Origin "*";
        root {folder}/files;
    }}
}}
"""


def serve_ours(port: int) -> None:
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site
    from zope.interface import implementer

    from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
    from oxidecast.delivery.http_limits import HTTPLimits
    from oxidecast.delivery.http_server import HTTPServerFactory

    answers = {
        name.encode(): HotAnswer(
            bytes(size), b"video/mp4", etag=b"1", cache_control=b"max-age=3600", cors=True
        )
        for name, size in FILES.items()
    }

    @implementer(IHotResource)
    class Files:
        def hot(self, request: HotRequest) -> HotAnswer | None:
            return answers.get(request.path)

    counts: dict[tuple[str, str, int], int] = {}

    def count(route: str, method: str, status: int) -> None:
        key = (route, method, status)
        counts[key] = counts.get(key, 0) + 1

    site = Site(Resource(), reactor=reactor)
    factory = HTTPServerFactory(site, {PREFIX.encode(): Files()}, HTTPLimits(), reactor, count)
    reactor.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")
    reactor.run()


def serve_twisted_web(port: int) -> None:
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Request, Site

    class Body(Resource):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.body = bytes(size)

        def render_GET(self, request: Request) -> bytes:
            request.setHeader(b"Content-Type", b"video/mp4")
            request.setHeader(b"Cache-Control", b"max-age=3600")
            request.setHeader(b"Access-Control-Allow-Origin", b"*")
            return self.body

    root = node = Resource()
    for part in PREFIX.strip("/").split("/"):
        child = Resource()
        node.putChild(part.encode(), child)
        node = child
    for name, size in FILES.items():
        node.putChild(name.encode(), Body(size))
    reactor.listenTCP(port, Site(root), backlog=1024, interface="127.0.0.1")
    reactor.run()


def serve_bare(port: int) -> None:
    """The least that Twisted can do: whatever comes, one send of ready bytes. Nothing here can be faster."""
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    small = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + bytes(500)

    class Bare(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.socket.send(small)

    reactor.listenTCP(port, Factory.forProtocol(Bare), backlog=1024, interface="127.0.0.1")
    reactor.run()


SERVERS = {"ours": serve_ours, "bare Twisted": serve_bare, "twisted.web": serve_twisted_web}


def start_python(which: str, port: int, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen([sys.executable, __file__, "--serve", which, "--port", str(port)])
    return process, process.pid


def start_nginx(which: str, port: int, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    folder = folder / which.replace(", ", "-").replace(" ", "-")
    files = folder / "files" / PREFIX.strip("/")
    files.mkdir(parents=True)
    for name, size in FILES.items():
        (files / name).write_bytes(bytes(size))
    for parent in (folder.parent, *(path for path in folder.rglob("*") if path.is_dir())):
        parent.chmod(0o755)  # The worker runs as another user when this is run by root.
    config = folder / "nginx.conf"
    tuning = "open_file_cache max=100 inactive=60s;" if "cache" in which else ""
    config.write_text(NGINX.format(folder=folder, port=port, tuning=tuning))
    process = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(config)])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(100):
        time.sleep(0.05)
        worker = children.read_text().split()
        if worker:
            return process, int(worker[0])
    raise SystemExit("nginx did not start a worker")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(pid: int, url: str, connections: int, seconds: int, script: Path | None) -> float:
    """Microseconds of the server's CPU per request."""
    before = cpu_seconds(pid)
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        *(["-s", str(script)] if script else []),
        url,
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - before
    requests = re.search(r"(\d+) requests in", output)
    if requests is None or requests[1] == "0" or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"wrk met errors at {url}, process {pid}:\n{output}")
    return spent / int(requests[1]) * 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=CONTESTANTS)
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](options.port)
        return

    with tempfile.TemporaryDirectory(dir="/dev/shm") as temporary:
        servers: dict[str, tuple[subprocess.Popen[bytes], int, int]] = {}
        try:
            for name in options.only:
                port = free_port()
                start = start_nginx if name.startswith("nginx") else start_python
                servers[name] = (*start(name, port, Path(temporary)), port)
            time.sleep(2)
            script = Path(temporary) / "different.lua"
            script.write_text(DIFFERENT)
            for case, (file, different) in CASES.items():
                costs: dict[str, list[float]] = {name: [] for name in servers}
                for _ in range(options.runs):
                    for name, (_, pid, port) in servers.items():
                        if name == "bare Twisted" and FILES[file] > 500:
                            continue
                        url = f"http://127.0.0.1:{port}{PREFIX}{file}"
                        cost = measure(
                            pid, url, options.connections, options.seconds, script if different else None
                        )
                        costs[name].append(cost)
                print(case)
                for name, values in costs.items():
                    if not values:
                        continue
                    runs = " ".join(f"{value:.1f}" for value in values)
                    print(f"    {name:17} {statistics.median(values):7.1f} us/request   ({runs})", flush=True)
        finally:
            for process, _, _ in servers.values():
                process.send_signal(signal.SIGTERM)
                process.wait()


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    main()
