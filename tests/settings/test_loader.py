"""The loader: what overrides what, and the one sentence for each mistake."""

import re
import tempfile
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings import RawSettings, SettingsError, load
from oxidecast.settings.sections import LoggingSettings, ServerSettings
from tests.settings.support import ALL, loaded, temporary_folder


class Precedence(SynchronousTestCase):
    def test_without_a_file_and_variables_every_key_has_its_default(self) -> None:
        self.assertEqual(loaded()["server"], ServerSettings())

    def test_the_file_overrides_the_default(self) -> None:
        self.assertEqual(loaded("[server]\nport = 9090").of(ServerSettings).port, 9090)

    def test_a_variable_overrides_the_file(self) -> None:
        settings = loaded("[server]\nport = 9090", OXIDECAST_SERVER_PORT="7070")
        self.assertEqual(settings.of(ServerSettings).port, 7070)

    def test_a_variable_leaves_the_other_keys_of_its_section(self) -> None:
        settings = loaded("[server]\nport = 9090", OXIDECAST_SERVER_HOST="::")
        self.assertEqual(settings.of(ServerSettings).port, 9090)

    def test_a_nested_variable_leaves_the_other_keys_of_its_table(self) -> None:
        toml = '[transcoding.hardware_acceleration]\ndevice = "qsv"'
        acceleration = loaded(toml, OXIDECAST_TRANSCODING_HARDWARE_ACCELERATION_ENABLED="1")["transcoding"]
        self.assertEqual(
            msgspec.to_builtins(acceleration)["hardware_acceleration"], {"enabled": True, "device": "qsv"}
        )

    def test_a_key_is_applied_over_the_json_of_its_table(self) -> None:
        settings = loaded(
            OXIDECAST_TRANSCODING_HARDWARE_ACCELERATION_DEVICE="vaapi",
            OXIDECAST_TRANSCODING_HARDWARE_ACCELERATION='{"device": "qsv", "enabled": true}',
        )
        self.assertEqual(
            msgspec.to_builtins(settings["transcoding"])["hardware_acceleration"],
            {"enabled": True, "device": "vaapi"},
        )

    def test_an_empty_variable_counts_as_not_set(self) -> None:
        self.assertEqual(loaded(OXIDECAST_SERVER_PORT="").of(ServerSettings).port, 8080)

    def test_lists_and_tables_come_as_json(self) -> None:
        settings = loaded(OXIDECAST_WEBRTC_ADDRESSES='["203.0.113.7"]')
        self.assertEqual(msgspec.to_builtins(settings["webrtc"])["addresses"], ("203.0.113.7",))

    def test_booleans_are_words_or_digits(self) -> None:
        for text, value in (("true", True), ("FALSE", False), ("1", True), ("0", False)):
            settings = loaded(OXIDECAST_RTMP_ENABLE_AUTH=text)
            self.assertIs(settings.of(RtmpSettings).enable_auth, value)

    def test_a_number_in_a_text_stays_text(self) -> None:
        self.assertEqual(loaded(OXIDECAST_STORAGE_BASE_PATH="2026")["storage"].base_path, "2026")  # type: ignore[attr-defined]

    def test_database_url_is_read_under_its_common_name(self) -> None:
        settings = loaded(DATABASE_URL="sqlite:///other.db")
        self.assertEqual(settings["database"].url, "sqlite:///other.db")  # type: ignore[attr-defined]

    def test_our_own_name_wins_over_the_common_one(self) -> None:
        settings = loaded(DATABASE_URL="sqlite:///a.db", OXIDECAST_DATABASE_URL="sqlite:///b.db")
        self.assertEqual(settings["database"].url, "sqlite:///b.db")  # type: ignore[attr-defined]

    def test_options_are_not_settings(self) -> None:
        loaded(OXIDECAST_CONFIG="x.toml", OXIDECAST_DATA_DIR="/data")

    def test_variables_of_others_are_left_alone(self) -> None:
        loaded(PATH="/bin", OXIDECASTING="1")


