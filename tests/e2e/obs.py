"""OBS Studio under a virtual X server, with a home of its own: what most streamers really use.

Nothing of it is shared with anything: the home, the profile and the scene are written into a folder of the test's, and
the X server picks a display number that nobody uses. Pictures are drawn by Mesa's software OpenGL.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from configparser import RawConfigParser
from pathlib import Path
from types import TracebackType

from tests.e2e.programs import Program, until

OBS = "/usr/bin/obs"
NAME = "Test"
"""Of the profile and of the scene collection."""

GLOBAL: Mapping[str, Mapping[str, object]] = {
    "General": {
        "FirstRun": "true",
        "LastVersion": 486539266,
        "Pre19Defaults": "false",
        "Pre21Defaults": "false",
        "Pre23Defaults": "false",
        "Pre24.1Defaults": "false",
        "EnableAutoUpdates": "false",
    },
    "Basic": {
        "Profile": NAME,
        "ProfileDir": NAME,
        "SceneCollection": NAME,
        "SceneCollectionFile": NAME,
        "ConfigOnNewProfile": "false",
    },
    "BasicWindow": {
        "WarnBeforeStartingStream": "false",
        "WarnBeforeStoppingStream": "false",
        "SysTrayEnabled": "false",
    },
    "Video": {"Renderer": "OpenGL"},
}
PROFILE: Mapping[str, Mapping[str, object]] = {
    "General": {"Name": NAME},
    "Video": {
        "BaseCX": 640,
        "BaseCY": 360,
        "OutputCX": 640,
        "OutputCY": 360,
        "FPSType": 0,
        "FPSCommon": 30,
    },
    "Output": {"Mode": "Simple", "Reconnect": "true", "RetryDelay": 2, "MaxRetries": 25},
    "SimpleOutput": {
        "VBitrate": 800,
        "ABitrate": 96,
        "StreamEncoder": "x264",
        "UseAdvanced": "true",
        "Preset": "ultrafast",
        "x264Settings": "keyint=60",
    },
    "Audio": {"SampleRate": 48000, "ChannelSetup": "Stereo"},
}
CLIP_SECONDS = 4


class Display:
    """An X server without a screen, on the first free number."""

    def __init__(self, log: Path) -> None:
        reader, writer = os.pipe()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
                + ["+extension", "GLX"],
                pass_fds=(writer,),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()
        assert number, log.read_text()
        self.name = f":{number}"

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(10)


class OBS29(Program):
    """OBS that streams to an address with a key, from its start until it is closed."""

    def __init__(self, home: Path, server: str, key: str) -> None:
        home.mkdir()
        _write_home(home, server, key)
        runtime = home / "run"
        runtime.mkdir(mode=0o700)
        self.display = Display(home / "xvfb.log")
        super().__init__(
            [OBS, "--multi", "--profile", NAME, "--collection", NAME, "--scene", NAME]
            + ["--startstreaming", "--disable-updater", "--verbose"],
            home / "obs.log",
            {
                "HOME": str(home),
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "DISPLAY": self.display.name,
                "XDG_RUNTIME_DIR": str(runtime),
                "LIBGL_ALWAYS_SOFTWARE": "1",
                "QT_QPA_PLATFORM": "xcb",
            },
        )

    def wait_for_log(self, words: str, seconds: float = 30) -> None:
        try:
            until(lambda: words in self.output, seconds, f"OBS logs {words!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output[-3000:]}")

    def picture(self, path: Path) -> None:
        """What is on its screen."""
        subprocess.run(
            ["import", "-display", self.display.name, "-window", "root", str(path)], check=True, timeout=20
        )

    def __enter__(self) -> "OBS29":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        where: TracebackType | None = None,
    ) -> None:
        # OBS asks whether it may stop streaming when it is told to end.
        super().__exit__(kind, error, where)
        self.display.__exit__()


def _write_home(home: Path, server: str, key: str) -> None:
    clip = home / "clip.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]
        + ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", str(CLIP_SECONDS)]
        + ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(clip)],
        check=True,
        timeout=60,
    )
    studio = home / ".config/obs-studio"
    profile, scenes = studio / "basic/profiles" / NAME, studio / "basic/scenes"
    profile.mkdir(parents=True)
    scenes.mkdir(parents=True)
    _write_ini(studio / "global.ini", GLOBAL)
    _write_ini(profile / "basic.ini", PROFILE)
    service = {"type": "rtmp_custom", "settings": {"server": server, "key": key, "use_auth": False}}
    (profile / "service.json").write_text(json.dumps(service))
    (scenes / f"{NAME}.json").write_text(json.dumps(_scenes(clip)))


def _write_ini(path: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
    ini = RawConfigParser()
    ini.optionxform = str  # type: ignore[assignment,method-assign]  # OBS tells capitals apart.
    ini.read_dict(sections)
    with path.open("w") as file:
        ini.write(file, space_around_delimiters=False)


def _scenes(clip: Path) -> dict[str, object]:
    """A scene collection with one scene that loops a clip."""
    item = {"id": 1, "name": "clip", "visible": True, "align": 5, "pos": {"x": 0.0, "y": 0.0}}
    scene = {
        "id": "scene",
        "versioned_id": "scene",
        "name": NAME,
        "settings": {"id_counter": 2, "items": [item]},
    }
    media = {"is_local_file": True, "local_file": str(clip), "looping": True, "hw_decode": False}
    source = {
        "id": "ffmpeg_source",
        "versioned_id": "ffmpeg_source",
        "name": "clip",
        "mixers": 255,
        "settings": media,
    }
    return {
        "name": NAME,
        "current_scene": NAME,
        "current_program_scene": NAME,
        "scene_order": [{"name": NAME}],
        "sources": [scene, source],
    }
