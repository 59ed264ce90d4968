"""From what DTLS exported (RFC 5764 4.2) to a sender and a receiver, once."""

from enum import Enum

from oxidecast.media.errors import LocalProtocolError
from oxidecast.webrtc.srtp.cm import CmReceiver, CmSender
from oxidecast.webrtc.srtp.derivation import MasterKey
from oxidecast.webrtc.srtp.gcm import GcmReceiver, GcmSender
from oxidecast.webrtc.srtp.streams import SrtpReceiver, SrtpSender

_KEY_SIZE = 16


class Profile(Enum):
    """An SRTP protection profile, by OpenSSL's name. In the order of preference: GCM costs half."""

    AES_128_GCM = "SRTP_AEAD_AES_128_GCM"
    AES_128_CM_SHA1_80 = "SRTP_AES128_CM_SHA1_80"

    @property
    def salt_size(self) -> int:
        """Bytes of master salt."""
        return 12 if self is Profile.AES_128_GCM else 14

    @property
    def material_size(self) -> int:
        """Bytes to export: two keys, two salts."""
        return 2 * (_KEY_SIZE + self.salt_size)


class SrtpKeys:
    """The master keys of both directions, good for opening one sender and one receiver.

    Twice would be two counters over one key: then an index could serve twice.
    """

    __slots__ = ("_masters", "profile")

    def __init__(self, profile: Profile, material: bytes, *, server: bool) -> None:
        if len(material) != profile.material_size:
            raise LocalProtocolError(f"SRTP keying material has {len(material)} bytes")
        self.profile = profile
        salts, salt = 2 * _KEY_SIZE, profile.salt_size
        of_client = MasterKey(material[:_KEY_SIZE], material[salts : salts + salt])
        of_server = MasterKey(material[_KEY_SIZE:salts], material[salts + salt :])
        self._masters: tuple[MasterKey, MasterKey] | None = (
            (of_server, of_client) if server else (of_client, of_server)
        )

    def open(self) -> tuple[SrtpSender, SrtpReceiver]:
        """Our sender and the receiver of what the peer sends. Raises LocalProtocolError the second time."""
        if self._masters is None:
            raise LocalProtocolError("SRTP keys were used before")
        (local, remote), self._masters = self._masters, None
        if self.profile is Profile.AES_128_GCM:
            return GcmSender(local), GcmReceiver(remote)
        return CmSender(local), CmReceiver(remote)
