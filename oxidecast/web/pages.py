"""The pages that viewers see: `/`, `/player`, `/player/{stream}`, `/embed/{stream}` and their assets.

The one idea: they are static. The build (`oxidecast/web/player`) makes a few HTML files, and assets whose
names carry a hash of their content; this module reads them once and answers from memory. A stream's name in
an address is never read here, let alone written into a page: the page's own script reads it. That is why the
Content-Security-Policy can forbid everything that is not a file of ours.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import hashlib
import re
from pathlib import Path

from twisted.web.http import NOT_MODIFIED
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from oxidecast.web.protection import DATA, EVERYWHERE, ISOLATED, NO_FRAME, OWN

STATIC = Path(__file__).parent / "static"

_PAGES = ("index", "player", "watch", "embed")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; frame-ancestors {ancestors}"
)
"""`blob:` is how Media Source Extensions hand media to <video>; everything else is this server alone."""

_PERMISSIONS = (
    "autoplay=(self), fullscreen=(self), picture-in-picture=(self), "
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
)

_FOREVER = "public, max-age=31536000, immutable"
"""For names that carry a hash of their content: another content has another name."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_CODINGS = (("br", ".br"), ("gzip", ".gz"))
"""Best first, with the suffix of the variant that the build puts beside a file."""

_MISSING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Not found</title></head>
<body><h1>There is no such page</h1><p><a href="/player">See what is live</a></p></body></html>"""

_UNBUILT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pages not built</title></head>
<body><h1>The pages are not built yet</h1>
<p>The server runs, and streams can be published and played. For its pages, run
<code>pip install -e .</code> in the checkout, or <code>npm ci</code> and <code>npm run build</code> in
<code>oxidecast/web/player</code>. Then start the server again.</p></body></html>"""


def pages(static: Path = STATIC) -> dict[bytes, IResource]:
    """The resources to put below the root of a site, by path segment: `b""` is `/` itself.

    `static` is where the build put its files. Without them each page answers 503 and says how to build them.
    """
    if not all((static / f"{name}.html").is_file() for name in _PAGES):
        return {segment: _Notice(503, _UNBUILT) for segment in (b"", b"player", b"embed", b"assets")}
    index, player, watch, embed = (_page(static, name) for name in _PAGES)
    return {
        b"": index,
        b"player": _Branch(player, watch),
        b"embed": _Branch(_Notice(404, _MISSING), embed),
        b"assets": _Assets(static / "assets"),
    }


class _File(Resource):
    """One file and its compressed variants, in memory."""

    def __init__(self, path: Path, headers: dict[str, str]) -> None:
        super().__init__()
        self._headers = {"Content-Type": _TYPES[path.suffix], **EVERYWHERE, **OWN, **headers}
        # A variant has an ETag of its own: the tag is of the bytes that travel.
        self._variants: list[tuple[str, bytes, str]] = []
        for coding, suffix in (*_CODINGS, ("", "")):
            variant = path.with_name(path.name + suffix)
            if variant.is_file():
                body = variant.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
                self._variants.append((coding, body, tag))

    def getChild(self, path: bytes, request: Request) -> Resource:
        # "/player/name/" is "/player/name"; deeper there is nothing.
        return self if path == b"" and not request.postpath else _Notice(404, _MISSING)

    def render_GET(self, request: Request) -> bytes:
        for name, value in self._headers.items():
            if name not in ISOLATED or request.isSecure():
                request.setHeader(name, value)
        request.setHeader("Vary", "Accept-Encoding")
        coding, body, tag = self._choose(request.getHeader("accept-encoding") or "")
        if coding:
            request.setHeader("Content-Encoding", coding)
        request.setHeader("ETag", tag)
        if _matches(request.getHeader("if-none-match"), tag):
            request.setResponseCode(NOT_MODIFIED)
            return b""
        return body

    def _choose(self, accepted: str) -> tuple[str, bytes, str]:
        """The smallest variant that an Accept-Encoding header (RFC 9110, 12.5.3) allows."""
        allowed = set()
        for item in accepted.lower().split(","):
            coding, _, weight = item.partition(";")
            if not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight):
                allowed.add(coding.strip())
        return next(variant for variant in self._variants if variant[0] in allowed or not variant[0])


def _matches(if_none_match: str | None, tag: str) -> bool:
    """RFC 9110, 13.1.2: a list, compared weakly: a proxy that compresses weakens the tags it passes on."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in re.findall(r'"[^"]*"', if_none_match)


def _page(static: Path, name: str) -> _File:
    # Any site may frame the one, and none the others.
    framed = name == "embed"
    ancestors = "*" if framed else "'none'"
    return _File(
        static / f"{name}.html",
        {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY.format(ancestors=ancestors),
            "Permissions-Policy": _PERMISSIONS,
            **({"Cross-Origin-Resource-Policy": "cross-origin"} if framed else {**NO_FRAME, **ISOLATED}),
        },
    )


class _Branch(Resource):
    """A page at the path itself, and another one at every name below it."""

    def __init__(self, own: Resource, below: Resource) -> None:
        super().__init__()
        self._own = own
        self._below = below

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._below if path else self._own

    def render_GET(self, request: Request) -> bytes:
        body: bytes = self._own.render(request)
        return body


class _Assets(Resource):
    """The hashed files, by name. They are listed once: no request ever becomes a path on the disk."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        for path in directory.iterdir():
            if path.suffix in _TYPES:
                self.putChild(path.name.encode(), _File(path, {"Cache-Control": _FOREVER}))

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Notice(404, _MISSING)

    def render_GET(self, request: Request) -> bytes:
        return _Notice(404, _MISSING).render_GET(request)


class _Notice(Resource):
    """A short page that says one thing, with a status that says it to programs."""

    isLeaf = True

    def __init__(self, status: int, text: str) -> None:
        super().__init__()
        self._status = status
        self._text = text.encode()

    def render_GET(self, request: Request) -> bytes:
        request.setResponseCode(self._status)
        request.setHeader("Content-Type", _TYPES[".html"])
        request.setHeader("Cache-Control", "no-store")
        for name, value in DATA.items():
            request.setHeader(name, value)
        return self._text
