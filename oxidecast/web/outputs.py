"""`/streams/{stream}/outputs`: what a stream's outputs do, and what its owner chose for each.

The one idea: no output is known here. What can be chosen is the output's own type (`IStreamChoices`), and what the
choices mean is the output's own business.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from oxidecast.database.streams import Streams
from oxidecast.interfaces import IOutput, IStreamChoices, Refused
from oxidecast.registry import Detached, Registry, Running
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.web.access import StreamAccess
from oxidecast.web.api import ApiError, Call, Route, not_found


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a stream. Where nothing can be chosen, `choices` is null."""

    name: str
    state: str
    error: str | None
    choices: Any
    urls: dict[str, str]
    stats: dict[str, Any]


class OutputRoutes:
    """The handlers. `on_change` hears of every stream that is another now."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        streams: Streams,
        access: StreamAccess,
        on_change: Callable[[StreamInfo], None],
    ) -> None:
        self._hub = hub
        self._registry = registry
        self._streams = streams
        self._access = access
        self._on_change = on_change

    def routes(self) -> Sequence[Route]:
        every = "/streams/{stream}/outputs"
        one = f"{every}/{{output}}"
        return (
            Route("GET", every, self.list, login=True, answer=list[OutputView], refusals=(403,)),
            Route("GET", one, self.show, login=True, answer=OutputView, refusals=(403,)),
            Route(
                "PUT",
                one,
                self.choose,
                login=True,
                body=dict[str, Any],
                answer=OutputView,
                refusals=(403, 409),
            ),
        )

    async def list(self, call: Call) -> list[OutputView]:
        """What each output does with the stream, and what its owner chose for it."""
        info = await self._access.managed(call)
        return [self._view(info, running) for running in self._registry.of(IOutput)]

    async def show(self, call: Call) -> OutputView:
        """One output of the stream."""
        info = await self._access.managed(call)
        return self._view(info, self._output(call))

    async def choose(self, call: Call) -> OutputView:
        """Choose for one output; what is left out is as if it had never been chosen. Which fields there are is the
        output's own matter, and to be seen in its `choices`."""
        info = await self._access.managed(call)
        running = self._output(call)
        if not IStreamChoices.providedBy(running.instance):
            raise ApiError(409, "no_choices", f"Nothing can be chosen for the output {running.name}.")
        choices = call.body(running.instance.choices)
        try:
            running.instance.check_choices(info, choices)
        except Refused as refused:
            raise ApiError(409, refused.code, refused.sentence)
        chosen = msgspec.to_builtins(choices)
        changed = await self._streams.choose(info.id, running.name, chosen, call.actor)
        if changed is None:
            raise not_found("There is no such stream.")
        self._on_change(changed)
        return self._view(changed, running)

    # -- inside

    def _output(self, call: Call) -> Running:
        name = call.arguments["output"]
        every = list(self._registry.of(IOutput))
        for running in every:
            if running.name == name:
                return running
        known = ", ".join(running.name for running in every)
        raise not_found(f"There is no such output; there are {known}.")

    def _view(self, info: StreamInfo, running: Running) -> OutputView:
        stream = self._hub.streams.get(info.id)
        slots = stream.outputs if stream is not None else ()
        slot = next((slot for slot in slots if slot.running is running), None)
        return OutputView(
            name=running.name,
            choices=_choices(info, running),
            urls=dict(slot.urls()) if slot is not None else {},
            stats=dict(slot.stats()) if slot is not None else {},
            state=slot.state if slot is not None else "idle",
            error=(slot.error or None) if slot is not None else None,
        )


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
