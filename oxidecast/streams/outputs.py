"""The tie between one stream and one output plugin, which contains the plugin's faults.

The one idea: an output that raises is out of this stream, and only of this stream; the stream, its other outputs and
the output's other streams go on.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from oxidecast.interfaces import IFollowsStream, IOutputStream, IRendition, IStream
from oxidecast.registry import Detached, Running

if TYPE_CHECKING:
    from oxidecast.streams.rendition import Rendition


class OutputSlot:
    """One output of one stream."""

    log = Logger()

    def __init__(self, running: Running, stream: IStream, renditions: Mapping[str, "Rendition"]) -> None:
        self.running = running
        self.stream = stream
        self._renditions = renditions
        self.state = "running"
        """`running`, `declined` (the output has nothing to do with this stream) or `failed`."""
        self.error = ""
        self.output: IOutputStream | None = None
        self.output = self._call(running.instance.open, stream)
        if self.output is None and self.state == "running":
            self.state = "declined"

    @property
    def name(self) -> str:
        return self.running.name

    def rendition_added(self, rendition: IRendition) -> None:
        if self.output is not None:
            self._call(self.output.rendition_added, rendition)

    def rendition_removed(self, name: str) -> None:
        if self.output is not None:
            self._call(self.output.rendition_removed, name)

    def info_changed(self) -> None:
        if self.output is not None and IFollowsStream.providedBy(self.output):
            self._call(self.output.info_changed)

    def closed(self, reason: str) -> None:
        output, self.output = self.output, None
        if output is not None:
            self._call(output.closed, reason)

    def urls(self, rendition: str | None = None) -> Mapping[str, str]:
        if self.output is None:
            return {}
        urls = self._call(self.output.urls, rendition)
        return urls if isinstance(urls, Mapping) else {}

    def stats(self) -> Mapping[str, Any]:
        if self.output is None:
            return {}
        stats = self._call(self.output.stats)
        return stats if isinstance(stats, Mapping) else {}

    def fail(self, error: BaseException | str) -> None:
        """Take the output out of this stream."""
        if self.state == "failed":
            return
        output, self.output = self.output, None
        self.state, self.error = "failed", f"the output {self.name} failed and was taken out of this stream"
        self.log.error("{sentence}: {stream}", sentence=self.error, stream=self.stream.name)
        if output is not None:
            for rendition in self._renditions.values():
                rendition.drop(output)
            try:
                output.closed("the output failed")
            except Exception as second:
                self.running.fault(second)

    def _call(self, method: Any, *args: Any) -> Any:
        try:
            return self.running.call(method, *args)
        except Detached as detached:
            self.fail(detached.__cause__ or "detached")
            return None
