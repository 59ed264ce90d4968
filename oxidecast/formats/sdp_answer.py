"""Answers of a server that sends or receives (SDP, JSEP RFC 9429 5.3): ICE-lite, one transport for all.

All that is written here was made by this server or passed `sdp_offer`, so that nothing can leave its line.
"""

from collections.abc import Sequence

import msgspec

from oxidecast.formats.sdp_offer import OfferedCodec, OfferedMedium

_HOST_PRIORITY = 126 << 24 | 255
"""RFC 8445 5.1.2.1: of host candidates of component 1, less the local preference."""

_TCP_PRIORITY = 90 << 24 | 4 << 21 | 255
"""The same of passive ones by TCP, which are the second choice (RFC 6544 4.2)."""


class Transport(msgspec.Struct, frozen=True):
    """What a peer needs to reach and to know us."""

    ufrag: str
    password: str
    fingerprint: str
    """As in `a=fingerprint`."""
    addresses: tuple[str, ...]
    port: int
    setup: str = "passive"
    """Our side of DTLS, as in `a=setup`."""

    def ice(self) -> list[str]:
        """Lines of our ICE credentials."""
        return [f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.password}"]

    def candidates(self) -> list[str]:
        """Lines of our candidates, best first: UDP and, for networks that let none through, TCP."""
        udp, tcp = [], []
        for number, address in enumerate(self.addresses, 1):
            end = f"{address} {self.port} typ host"
            udp.append(f"a=candidate:{number} 1 udp {_HOST_PRIORITY | 65535 - number << 8} {end}")
            priority = _TCP_PRIORITY | 8191 - number << 8
            tcp.append(f"a=candidate:{number + len(self.addresses)} 1 tcp {priority} {end} tcptype passive")
        return [*udp, *tcp, "a=end-of-candidates"]


class Sent(msgspec.Struct, frozen=True):
    """A medium that we send."""

    codec: OfferedCodec
    ssrc: int
    parameters: str = ""
    """For `a=fmtp`."""
    feedback: tuple[str, ...] = ()
    """For `a=rtcp-fb`, of those that were offered."""
    retransmission: OfferedCodec | None = None
    retransmission_ssrc: int = 0
    extensions: tuple[tuple[int, str], ...] = ()
    """For `a=extmap`, of those that were offered."""


class Received(msgspec.Struct, frozen=True):
    """A medium that we receive."""

    codec: OfferedCodec
    parameters: str = ""
    feedback: tuple[str, ...] = ()
    retransmission: OfferedCodec | None = None
    extensions: tuple[tuple[int, str], ...] = ()
    """For `a=extmap`, of those that were offered."""
    layers: tuple[str, ...] = ()
    """The streams that are sent at once, by their `a=rid`; empty where there is one without a name."""


def answer(
    session: int,
    media: Sequence[tuple[OfferedMedium, Sent | Received | None]],
    transport: Transport,
    cname: str,
) -> str:
    """The answer to an offer of these media, in their order; None is one that is not taken."""
    taken = [medium.mid for medium, one in media if one is not None]
    lines = [
        "v=0",
        f"o=- {session} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(taken)}",
        "a=ice-lite",
        "a=msid-semantic:WMS *",
    ]
    for medium, one in media:
        lines += _rejected(medium) if one is None else _taken(medium, one, transport, cname)
    return "\r\n".join([*lines, ""])


def fragment(transport: Transport, mid: str) -> str:
    """What a restart of ICE is answered with (RFC 9725 4.3.3)."""
    lines = ["a=ice-lite", *transport.ice(), f"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}"]
    return "\r\n".join([*lines, *transport.candidates(), ""])


def _rejected(medium: OfferedMedium) -> list[str]:
    return [
        f"m={medium.kind} 0 {medium.protocol} {' '.join(medium.formats)}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{medium.mid}",
        "a=inactive",
    ]


def _taken(medium: OfferedMedium, taken: Sent | Received, transport: Transport, cname: str) -> list[str]:
    codec, again = taken.codec, taken.retransmission
    formats = f"{codec.payload_type}{f' {again.payload_type}' if again else ''}"
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    encoding = {"h264": "H264", "h265": "H265", "av1": "AV1", "vp8": "VP8", "vp9": "VP9"}.get(
        codec.name, codec.name
    )
    ours = isinstance(taken, Sent)
    lines = [
        f"m={medium.kind} 9 {medium.protocol} {formats}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        *transport.ice(),
        f"a=fingerprint:{transport.fingerprint}",
        f"a=setup:{transport.setup}",
        f"a=mid:{medium.mid}",
        *([f"a=sendonly\r\na=msid:{cname} {cname}-{medium.kind}"] if ours else ["a=recvonly"]),
        "a=rtcp-mux",
        *(["a=rtcp-rsize"] if medium.reduced_size else []),
        f"a=rtpmap:{codec.payload_type} {encoding}/{codec.clock_rate}{channels}",
        *(f"a=rtcp-fb:{codec.payload_type} {one}" for one in taken.feedback),
        *([f"a=fmtp:{codec.payload_type} {taken.parameters}"] if taken.parameters else []),
    ]
    if again is not None:
        lines += [
            f"a=rtpmap:{again.payload_type} rtx/{again.clock_rate}",
            f"a=fmtp:{again.payload_type} apt={codec.payload_type}",
        ]
    lines += [f"a=extmap:{number} {uri}" for number, uri in taken.extensions]
    if isinstance(taken, Received):
        if taken.layers:
            lines += [f"a=rid:{rid} recv" for rid in taken.layers]
            lines.append(f"a=simulcast:recv {';'.join(taken.layers)}")
        return [*lines, *transport.candidates()]
    if again is not None:
        lines.append(f"a=ssrc-group:FID {taken.ssrc} {taken.retransmission_ssrc}")
    ssrcs = [taken.ssrc, *([taken.retransmission_ssrc] if again is not None else [])]
    lines += [f"a=ssrc:{ssrc} cname:{cname}" for ssrc in ssrcs]
    return [*lines, *transport.candidates()]
