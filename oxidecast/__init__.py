"""OxideCast: a live streaming server on Twisted."""

__version__ = "0.1.0"
