"""libsrtp as the independent peer, and RTP packets to talk about."""

from pylibsrtp import Policy, Session

from oxidecast.webrtc.srtp import Profile, SrtpKeys

LIBRARY = {
    Profile.AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    Profile.AES_128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


def material(profile: Profile) -> bytes:
    """What DTLS might export."""
    return bytes(range(7, 7 + profile.material_size))


def keys(profile: Profile) -> SrtpKeys:
    """Our side's keys: we are the DTLS server."""
    return SrtpKeys(profile, material(profile), server=True)


def library(profile: Profile, *, outbound: bool) -> Session:
    """The client's libsrtp session for one direction. The keys are cut out here once more (RFC 5764 4.2)."""
    whole, salt = material(profile), profile.salt_size
    key = whole[:16] if outbound else whole[16:32]
    salts = whole[32:]
    policy = Policy(
        key=key + (salts[:salt] if outbound else salts[salt:]),
        ssrc_type=Policy.SSRC_ANY_OUTBOUND if outbound else Policy.SSRC_ANY_INBOUND,
        srtp_profile=LIBRARY[profile],
    )
    policy.window_size = 1024
    return Session(policy)


def rtp(sequence: int, payload: bytes = b"payload", ssrc: int = 0x5501A0B2, first: int = 0x80) -> bytes:
    """A plain RTP packet."""
    return (
        bytes((first, 96))
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + (sequence * 3000 & 0xFFFFFFFF).to_bytes(4, "big")
        + ssrc.to_bytes(4, "big")
        + payload
    )


def report(ssrc: int = 0x4D617273) -> bytes:
    """A plain sender report without blocks, with an SDES behind it."""
    sender = bytes.fromhex("80c80006") + ssrc.to_bytes(4, "big") + bytes(range(20))
    return sender + bytes.fromhex("81ca0003") + ssrc.to_bytes(4, "big") + b"\x01\x02ab\x00\x00\x00\x00"
