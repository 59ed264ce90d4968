"""The tree of resources behind the HTTP port: pages, operations, the API, and below it the outputs' own routes."""

from collections.abc import Mapping
from typing import Any

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from oxidecast.web.api import Api
from oxidecast.web.request import SiteRequest


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

    def log(self, request: Any) -> None:
        """Nothing."""

    def getResourceFor(self, request: Any) -> IResource:
        # Which version of what runs here is nobody's business.
        request.responseHeaders.removeHeader(b"server")
        resource: IResource = super().getResourceFor(request)
        return resource


def site(
    pages: Mapping[bytes, IResource],
    operations: Mapping[bytes, IResource],
    api: Api,
    outputs: Mapping[str, IResource],
) -> Site:
    """Put everything in its place."""
    root, versions = Resource(), Resource()
    for segment, resource in {**pages, **operations}.items():
        root.putChild(segment, resource)
    root.putChild(b"api", versions)
    versions.putChild(b"v1", _Versioned(api, outputs))
    return QuietSite(root)
