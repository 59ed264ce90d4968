"""Header fields by which browsers protect those who use the server's pages and API.

The one idea: what is not meant to be framed, run, sniffed or embedded says so itself. Media says the contrary (any page
may play it), and says it in `delivery/hot.py`. Strict-Transport-Security belongs to TLS.
"""

from collections.abc import Mapping

EVERYWHERE: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    # A playback token may be in the address: no other site is told of it.
    "Referrer-Policy": "no-referrer",
}
"""What is right for any answer, a plugin's too."""

NO_FRAME: Mapping[str, str] = {"X-Frame-Options": "DENY"}
"""For browsers that do not know `frame-ancestors 'none'`, which goes with it."""

OWN: Mapping[str, str] = {"Cross-Origin-Resource-Policy": "same-origin"}
"""For what only the server's own pages load, and what others may read by CORS alone."""

DATA: Mapping[str, str] = {
    **EVERYWHERE,
    **NO_FRAME,
    **OWN,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""For what is no page: opened as one it can do nothing."""

ISOLATED: Mapping[str, str] = {"Cross-Origin-Opener-Policy": "same-origin"}
"""For pages: no window that opened one, or that it opened, has a hold on it. By plain HTTP browsers ignore it, and say
so aloud, so it is left out there."""
