"""OpenTelemetry traces: a span a request with one for each stage, where an endpoint is given; otherwise nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crossrank.errors import MissingExtra
from crossrank.serving.exchange import RerankResult

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_SERVICE = "crossrank"


class Tracer:
    """Reports requests as traces.

    Args:
        provider: Of OpenTelemetry; None reports nothing.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE) if provider else None

    @classmethod
    def to_endpoint(cls, endpoint: str | None) -> Tracer:
        """Return a tracer that sends to an OTLP endpoint over HTTP, as in `http://collector:4318/v1/traces`.

        Raises:
            MissingExtra: If an endpoint is given and OpenTelemetry is not installed.
        """
        if endpoint is None:
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingExtra("sending traces", extra="otel") from None
        provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        return cls(provider)

    def request(
        self,
        name: str,
        *,
        headers: Mapping[str, str],
        seconds: float,
        attributes: Mapping[str, Any],
        result: RerankResult | None,
    ) -> None:
        """Report a request that has just ended, as a part of the caller's trace where it names one.

        Args:
            name: Of the span: method and path.
            headers: Of the request, with lower-case names.
            seconds: That it took.
            attributes: Facts about it; no texts.
            result: With the time of each stage, or None where there was no answer.
        """
        if self._tracer is None:
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, set_span_in_context

        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=extract(dict(headers)),
            kind=SpanKind.SERVER,
            start_time=end - int(seconds * 1e9),
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        inside = set_span_in_context(span)
        for stage, start, stop in _stages(result, end):
            self._tracer.start_span(stage, context=inside, start_time=start).end(stop)
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        if self._provider:
            self._provider.shutdown()


def _stages(result: RerankResult | None, end: int) -> list[tuple[str, int, int]]:
    """Return name, start and end of each stage; the last one is taken to have ended with the request."""
    if result is None:
        return []
    stages = []
    start = end - int(result.timings.total_s * 1e9)
    for name in ("tokenise", "queue", "compute"):
        stop = start + int(getattr(result.timings, f"{name}_s") * 1e9)
        stages.append((name, start, stop))
        start = stop
    return stages
