"""`/streams/{stream}/outputs`: what a stream's outputs do, and what its owner chose for each.

The one idea: no output is known here. What can be chosen is the output's own type (`IStreamChoices`), and what the
choices mean is the output's own business.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from oxidecast.accounts.roles import may_manage
from oxidecast.database.streams import Streams
from oxidecast.interfaces import IOutput, IStreamChoices, Refused
from oxidecast.registry import Detached, Registry, Running
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.web.api import ApiError, Call, Route, not_found


class OutputRoutes:
    """The handlers. `on_change` hears of every stream that is another now."""

    def __init__(
        self, hub: Hub, registry: Registry, streams: Streams, on_change: Callable[[StreamInfo], None]
    ) -> None:
        self._hub = hub
        self._registry = registry
        self._streams = streams
        self._on_change = on_change

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/streams/{stream}/outputs", self.list),
            Route("GET", "/streams/{stream}/outputs/{output}", self.show),
            Route("PUT", "/streams/{stream}/outputs/{output}", self.choose),
        )

    async def list(self, call: Call) -> list[dict[str, Any]]:
        info = await self._managed(call)
        return [self._view(info, running) for running in self._registry.of(IOutput)]

    async def show(self, call: Call) -> dict[str, Any]:
        info = await self._managed(call)
        return self._view(info, self._output(call))

    async def choose(self, call: Call) -> dict[str, Any]:
        info = await self._managed(call)
        running = self._output(call)
        if not IStreamChoices.providedBy(running.instance):
            raise ApiError(409, "no_choices", f"Nothing can be chosen for the output {running.name}.")
        choices = call.body(running.instance.choices)
        try:
            running.instance.check_choices(info, choices)
        except Refused as refused:
            raise ApiError(409, refused.code, refused.sentence)
        changed = await self._streams.choose(info.id, running.name, msgspec.to_builtins(choices))
        if changed is None:
            raise not_found("There is no such stream.")
        self._on_change(changed)
        return self._view(changed, running)

    # -- inside

    async def _managed(self, call: Call) -> StreamInfo:
        """The stream of the path, which the caller must own."""
        user = call.authenticated()
        info = await self._streams.find(call.arguments["stream"])
        if info is None or (info.is_private and not may_manage(user, info)):
            raise not_found("There is no such stream.")
        if not may_manage(user, info):
            raise ApiError(403, "forbidden", "This stream is not yours.")
        return info

    def _output(self, call: Call) -> Running:
        name = call.arguments["output"]
        every = list(self._registry.of(IOutput))
        for running in every:
            if running.name == name:
                return running
        known = ", ".join(running.name for running in every)
        raise not_found(f"There is no such output; there are {known}.")

    def _view(self, info: StreamInfo, running: Running) -> dict[str, Any]:
        stream = self._hub.streams.get(info.id)
        slots = stream.outputs if stream is not None else ()
        slot = next((slot for slot in slots if slot.running is running), None)
        return {
            "name": running.name,
            "state": slot.state if slot is not None else "idle",
            "error": (slot.error or None) if slot is not None else None,
            "choices": _choices(info, running),
            "urls": slot.urls() if slot is not None else {},
            "stats": slot.stats() if slot is not None else {},
        }


def _choices(info: StreamInfo, running: Running) -> Any:
    """What the owner chose, completed with the defaults; None where nothing can be chosen."""
    output = running.instance
    if not IStreamChoices.providedBy(output):
        return None
    try:
        return running.call(
            lambda: msgspec.to_builtins(msgspec.convert(info.outputs.get(running.name, {}), output.choices))
        )
    except Detached:
        return None
