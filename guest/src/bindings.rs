//! The bindings that `wit-bindgen` generates from the WIT world of lean components.

wit_bindgen::generate!({
    path: "../wit",
    world: "service",
    ownership: Borrowing { duplicate_if_necessary: false },
    pub_export_macro: true,
    default_bindings_module: "guest::bindings",
    generate_all,
});
