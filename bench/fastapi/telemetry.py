"""The stock SDK as its documentation sets it up: batches over OTLP/gRPC, instrumented server and client."""

from contextlib import asynccontextmanager

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def application(service: str) -> tuple[FastAPI, trace.Tracer]:
    """An application traced as this service. Its spans for each ASGI message are left out: nobody else has them."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
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
