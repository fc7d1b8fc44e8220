"""The products of the shop, and the scores of clients. Pure functions, which can be tested without a component."""

PRODUCTS = [
    {"id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99},
    {"id": 2, "name": "Wireless Headphones", "category": "electronics", "price": 199.99},
    {"id": 3, "name": "Programming Book", "category": "books", "price": 49.99},
]

BASE_SCORE = 100
POINTS_PER_CATEGORY = 10
PREFERRED_CATEGORIES = ["electronics"]


def of_category(category):
    """The products of a category, or all products."""
    return [product for product in PRODUCTS if not category or product["category"] == category]


def user_score(is_known):
    """The score of a client: known users get points for each preferred category."""
    return BASE_SCORE + (POINTS_PER_CATEGORY * len(PREFERRED_CATEGORIES) if is_known else 0)
