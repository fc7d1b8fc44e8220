//! `wasi:config/store`: the strings under `[service.config]`.

use crate::component::StoreData;
use crate::component::bindings::wasi::config::store::{Error, Host};

impl Host for StoreData {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.context().config.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let pairs = self.context().config.iter();
        Ok(Ok(pairs.map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
