"""What Prometheus reads at /metrics. Durations come from a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from whet.store.log import Logged

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reg = self._registry
        labels = ("model", "endpoint")
        self.requests = Counter(
            "whet_requests",
            "Requests that were answered, refused or left by their client (499).",
            ("endpoint", "status"),
            registry=reg,
        )
        self.latency = Histogram("whet_request_seconds", "From request to last byte.", labels, buckets=LATENCIES, registry=reg)
        self.first_token = Histogram(
            "whet_first_token_seconds", "From request to first piece.", labels, buckets=LATENCIES, registry=reg
        )
        self.prompt_tokens = Counter("whet_prompt_tokens", "Tokens that were read.", labels, registry=reg)
        self.written_tokens = Counter("whet_written_tokens", "Tokens that were written.", labels, registry=reg)
        self.labels = Counter(
            "whet_labels",
            "Answers of runs that classify, by label; '' where the model abstained.",
            ("model", "label"),
            registry=reg,
        )
        self.feedback = Counter("whet_feedback", "Judgements that were stored.", (), registry=reg)
        self.log_dropped = Counter("whet_log_dropped", "Records of the request log that were lost.", (), registry=reg)
        self.swaps = Counter("whet_swaps", "Times that a name's run was exchanged.", ("model",), registry=reg)
        self.failed_swaps = Counter(
            "whet_failed_swaps", "Times that a name's new run could not be taken.", ("model",), registry=reg
        )
        self.behind = Gauge(
            "whet_behind", "1 where a name is answered by another run than it stands for by now.", ("model",), registry=reg
        )
        self.version = Gauge("whet_model_version", "The version of a registered name that answers.", ("model",), registry=reg)
        self._gauges: dict[str, Gauge] = {}

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Read a number each time that somebody asks."""
        self._gauges[name] = Gauge(name, meaning, registry=self._registry)
        self._gauges[name].set_function(value)

    def count(self, record: Logged) -> None:
        """Add a request that reached a model."""
        at = (record.name, record.endpoint)
        self.latency.labels(*at).observe(record.latency_s)
        self.prompt_tokens.labels(*at).inc(record.prompt_tokens)
        self.written_tokens.labels(*at).inc(record.completion_tokens)
        if record.first_token_s is not None:
            self.first_token.labels(*at).observe(record.first_token_s)
        for item in record.items if record.endpoint == "classify" else ():
            for label in item.label if isinstance(item.label, list) else [item.label]:
                if not isinstance(label, float):
                    self.labels.labels(record.name, label or "").inc()

    def page(self) -> bytes:
        return generate_latest(self._registry)
