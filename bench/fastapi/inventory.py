"""inventory-service."""

from fastapi import HTTPException

from telemetry import application, operation

app, tracer = application("inventory-service")

STOCK = {1: (50, 5, "A-1"), 2: (120, 10, "B-2"), 3: (200, 0, "C-1")}
SHIPPING_DAYS = {"A": 1, "B": 2, "C": 3}


def check_warehouse_capacity(total: int, location: str) -> int:
    with tracer.start_as_current_span("check_warehouse_capacity") as span:
        percent = 80 + total % 21
        span.set_attributes({"warehouse.location": location, "warehouse.capacity_percent": percent})
        return percent


def calculate_shipping_time(location: str) -> int:
    with tracer.start_as_current_span("calculate_shipping_time") as span:
        days = SHIPPING_DAYS.get(location[0], 5)
        span.set_attributes({"warehouse.location": location, "shipping.estimated_days": days})
        return days


@app.get("/inventory/{product_id}")
async def inventory(product_id: int) -> dict:
    with operation(tracer, "get_inventory", "inventory_lookup") as span:
        span.set_attribute("product.id", product_id)
        if product_id not in STOCK:
            raise HTTPException(404, "Product not found in inventory")
        total, reserved, location = STOCK[product_id]
        span.set_attribute("inventory.found", True)
        span.set_attribute("inventory.quantity", total)
        span.set_attribute("inventory.reserved", reserved)
        span.set_attribute("warehouse.location", location)
        return {
            "product_id": product_id,
            "available_quantity": total - reserved,
            "total_quantity": total,
            "warehouse_location": location,
            "warehouse_capacity_percent": check_warehouse_capacity(total, location),
            "estimated_shipping_days": calculate_shipping_time(location),
        }
