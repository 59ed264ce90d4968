"""Offers of WebRTC peers (SDP, RFC 8866; JSEP, RFC 9429 5.3): text in, what matters for an answer out.

The one idea: an offer is a stranger's text, of which most is for other kinds of peers. What is needed is read
strictly, with a sentence for what is wrong; all else is passed over.
"""

import re

import msgspec

from oxidecast.media.errors import RemoteProtocolError

MAX_OFFER = 32_768
"""Characters. Browsers' offers have 2,000 to 8,000 for each medium."""

MAX_LINES = 2_000
MAX_MEDIA = 16
"""A player offers two."""
MAX_FORMATS = 64
"""Payload types of one medium: there are no more dynamic ones."""
MAX_EXTENSIONS = 32
"""RTP header extensions of one medium: browsers have a dozen."""
MAX_LAYERS = 8
"""Streams of one medium that are sent at once: browsers have three."""

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,64}")
_RTPMAP = re.compile(r"(\d{1,3}) ([A-Za-z0-9_.\-]{1,32})/(\d{1,9})(?:/(\d{1,2}))?")
_EXTMAP = re.compile(r"(\d{1,3})(?:/[a-z]{8,8})? ([!-~]{1,200})(?: .*)?")
_RID = re.compile(r"([A-Za-z0-9_\-]{1,64}) (send|recv)(?: (.*))?")
_ICE = re.compile(r"[A-Za-z0-9+/]{4,256}")


class OfferedCodec(msgspec.Struct, frozen=True):
    """One payload type."""

    payload_type: int
    name: str
    """In lower case: `h264`, `opus`, `rtx`."""
    clock_rate: int
    channels: int = 1
    parameters: str = ""
    """As in `a=fmtp`."""
    feedback: frozenset[str] = frozenset()
    """As in `a=rtcp-fb`: `nack`, `nack pli`."""

    def parameter(self, name: str, default: str = "") -> str:
        """The value of one of the parameters, in lower case."""
        for part in self.parameters.split(";"):
            key, _, value = part.strip().partition("=")
            if key.strip().lower() == name:
                return value.strip().lower()
        return default


class Layer(msgspec.Struct, frozen=True):
    """A stream of a simulcast (`a=rid`, RFC 8851)."""

    rid: str
    payload_types: tuple[int, ...] = ()
    """Those that it may have; empty: all of its medium."""


class OfferedMedium(msgspec.Struct, frozen=True):
    """One `m=` section, with what the session says for all of them."""

    kind: str
    protocol: str
    formats: tuple[str, ...]
    mid: str
    direction: str
    rejected: bool
    """Port zero without being part of a bundle."""
    codecs: tuple[OfferedCodec, ...]
    rtcp_mux: bool
    reduced_size: bool
    ufrag: str
    password: str
    fingerprints: tuple[str, ...]
    setup: str
    extensions: tuple[tuple[int, str], ...] = ()
    """RTP header extensions (`a=extmap`, RFC 8285 5): numbers and names."""
    layers: tuple[Layer, ...] = ()
    """What is sent at once of one picture (`a=simulcast`, RFC 8853 5.1), in that order; of alternatives the first."""

    def retransmission(self, codec: OfferedCodec) -> OfferedCodec | None:
        """The payload type by which packets of `codec` are sent again (RFC 4588 8.6)."""
        for other in self.codecs:
            if other.name == "rtx" and other.parameter("apt") == str(codec.payload_type):
                return other
        return None


class Offer(msgspec.Struct, frozen=True):
    """A whole offer."""

    media: tuple[OfferedMedium, ...]
    bundle: tuple[str, ...]
    """The mids that share one transport; empty when nothing says so."""


class _Section:
    """Attributes of the session or of one medium, by name, in their order."""

    __slots__ = ("attributes", "line")

    def __init__(self, line: str = "") -> None:
        self.line = line
        self.attributes: dict[str, list[str]] = {}

    def one(self, name: str) -> str:
        return self.attributes.get(name, ("",))[0]


