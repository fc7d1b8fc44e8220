"""Products: the catalogue, and recommendations from it.

A component of wasi:http 0.3 without any telemetry code, because the host traces it. The business logic is in
catalogue.py, which does not depend on HTTP; calls to other services are in upstream.py.
"""

import json
import time
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import componentize_py_async_support
import wit_world
from wit_world import exports
from wit_world.imports.wasi_http_types import Fields, Method_Get, Method_Head, Request, Response

import catalogue
import upstream
from bodies import no_trailers, write

SERVICE = "product-service"


class Handler(exports.Handler):
    """The export of the component, called for each request."""

    async def handle(self, request: Request) -> Response:
        url = urlsplit(request.get_path_with_query() or "/")
        route = ROUTES.get(url.path)
        if route is None:
            return problem(404, "Not Found", f"no route matches {url.path}")
        if not isinstance(request.get_method(), (Method_Get, Method_Head)):
            return problem(405, "Method Not Allowed", f"{url.path} allows GET and HEAD only", [("allow", b"GET, HEAD")])
        return json_response(200, await route(request, parse_qs(url.query)))


async def health(_request, _query):
    return {"status": "healthy", "service": SERVICE}


async def products(_request, _query):
    return catalogue.PRODUCTS


async def recommend(request, query):
    start = time.perf_counter()
    score = catalogue.user_score(is_known="user_id" in query)
    selected = catalogue.of_category(query.get("category", [None])[0])
    priced = await upstream.with_prices(selected, score)
    stocked = await upstream.with_stock(priced)
    return {
        "products": stocked,
        "user_score": score,
        "total_count": len(stocked),
        "metadata": {
            "operation_duration_ms": round((time.perf_counter() - start) * 1000, 3),
            "session_id": header(request, "x-session-id"),
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "service": SERVICE,
        },
    }


ROUTES = {"/health": health, "/products": products, "/products/recommend": recommend}


def header(request, name):
    values = request.get_headers().get(name)
    return values[0].decode() if values else None


def json_response(status, value, headers=(), content_type=b"application/json"):
    """A response with a JSON body, which is written while the response is sent."""
    body = json.dumps(value).encode()
    fields = [("content-type", content_type), ("content-length", str(len(body)).encode()), *headers]
    writer, reader = wit_world.byte_stream()
    response = Response.new(Fields.from_list(fields), reader, no_trailers())[0]
    response.set_status_code(status)
    componentize_py_async_support.spawn(write(writer, body))
    return response


def problem(status, title, detail, headers=()):
    value = {"status": status, "title": title, "detail": detail}
    return json_response(status, value, headers, content_type=b"application/problem+json")
