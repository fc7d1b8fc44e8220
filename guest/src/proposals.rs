//! The bindings that `wit-bindgen` generates from the WASI proposals that a host of `wasi:http` components may
//! implement. A component imports only the functions that it calls.

wit_bindgen::generate!({
    path: ["../wit", "../wit/standard"],
    world: "spandrel:standard/standard-imports",
    generate_all,
});
