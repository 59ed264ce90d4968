"""The door for `twistd oxidecast` and the tap file: options in, the service tree out."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions

import oxidecast


class Options(UsageOptions):
    """What every door understands."""

    longdesc = (
        "OxideCast, a live streaming server. Settings: a TOML file, and OXIDECAST_<SECTION>_<KEY> variables."
    )
    optFlags = [["demo", None, "Publish a built-in moving test pattern."]]
    optParameters = [
        ["config", "c", None, "Settings file (TOML); $OXIDECAST_CONFIG stands for it."],
        ["data-dir", "d", None, "Where data is kept; $OXIDECAST_DATA_DIR, else ./oxidecast-data."],
    ]

    def opt_version(self) -> None:
        """Print the version."""
        sys.stdout.write(f"OxideCast {oxidecast.__version__}\n")
        sys.exit(0)


def places(options: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Path | None, Path]:
    """The settings file and the data directory that the options or the environment name."""
    config = options["config"] or environ.get("OXIDECAST_CONFIG")
    data = options["data-dir"] or environ.get("OXIDECAST_DATA_DIR") or "oxidecast-data"
    return (Path(config) if config else None), Path(data).absolute()


def makeService(options: Mapping[str, Any]) -> IService:
    """The server as one service. What hinders the start is one sentence, and exit code 1."""
    from twisted.internet import reactor

    from oxidecast.app import Server
    from oxidecast.settings.errors import StartError

    config, data = places(options, os.environ)
    try:
        server = Server.build(config, data, os.environ, reactor, demo=bool(options["demo"]))
    except StartError as error:
        raise SystemExit(f"oxidecast: {error}")
    server.started.addCallback(_settle)
    return server


def _settle(result: None) -> None:
    """What is there when the server is ready stays until its end. Python's collector would go through all of it each
    time, which keeps the reactor for as long as a frame or two last."""
    gc.collect()
    gc.freeze()
