"""inventory-service."""

from fastapi import HTTPException

from telemetry import application

app, tracer = application("inventory-service")

STOCK = {1: (50, 5, "A-1"), 2: (120, 10, "B-2"), 3: (200, 0, "C-1")}
SHIPPING_DAYS = {"A": 1, "B": 2, "C": 3}


@tracer.start_as_current_span("check_warehouse_capacity")
def check_warehouse_capacity(total: int) -> int:
    return 80 + total % 21


@tracer.start_as_current_span("calculate_shipping_time")
def calculate_shipping_time(location: str) -> int:
    return SHIPPING_DAYS.get(location[0], 5)


@app.get("/inventory/{product_id}")
async def inventory(product_id: int) -> dict:
    with tracer.start_as_current_span("get_inventory") as span:
        span.set_attribute("product.id", product_id)
        if product_id not in STOCK:
            raise HTTPException(404, "Product not found in inventory")
        total, reserved, location = STOCK[product_id]
        span.set_attribute("inventory.found", True)
        return {
            "product_id": product_id,
            "available_quantity": total - reserved,
            "total_quantity": total,
            "warehouse_location": location,
            "warehouse_capacity_percent": check_warehouse_capacity(total),
            "estimated_shipping_days": calculate_shipping_time(location),
        }
