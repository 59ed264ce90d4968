"""WebRTC on one UDP port. The cores here are sans-IO: datagrams in, datagrams out, time as an argument."""
