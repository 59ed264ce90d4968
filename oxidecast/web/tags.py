"""Versions: what ETag says, and whether If-Match (RFC 9110, 13.1.1) still holds."""

import hashlib
import re
from typing import Any

import msgspec

from oxidecast.web.api import ApiError, Call

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
"""An entity tag. A proxy that compresses weakens the tags that it passes on, so a weak one is as good."""


def version(*values: Any) -> str:
    """A word that is another one whenever one of the values is."""
    return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()[:24]


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
    """Raise ApiError when If-Match names other versions than the present one."""
    versions = expected(call)
    if versions is not None and version not in versions:
        raise changed_meanwhile()


def changed_meanwhile() -> ApiError:
    return ApiError(412, "changed_meanwhile", "It was changed meanwhile: look at it again.")
