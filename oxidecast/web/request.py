"""What every request to the site has in common, whatever resource answers it.

The one idea: what HTTP asks of all answers is done here once, and a resource, a plugin's too, need not think of it.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

from typing import Any

from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request


class SiteRequest(Request):
    """A request that writes no line about itself: its address may hold a playback token."""

    _is_head = False

    def render(self, resource: IResource) -> None:
        """Ask the resource. HEAD is a GET without its body (RFC 9110, 9.3.2), for every resource that has GET."""
        self._is_head = self.method == b"HEAD"
        if not self._is_head:
            super().render(resource)
            return
        body = self._head(resource)
        if body is NOT_DONE_YET:
            return
        if body:  # A resource that made none on purpose has said the length itself.
            self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(b"")
        self.finish()

    def _head(self, resource: IResource) -> Any:
        """The resource's answer to a HEAD. Raises UnsupportedMethod when it has no GET either."""
        try:
            return resource.render(self)
        except UnsupportedMethod as error:
            if b"GET" not in error.allowedMethods:
                raise
        except AttributeError as error:
            # Twisted's Resource takes every HEAD for a GET, also where there is none.
            if error.name != "render_GET":
                raise
        self.method = b"GET"
        try:
            return resource.render(self)
        finally:
            self.method = b"HEAD"

    def write(self, data: bytes) -> None:
        """Send a part of the answer; the first call sends the head before it."""
        if self._is_head:
            self.method = b"HEAD"  # It may be asked as if by GET just now.
        super().write(data)
