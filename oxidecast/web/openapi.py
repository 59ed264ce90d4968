"""The OpenAPI 3.1 document, made of the routes and of the very types that bodies and answers have.

The one idea: nothing is written down twice. Paths, access, statuses and types come from the routes, sentences from the
handlers' docstrings; so the document cannot be right for another version than the one that serves it.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta

import oxidecast
from oxidecast.web.api import Route
from oxidecast.web.fields import Time

COMPONENTS = "#/components/schemas/"

PATH_PARAMETERS = {
    "stream": "A stream's name or id; never its key.",
    "user": "A user's id.",
    "key": "A key's id, which is not the key.",
    "viewer": "The id that joining gave.",
    "output": "An output's name, such as hls.",
    "recording": "A recording's id.",
}

INTRODUCTION = """Every answer is the same envelope: `success`, `data`, `error` (a sentence), `code` (a word for
programs) and `timestamp`. Lists take `page` and `limit`, and their totals are true. Log in at `/auth/login`, and send
the access token as `Authorization: Bearer`. What media players ask (playlists, segments, channel lists) is not here."""

HEADERS = {
    201: ("Location", "Where it is now."),
    401: ("WWW-Authenticate", "How to authenticate (RFC 6750)."),
    429: ("Retry-After", "Seconds to wait."),
    503: ("Retry-After", "Seconds to wait."),
}


class Faults(msgspec.Struct, frozen=True):
    """What is wrong with a request, by field."""

    fields: dict[str, str]


class Refusal(msgspec.Struct, frozen=True):
    """The envelope of what was not done."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    data: Faults | None
    error: str
    code: str
    timestamp: Time


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document; see https://spec.openapis.org/oas/v3.1.1."""
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "OxideCast",
            "version": oxidecast.__version__,
            "description": INTRODUCTION.replace("\n", " "),
        },
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {
                str(status): _refusal(status) for status in sorted({s for r in routes for s in refusals(r)})
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An access token."}
            },
        },
    }


def refusals(route: Route) -> list[int]:
    """Every status that a route may refuse with."""
    statuses = {400, 429, 503, *route.refusals}
    if not route.anonymous:
        statuses.add(401)
    if route.needs is not None:
        statuses.add(403)
    if "{" in route.path:
        statuses.add(404)
    if route.if_match:
        statuses.add(412)
    if route.body is not None:
        statuses |= {413, 415, 422}
    if route.query:
        statuses.add(422)
    if route.media:
        statuses.add(416)
    return sorted(statuses)


class _Schemas:
    """The JSON schemas of all types that routes name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._types = [Refusal, Faults]
        for route in routes:
            for type in (route.body, route.answer, *(query.type for query in route.query)):
                if type not in self._types:
                    self._types.append(type)
        self._schemas, components = msgspec.json.schema_components(
            self._types, ref_template=f"{COMPONENTS}{{name}}"
        )
        self.components: dict[str, Any] = dict(components)

    def of(self, type: Any) -> Mapping[str, Any]:
        return self._schemas[self._types.index(type)]


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    words = " ".join((inspect.getdoc(route.handler) or "").split())
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "tags": [_tag(route)],
        "summary": words.partition(". ")[0].removesuffix("."),
        "description": words,
        "security": _security(route),
        "parameters": _parameters(route, schemas),
        "responses": {
            **_successes(route, schemas),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in refusals(route)},
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": {"schema": schemas.of(route.body)}},
        }
    return operation


def _tag(route: Route) -> str:
    words = [part for part in route.path.split("/") if part and "{" not in part]
    return "keys" if "key" in words or "keys" in words else words[0]


def _security(route: Route) -> list[dict[str, Any]]:
    if route.anonymous:
        return []
    # For schemes that have no scopes, the list names what a role must permit (4.8.30).
    needed = [{"bearer": [route.needs.value] if route.needs is not None else []}]
    return needed if route.is_guarded else [{}, *needed]


def _parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {
            "name": query.name,
            "in": "query",
            "required": False,
            "description": query.description,
            "schema": schemas.of(query.type),
        }
        for query in route.query
    ]
    if route.if_match:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": False,
                "description": "The ETag that was read: nothing is changed when it is another one now.",
                "schema": {"type": "string"},
            }
        )
    return parameters


def _successes(route: Route, schemas: _Schemas) -> dict[str, Any]:
    if not route.media:
        return {str(route.status): _success(route, schemas)}
    content = {route.media: {"schema": {"type": "string", "format": "binary"}}}
    return {
        **{
            status: {"description": HTTPStatus(int(status)).phrase, "content": content}
            for status in ("200", "206")
        },
        "304": {"description": HTTPStatus(304).phrase},
    }


def _success(route: Route, schemas: _Schemas) -> dict[str, Any]:
    data = schemas.of(route.answer) if route.answer is not None else {"type": "null"}
    return {
        "description": HTTPStatus(route.status).phrase,
        **_headers(route.status),
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "success": {"const": True},
                        "data": data,
                        "error": {"type": "null"},
                        "code": {"type": "null"},
                        "timestamp": {"type": "string", "format": "date-time"},
                    },
                    "required": ["success", "data", "error", "code", "timestamp"],
                }
            }
        },
    }


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        **_headers(status),
        "content": {"application/json": {"schema": {"$ref": f"{COMPONENTS}Refusal"}}},
    }


def _headers(status: int) -> dict[str, Any]:
    if status not in HEADERS:
        return {}
    name, words = HEADERS[status]
    return {"headers": {name: {"description": words, "schema": {"type": "string"}}}}
