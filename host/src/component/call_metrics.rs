//! Metrics of the calls that lean guests make to other services.

use std::time::Instant;

use super::client_call::ClientCall;
use super::store_data::StoreData;
use crate::metrics::ClientRequest;

impl StoreData {
    /// Records the pending calls as failed, because their request was cancelled or timed out.
    pub(super) fn end_pending_calls(&mut self, error_type: &'static str) {
        for call in std::mem::take(&mut self.calls) {
            self.count_call(&call, None, Some(error_type), Instant::now());
        }
    }

    /// Records a call that ended. Only calls to origins that the manifest allows are recorded, because other addresses
    /// would make the number of time series unbounded.
    pub(crate) fn count_call(
        &self,
        call: &ClientCall,
        status: Option<u16>,
        error_type: Option<&'static str>,
        ended: Instant,
    ) {
        let Some(origin) = &call.origin else { return };
        let context = self.context();
        if context.outbound.allows(origin) {
            context.metrics.record_client_request(&ClientRequest {
                method: &call.method,
                address: origin.address(),
                port: origin.port,
                status,
                error_type,
                duration: ended.duration_since(call.began),
            });
        }
    }
}
