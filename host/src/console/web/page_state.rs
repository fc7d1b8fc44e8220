//! State of the pages between requests: samples of the services and permits for live updates.

use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

use crate::console::history::History;
use crate::control::Control;

/// The largest number of pages that receive live updates at the same time.
const MAX_SUBSCRIBERS: usize = 32;

/// State of the pages between requests.
pub(in crate::console) struct PageState {
    pub(in crate::console) history: Arc<History>,
    /// Permits for pages that receive live updates.
    pub(super) subscribers: Arc<Semaphore>,
}

impl PageState {
    /// Starts sampling the services.
    pub(in crate::console) fn start(control: Weak<Control>) -> PageState {
        let history = Arc::new(History::default());
        tokio::spawn(history.clone().run(control));
        PageState { history, subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)) }
    }
}
