// Prices of products for a client with a score. A component of wasi:http 0.2, written like a service worker.

import { discount, discounted } from "./prices.js";

const SERVICE = "pricing-service";

addEventListener("fetch", (event) => event.respondWith(serve(event.request)));

async function serve(request) {
  const { pathname } = new URL(request.url);
  switch (`${request.method} ${pathname}`) {
    case "GET /health":
      return jsonResponse(200, { status: "healthy", service: SERVICE });
    case "POST /prices":
      return prices(request);
    default:
      return problem(404, "Not Found", `no route matches ${request.method} ${pathname}`);
  }
}

/** Request: `{user_score, products: [{id, price}]}`. Response: `{discount, prices: [{id, price}]}`. */
async function prices(request) {
  const body = await request.json().catch(() => null);
  if (!Number.isFinite(body?.user_score) || !Array.isArray(body.products)) {
    return problem(422, "Unprocessable Content", "user_score and products are required");
  }
  const rate = discount(body.user_score);
  const prices = body.products.map(({ id, price }) => ({ id, price: discounted(price, rate) }));
  return jsonResponse(200, { discount: rate, prices });
}

function jsonResponse(status, value, type = "application/json") {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": type } });
}

function problem(status, title, detail) {
  return jsonResponse(status, { status, title, detail }, "application/problem+json");
}
