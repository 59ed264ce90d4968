"""Times that an address asks for: `?from=2026-11-22T12:00:00Z`."""

from datetime import UTC, datetime

import msgspec

from oxidecast.web.api import Call, invalid
from oxidecast.web.fields import Time

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""What every engine, and arithmetic with hours, can hold."""


def moment(call: Call, name: str) -> datetime | None:
    """A query parameter that is a time (RFC 3339). A plus that was not escaped has become a blank. Raises ApiError."""
    text = call.query(name)
    if text is None:
        return None
    try:
        at = msgspec.convert(text.replace(" ", "+"), Time)
        if EARLIEST <= at <= LATEST:
            return at.astimezone(UTC)
    except msgspec.ValidationError:
        pass
    raise invalid(name, "expected a time such as 2026-11-22T12:00:00Z")
