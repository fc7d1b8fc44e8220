"""user-service."""

import os

import httpx

from telemetry import application

app, tracer = application("user-service")
client = httpx.AsyncClient(base_url=os.environ["DOWNSTREAM_URL"])


@app.get("/users/{user_id}/recommendations")
async def recommendations(user_id: int) -> dict:
    with tracer.start_as_current_span("get_user_recommendations") as span:
        span.set_attribute("user.id", user_id)
        products = (await client.get("/products/recommend", params={"user_id": user_id})).json()
    user = {"id": user_id, "name": "John Doe", "email": "john@example.com"}
    return {"user": user, "products": products}
