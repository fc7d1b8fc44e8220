//! Inventory: the stock of each product, and how much of it is reserved.

mod ledger;
pub mod stock;

use guest::metrics::Counter;
use guest::{Json, Problem, Request, Router};
use stock::{Availability, ProductId, Quantity, Reservation, StockError};
use tracing::{Span, field};

guest::serve!(routes);

static RESERVED: Counter = Counter::new("inventory.pieces.reserved")
    .with_unit("{piece}")
    .with_description("Pieces that were reserved, by warehouse.");

fn routes() -> Router {
    Router::new()
        .get("/health", guest::healthy)
        .get("/inventory/{product_id}", get_inventory)
        .post("/inventory/{product_id}/reserve", reserve_inventory)
}

#[tracing::instrument(skip_all, fields(
    custom.operation_type = "inventory_lookup",
    product.id = field::Empty,
    inventory.found = field::Empty,
    inventory.quantity = field::Empty,
    inventory.reserved = field::Empty,
    warehouse.location = field::Empty,
))]
fn get_inventory(request: &Request) -> Result<Json<Availability>, Problem> {
    let product: ProductId = request.param("product_id")?;
    let span = Span::current();
    let Ok(item) = stock::item(product) else {
        tracing::record_all!(span, product.id = product.get(), inventory.found = false);
        return Err(StockError::UnknownProduct.into());
    };
    let reserved = ledger::reserved(item)?;
    tracing::record_all!(
        span,
        product.id = product.get(),
        inventory.found = true,
        inventory.quantity = item.total,
        inventory.reserved = reserved,
        warehouse.location = item.location,
    );
    Ok(Json(stock::availability(item, reserved)))
}

#[tracing::instrument(skip_all, fields(
    product.id = field::Empty,
    reservation.quantity = field::Empty,
    reservation.success = false,
))]
fn reserve_inventory(request: &Request) -> Result<Json<Reservation>, Problem> {
    let (product, quantity): (ProductId, Quantity) =
        guest::all((request.param("product_id"), request.query("quantity")))?;
    let span = Span::current();
    tracing::record_all!(span, product.id = product.get(), reservation.quantity = quantity.get());
    let item = stock::item(product)?;
    let reservation = ledger::reserve(item, quantity)?;
    span.record("reservation.success", true);
    RESERVED.add(quantity.get(), &[("warehouse", item.warehouse())]);
    tracing::info!(product.id = product.get(), reservation.quantity = quantity.get(), "reserved");
    Ok(Json(reservation))
}

impl From<StockError> for Problem {
    fn from(error: StockError) -> Self {
        match error {
            StockError::UnknownProduct => Problem::not_found(error.to_string()),
            StockError::Insufficient { .. } => Problem::bad_request(error.to_string()),
        }
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::Refused(error) => error.into(),
            other => Problem::internal(other),
        }
    }
}