def parse(text: str) -> Offer:
    """Read an offer; raises RemoteProtocolError with a sentence that names the line or the attribute."""
    if len(text) > MAX_OFFER:
        raise RemoteProtocolError(f"SDP has {len(text)} characters, more than {MAX_OFFER}")
    session, *media = _sections(text)
    if not media:
        raise RemoteProtocolError("SDP has no m= line")
    bundle: tuple[str, ...] = ()
    for group in session.attributes.get("group", ()):
        semantics, *mids = group.split()[: MAX_MEDIA + 1] or [""]
        if semantics == "BUNDLE":
            bundle = tuple(mids)
    read = tuple(_medium(session, section, number) for number, section in enumerate(media))
    if len({medium.mid for medium in read}) < len(read):
        raise RemoteProtocolError("SDP has two m= lines with one a=mid")
    return Offer(read, bundle)


def _sections(text: str) -> list[_Section]:
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise RemoteProtocolError(f"SDP has more than {MAX_LINES} lines")
    while lines and not lines[-1]:
        lines.pop()
    if not lines or lines[0] != "v=0":
        raise RemoteProtocolError("SDP does not begin with v=0")
    sections = [_Section()]
    for number, line in enumerate(lines, 1):
        if len(line) < 2 or line[1] != "=" or not line[0].islower():
            raise RemoteProtocolError(f"line {number} of the SDP is not a letter, = and a value")
        if not line.isprintable():
            raise RemoteProtocolError(f"line {number} of the SDP has a control character")
        if line[0] == "m":
            if len(sections) > MAX_MEDIA:
                raise RemoteProtocolError(f"SDP has more than {MAX_MEDIA} m= lines")
            sections.append(_Section(line[2:]))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            sections[-1].attributes.setdefault(name, []).append(value.strip())
    return sections


def _medium(session: _Section, section: _Section, number: int) -> OfferedMedium:
    kind, port, protocol, *formats = [*section.line.split(), "", "", ""][: MAX_FORMATS + 4]
    formats = [one for one in formats if one]
    port = port.partition("/")[0]
    if not (
        _TOKEN.fullmatch(kind)
        and port.isascii()
        and port.isdigit()
        and len(port) < 6
        and all(_TOKEN.fullmatch(part) for part in protocol.split("/"))
        and 0 < len(formats) <= MAX_FORMATS
        and all(_TOKEN.fullmatch(one) for one in formats)
    ):
        raise RemoteProtocolError(
            f"m= line {number + 1} of the SDP is not a medium, port, protocol and up to {MAX_FORMATS} formats"
        )
    mid = section.one("mid") or str(number)
    if not _TOKEN.fullmatch(mid):
        raise RemoteProtocolError("a=mid is not a token")
    ufrag = section.one("ice-ufrag") or session.one("ice-ufrag")
    password = section.one("ice-pwd") or session.one("ice-pwd")
    if (ufrag or password) and not (
        _ICE.fullmatch(ufrag) and _ICE.fullmatch(password) and len(password) >= 22
    ):
        raise RemoteProtocolError("a=ice-ufrag or a=ice-pwd is missing or not of the letters that ICE has")
    directions = [one for one in DIRECTIONS if one in section.attributes or one in session.attributes]
    return OfferedMedium(
        kind=kind,
        protocol=protocol,
        formats=tuple(formats),
        mid=mid,
        direction=directions[0] if directions else "sendrecv",
        rejected=int(port) == 0 and "bundle-only" not in section.attributes,
        codecs=_codecs(section, frozenset(formats)),
        rtcp_mux="rtcp-mux" in section.attributes,
        reduced_size="rtcp-rsize" in section.attributes,
        ufrag=ufrag,
        password=password,
        fingerprints=tuple(
            section.attributes.get("fingerprint") or session.attributes.get("fingerprint") or ()
        ),
        setup=section.one("setup") or session.one("setup"),
        extensions=tuple(
            (int(match[1]), match[2])
            for line in section.attributes.get("extmap", ())[:MAX_EXTENSIONS]
            if (match := _EXTMAP.fullmatch(line))
        ),
        layers=_layers(section),
    )


