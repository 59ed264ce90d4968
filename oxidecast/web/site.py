"""The tree of resources behind the HTTP port: pages, operations, the API, and below it the outputs' own routes."""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

from collections.abc import Callable, Mapping
from typing import Any

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from oxidecast.web.api import Api
from oxidecast.web.redirect import ToHTTPS
from oxidecast.web.request import Missing, SiteRequest


class _Way(Resource):
    """A path that only leads on: at itself there is nothing, nor at a name below it that was not put there."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Missing()

    def render(self, request: SiteRequest) -> bytes:
        return Missing().render(request)


class _Versioned(Resource):
    """`/api/v1`: the outputs' resources by name, everything else to the router."""

    def __init__(self, api: Api, outputs: Mapping[str, IResource]) -> None:
        super().__init__()
        self._api = api
        for name, resource in outputs.items():
            self.putChild(name.encode(), resource)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._api

    def render(self, request: Request) -> int:
        return self._api.render(request)


class QuietSite(Site):
    """Requests are counted, not logged: addresses of media requests hold playback tokens."""

    requestFactory = SiteRequest
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        root: IResource,
        seconds: Callable[[], float],
        to_https: ToHTTPS | None,
        public_url: Callable[[], str],
    ) -> None:
        super().__init__(root)
        self._to_https = to_https
        self.seconds = seconds
        """Since 1970."""
        self.public_url = public_url
        """What the addresses in answers begin with; empty where that is what the client asked for."""

    def getResourceFor(self, request: Request) -> IResource:
        if self._to_https is not None and self._to_https.takes(request):
            return self._to_https
        resource: IResource = super().getResourceFor(request)
        return resource

    def log(self, request: Any) -> None:
        """Nothing."""


def site(
    pages: Mapping[bytes, IResource],
    operations: Mapping[bytes, IResource],
    api: Api,
    outputs: Mapping[str, IResource],
    seconds: Callable[[], float],
    to_https: ToHTTPS | None = None,
    public_url: Callable[[], str] = lambda: "",
) -> Site:
    """Put everything in its place; a name with a slash in it lies below another. `seconds()` since 1970 stamp the
    errors."""
    root, versions = _Way(), _Way()
    for name, resource in {**pages, **operations}.items():
        place = root
        *ways, leaf = name.split(b"/")
        for way in ways:
            if way not in place.children:
                place.putChild(way, _Way())
            place = place.children[way]
        place.putChild(leaf, resource)
    root.putChild(b"api", versions)
    versions.putChild(b"v1", _Versioned(api, outputs))
    return QuietSite(root, seconds, to_https, public_url)
