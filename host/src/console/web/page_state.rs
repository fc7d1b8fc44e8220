//! State that the pages keep between requests.

use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

use crate::console::history::History;
use crate::control::Control;

/// The most pages that follow changes at the same time.
const MAX_SUBSCRIBERS: usize = 32;
/// State that the pages keep between requests.
pub(in crate::console) struct PageState {
    pub(in crate::console) history: Arc<History>,
    /// Permits for pages that follow changes.
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
