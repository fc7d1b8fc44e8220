"""The two services that this one asks: pricing-service and inventory-service.

A neighbour that fails spoils no answer: the product is listed at the price of the catalogue, or without its stock.
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


class Failed(Exception):
    """A neighbour that did not answer as it should."""


async def priced(products, score):
    """The products at what they cost a client of this score."""
    asked = {"user_score": score, "products": [{"id": p["id"], "price": p["price"]} for p in products]}
    try:
        told = await ask(address("PRICING_SERVICE_URL", "http://localhost:8103") + "/prices", asked)
    except Failed as error:
        print(f"pricing-service: {error}", file=sys.stderr)
        return products
    prices = {price["id"]: price["price"] for price in told["prices"]}
    return [{**product, "price": prices.get(product["id"], product["price"])} for product in products]


async def stocked(products):
    """The products with what inventory-service has of them. All calls are made at once."""
    return await asyncio.gather(*map(with_stock, products))


async def with_stock(product):
    base = address("INVENTORY_SERVICE_URL", "http://localhost:8102")
    try:
        stock = await ask(f"{base}/inventory/{product['id']}")
    except Failed as error:
        print(f"inventory-service, product {product['id']}: {error}", file=sys.stderr)
        return product
    return {**product, **{field: stock[field] for field in STOCK_FIELDS}}


def address(variable, default):
    return os.environ.get(variable, default).rstrip("/")


async def ask(url, value=None):
    """GETs a JSON value, or POSTs `value` and gives back what the answer holds."""
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
        raise Failed(error.value) from error
    status = response.get_status_code()
    body = await read(response)
    if status != 200:
        raise Failed(f"status {status}")
    return json.loads(body)
