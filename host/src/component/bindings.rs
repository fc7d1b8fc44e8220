//! The bindings that Wasmtime generates from `wit/`: types, and a trait for each interface.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "spandrel:service/service",
    imports: {
        "spandrel:service/client.fetch": async | trappable,
        "spandrel:service/client.fetch-within": async | trappable,
        "spandrel:service/client.fetch-all": async | trappable,
        "spandrel:service/client.fetch-all-within": async | trappable,
        "wasi:keyvalue/store.[method]bucket.get": async | trappable,
        "wasi:keyvalue/store.[method]bucket.set": async | trappable,
        "wasi:keyvalue/store.[method]bucket.delete": async | trappable,
        "wasi:keyvalue/store.[method]bucket.exists": async | trappable,
        "wasi:keyvalue/store.[method]bucket.list-keys": async | trappable,
        "wasi:keyvalue/atomics.[static]cas.new": async | trappable,
        "wasi:keyvalue/atomics.increment": async | trappable,
        "wasi:keyvalue/atomics.swap": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "spandrel:service/tracing.span": super::resources::GuestSpan,
        "spandrel:service/metrics.counter": super::resources::GuestCounter,
        "spandrel:service/metrics.histogram": super::resources::GuestHistogram,
        "wasi:keyvalue/store.bucket": super::resources::Bucket,
        "wasi:keyvalue/atomics.cas": super::resources::CasSnapshot,
    },
});
