"""What Prometheus reads, parsed as it parses it."""

from prometheus_client.parser import text_string_to_metric_families

from oxidecast.interfaces import IOutput
from oxidecast.metrics.lateness import Lateness
from oxidecast.metrics.prometheus import OTHERS, Metrics
from tests.streams.stage import Encoder, HubCase, info


class TestMetrics(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics(self.hub, self.registry, 2, Lateness())

    def samples(self) -> dict[tuple[str, str], float]:
        text = self.metrics.render().decode()
        return {
            (sample.name, ",".join(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_the_names_of_the_first_releases(self) -> None:
        self.metrics.request("site", "GET", 200)
        samples = self.samples()
        self.assertEqual(samples["streaming_active_streams", ""], 0)
        self.assertEqual(samples["streaming_total_viewers", ""], 0)
        self.assertEqual(samples["streaming_http_requests_total", "GET,site,200"], 1)

    def test_each_family_has_its_help_and_type_by_its_name(self) -> None:
        text = self.metrics.render().decode()
        for name in ("streaming_http_requests_total", "oxidecast_plugin_faults_total"):
            self.assertIn(f"\n# TYPE {name} counter\n", text)
        self.assertNotIn("_total_total", text)

    def test_streams_and_viewers(self) -> None:
        self.live()
        self.stream.viewer("watching", "192.0.2.1")
        samples = self.samples()
        self.assertEqual(samples["streaming_active_streams", ""], 1)
        self.assertEqual(samples["streaming_total_viewers", ""], 1)
        self.assertEqual(samples["oxidecast_stream_viewers", "show"], 1)
        self.assertEqual(samples["oxidecast_stream_received_bytes_total", "show"], self.stream.source.bytes)

    def test_one_that_waits_is_not_active(self) -> None:
        self.live().publication.close("gone")
        self.assertEqual(self.samples()["streaming_active_streams", ""], 0)

    def test_labels_are_bounded_and_the_others_counted_together(self) -> None:
        for number in range(5):
            self.keys.infos[f"key-{number}"] = info(f"s{number}")
            Encoder(self, key=f"key-{number}").start().send(1)
            stream = self.hub.find(f"s{number}")
            assert stream is not None
            stream.viewer("watching", "192.0.2.1")
        viewers = {
            label: value
            for (name, label), value in self.samples().items()
            if name == "oxidecast_stream_viewers"
        }
        self.assertEqual(viewers, {"s0": 1, "s1": 1, OTHERS: 3})

    def test_nothing_of_a_client_or_a_key_is_in_it(self) -> None:
        self.live()
        self.stream.viewer("watching", "192.0.2.77")
        text = self.metrics.render()
        for secret in (b"key-of-show", b"192.0.2."):
            self.assertNotIn(secret, text)

    def test_two_plugins_of_one_name_are_told_apart(self) -> None:
        self.add("keys", IOutput, self.output)
        faults = [labels for name, labels in self.samples() if name == "oxidecast_plugin_faults_total"]
        self.assertEqual(len(faults), len(set(faults)))
        self.assertIn("output,keys", faults)
