//! What the pages keep between requests.

use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

use crate::console::history::History;
use crate::control::Control;

/// Pages that follow what happens at the same time.
const WATCHERS: usize = 32;
/// What the pages keep between requests.
pub(in crate::console) struct Web {
    pub(in crate::console) history: Arc<History>,
    /// Room for pages that follow what happens.
    pub(super) watchers: Arc<Semaphore>,
}

impl Web {
    /// Begins to take samples of the services.
    pub(in crate::console) fn start(control: Weak<Control>) -> Web {
        let history = Arc::new(History::default());
        tokio::spawn(history.clone().run(control));
        Web { history, watchers: Arc::new(Semaphore::new(WATCHERS)) }
    }
}
