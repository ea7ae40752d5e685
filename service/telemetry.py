"""OpenTelemetry traces: on with `BNFOLD_OTEL_ENDPOINT` and the extra `otel`, else nothing.

A request's span and the spans of the job that it submits share a trace: the job row keeps the traceparent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.settings import Settings

log = logging.getLogger("bnfold.telemetry")
_tracer: Any = None


class Span:
    """A span, or nothing."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    def finish(self, route: str, status: int) -> None:
        """Name and outcome of a request."""
        if self._inner is not None:
            self._inner.update_name(route)
            self._inner.set_attribute("http.route", route)
            self._inner.set_attribute("http.response.status_code", status)

    def set(self, **attributes: str | int | float) -> None:
        """More about it."""
        if self._inner is not None:
            for name, value in attributes.items():
                self._inner.set_attribute(f"bnfold.{name}", value)


def configure(settings: Settings, role: str) -> None:
    """Start exporting; a missing extra is said once and does no harm."""
    global _tracer
    if not settings.otel_endpoint or _tracer is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("BNFOLD_OTEL_ENDPOINT is set, but the extra `otel` is not installed")
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "bnfold", "service.role": role}))
    endpoint = settings.otel_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _tracer = provider.get_tracer("bnfold")


@contextmanager
def server_span(scope: Any) -> Iterator[Span]:
    """Around a request."""
    if _tracer is None:
        yield Span()
        return
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    with _span(f"HTTP {scope['method']}", headers.get("traceparent"), "SERVER") as span:
        span.set(method=scope["method"])
        yield span


@contextmanager
def job_span(name: str, traceparent: str | None, **attributes: str | int) -> Iterator[Span]:
    """Around an attempt of a job."""
    if _tracer is None:
        yield Span()
        return
    with _span(name, traceparent, "CONSUMER") as span:
        span.set(**attributes)
        yield span


@contextmanager
def _span(name: str, traceparent: str | None, kind: str) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
    with _tracer.start_as_current_span(name, context=parent, kind=SpanKind[kind]) as inner:
        yield Span(inner)


def current_traceparent() -> str | None:
    """The running span, in W3C form."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")
