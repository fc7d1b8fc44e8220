//! The service of README.md, behind this line as it stands there.

use guest::{Json, Problem, Request, Router};

guest::serve!(routes);

fn routes() -> Router {
    Router::new().get("/health", guest::healthy).get("/hello/{name}", hello)
}

#[tracing::instrument(skip_all)]
fn hello(request: &Request) -> Result<Json<String>, Problem> {
    Ok(Json(format!("Hello, {}", request.param::<String>("name")?)))
}
