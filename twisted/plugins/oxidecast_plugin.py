"""Makes `twistd oxidecast` known to Twisted. Nothing of the server is imported until it is asked for."""

from twisted.application.service import ServiceMaker

oxidecast = ServiceMaker(
    "OxideCast",
    "oxidecast.tap",
    "A live streaming server: RTMP in, HLS out",
    "oxidecast",
)
