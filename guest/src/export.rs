//! The exports of a component: [`serve!`](crate::serve) calls `__export!`, which has one definition for each kind of
//! target. The `cfg` conditions refer to the features of this crate, not of the crate that calls the macro.

/// Exports the world `spandrel:service/service`.
#[cfg(all(target_arch = "wasm32", not(feature = "wasi-http")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($service:ident) => {
        const _: () = {
            use $crate::bindings::exports::spandrel::service::handler;

            struct Component;

            impl handler::Guest for Component {
                fn routes() -> ::std::vec::Vec<handler::Route> {
                    $service().routes()
                }

                fn handle(request: handler::Request) -> handler::Response {
                    $service().handle(request)
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}

/// Exports `wasi:http/incoming-handler`.
#[cfg(all(target_arch = "wasm32", feature = "wasi-http"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($service:ident) => {
        const _: () = {
            use $crate::standard::wasi;

            struct Component;

            impl wasi::exports::http::incoming_handler::Guest for Component {
                fn handle(request: wasi::http::types::IncomingRequest, response: wasi::http::types::ResponseOutparam) {
                    $crate::standard::serve($service(), &request, response);
                }
            }

    wasi::http::proxy::export!(Component with_types_in $crate::standard::wasi);
        };
    };
}

/// Native builds export nothing.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($service:ident) => {};
}
