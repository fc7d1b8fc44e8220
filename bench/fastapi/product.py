"""product-service."""

import asyncio
import os
import time

import httpx

from telemetry import application, known_user, operation

app, tracer = application("product-service")
client = httpx.AsyncClient(base_url=os.environ["DOWNSTREAM_URL"])

PRODUCTS = [
    {"id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99},
    {"id": 2, "name": "Wireless Headphones", "category": "electronics", "price": 199.99},
    {"id": 3, "name": "Programming Book", "category": "books", "price": 49.99},
]


def calculate_user_score(user_id: str | None) -> int:
    with operation(tracer, "calculate_user_score", "user_scoring") as span:
        score = 100 if user_id is None else 110
        span.set_attribute("feature_flag.personalization_enabled", True)
        span.set_attribute("recommendation.user_score", score)
        return score


def filter_products_by_category(category: str | None) -> list[dict]:
    with tracer.start_as_current_span("filter_products_by_category") as span:
        found = [dict(product) for product in PRODUCTS if category in (None, product["category"])]
        span.set_attributes({"products.count_before": len(PRODUCTS), "products.count_after": len(found)})
        return found


def apply_pricing_logic(products: list[dict], score: int) -> list[dict]:
    with tracer.start_as_current_span("apply_pricing_logic") as span:
        span.set_attribute("recommendation.user_score", score)
        factor = 0.9 if score > 120 else 1.0
        return [{**product, "price": product["price"] * factor} for product in products]


async def enriched(product: dict) -> dict:
    answer = (await client.get(f"/inventory/{product['id']}")).json()
    fields = ("available_quantity", "warehouse_location", "estimated_shipping_days")
    return {**product, **{field: answer[field] for field in fields}}


@app.get("/products/recommend")
async def recommend(category: str | None = None, user_id: str | None = None) -> dict:
    began = time.perf_counter()
    with known_user(user_id), operation(tracer, "recommend_products", "product_recommendation") as span:
        span.set_attribute("feature_flag.recommendation_engine", True)
        score = calculate_user_score(user_id)
        products = apply_pricing_logic(filter_products_by_category(category), score)
        span.set_attribute("feature_flag.inventory_enrichment", True)
        with operation(tracer, "enrich_with_inventory", "data_enrichment") as enrichment:
            products = await asyncio.gather(*map(enriched, products))
            enrichment.set_attribute("enrichment.successful_calls", len(products))
            enrichment.set_attribute("enrichment.failed_calls", 0)
        span.set_attribute("recommendation.user_score", score)
    milliseconds = (time.perf_counter() - began) * 1000
    metadata = {"operation_duration_ms": milliseconds, "service": "product-service"}
    return {"products": products, "user_score": score, "total_count": len(products), "metadata": metadata}
