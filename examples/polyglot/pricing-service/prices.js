// What a product costs whom. Plain functions: they can be tested without a component.

const DISCOUNT_ABOVE = 120;
const DISCOUNT = 0.1;

/** The part of the price that a client of this score is spared. */
export function discount(score) {
  return score > DISCOUNT_ABOVE ? DISCOUNT : 0;
}

/** A price less its discount, in whole cents. */
export function reduced(price, discount) {
  return Math.round(price * (1 - discount) * 100) / 100;
}
