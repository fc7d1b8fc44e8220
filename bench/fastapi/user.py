"""user-service."""

import os

import httpx

from telemetry import application, known_user, operation

app, tracer = application("user-service")
client = httpx.AsyncClient(base_url=os.environ["DOWNSTREAM_URL"])


@app.get("/users/{user_id}/recommendations")
async def recommendations(user_id: int) -> dict:
    with known_user(user_id), operation(tracer, "get_user_recommendations", "user_recommendations"):
        products = (await client.get("/products/recommend", params={"user_id": user_id})).json()
    user = {"id": user_id, "name": "John Doe", "email": "john@example.com"}
    return {"user": user, "products": products}
