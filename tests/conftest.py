"""What holds for every test."""

from collections.abc import Iterator

import pytest

from tests import leaks

leaks.watch_makers()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No secret and no SQL in a log line, and nothing in an answer that is nobody's business."""
    with leaks.watched() as seen:
        yield
    if seen:
        pytest.fail("\n".join(seen[:5]))