def _layers(section: _Section) -> tuple[Layer, ...]:
    """What `a=simulcast` sends, of the streams that have a line `a=rid`."""
    known: dict[str, Layer] = {}
    for line in section.attributes.get("rid", ()):
        match = _RID.fullmatch(line)
        if match is not None and match[2] == "send":
            known[match[1]] = Layer(match[1], _restricted(match[3] or ""))
    words = section.one("simulcast").split()
    sent = next((one for way, one in zip(words[::2], words[1::2], strict=False) if way == "send"), "")
    # "h;m,n;~l": three streams, one of which has an alternative, and one is paused.
    names = [alternatives.partition(",")[0].removeprefix("~") for alternatives in sent.split(";")]
    return tuple(known[name] for name in dict.fromkeys(names) if name in known)[:MAX_LAYERS]


def _restricted(text: str) -> tuple[int, ...]:
    """The payload types of the restriction `pt=`, if there is one (RFC 8851 4)."""
    for part in text.split(";"):
        key, _, value = part.strip().partition("=")
        if key == "pt":
            return tuple(
                int(one) for one in value.split(",") if one.isascii() and one.isdigit() and len(one) < 4
            )
    return ()


def _codecs(section: _Section, formats: frozenset[str]) -> tuple[OfferedCodec, ...]:
    parameters = dict(_numbered(section, "fmtp"))
    feedback: dict[str, set[str]] = {}
    for number, value in _numbered(section, "rtcp-fb"):
        feedback.setdefault(number, set()).add(value)
    codecs = []
    for line in section.attributes.get("rtpmap", ()):
        match = _RTPMAP.fullmatch(line)
        if match is None or int(match[1]) > 127:
            raise RemoteProtocolError("a=rtpmap is not a payload type, a name and a clock rate")
        if match[1] in formats:
            codecs.append(
                OfferedCodec(
                    payload_type=int(match[1]),
                    name=match[2].lower(),
                    clock_rate=int(match[3]),
                    channels=int(match[4] or 1),
                    parameters=parameters.get(match[1], ""),
                    feedback=frozenset(feedback.get(match[1], set()) | feedback.get("*", set())),
                )
            )
    return tuple(codecs)


def _numbered(section: _Section, name: str) -> list[tuple[str, str]]:
    """Attributes of payload types: (payload type, rest)."""
    pairs = (line.partition(" ") for line in section.attributes.get(name, ()))
    return [(number, rest.strip()) for number, _, rest in pairs]


def parse_fragment(text: str) -> tuple[str, str]:
    """The `ice-ufrag` and `ice-pwd` in a fragment (RFC 8840 9, RFC 9725 4.3), empty where it has none. Candidates are
    passed over: a server of ICE-lite learns addresses by checks. Raises RemoteProtocolError."""
    if len(text) > MAX_OFFER:
        raise RemoteProtocolError(f"SDP fragment has {len(text)} characters, more than {MAX_OFFER}")
    found = {"ice-ufrag": "", "ice-pwd": ""}
    for line in text.replace("\r\n", "\n").split("\n"):
        if line and (len(line) < 2 or line[1] != "=" or not line.isprintable()):
            raise RemoteProtocolError("SDP fragment has a line that is not a letter, = and a value")
        name, _, value = line[2:].partition(":")
        if line.startswith("a=") and name in found and not found[name]:
            found[name] = value.strip()
    ufrag, password = found.values()
    if (ufrag or password) and not (
        _ICE.fullmatch(ufrag) and _ICE.fullmatch(password) and len(password) >= 22
    ):
        raise RemoteProtocolError("a=ice-ufrag or a=ice-pwd is missing or not of the letters that ICE has")
    return ufrag, password
