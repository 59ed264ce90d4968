"""`/api/v1/openapi.json` and `/api/v1/docs`: the API described, for programs and for people.

The page is made here, once, of the document, as plain HTML without a script: it needs no other host and no build, and
its Content-Security-Policy lets it do nothing but be read.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import msgspec
from twisted.web.resource import Resource
from twisted.web.server import Request

from oxidecast.web.openapi import COMPONENTS
from oxidecast.web.protection import DATA
from oxidecast.web.request import Missing

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --tint: #8881; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem 1.25rem 4rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; text-transform: capitalize; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
code, .path { font: 0.9em ui-monospace, monospace; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; padding: 0 1rem; }
summary { cursor: pointer; margin: 0 -1rem; padding: .5rem 1rem; display: flex; flex-wrap: wrap;
  gap: .25rem .75rem; align-items: baseline; }
details[open] > summary { border-bottom: 1px solid var(--line); background: var(--tint); }
.method { font: bold .8em/1.9 ui-monospace, monospace; min-width: 4.5em; }
.who, .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; margin: .25rem 0 1rem; }
td { border-top: 1px solid var(--line); padding: .3rem .75rem .3rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; }
"""

POLICY = "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Schema = Mapping[str, Any]


def documents(document: Schema) -> dict[str, Resource]:
    """The two resources, by their names below `/api/v1`."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return {
        "openapi.json": _Fixed("application/json", msgspec.json.encode(document)),
        "docs": _Fixed(
            "text/html; charset=utf-8",
            page(document).encode(),
            {"Content-Security-Policy": POLICY.format(digest=digest)},
        ),
    }


class _Fixed(Resource):
    """An answer that never changes while the server runs."""

    def __init__(self, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._body = body
        self._headers = {
            "Content-Type": content_type,
            "Cache-Control": "no-cache",
            **DATA,
            **(headers or {}),
        }

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self if path == b"" and not request.postpath else Missing()

    def render_GET(self, request: Request) -> bytes:
        for name, value in self._headers.items():
            request.setHeader(name, value)
        return self._body


# -- the page


def page(document: Schema) -> str:
    """The whole page."""
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} API</h1>"
        f'<p class="soft">Version {escape(info["version"])}, <a href="openapi.json">openapi.json</a></p>'
        f"<p>{_words(info['description'])}</p>"
        f"{''.join(_sections(document))}<h2>Types</h2>"
        f"{''.join(_component(name, schema) for name, schema in _shown(document))}"
        "</body></html>"
    )


def _sections(document: Schema) -> Iterator[str]:
    sections: dict[str, list[str]] = {}
    base = document["servers"][0]["url"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sections.setdefault(operation["tags"][0], []).append(_operation(method, base + path, operation))
    for tag, operations in sections.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"


def _operation(method: str, path: str, operation: Schema) -> str:
    parts = [f"<p>{_words(operation['description'])}</p>"]
    if operation["parameters"]:
        rows = [
            (f"<code>{escape(one['name'])}</code>", _type(one["schema"]), _words(one["description"]))
            for one in operation["parameters"]
        ]
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    if "requestBody" in operation:
        body = operation["requestBody"]
        needed = "" if body["required"] else " (may be left out)"
        parts.append(f"<h3>Body</h3><p>{_type(body['content']['application/json']['schema'])}{needed}</p>")
    parts.append(f"<h3>Answers</h3>{_table(list(_answers(operation)))}")
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<span class="method">{escape(method.upper())}</span><span class="path">{escape(path)}</span>'
        f'<span class="who">{_words(operation["summary"])}</span></summary>'
        f"<p>For {_who(operation['security'])}.</p>{''.join(parts)}</details>"
    )


def _answers(operation: Schema) -> Iterator[tuple[str, ...]]:
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            what = ", ".join(escape(kind) for kind in answer.get("content", ())) or "nothing"
            if what == "application/json":
                schema = answer["content"][what]["schema"]
                what = f"data: {_type(schema['properties']['data'])}"
            yield f"<code>{escape(status)}</code>", what
    refused = ", ".join(status for status, answer in operation["responses"].items() if "$ref" in answer)
    yield f"<code>{escape(refused)}</code>", "refused"


def _who(security: list[Schema]) -> str:
    if not security:
        return "anybody, without a token"
    if {} in security:
        return "anybody; who sends a token may see more"
    roles = ", ".join(f"<code>{escape(role)}</code>" for one in security for role in one["bearer"])
    return f"those whose role permits {roles}" if roles else "those who are logged in"


def _shown(document: Schema) -> Iterator[tuple[str, Schema]]:
    yield from sorted(document["components"]["schemas"].items())


def _component(name: str, schema: Schema) -> str:
    needed = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(one),
            "" if field in needed else '<span class="soft">may be missing</span>',
        )
        for field, one in schema.get("properties", {}).items()
    ]
    words = _words(schema.get("description", ""))
    return (
        f'<details id="{escape(name)}"><summary><span class="path">{escape(schema.get("title", name))}</span>'
        f"</summary><p>{words}</p>{_table(rows)}</details>"
    )


def _type(schema: Schema) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(COMPONENTS))
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(msgspec.json.encode(schema['const']).decode())}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("format") or schema.get("type") or "anything"
    return escape(f"{kind}{_bounds(schema)}")


def _bounds(schema: Schema) -> str:
    for least, most, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        if most in schema:
            return f", {schema.get(least, 0)} to {schema[most]}{unit}"
    return f", from {schema['minimum']}" if "minimum" in schema else ""


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{cells}</table>"


def _words(text: str) -> str:
    """A docstring's sentence: what stands between backquotes is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
