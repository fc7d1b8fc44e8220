//! The bindings that Wasmtime generates from the world `standard-imports` in `wit/`: the proposals that only standard
//! components import.

wasmtime::component::bindgen!({
    path: ["../wit", "../wit/standard"],
    world: "spandrel:standard/standard-imports",
    imports: {
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.get": async | trappable,
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.set": async | trappable,
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.delete": async | trappable,
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.exists": async | trappable,
        "wasi:keyvalue/store@0.2.0-draft.[method]bucket.list-keys": async | trappable,
        "wasi:keyvalue/atomics@0.2.0-draft.increment": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft.get-many": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft.set-many": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft.delete-many": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft2.get-many": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft2.set-many": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft2.delete-many": async | trappable,
        "wasi:logging/logging.log": store | trappable,
        "wasi:otel/tracing.on-end": store | trappable,
        "wasi:otel/tracing.outer-span-context": store | trappable,
        "wasi:otel/tracing.current-span-context": store | trappable,
        "wasi:otel/metrics.export": store | trappable,
        "wasi:otel/logs.on-emit": store | trappable,
        default: trappable,
    },
    with: {
        "wasi:config": crate::component::bindings::wasi::config,
        "wasi:keyvalue/store@0.2.0-draft2": crate::component::bindings::wasi::keyvalue0_2_0_draft2::store,
        "wasi:keyvalue/atomics@0.2.0-draft2": crate::component::bindings::wasi::keyvalue0_2_0_draft2::atomics,
        "wasi:keyvalue/store@0.2.0-draft.bucket": crate::component::resources::Bucket,
    },
});
