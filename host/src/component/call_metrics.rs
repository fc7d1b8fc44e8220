//! How the calls of guests to other services are counted.

use std::time::Instant;

use super::client_call::ClientCall;
use super::store_data::StoreData;
use crate::metrics::Called;

impl StoreData {
    /// Counts the calls that are still under way as failed, because the request that made them was given up.
    pub(super) fn end_pending_calls(&mut self, error_type: &'static str) {
        for call in std::mem::take(&mut self.calls) {
            self.count_call(&call, None, Some(error_type), Instant::now());
        }
    }

    /// Counts a call that ended. Only calls to origins that the manifest allows are counted by address: others could be
    /// any number.
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
            context.metrics.client_request(&Called {
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
