"""What a proxy says of the client behind it: `Forwarded` (RFC 7239), and the older `X-Forwarded-` fields.

The one idea: only what trusted proxies wrote counts. Each proxy appends, so the list is read from its end: as long
as an address is that of a trusted proxy, the entry before it was written by that proxy; the first that is not is the
client, and whatever stands before it is the client's own text, and is not looked at.

Sans-IO. Whether the peer is a proxy at all, and which of the two forms it writes, is for the caller to know: a proxy
passes on the other form as the client sent it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oxidecast.formats.addresses import Address, address
from oxidecast.media.errors import RemoteProtocolError

MOST_HOPS = 32
"""Proxies on the way. No installation has so many; a list that goes on is a loop, or a stranger's work."""

Trusted = Callable[[Address], bool]
Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in their order, names in lower case."""

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PAIR = re.compile(rb"[ \t]*(" + _TOKEN + rb")=(" + _TOKEN + rb'|"(?:[^"\\]|\\.)*")[ \t]*')
_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15})(?::[0-9]{1,5})?|([0-9A-Fa-f:.]{2,45})"
)
_HIDDEN = re.compile(r"unknown|_[A-Za-z0-9._-]+")
_HOST = re.compile(rb"[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

_SECURE = {b"https": True, b"wss": True, b"http": False, b"ws": False}


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's side of a request; None is what was not said."""

    address: Address | None = None
    secure: bool | None = None
    """Whether the client came by TLS."""
    host: bytes | None = None
    """What the client took the server for: a `Host` field's value."""


def x_forwarded(fields: Fields, trusted: Trusted) -> Origin:
    """By `X-Forwarded-For`, `-Proto` and `-Host`. Of the latter two the last value counts, which the nearest proxy
    wrote. Raises RemoteProtocolError when an entry that counts is no address."""
    nodes = [_text(node) for node in _values(fields, b"x-forwarded-for")]
    client, _ = _client(nodes, trusted, "X-Forwarded-For")
    protocols = _values(fields, b"x-forwarded-proto")
    hosts = _values(fields, b"x-forwarded-host")
    return Origin(
        client,
        _SECURE.get(protocols[-1].lower()) if protocols else None,
        hosts[-1] if hosts and _HOST.fullmatch(hosts[-1]) else None,
    )


def forwarded(fields: Fields, trusted: Trusted) -> Origin:
    """By `Forwarded`: protocol and host are those of the entry that names the client. Raises RemoteProtocolError
    when the field is not what RFC 7239, 4 asks for."""
    entries = [entry for name, value in fields if name == b"forwarded" for entry in _entries(value)]
    nodes = [_text(entry.get(b"for", b"unknown")) for entry in entries]
    client, index = _client(nodes, trusted, "Forwarded")
    if index is None:
        return Origin()
    entry = entries[index]
    host = entry.get(b"host", b"")
    return Origin(
        client,
        _SECURE.get(entry.get(b"proto", b"").lower()),
        host if _HOST.fullmatch(host) else None,
    )


def _client(nodes: Sequence[str], trusted: Trusted, name: str) -> tuple[Address | None, int | None]:
    """Whose node is the client's: its address, when it is known, and its place in the list.

    A node that hides its address leaves the last one known: of the hop that wrote it.
    """
    known: Address | None = None
    place: int | None = None
    for place in range(len(nodes) - 1, -1, -1):
        if len(nodes) - place > MOST_HOPS:
            raise RemoteProtocolError(f"{name} names more than {MOST_HOPS} proxies")
        node = nodes[place]
        if _HIDDEN.fullmatch(node):
            break
        match = _NODE.fullmatch(node)
        parsed = address(match[1] or match[2] or match[3]) if match is not None else None
        if parsed is None:
            raise RemoteProtocolError(f"{name} holds an entry that is no address")
        known = parsed
        if not trusted(parsed):
            break
    return known, place


def _values(fields: Fields, wanted: bytes) -> list[bytes]:
    """The items of a list field, whether in one line or several (RFC 9110, 5.6.1); empty ones do not count."""
    joined = b",".join(value for name, value in fields if name == wanted)
    return [item for item in (part.strip() for part in joined.split(b",")) if item]


def _entries(value: bytes) -> list[dict[bytes, bytes]]:
    """The entries of one `Forwarded` field: parameters by lower-case name."""
    entries: list[dict[bytes, bytes]] = []
    entry: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is None:
            # Empty items of a list are legal (RFC 9110, 5.6.1.2).
            if not entry and value[at : at + 1] in (b",", b" ", b"\t"):
                at += 1
                continue
            raise RemoteProtocolError("Forwarded is malformed")
        name, text = pair[1].lower(), pair[2]
        if name in entry:
            raise RemoteProtocolError("Forwarded says a parameter twice")
        entry[name] = re.sub(rb"\\(.)", rb"\1", text[1:-1], flags=re.S) if text[:1] == b'"' else text
        at = pair.end()
        separator = value[at : at + 1]
        if separator not in (b",", b";", b"") or (separator == b";" and at + 1 == len(value)):
            raise RemoteProtocolError("Forwarded is malformed")
        at += 1
        if separator != b";":
            entries.append(entry)
            entry = {}
    if entry:
        raise RemoteProtocolError("Forwarded is malformed")
    return entries


def _text(node: bytes) -> str:
    return node.decode("latin-1")
