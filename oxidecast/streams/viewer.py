"""One watching session, counted truthfully from join to leave."""

import secrets
from collections.abc import Callable

from zope.interface import implementer

from oxidecast.interfaces import IViewer


@implementer(IViewer)
class Viewer:
    """`output` is the plugin's name; `joined` is UTC seconds."""

    __slots__ = ("_on_leave", "address", "id", "joined", "output")

    def __init__(
        self, output: str, address: str, joined: float, on_leave: Callable[["Viewer"], None]
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.output = output
        self.address = address
        self.joined = joined
        self._on_leave: Callable[[Viewer], None] | None = on_leave

    def leave(self) -> None:
        on_leave, self._on_leave = self._on_leave, None
        if on_leave is not None:
            on_leave(self)
