"""One watching session, counted truthfully from join to leave."""

import secrets
from collections.abc import Callable, Mapping
from uuid import NAMESPACE_OID, uuid5

from zope.interface import implementer

from oxidecast.interfaces import IViewer


@implementer(IViewer)
class Viewer:
    """`output` is the plugin's name, or what the viewer said when it joined; `joined` and `left` are UTC seconds."""

    __slots__ = (
        "_on_leave",
        "address",
        "bytes_sent",
        "figures",
        "id",
        "joined",
        "left",
        "output",
        "rendition",
        "startup_time",
        "user_id",
    )

    def __init__(
        self, output: str, address: str, joined: float, on_leave: Callable[["Viewer", float | None], None]
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.output = output
        self.address = address
        self.joined = joined
        self.left = joined
        self.rendition = ""
        self.bytes_sent = 0
        self.startup_time: float | None = None
        self.figures: Mapping[str, float] = {}
        self.user_id: str | None = None
        self._on_leave: Callable[[Viewer, float | None], None] | None = on_leave

    @property
    def public_id(self) -> str:
        """By which it may be told of, and is written down: nobody can say that it leaves who knows only this."""
        return str(uuid5(NAMESPACE_OID, self.id))

    def leave(self, at: float | None = None) -> None:
        on_leave, self._on_leave = self._on_leave, None
        if on_leave is not None:
            on_leave(self, at)
