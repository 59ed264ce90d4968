"""The sections that belong to the server as a whole."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from oxidecast.formats.addresses import Networks
from oxidecast.settings.section import (
    Bitrate,
    Count,
    Invalid,
    Port,
    Seconds,
    Section,
    require_long_secret,
)

Burst = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]
"""Of a limit: how often at once, and how often a second from then on."""


class ServerSettings(Section, frozen=True, kw_only=True):
    """[server]: the HTTP port, which pages, API and HLS share, the same with TLS, and the proxies before all ports."""

    secrets: ClassVar[frozenset[str]] = frozenset({"secret_key"})
    reloadable: ClassVar[frozenset[str]] = frozenset(
        {"max_connections", "trusted_proxies", "proxy_headers", "public_url"}
    )

    host: str = "0.0.0.0"
    port: Port = 8080
    tls_port: Port = 8443
    secret_key: str | None = None
    workers: Count = 1
    max_connections: Count = 10_000
    trusted_proxies: tuple[str, ...] = ()
    proxy_headers: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    proxy_protocol: bool = False
    public_url: str = ""

    def __post_init__(self) -> None:
        _require_networks("trusted_proxies", self.trusted_proxies)
        if self.public_url and not _is_origin(self.public_url):
            raise Invalid(
                "public_url",
                "must be a scheme and a host in lower case, with a port where it is not the usual one, such as "
                '"https://tv.example.com", and nothing after it',
            )
        if self.proxy_protocol and not self.trusted_proxies:
            raise Invalid("proxy_protocol", "needs the proxies' networks in server.trusted_proxies")
        if self.workers > 1:
            raise Invalid("workers", "must be 1, because this version serves from a single process")
        require_long_secret("secret_key", self.secret_key)


LEVELS = ("debug", "info", "warn", "warning", "error", "critical")


class LoggingSettings(Section, frozen=True, kw_only=True):
    """[logging]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"level"})

    level: str = "info"

    def __post_init__(self) -> None:
        if self.level.lower() not in LEVELS:
            raise Invalid("level", f"must be one of {', '.join(LEVELS)}")


class PluginsSettings(Section, frozen=True, kw_only=True):
    """[plugins]: which plugins run, and where else they are looked for."""

    disabled: tuple[str, ...] = ()
    path: tuple[str, ...] = ()


