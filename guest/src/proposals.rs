//! What `wit-bindgen` makes of the proposals that a host of `wasi:http` components may have. A component imports the
//! functions that it calls, and no others.

wit_bindgen::generate!({
    path: ["../wit", "../wit/standard"],
    world: "spandrel:standard/standard-imports",
    generate_all,
});
