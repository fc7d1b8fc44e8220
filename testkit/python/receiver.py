"""An OTLP receiver that shares no code with the host: OpenTelemetry's Python protobufs, over gRPC and over HTTP.

Listens on two free ports, prints them as one line of JSON, and prints every span, metric and log record that arrives as
one line of JSON each. Ends when its standard input does.
"""

import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PRINTING = threading.Lock()


def tell(fact):
    with PRINTING:
        print(json.dumps(fact), flush=True)


def value_of(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)


def attributes_of(pairs):
    return {pair.key: value_of(pair.value) for pair in pairs}


def take_spans(request, protocol):
    for group in request.resource_spans:
        resource = attributes_of(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                tell({
                    "protocol": protocol,
                    "signal": "span",
                    "service": resource.get("service.name"),
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "status": span.status.code,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes_of(span.attributes),
                    "message": span.status.message,
                    "events": {event.name: attributes_of(event.attributes) for event in span.events},
                })


def take_metrics(request, protocol):
    for group in request.resource_metrics:
        resource = attributes_of(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                tell({
                    "protocol": protocol,
                    "signal": "metric",
                    "service": resource.get("service.name"),
                    "name": metric.name,
                    "unit": metric.unit,
                    "kind": metric.WhichOneof("data"),
                    "exemplars": [
                        exemplar.trace_id.hex()
                        for point in metric.histogram.data_points
                        for exemplar in point.exemplars
                    ],
                })


def take_logs(request, protocol):
    for group in request.resource_logs:
        resource = attributes_of(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                tell({
                    "protocol": protocol,
                    "signal": "log",
                    "service": resource.get("service.name"),
                    "body": value_of(record.body),
                    "severity": record.severity_number,
                    "trace_id": record.trace_id.hex(),
                    "span_id": record.span_id.hex(),
                    "attributes": attributes_of(record.attributes),
                })


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request, context):
        take_spans(request, "grpc")
        return trace_service_pb2.ExportTraceServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        take_metrics(request, "grpc")
        return metrics_service_pb2.ExportMetricsServiceResponse()


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request, context):
        take_logs(request, "grpc")
        return logs_service_pb2.ExportLogsServiceResponse()


ENDPOINTS = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, take_spans),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, take_metrics),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, take_logs),
}


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        message, take = ENDPOINTS[self.path]
        take(message.FromString(body), "http")
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    tell({"grpc": grpc_port, "http": http.server_address[1]})
    sys.stdin.read()
    server.stop(None)


main()
