//! `spandrel:service/metrics`: counters and histograms that a service defines.
//!
//! A handle is the index of an instrument of the service. It has no entry in the resource table, and dropping it has no
//! effect, because instruments outlive instances.

use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::bindings::spandrel::service::metrics::{Error, Host, HostCounter, HostHistogram, Label};
use crate::component::resources::{GuestCounter, GuestHistogram};
use crate::metrics::{InstrumentDescription, InstrumentError};

impl Host for StoreData {}

impl HostCounter for StoreData {
    fn create(
        &mut self,
        name: String,
        unit: String,
        description: String,
    ) -> wasmtime::Result<Result<Resource<GuestCounter>, Error>> {
        let requested = InstrumentDescription { name: &name, unit: &unit, description: &description };
        let counter = self.context().metrics.guest_counter(&requested);
        Ok(counter.map(Resource::new_own).map_err(Error::from))
    }

    fn add(&mut self, counter: Resource<GuestCounter>, value: u64, labels: Vec<Label>) -> wasmtime::Result<()> {
        self.context().metrics.guest_add(counter.rep(), value, &borrowed(&labels));
        Ok(())
    }

    fn drop(&mut self, _: Resource<GuestCounter>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl HostHistogram for StoreData {
    fn create(
        &mut self,
        name: String,
        unit: String,
        description: String,
        boundaries: Vec<f64>,
    ) -> wasmtime::Result<Result<Resource<GuestHistogram>, Error>> {
        let requested = InstrumentDescription { name: &name, unit: &unit, description: &description };
        let histogram = self.context().metrics.guest_histogram(&requested, &boundaries);
        Ok(histogram.map(Resource::new_own).map_err(Error::from))
    }

    fn record(&mut self, histogram: Resource<GuestHistogram>, value: f64, labels: Vec<Label>) -> wasmtime::Result<()> {
        self.context().metrics.guest_record(histogram.rep(), value, &borrowed(&labels));
        Ok(())
    }

    fn drop(&mut self, _: Resource<GuestHistogram>) -> wasmtime::Result<()> {
        Ok(())
    }
}

fn borrowed(labels: &[Label]) -> Vec<(&str, &str)> {
    labels.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect()
}

impl From<InstrumentError> for Error {
    fn from(error: InstrumentError) -> Error {
        match error {
            InstrumentError::Invalid(reason) => Error::Invalid(reason),
            InstrumentError::TooMany => Error::TooMany,
        }
    }
}
