"""Whose fault it is: the peer's bytes, or our own use of a format."""


class ProtocolError(Exception):
    """A wire format was broken; the message is one sentence that names the field."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what its format forbids, or more than a named limit allows."""


class LocalProtocolError(ProtocolError):
    """Our own code asked a format for what it cannot say."""
