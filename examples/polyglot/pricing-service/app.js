// Prices: what a product costs a client of some score. A component of wasi:http 0.2, written as any service worker.

import { discount, reduced } from "./prices.js";

const SERVICE = "pricing-service";

addEventListener("fetch", (event) => event.respondWith(serve(event.request)));

async function serve(request) {
  const { pathname } = new URL(request.url);
  switch (`${request.method} ${pathname}`) {
    case "GET /health":
      return answer(200, { status: "healthy", service: SERVICE });
    case "POST /prices":
      return prices(request);
    default:
      return problem(404, "Not Found", `there is no ${request.method} ${pathname}`);
  }
}

/** `{user_score, products: [{id, price}]}` in, `{discount, prices: [{id, price}]}` out. */
async function prices(request) {
  const asked = await request.json().catch(() => null);
  if (!Number.isFinite(asked?.user_score) || !Array.isArray(asked.products)) {
    return problem(422, "Unprocessable Content", "user_score and products are wanted");
  }
  const spared = discount(asked.user_score);
  const prices = asked.products.map(({ id, price }) => ({ id, price: reduced(price, spared) }));
  return answer(200, { discount: spared, prices });
}

function answer(status, value, type = "application/json") {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": type } });
}

function problem(status, title, detail) {
  return answer(status, { status, title, detail }, "application/problem+json");
}
