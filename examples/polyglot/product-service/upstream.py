"""Calls to pricing-service and inventory-service.

If a call fails, the product is listed with the price of the catalogue, or without its stock.
"""

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

import componentize_py_async_support
import wit_world
from componentize_py_types import Err
from wit_world.imports import client
from wit_world.imports.wasi_http_types import Fields, Method_Get, Method_Post, Request, Scheme_Http, Scheme_Https

from bodies import no_trailers, read, write

STOCK_FIELDS = ("available_quantity", "warehouse_location", "estimated_shipping_days")


class CallFailed(Exception):
    """A call without a usable response."""


async def with_prices(products, score):
    """The products with the prices for a client with this score."""
    body = {"user_score": score, "products": [{"id": p["id"], "price": p["price"]} for p in products]}
    try:
        response = await fetch_json(base_url("PRICING_SERVICE_URL", "http://localhost:8103") + "/prices", body)
    except CallFailed as error:
        print(f"pricing-service: {error}", file=sys.stderr)
        return products
    prices = {price["id"]: price["price"] for price in response["prices"]}
    return [{**product, "price": prices.get(product["id"], product["price"])} for product in products]


async def with_stock(products):
    """The products with their stock. All calls are made concurrently."""
    return await asyncio.gather(*map(with_stock_of, products))


async def with_stock_of(product):
    base = base_url("INVENTORY_SERVICE_URL", "http://localhost:8102")
    try:
        stock = await fetch_json(f"{base}/inventory/{product['id']}")
    except CallFailed as error:
        print(f"inventory-service, product {product['id']}: {error}", file=sys.stderr)
        return product
    return {**product, **{field: stock[field] for field in STOCK_FIELDS}}


def base_url(variable, default):
    return os.environ.get(variable, default).rstrip("/")


async def fetch_json(url, value=None):
    """Sends GET, or POST with `value` as JSON, and returns the JSON value in the response."""
    parts = urlsplit(url)
    fields, reader = Fields(), None
    if value is not None:
        fields = Fields.from_list([("content-type", b"application/json")])
        writer, reader = wit_world.byte_stream()
        componentize_py_async_support.spawn(write(writer, json.dumps(value).encode()))
    request = Request.new(fields, reader, no_trailers(), None)[0]
    request.set_method(Method_Get() if value is None else Method_Post())
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query(parts.path or "/")
    try:
        response = await client.send(request)
    except Err as error:
        raise CallFailed(error.value) from error
    status = response.get_status_code()
    body = await read(response)
    if status != 200:
        raise CallFailed(f"status {status}")
    return json.loads(body)
