// Discounts and prices. Pure functions, which can be tested without a component.

const DISCOUNT_ABOVE = 120;
const DISCOUNT = 0.1;

/** The discount for a client with this score, as a fraction of the price. */
export function discount(score) {
  return score > DISCOUNT_ABOVE ? DISCOUNT : 0;
}

/** A price after a discount, rounded to cents. */
export function discounted(price, discount) {
  return Math.round(price * (1 - discount) * 100) / 100;
}
