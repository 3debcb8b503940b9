"""Counts and times for Prometheus, of one server."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from echo_embeddings.types import Role

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """What ``/metrics`` shows.

    Args:
        waiting: gives the number of texts that are accepted and not answered.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        name, to = "echo_embeddings_", self._registry
        self._requests = Counter(
            f"{name}requests", "Requests, by path and status; 499: the client left.", ["path", "status"], registry=to
        )
        self._seconds = Histogram(
            f"{name}request_seconds", "From a request to its answer.", ["path"], buckets=_SECONDS, registry=to
        )
        self._texts = Counter(f"{name}texts", "Texts that were embedded.", ["role"], registry=to)
        self._tokens = Counter(f"{name}tokens", "Tokens of these texts that the model read.", ["role"], registry=to)
        self._truncated = Counter(f"{name}truncated_texts", "Texts of which only the beginning was read.", registry=to)
        self._batches = Histogram(f"{name}batch_texts", "Texts of a batch.", buckets=_TEXTS, registry=to)
        self._running = Histogram(f"{name}batch_seconds", "Time of a batch.", buckets=_SECONDS, registry=to)
        Gauge(f"{name}queue_texts", "Texts accepted and not answered.", registry=to).set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def embedded(self, role: Role, texts: int, tokens: int, truncated: int) -> None:
        """Count the texts of a request, when they are embedded."""
        self._texts.labels(role).inc(texts)
        self._tokens.labels(role).inc(tokens)
        self._truncated.inc(truncated)

    def batch(self, texts: int, seconds: float) -> None:
        """Count a batch that ran."""
        self._batches.observe(texts)
        self._running.observe(seconds)

    def page(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)
