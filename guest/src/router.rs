//! The endpoints of a service and their handlers.

use std::fmt;

use crate::host::{self, Method};
use crate::{IntoResponse, Request, Response};

type Handler = Box<dyn Fn(&Request<'_>) -> Response + Send + Sync>;

struct Endpoint {
    method: Method,
    template: &'static str,
    /// The names of the template's parameters, in the order of the path.
    names: Vec<&'static str>,
    handler: Handler,
}

/// A list of endpoints. The host matches requests against it and passes the index of the matched endpoint.
///
/// A template consists of literal segments, `{name}` parameters and optionally a `{*name}` wildcard at its end, which
/// matches the rest of the path. If two templates match, the one with a literal at the first difference is used. The
/// host answers HEAD if there is an endpoint for GET, 405 if the path has endpoints for other methods only, and 404 if
/// it has none.
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
        /// Adds an endpoint for GET with a path template such as `/inventory/{product_id}`.
        get => Get,
        /// Adds an endpoint for HEAD with a path template.
        head => Head,
        /// Adds an endpoint for POST with a path template.
        post => Post,
        /// Adds an endpoint for PUT with a path template.
        put => Put,
        /// Adds an endpoint for PATCH with a path template.
        patch => Patch,
        /// Adds an endpoint for DELETE with a path template.
        delete => Delete,
        /// Adds an endpoint for OPTIONS with a path template.
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

    pub(crate) fn dispatch(&self, service: &'static str, incoming: &host::Request) -> Option<Response> {
        let endpoint = self.endpoints.get(usize::try_from(incoming.route).ok()?)?;
        Some((endpoint.handler)(&Request::new(service, &endpoint.names, incoming)))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.endpoints.iter().map(|endpoint| (endpoint.method, endpoint.template)))
            .finish()
    }
}

/// The names in `{name}` and `{*name}`. The host rejects malformed templates.
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
    fn routes_are_listed_in_the_order_in_which_they_were_added() {
        let router = Router::new().get("/a", crate::healthy).post("/b/{c}", crate::healthy);
        let routes: Vec<_> = router.routes().into_iter().map(|route| (route.method, route.path)).collect();
        assert_eq!(routes, [(Method::Get, "/a".to_owned()), (Method::Post, "/b/{c}".to_owned())]);
    }
}
