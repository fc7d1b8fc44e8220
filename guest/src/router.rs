//! The endpoints of a service and the functions behind them.

use std::fmt;

use crate::host::{self, Method};
use crate::{IntoResponse, Request, Response};

type Handler = Box<dyn Fn(&Request<'_>) -> Response + Send + Sync>;

struct Endpoint {
    method: Method,
    template: &'static str,
    /// The names of the template's parameters, in the order they stand in the path.
    names: Vec<&'static str>,
    handler: Handler,
}

/// A list of endpoints. The host matches requests against it; this side only looks up the handler by its position.
///
/// A template consists of literal segments, `{name}` parameters, and possibly a `{*name}` wildcard at its end, which takes
/// the rest of the path. Of two templates that match, the one with the literal at the first difference wins. The host
/// answers HEAD where there is GET, 405 where there are other methods for the path, and 404 where there is none.
///
/// ```
/// # use guest::{Problem, Request, Response, Router};
/// Router::new().get("/shops/{shop}", shop).get("/shops/{shop}/files/{*path}", file);
/// # fn shop(_: &Request) -> Response { Response::new(204) }
/// # fn file(request: &Request) -> Result<Response, Problem> {
/// #     let _: String = request.param("path")?;
/// #     Ok(Response::new(204))
/// # }
/// ```
#[derive(Default)]
pub struct Router {
    endpoints: Vec<Endpoint>,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $method:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name<F, R>(self, template: &'static str, handler: F) -> Self
            where
                F: Fn(&Request<'_>) -> R + Send + Sync + 'static,
                R: IntoResponse,
            {
                self.endpoint(Method::$method, template, handler)
            }
        )*
    };
}

impl Router {
    /// A router without endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    methods! {
        /// Answers GET at a path template such as `/inventory/{product_id}`.
        get => Get,
        /// Answers HEAD at a path template.
        head => Head,
        /// Answers POST at a path template.
        post => Post,
        /// Answers PUT at a path template.
        put => Put,
        /// Answers PATCH at a path template.
        patch => Patch,
        /// Answers DELETE at a path template.
        delete => Delete,
        /// Answers OPTIONS at a path template.
        options => Options,
    }

    fn endpoint<F, R>(mut self, method: Method, template: &'static str, handler: F) -> Self
    where
        F: Fn(&Request<'_>) -> R + Send + Sync + 'static,
        R: IntoResponse,
    {
        self.endpoints.push(Endpoint {
            method,
            template,
            names: parameter_names(template),
            handler: Box::new(move |request| handler(request).into_response()),
        });
        self
    }

    pub(crate) fn routes(&self) -> Vec<host::Route> {
        self.endpoints
            .iter()
            .map(|endpoint| host::Route { method: endpoint.method, path: endpoint.template.to_owned() })
            .collect()
    }

    pub(crate) fn answer(&self, service: &'static str, incoming: &host::Request) -> Option<Response> {
        let endpoint = self.endpoints.get(usize::try_from(incoming.route).ok()?)?;
        Some((endpoint.handler)(&Request::new(service, &endpoint.names, incoming)))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.endpoints.iter().map(|at| (at.method, at.template))).finish()
    }
}

/// The names in `{name}` and `{*name}`. Templates that are malformed are the host's to refuse.
fn parameter_names(template: &'static str) -> Vec<&'static str> {
    let name = |segment: &'static str| Some(segment.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*'));
    template.split('/').filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_in_the_order_of_the_path() {
        assert_eq!(parameter_names("/shops/{shop}/shelves/{shelf}"), ["shop", "shelf"]);
        assert_eq!(parameter_names("/shops/{shop}/files/{*path}"), ["shop", "path"]);
        assert!(parameter_names("/health").is_empty());
    }

    #[test]
    fn routes_are_offered_in_the_order_they_were_added() {
        let router = Router::new().get("/a", crate::healthy).post("/b/{c}", crate::healthy);
        let routes: Vec<_> = router.routes().into_iter().map(|route| (route.method, route.path)).collect();
        assert_eq!(routes, [(Method::Get, "/a".to_owned()), (Method::Post, "/b/{c}".to_owned())]);
    }
}
