"""Paths with variables in them, such as `/streams/{stream}/url`, and whether a request's path is one of them."""

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Path(Generic[T]):
    """A path, and what answers each method there."""

    def __init__(self, path: str) -> None:
        self._segments = [segment.strip("{}") for segment in path[1:].split("/")]
        self._variable = ["{" in segment for segment in path[1:].split("/")]
        self.methods: dict[str, T] = {}

    @property
    def variables(self) -> int:
        return sum(self._variable)

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """What the path's variables are, if it is this path."""
        if len(segments) != len(self._segments):
            return None
        arguments = {}
        for name, variable, segment in zip(self._segments, self._variable, segments, strict=True):
            if variable and segment:
                arguments[name] = segment
            elif variable or segment != name:
                return None
        return arguments