class TwoPhases(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = temporary_folder(self) / "settings.toml"
        self.file.write_text("[server]\nport = 1\n[camera]\nzoom = 3\n")

    def test_a_section_can_be_read_before_the_others_are_known(self) -> None:
        class Camera(msgspec.Struct):
            zoom: int = 1

        raw = RawSettings.read(self.file, {"OXIDECAST_CAMERA_ZOOM": "5"})
        self.assertEqual(raw.section("server", ServerSettings).port, 1)
        raw.section("camera", Camera)
        self.assertEqual(raw.finish().of(Camera).zoom, 5)

    def test_a_section_that_nobody_asked_for_is_refused(self) -> None:
        raw = RawSettings.read(self.file, {})
        raw.section("server", ServerSettings)
        error = self.assertRaises(SettingsError, raw.finish)
        self.assertEqual(str(error), f"{self.file}: [camera] is not a known section; known are [server].")

    def test_two_types_for_one_section_are_a_mistake_of_ours(self) -> None:
        raw = RawSettings.read(None, {})
        raw.section("server", ServerSettings)
        self.assertRaises(ValueError, raw.section, "server", RtmpSettings)

    def test_two_sections_cannot_share_a_variable(self) -> None:
        class Outer(msgspec.Struct):
            b_c: int = 1

        class Inner(msgspec.Struct):
            c: int = 1

        self.assertRaises(ValueError, load, {"a": Outer, "a_b": Inner}, None, {})


class Mistakes(SynchronousTestCase):
    def assertSentence(self, sentence: str, toml: str | bytes | None = None, **environ: str) -> None:
        error = self.assertRaises(SettingsError, loaded, toml, **environ)
        text = re.sub(r"\S*/settings\.toml", "FILE", str(error))
        self.assertEqual(text, sentence)

    def test_unknown_key(self) -> None:
        self.assertSentence(
            "FILE: server.prot is not a known setting; the nearest is server.port.", "[server]\nprot = 1"
        )

    def test_unknown_key_that_is_like_none(self) -> None:
        self.assertSentence(
            "FILE: logging.zzz is not a known setting; known are logging.level.", "[logging]\nzzz = 1"
        )

    def test_unknown_key_in_a_list_of_tables(self) -> None:
        self.assertSentence(
            "FILE: transcoding.profiles[0].nme is not a known setting;"
            " the nearest is transcoding.profiles[0].name.",
            '[[transcoding.profiles]]\nnme = "a"',
        )

    def test_unknown_section(self) -> None:
        self.assertSentence("FILE: [servr] is not a known section; the nearest is [server].", "[servr]")

    def test_unknown_variable(self) -> None:
        self.assertSentence(
            "OXIDECAST_SERVER_PROT is not a known setting; the nearest is OXIDECAST_SERVER_PORT.",
            OXIDECAST_SERVER_PROT="1",
        )

    def test_wrong_type(self) -> None:
        self.assertSentence(
            "FILE: server.port must be a whole number from 0 to 65535, not this text.",
            '[server]\nport = "http"',
        )

    def test_wrong_type_in_a_variable(self) -> None:
        self.assertSentence(
            "OXIDECAST_SERVER_PORT: server.port must be a whole number from 0 to 65535.",
            OXIDECAST_SERVER_PORT="http",
        )

    def test_out_of_range(self) -> None:
        self.assertSentence(
            "OXIDECAST_SERVER_PORT: server.port must be a whole number from 0 to 65535, not 65536.",
            OXIDECAST_SERVER_PORT="65536",
        )

    def test_a_word_that_is_not_among_the_words(self) -> None:
        self.assertSentence(
            'FILE: transcoding.hardware_acceleration.device must be one of "cuda", "qsv", "vaapi", "videotoolbox",'
            " not this text.",
            '[transcoding.hardware_acceleration]\ndevice = "loud"',
        )

    def test_a_log_level_is_a_word_in_any_case(self) -> None:
        self.assertEqual(LoggingSettings(level="WARNING").level, "WARNING")
        self.assertSentence(
            "FILE: logging.level must be one of debug, info, warn, warning, error, critical.",
            '[logging]\nlevel = "loud"',
        )

    def test_missing_key_of_a_table_in_a_list(self) -> None:
        self.assertSentence(
            "FILE: transcoding.profiles[0].width is missing:"
            " it must be a whole number from 16 to 8192 and a multiple of 2.",
            '[[transcoding.profiles]]\nname = "a"',
        )

    def test_a_list_of_a_wrong_length(self) -> None:
        self.assertSentence(
            "FILE: multicast.port_range must be a list of 2 values, each a whole number from 0 to 65535,"
            " not a list of 1.",
            "[multicast]\nport_range = [1]",
        )

    def test_a_rule_beyond_the_type(self) -> None:
        self.assertSentence(
            "OXIDECAST_SERVER_WORKERS: server.workers must be 1,"
            " because this version serves from a single process.",
            OXIDECAST_SERVER_WORKERS="2",
        )

    def test_a_section_that_is_no_table(self) -> None:
        self.assertSentence("FILE: server must be a table, written as [server].", "server = 3")

    def test_not_json(self) -> None:
        self.assertSentence(
            "OXIDECAST_WEBRTC_ADDRESSES: webrtc.addresses must be a list, each value text, written as JSON.",
            OXIDECAST_WEBRTC_ADDRESSES="203.0.113.7",
        )

    def test_not_a_number(self) -> None:
        self.assertSentence(
            "FILE: hls.segment_duration must be a number from 0.5 to 60.", "[hls]\nsegment_duration = nan"
        )

    def test_not_toml(self) -> None:
        self.assertSentence("FILE is not valid TOML: a mistake at line 1, column 5.", "a = = 1")

    def test_not_utf_8(self) -> None:
        self.assertSentence("FILE is not UTF-8 text (byte 5).", b'a = "\xff"')

    def test_nested_too_deeply(self) -> None:
        for toml in ("a = " + "[" * 9000, ".".join("a" * 1500) + " = 1", "a = " + "[" * 50 + "]" * 50):
            self.assertSentence("FILE nests its values too deeply.", toml)

    def test_nested_too_deeply_in_a_variable(self) -> None:
        self.assertSentence(
            "OXIDECAST_WEBRTC_ADDRESSES nests its values too deeply.",
            OXIDECAST_WEBRTC_ADDRESSES="[" * 100 + "]" * 100,
        )

    def test_a_file_that_is_not_there(self) -> None:
        error = self.assertRaises(SettingsError, load, ALL, Path("/nowhere/x.toml"), {})
        self.assertEqual(str(error), "/nowhere/x.toml cannot be read: No such file or directory.")

    def test_a_folder_instead_of_a_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            error = self.assertRaises(SettingsError, load, ALL, Path(folder), {})
        self.assertIn("cannot be read", str(error))

    def test_a_key_with_control_characters_is_made_printable(self) -> None:
        error = self.assertRaises(SettingsError, loaded, '[server]\n"a\\nb" = 1')
        self.assertNotIn("\n", str(error))

    def test_no_value_is_quoted(self) -> None:
        secret = "hunter2-hunter2"
        for environ in (
            {"OXIDECAST_SERVER_SECRET_KEY": secret},
            {"OXIDECAST_AUTH_JWT_SECRET": secret},
            {"OXIDECAST_SERVER_PORT": secret},
            {"OXIDECAST_LOGGING_LEVEL": secret},
            {"OXIDECAST_CORS_ORIGINS": secret},
            {"DATABASE_URL": f"mysql://root:{secret}@db"},
        ):
            error = self.assertRaises(SettingsError, loaded, **environ)
            self.assertNotIn(secret, str(error))
            self.assertIs(error.__cause__, None)
            self.assertTrue(error.__suppress_context__)
