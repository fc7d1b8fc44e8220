"""The stock SDK, set up as in its documentation: batches over OTLP/gRPC, instrumented server and client.

Spans have the attributes that the shop's own code sets: the user on every span, and the cost of each operation."""

import os
import time
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

USER = "business.user_id"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Metadata(SpanProcessor):
    """Sets the user on every span."""

    def on_start(self, span, parent_context=None):
        user = baggage.get_baggage(USER, parent_context)
        if user is not None:
            span.set_attributes({"user.id": user, USER: user})


@contextmanager
def known_user(user_id: int | str | None):
    """Sets the user on the spans and calls within, and on the current server span."""
    if user_id is None:
        yield
        return
    token = context.attach(baggage.set_baggage(USER, str(user_id)))
    trace.get_current_span().set_attributes({"user.id": str(user_id), USER: str(user_id)})
    try:
        yield
    finally:
        context.detach(token)


def memory_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * PAGE / (1 << 20)


@contextmanager
def operation(tracer: trace.Tracer, name: str, kind: str):
    """A span with execution time and memory usage."""
    began = time.perf_counter()
    with tracer.start_as_current_span(name) as span:
        span.set_attribute("custom.operation_type", kind)
        yield span
        span.set_attribute("performance.execution_time_ms", (time.perf_counter() - began) * 1000)
        span.set_attribute("system.memory_usage_mb", memory_mb())


def application(service: str) -> tuple[FastAPI, trace.Tracer]:
    """A traced application. It has no spans for ASGI messages, since no other contender has them."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(Metadata())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
    trace.set_tracer_provider(provider)

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        yield
        provider.shutdown()

    app = FastAPI(lifespan=lifespan)
    HTTPXClientInstrumentor().instrument()
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    return app, trace.get_tracer(service)
