//! The service of README.md; the code after this line is identical to it.

use guest::{Json, Problem, Request, Router};

guest::serve!(routes);

fn routes() -> Router {
    Router::new().get("/health", guest::healthy).get("/hello/{name}", hello)
}

#[tracing::instrument(skip_all)]
fn hello(request: &Request) -> Result<Json<String>, Problem> {
    Ok(Json(format!("Hello, {}", request.param::<String>("name")?)))
}
