"""The one shape of JSON answers: the HTTP API's, the outputs' refusals, and what the port itself refuses.

A client then needs one way to read what went wrong, wherever on the way that was.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec


def envelope(seconds: float, data: Any = None, error: str | None = None, code: str | None = None) -> bytes:
    """`seconds` since 1970 become `timestamp`. A success has no `error`, a sentence for people, and no `code`, a word
    for machines. Raises TypeError for data that JSON cannot hold, such as a plugin's figures may be."""
    return msgspec.json.encode(
        {
            "success": error is None,
            "data": data,
            "error": error,
            "code": code,
            "timestamp": datetime.fromtimestamp(seconds, UTC),
        }
    )
