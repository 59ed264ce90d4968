"""A strict reader of session descriptions, from the grammar of RFC 8866 (9), that knows nothing of the writer.

It refuses what is out of order, repeated, empty or unknown, so that what it reads other readers can read.
"""

import ipaddress
import re
from dataclasses import dataclass, field

# Each line type of the session and of a medium, in the only order allowed, and whether it must be there.
_SESSION = [("v", True), ("o", True), ("s", True), ("i", False), ("c", False), ("t", True)]
_MEDIUM = [("i", False), ("c", False)]
_TEXT = re.compile(r"[^\x00\r\n]+")
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")
_FLAGS = {"recvonly"}


@dataclass
class Medium:
    kind: str
    port: int
    protocol: str
    formats: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Description:
    id: int
    version: int
    origin: str
    title: str
    information: str
    group: str
    ttl: int | None
    attributes: list[tuple[str, str]]
    media: list[Medium]


def parse(data: bytes) -> Description:
    text = data.decode("utf-8")
    assert text.endswith("\r\n"), "every line ends in CR LF"
    lines = text[:-2].split("\r\n")
    for line in lines:
        assert re.fullmatch(r"[a-z]=.*", line) and _TEXT.fullmatch(line), f"no line of SDP: {line!r}"
    pairs = [(line[0], line[2:]) for line in lines]
    first = next((n for n, (kind, _) in enumerate(pairs) if kind == "m"), len(pairs))
    head, attributes = _section(pairs[:first], _SESSION)
    media = []
    while first < len(pairs):
        following = next((n for n in range(first + 1, len(pairs)) if pairs[n][0] == "m"), len(pairs))
        own, medium_attributes = _section(pairs[first + 1 : following], _MEDIUM)
        assert not own, "one connection for all"
        kind, port, protocol, *formats = pairs[first][1].split(" ")
        assert kind in ("video", "application") and formats and 0 < int(port) < 65536
        assert all(_TOKEN.fullmatch(part) for part in protocol.split("/"))
        media.append(Medium(kind, int(port), protocol, formats, medium_attributes))
        first = following
    assert head["v"] == "0" and head["t"] == "0 0"
    user, number, version, net, family, origin = head["o"].split(" ")
    assert user == "-" and net == "IN" and family == f"IP{ipaddress.ip_address(origin).version}"
    net, family, connection = head["c"].split(" ")
    group, _, ttl = connection.partition("/")
    assert net == "IN" and family == f"IP{ipaddress.ip_address(group).version}"
    assert bool(ttl) == (family == "IP4"), "a TTL in IPv4, and only there"
    assert head["s"] == "-" or head["s"].strip()
    return Description(
        int(number), int(version), origin, head["s"], head.get("i", ""), group,
        int(ttl) if ttl else None, attributes, media,
    )  # fmt: skip


def _section(
    pairs: list[tuple[str, str]], order: list[tuple[str, bool]]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    found, attributes = {}, []
    rest = list(pairs)
    for kind, required in order:
        if rest and rest[0][0] == kind:
            found[kind] = rest.pop(0)[1]
            assert found[kind], f"{kind}= is empty"
        assert kind in found or not required, f"{kind}= is missing or out of order"
    for kind, value in rest:
        assert kind == "a", f"{kind}= is out of order"
        name, colon, value = value.partition(":")
        assert _TOKEN.fullmatch(name) and bool(colon) == (name not in _FLAGS) and bool(value) == bool(colon)
        attributes.append((name, value))
    return found, attributes
