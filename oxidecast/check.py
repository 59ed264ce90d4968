"""`oxidecast check`: the settings, then the machine, one line each.

Every line is tried for real: a port is bound, a file is written, an encoder encodes. Nothing of it stays, and nothing
that a start would make is made. A line that is not ok says what to do about it.
"""

import json
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile

from oxidecast.accounts.settings import AuthSettings
from oxidecast.database.settings import DatabaseSettings
from oxidecast.delivery.certificates import CertificateError, Source, utc
from oxidecast.delivery.tls import Shown
from oxidecast.foundation import Configuration, configure, keyring
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings.errors import StartError
from oxidecast.settings.private import look_at_data_directory
from oxidecast.settings.secrets import NoSecrets, open_secrets
from oxidecast.settings.sections import ServerSettings, StorageSettings, TlsSettings, TranscodingSettings

OK, WARN, FAIL = "ok", "warn", "fail"
Line = tuple[str, str]

LEAST_FREE = 1 << 30
"""Bytes that the data directory's disk should have: the database and logs of a year, without recordings."""

EARLIEST_CLOCK = 1_767_225_600
"""2026-01-01: a clock before it was never set, and tokens and PROGRAM-DATE-TIME would be wrong."""

PROBE = """
import av
encoder = av.CodecContext.create("libx264", "w")
encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuv420p"
encoder.time_base = encoder.framerate = __import__("fractions").Fraction(1, 30)
frame = av.VideoFrame(64, 64, "yuv420p")
frame.pts = 0
assert [*encoder.encode(frame), *encoder.encode(None)]
print("PyAV", av.__version__)
"""
PROBE_TIMEOUT = 20.0
ENCODERS_TIMEOUT = 170.0
"""Seconds: eight tries, each with a timeout of 20."""
DATABASE_TIMEOUT = 20.0
"""Seconds; above the times for which SQLite waits for another process that writes, and we for PostgreSQL."""


