"""Versions: what ETag says, and which of them If-Match (RFC 9110, 13.1.1) names.

The one idea: whether one of those is still the present one, is said by the transaction that makes the change. It raises
Outdated, which the API answers with 412.
"""

import re

from oxidecast.database.records import require_version
from oxidecast.web.api import Call

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
"""An entity tag. A proxy that compresses weakens the tags that it passes on, so a weak one is as good."""


def etag(version: str) -> tuple[str, str]:
    """The header."""
    return "ETag", f'"{version}"'


def expected(call: Call) -> frozenset[str] | None:
    """The versions that If-Match names; None when any will do."""
    header = call.request.getHeader("if-match")
    if header is None or header.strip() == "*":
        return None
    return frozenset(_TAG.findall(header))


def require(call: Call, version: str) -> None:
    """Raise Outdated when If-Match names other versions than the present one: for what no transaction does."""
    require_version(version, expected(call))
