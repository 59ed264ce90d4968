"""Rules that sections have beyond their types, and what they hide."""

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import Codec
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings import Invalid, SettingsError
from oxidecast.settings.sections import (
    LEAST_SIDE,
    MAX_PROFILES,
    CorsSettings,
    MetricsSettings,
    Profile,
    RateLimitSettings,
    ServerSettings,
    TlsSettings,
    TranscodingSettings,
)
from oxidecast.streams.wanting import RenditionSpec
from oxidecast.transcoding import targets
from tests.settings.support import loaded

SECRET = "a-secret-that-is-long-enough-for-hmac"


class Rules(SynchronousTestCase):
    def test_a_secret_below_32_bytes_is_refused(self) -> None:
        for section, key in (("server", "secret_key"), ("auth", "jwt_secret")):
            error = self.assertRaises(SettingsError, loaded, f'[{section}]\n{key} = "{"x" * 31}"')
            self.assertIn(f"{section}.{key} must be at least 32 bytes long", str(error))
            loaded(f'[{section}]\n{key} = "{"x" * 32}"')

    def test_an_origin_is_exact(self) -> None:
        CorsSettings(origins=("https://example.com", "http://[::1]:8080"))
        for wrong in (
            "*",
            "null",
            "https://example.com/",
            "example.com",
            "https://",
            "https://a:b",
            "HTTPS://A.com",
            "https://example.com:443",
            "http://example.com:80",
            'https://a"b',
            "https://a b",
            "https://user@example.com",
        ):
            self.assertRaises(Invalid, CorsSettings, origins=(wrong,))
            self.assertRaises(Invalid, ServerSettings, public_url=wrong)

    def test_a_public_url_says_what_it_must_be(self) -> None:
        for right in (
            "",
            "https://tv.example.com",
            "http://tv.example.com:8080",
            "https://[2001:db8::1]:8443",
        ):
            self.assertEqual(ServerSettings(public_url=right).public_url, right)
        error = self.assertRaises(
            SettingsError, loaded, '[server]\npublic_url = "https://tv.example.com/live"'
        )
        self.assertIn("server.public_url must be a scheme and a host", str(error))

    def test_a_network_is_a_network(self) -> None:
        self.assertRaises(Invalid, MetricsSettings, allow=("10.0.0.1/8",))
        self.assertRaises(Invalid, RateLimitSettings, exempt=("everybody",))
        self.assertRaises(Invalid, ServerSettings, trusted_proxies=("proxy.example",))

    def test_the_proxy_protocol_needs_proxies(self) -> None:
        self.assertRaises(Invalid, ServerSettings, proxy_protocol=True)
        ServerSettings(proxy_protocol=True, trusted_proxies=("10.0.0.1",))

    def test_a_profile_cannot_be_called_like_a_quality_of_another_kind(self) -> None:
        live = RenditionSpec("720p", low_latency=True)
        vp8 = RenditionSpec("720p", low_latency=True, codec=Codec.VP8)
        for name in ("source", "layer.1", RenditionSpec().name, live.name, vp8.name):
            self.assertRaises(Invalid, Profile, name=name, width=16, height=16, bitrate=1)
        Profile(name="opus-720", width=16, height=16, bitrate=1)

    def test_a_profile_that_can_never_be_made_is_refused(self) -> None:
        self.assertEqual(LEAST_SIDE.keys(), {Codec.H264, Codec.HEVC, Codec.AV1})
        for codec, least in LEAST_SIDE.items():
            self.assertEqual(least, targets.LEAST_SIDE[Codec(codec)])
            Profile(name="a", codec=codec, width=640, height=least, bitrate=1)
        for codec in ("hevc", "av1"):
            for size in ((62, 640), (640, 62)):
                error = self.assertRaises(
                    Invalid, Profile, name="a", codec=codec, width=size[0], height=size[1], bitrate=1
                )
                self.assertIn(f"at least 64 where the codec is {codec}", str(error))

    def test_more_profiles_than_are_made_are_refused(self) -> None:
        profiles = tuple(
            Profile(name=f"p{at}", width=160, height=90, bitrate=1) for at in range(MAX_PROFILES + 1)
        )
        TranscodingSettings(profiles=profiles[1:])
        error = self.assertRaises(Invalid, TranscodingSettings, profiles=profiles)
        self.assertIn("32 at most, and are 33", str(error))

    def test_certificates_come_from_one_place(self) -> None:
        TlsSettings(certificate_directory="pems", redirect=True, hsts=60)
        TlsSettings(certificate_file="a.pem", key_file="a.key")
        for wrong in (
            {"certificate_directory": "pems", "certificate_file": "a.pem"},
            {"key_file": "a.key"},
            {"certificate_directory": "pems", "key_file": "a.key"},
        ):
            self.assertRaises(Invalid, TlsSettings, **wrong)

    def test_a_database_is_sqlite_or_postgresql(self) -> None:
        for url in ("mysql://db", "sqlite:///", "sqlite:///:memory:", "oxidecast.db"):
            self.assertRaises(SettingsError, loaded, DATABASE_URL=url)


class BindAddress(SynchronousTestCase):
    def test_host_and_port(self) -> None:
        self.assertEqual(RtmpSettings().address(), ("0.0.0.0", 1935))
        self.assertEqual(RtmpSettings(bind_address="[::]:0").address(), ("::", 0))

    def test_anything_else_is_refused(self) -> None:
        for wrong in ("1935", ":1935", "host:", "host:x", "host:65536", "::1:1935", "host:²"):
            self.assertRaises(Invalid, RtmpSettings, bind_address=wrong)
            error = self.assertRaises(Invalid, RtmpSettings, tls_bind_address=wrong)
            self.assertEqual(error.key, "tls_bind_address")


class Representation(SynchronousTestCase):
    def test_secrets_are_not_shown(self) -> None:
        settings = loaded(
            OXIDECAST_SERVER_SECRET_KEY=SECRET,
            OXIDECAST_AUTH_JWT_SECRET=SECRET,
            DATABASE_URL=f"postgresql://u:{SECRET}@h/d",
            OXIDECAST_WEBRTC_TURN_SERVERS=f'[{{"url": "turn:h", "credential": "{SECRET}"}}]',
        )
        for section in settings.values():
            self.assertNotIn(SECRET, repr(section))
            self.assertNotIn(SECRET, str(section))

    def test_the_rest_is(self) -> None:
        self.assertIn("port=8080", repr(ServerSettings()))
