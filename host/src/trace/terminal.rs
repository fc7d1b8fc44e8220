//! Prints finished traces on a thread of its own, so that a slow or stopped terminal does not delay requests.
//!
//! The segments of a trace are collected until its local root ends. A local root with a remote parent may belong to
//! another request of this host, so the printer waits briefly for that one.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanId, TraceId};
use tokio::sync::oneshot;

use super::segment::{FinishedSegment, Segment};
use super::tree::{self, TreeDetail};

/// The capacity of the channel to the thread. Further segments are not printed.
const CHANNEL_CAPACITY: usize = 1024;
/// The most spans in the channel and pending together. Further segments are not printed.
const MAX_WEIGHT: usize = 16_384;
/// How long a trace with a remote parent waits for further segments.
const REMOTE_PARENT_DELAY: Duration = Duration::from_millis(200);
/// How long segments wait for the end of their trace, which may never come.
const PENDING_TIMEOUT: Duration = Duration::from_secs(30);
/// The most pending spans: half of the total, so that the channel always has capacity.
const MAX_PENDING: usize = MAX_WEIGHT / 2;

/// The handle to the thread.
pub(super) struct Terminal {
    sender: SyncSender<Message>,
    /// Spans in the channel and pending.
    in_use: Arc<AtomicUsize>,
    /// Segments that were not printed because the thread was too slow.
    unprinted: AtomicU64,
}

enum Message {
    Finished(FinishedSegment),
    /// Print all pending traces, then confirm.
    Flush(oneshot::Sender<()>),
}

impl Terminal {
    /// Starts the thread. It ends when the `Terminal` is dropped.
    pub fn start(out: Box<dyn Write + Send>, detail: TreeDetail) -> std::io::Result<Terminal> {
        let (sender, receiver) = sync_channel(CHANNEL_CAPACITY);
        let in_use = Arc::<AtomicUsize>::default();
        let printer = Printer { out, detail, pending: HashMap::new(), held: 0, in_use: in_use.clone() };
        std::thread::Builder::new().name("trace printer".to_owned()).spawn(move || printer.run(&receiver))?;
        Ok(Terminal { sender, in_use, unprinted: AtomicU64::new(0) })
    }

    /// Sends a segment to the thread, unless the thread is too slow.
    pub fn print(&self, finished: &FinishedSegment) {
        let weight = finished.weight;
        let fits = self.in_use.fetch_add(weight, Ordering::Relaxed) + weight <= MAX_WEIGHT;
        // If the thread has ended, the output is closed.
        let sent = match fits.then(|| self.sender.try_send(Message::Finished(finished.clone()))) {
            Some(Ok(())) => return,
            Some(Err(TrySendError::Disconnected(_))) => true,
            Some(Err(TrySendError::Full(_))) | None => false,
        };
        self.in_use.fetch_sub(weight, Ordering::Relaxed);
        if !sent && self.unprinted.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("traces are finished faster than they are printed; some are left out");
        }
    }

    /// Returns when everything is printed, or at once if the output is closed.
    pub async fn flush(&self) {
        let (done, printed) = oneshot::channel();
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
            message = back;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = printed.await;
    }
}

struct Printer {
    out: Box<dyn Write + Send>,
    detail: TreeDetail,
    pending: HashMap<TraceId, Pending>,
    held: usize,
    in_use: Arc<AtomicUsize>,
}

struct Pending {
    segments: Vec<Arc<Segment>>,
    weight: usize,
    /// When it is printed if no further segment arrives.
    due: Instant,
}

impl Printer {
    /// Ends when the `Terminal` is dropped or the output is closed.
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let next = self.pending.values().map(|pending| pending.due).min();
            let wait = next.map_or(PENDING_TIMEOUT, |due| due.saturating_duration_since(Instant::now()));
            let printed = match receiver.recv_timeout(wait) {
                Ok(Message::Finished(finished)) => self.take(finished),
                Ok(Message::Flush(done)) => {
                    let printed = self.print_due(None);
                    let _ = done.send(());
                    printed
                }
                Err(RecvTimeoutError::Timeout) => self.print_due(Some(Instant::now())),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if printed.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, FinishedSegment { segment, weight }: FinishedSegment) -> std::io::Result<()> {
        let (trace, ends) = (segment.trace_id, segment.is_local_root());
        let starts = segment.root().is_none_or(|root| root.parent == SpanId::INVALID);
        let now = Instant::now();
        let pending = self.pending.entry(trace).or_insert(Pending {
            segments: Vec::new(),
            weight: 0,
            due: now + PENDING_TIMEOUT,
        });
        pending.segments.push(segment);
        pending.weight += weight;
        self.held += weight;
        if ends {
            pending.due = if starts { now } else { now + REMOTE_PARENT_DELAY };
        }
        match (self.held > MAX_PENDING, starts) {
            (true, _) => self.print_due(None),
            (false, true) => self.print_due(Some(now)),
            (false, false) => Ok(()),
        }
    }

    /// Prints the traces that are due at a time, or all.
    fn print_due(&mut self, at: Option<Instant>) -> std::io::Result<()> {
        let due = self.pending.extract_if(|_, pending| at.is_none_or(|at| pending.due <= at));
        let mut due: Vec<_> = due.map(|(_, pending)| pending).collect();
        due.sort_by_key(|pending| pending.due);
        for pending in due {
            self.held -= pending.weight;
            self.out.write_all(tree::render(&pending.segments, self.detail).as_bytes())?;
            self.in_use.fetch_sub(pending.weight, Ordering::Relaxed);
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use opentelemetry::trace::SpanKind;

    use super::*;
    use crate::trace::tests::{segment, span};

    /// A pipe that is not read while the lock is held.
    struct Pipe(Arc<Mutex<()>>);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            let _unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn segments_for_a_pipe_that_is_not_read_are_bounded_and_released_later() {
        let pipe = Arc::<Mutex<()>>::default();
        let terminal = Terminal::start(Box::new(Pipe(pipe.clone())), TreeDetail::Line).unwrap();
        let unread = pipe.lock().unwrap();
        for trace in 1..=200 {
            let segment = Arc::new(segment("shop", trace, vec![span(1, 0, "large", SpanKind::Server)]));
            terminal.print(&FinishedSegment { segment, weight: 500 });
        }
        let fits = (MAX_WEIGHT / 500) as u64;
        assert_eq!(terminal.unprinted.load(Ordering::Relaxed), 200 - fits);
        drop(unread);
        terminal.flush().await;
        assert_eq!(terminal.in_use.load(Ordering::Relaxed), 0);
    }
}
