"""SRTP and SRTCP (RFC 3711): the keys of one DTLS handshake become one sender and one receiver.

The one idea: who sends names no packet index. Streams count for themselves, so that no index is ever used for
two packets, which under AES-GCM would give away the key stream and the authentication key (RFC 7714 5.2).
"""

from oxidecast.webrtc.srtp.keys import Profile, SrtpKeys
from oxidecast.webrtc.srtp.streams import SrtpReceiver, SrtpSender, SrtpStream

__all__ = ["Profile", "SrtpKeys", "SrtpReceiver", "SrtpSender", "SrtpStream"]