class MetricsSettings(Section, frozen=True, kw_only=True):
    """[metrics]: who may read /metrics, and how many streams get labels of their own."""

    reloadable: ClassVar[frozenset[str]] = frozenset({"allow", "max_streams"})

    allow: tuple[str, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
    max_streams: Annotated[int, Meta(ge=0)] = 100

    def __post_init__(self) -> None:
        _require_networks("allow", self.allow)


class CorsSettings(Section, frozen=True, kw_only=True):
    """[cors]: the origins, besides the server's own, that the API answers."""

    reloadable: ClassVar[frozenset[str]] = frozenset({"origins"})

    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _is_origin(origin):
                raise Invalid("origins", 'must hold exact origins such as "https://example.com"')


class RateLimitSettings(Section, frozen=True, kw_only=True):
    """[rate_limit]: how often one network may do what. `_burst` at once, then `_rate` a second; a burst of 0 is no
    limit."""

    reloadable: ClassVar[frozenset[str]] = frozenset(
        {
            "login_attempts",
            "login_refill",
            "exempt",
            *(
                f"{kind}_{key}"
                for kind in ("api", "auth", "media", "websocket", "publish", "failed_keys")
                for key in ("burst", "rate")
            ),
        }
    )

    login_attempts: Count = 10
    login_refill: Seconds = 10.0
    exempt: tuple[str, ...] = ()
    api_burst: Burst = 200
    api_rate: Rate = 40.0
    auth_burst: Burst = 30
    auth_rate: Rate = 0.5
    media_burst: Burst = 0
    media_rate: Rate = 50.0
    websocket_burst: Burst = 60
    websocket_rate: Rate = 2.0
    publish_burst: Burst = 100
    publish_rate: Rate = 5.0
    failed_keys_burst: Burst = 20
    failed_keys_rate: Rate = 0.1

    def __post_init__(self) -> None:
        _require_networks("exempt", self.exempt)


class TlsSettings(Section, frozen=True, kw_only=True):
    """[tls]: the certificates. Without any there is no TLS."""

    reloadable: ClassVar[frozenset[str]] = frozenset({"redirect", "redirect_port", "hsts"})

    certificate_directory: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    redirect: bool = False
    redirect_port: Port = 0
    hsts: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.certificate_directory and self.certificate_file:
            raise Invalid("certificate_file", "must not be set beside certificate_directory: choose one")
        if self.key_file and not self.certificate_file:
            raise Invalid("key_file", "must stand beside certificate_file, whose key it holds")


class StorageSettings(Section, frozen=True, kw_only=True):
    """[storage]: where files go. Relative paths lie below `base_path`, by default the data directory."""

    base_path: str | None = None
    recordings_path: str = "recordings"
    thumbnails_path: str = "thumbnails"
    max_storage_size: Annotated[int, Meta(ge=0)] = 0

    def recordings(self, data_directory: Path) -> Path:
        """Where recordings go."""
        return data_directory / (self.base_path or "") / self.recordings_path


Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"]
"""As x264 and x265 name them: from the least CPU to the best picture."""


class HardwareAcceleration(Section, frozen=True, kw_only=True):
    """[transcoding.hardware_acceleration]"""

    enabled: bool = False
    device: Literal["cuda", "vaapi", "qsv", "videotoolbox"] = "cuda"


MAX_PROFILES = 32
"""The numbers that the transcoder gives its work have room for so many (`transcoding/profiles.py`)."""

LEAST_SIDE = {"h264": 16, "hevc": 64, "av1": 64}
"""Pixels a side, as in `transcoding/targets.py`: no picture in a smaller box is ever made."""


class Profile(Section, frozen=True, kw_only=True):
    """One [[transcoding.profiles]]: a quality of the ladder."""

    name: Annotated[str, Meta(min_length=1)]
    codec: Literal["h264", "hevc", "av1"] = "h264"
    width: Annotated[int, Meta(ge=16, le=8192, multiple_of=2)]
    height: Annotated[int, Meta(ge=16, le=8192, multiple_of=2)]
    bitrate: Bitrate
    maxrate: Bitrate | None = None
    bufsize: Bitrate | None = None
    framerate: Annotated[float, Meta(gt=0, le=240)] = 30.0
    keyframe_interval: Seconds = 2.0
    audio_bitrate: Bitrate = 128_000

    def __post_init__(self) -> None:
        if self.name in _OF_THE_HOUSE or not all(
            char.isascii() and (char.isalnum() or char in "-_") for char in self.name
        ):
            raise Invalid("name", 'must be letters, digits, "-" and "_", and not "source" or "opus"')
        for key in ("width", "height"):
            if getattr(self, key) < LEAST_SIDE[self.codec]:
                raise Invalid(
                    key, f"must be at least {LEAST_SIDE[self.codec]} where the codec is {self.codec}"
                )


_OF_THE_HOUSE = {"source", "opus"}
"""What a stream calls qualities that no profile makes: what its publisher sends, and sound alone for WebRTC. The others
have a dot or a colon in their names: `layer.1`, `720p:live`."""


class TranscodingSettings(Section, frozen=True, kw_only=True):
    """[transcoding]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"mode", "max_concurrent"})

    mode: Literal["always", "on_demand"] = "always"
    ffmpeg_path: str = "ffmpeg"
    max_concurrent: Count = 4
    preset: Preset = "veryfast"
    hardware_acceleration: HardwareAcceleration = HardwareAcceleration()
    profiles: tuple[Profile, ...] = (
        Profile(name="1080p", width=1920, height=1080, bitrate=5_000_000, audio_bitrate=192_000),
        Profile(name="720p", width=1280, height=720, bitrate=2_500_000, audio_bitrate=128_000),
        Profile(name="480p", width=854, height=480, bitrate=1_000_000, audio_bitrate=96_000),
        Profile(name="360p", width=640, height=360, bitrate=500_000, audio_bitrate=64_000),
    )

    def __post_init__(self) -> None:
        if len({profile.name for profile in self.profiles}) < len(self.profiles):
            raise Invalid("profiles", "must have names that differ")
        if len(self.profiles) > MAX_PROFILES:
            raise Invalid("profiles", f"must be {MAX_PROFILES} at most, and are {len(self.profiles)}")


def _require_networks(key: str, networks: tuple[str, ...]) -> None:
    try:
        Networks(networks)
    except ValueError:
        raise Invalid(key, 'must hold networks such as "10.0.0.0/8"')


_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    whole = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (
        f":{port}" if port is not None else ""
    )
    # A browser leaves out the scheme's own port: an origin with it would never be met.
    usual = {"http": 80, "https": 443}
    named = _HOST.fullmatch(host) is not None
    return parts.scheme in usual and named and port != usual[parts.scheme] and whole == text
