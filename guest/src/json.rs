//! Responses with a JSON body.

use serde::Serialize;

use crate::{IntoResponse, Problem, Response};

/// A response with the status code 200 and this value as its JSON body.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Response::new(200).with_header("content-type", "application/json").with_body(body),
            Err(error) => {
                Problem::internal(format!("the response cannot be serialized as JSON: {error}")).into_response()
            }
        }
    }
}