def check(config: Path | None, data: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Say one line for each thing looked at; the answer is the exit code: 1 when one fails."""
    failed = False
    for verdict, text in _lines(config, data, environ):
        say(f"{verdict:<4}  {text}")
        failed |= verdict == FAIL
    return int(failed)


def _lines(config: Path | None, data: Path, environ: Mapping[str, str]) -> Iterator[Line]:
    try:
        configuration = configure(config, environ)
    except StartError as error:
        yield FAIL, str(error)
        return
    yield OK, f"settings: {config or 'defaults and environment'}"
    yield OK, f"plugins: {', '.join(plugin.name for plugin in configuration.plugins)}"
    source = Source(configuration.settings.of(TlsSettings), data.absolute())
    yield from _ports(configuration, tls=bool(source))
    if source:
        yield from _certificates(source)
    elif configuration.settings.of(TlsSettings) != TlsSettings():
        yield (
            WARN,
            "TLS: [tls] is set without a certificate, and has no effect; set tls.certificate_directory",
        )
    yield from _plugins(configuration)
    yield _files(configuration)
    yield from _disk(data)
    yield _recordings(configuration, data)
    yield _secrets(configuration, data)
    yield _database(configuration, config, data, environ)
    yield _encoder()
    yield from _encoders(configuration.settings.of(TranscodingSettings))
    yield _clock()


def _ports(configuration: Configuration, *, tls: bool) -> Iterator[Line]:
    server, rtmp = configuration.settings.of(ServerSettings), configuration.settings.of(RtmpSettings)
    ports = [
        ("HTTP", "server.port", (server.host, server.port)),
        ("RTMP", "rtmp.bind_address", rtmp.address()),
    ]
    if tls:
        ports += [
            ("HTTPS", "server.tls_port", (server.host, server.tls_port)),
            ("RTMPS", "rtmp.tls_bind_address", rtmp.tls_address()),
        ]
    for name, key, (host, port) in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((host, port))
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or f"{host} is no host's name"
                yield FAIL, f"{name} port {port} on {host}: {reason}; free it, or set {key}"
            else:
                yield OK, f"{name} port {port} on {host} is free"


def _certificates(source: Source) -> Iterator[Line]:
    """Those that clients would be shown, and who can read their keys."""
    now = utc(time.time())
    try:
        shown = Shown(source.read(), now).certificates
        for notice in source.notices():
            yield WARN, f"TLS: {notice}"
    except CertificateError as error:
        yield FAIL, f"TLS: {error}"
        return
    for certificate in shown:
        trouble, doubt = certificate.trouble(now), certificate.doubt(now)
        if trouble:
            yield FAIL, f"TLS: {trouble}"
        elif doubt:
            yield WARN, f"TLS: {doubt}"
        else:
            names = ", ".join(certificate.names)
            yield OK, f"TLS: the certificate for {names} is valid until {certificate.not_after:%Y-%m-%d}"


def _plugins(configuration: Configuration) -> Iterator[Line]:
    """What the plugins themselves look at."""
    for plugin in configuration.plugins:
        try:
            yield from plugin.check(configuration.settings[plugin.name])
        except Exception as error:
            yield WARN, f"the plugin {plugin.name} could not check itself: {error!r}"


def _files(configuration: Configuration) -> Line:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = configuration.settings.of(ServerSettings).max_connections + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return WARN, f"open files: {hard}, fewer than server.max_connections needs; run: ulimit -n {wanted}"
    return OK, f"open files: {hard}"


def _disk(data: Path) -> Iterator[Line]:
    try:
        nearest = look_at_data_directory(data)
    except StartError as error:
        yield FAIL, str(error)
        return
    if nearest == data.absolute():
        yield OK, f"data directory {data} can be written"
    else:
        yield OK, f"data directory {data} is made by the first start; {nearest} can be written"
    free = shutil.disk_usage(nearest).free
    if free < LEAST_FREE:
        yield WARN, f"disk: {free >> 20} MiB are free; make room, or move the data with --data-dir"
    else:
        yield OK, f"disk: {free >> 30} GiB are free"


def _recordings(configuration: Configuration, data: Path) -> Line:
    """Where they go, tried as a recording would: beside the nearest directory that is there nothing is made."""
    directory = configuration.settings.of(StorageSettings).recordings(data.absolute())
    nearest = next(place for place in (directory, *directory.parents) if place.exists())
    try:
        with TemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free
    except OSError as error:
        return (
            FAIL,
            f"recordings: {nearest} cannot be written ({error.strerror}); change that, or set storage.recordings_path",
        )
    if free < LEAST_FREE:
        return (
            WARN,
            f"recordings: {free >> 20} MiB are free in {nearest}; make room, or set storage.recordings_path",
        )
    return OK, f"recordings: {directory} can be written, {free >> 30} GiB are free"


def _secrets(configuration: Configuration, data: Path) -> Line:
    server, auth = configuration.settings.of(ServerSettings), configuration.settings.of(AuthSettings)
    try:
        found = open_secrets(data, server_secret=server.secret_key, jwt_secret=auth.jwt_secret, make=False)
        keyring(found, auth, data)
    except NoSecrets:
        return OK, "secrets: the first start makes them"
    except StartError as error:
        return FAIL, str(error)
    return OK, "secrets and keys: they can be read"


def _database(
    configuration: Configuration, config: Path | None, data: Path, environ: Mapping[str, str]
) -> Line:
    """Opened as the server opens it, by a command that changes nothing."""
    is_sqlite = configuration.settings.of(DatabaseSettings).url.startswith("sqlite:")
    engine = "SQLite" if is_sqlite else "PostgreSQL"
    named = [*(("--config", str(config)) if config else ()), "--data-dir", str(data)]
    command = [sys.executable, "-m", "oxidecast.cli", "migrate", "--dry-run", *named]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=DATABASE_TIMEOUT, check=False, env=dict(environ)
        )
    except subprocess.TimeoutExpired:
        return FAIL, f"database: it did not answer within {DATABASE_TIMEOUT:g} s; end what holds it"
    if asked.returncode:
        sentence = asked.stderr.strip().rpartition("\n")[2].removeprefix("oxidecast: ")
        return FAIL, f"database: {sentence} {_REPAIR if is_sqlite else _REACH}"
    new = "would run 0001" in asked.stdout
    if new:
        return OK, f"database: {engine}, {_MADE if is_sqlite else _FILLED}"
    return OK, f"database: {engine}, it answers"


_REPAIR, _REACH = "Repair it, restore a backup, or set database.url", "Change that, or set database.url"
_MADE, _FILLED = "which the first start makes", "it answers, and the first start makes its tables"


def _encoder() -> Line:
    """A child process: the server itself never loads an encoder or a decoder."""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return WARN, f"encoder: x264 did not encode a frame within {PROBE_TIMEOUT:g} s"
    if probe.returncode:
        last = probe.stderr.strip().rpartition("\n")[2]
        return WARN, f"encoder: x264 could not encode a frame ({last}); the demo needs it"
    return OK, f"encoder: x264 encoded a frame ({probe.stdout.strip()})"


def _encoders(settings: TranscodingSettings) -> Iterator[Line]:
    """Each family that transcoding can use, tried as the server tries it."""
    command = [sys.executable, "-m", "oxidecast.transcoding.tries", settings.ffmpeg_path]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ENCODERS_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        yield WARN, f"transcoding: the encoders could not be tried within {ENCODERS_TIMEOUT:g} s"
        return
    wanted = settings.hardware_acceleration
    for name, device, works, found in map(json.loads, asked.stdout.splitlines()):
        if works:
            yield OK, f"transcoding with {name}: {found}"
        elif device is None or (wanted.enabled and wanted.device == device):
            after = "" if device is None else "; streams are transcoded in software"
            yield WARN, f"transcoding with {name} is not possible: {found}{after}"
        else:
            yield OK, f"transcoding with {name} is not possible, and not asked for: {found}"
    if asked.returncode:
        yield (
            WARN,
            f"transcoding: the encoders could not be tried: {asked.stderr.strip().rpartition(chr(10))[2]}",
        )


def _clock() -> Line:
    if time.time() < EARLIEST_CLOCK:
        return FAIL, "clock: it was never set; run a time service (systemd-timesyncd, chrony)"
    return OK, f"clock: {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}"
