//! Prints finished traces for people, on a thread of its own: a terminal that is slow or stopped must not slow requests.
//!
//! The parts of a trace are collected until the trace ends here. One that comes from outside may be a part of another
//! one that is served here too, so it waits a moment for that one.

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

/// Segments that wait for the thread. What comes when there are more is not printed.
const CHANNEL_CAPACITY: usize = 1024;
/// The most that waits and is held together, counted as queues count it. What comes when there is more is not printed.
const MAX_WEIGHT: usize = 16_384;
/// How long a trace from outside waits for the rest of it.
const REMOTE_PARENT_DELAY: Duration = Duration::from_millis(200);
/// How long the parts of a trace wait for its end, which never comes where it was dropped.
const PENDING_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that is held together, counted the same: half of the room, so that there is always some for what comes.
const MAX_PENDING: usize = MAX_WEIGHT / 2;

/// The way to the thread.
pub(super) struct Terminal {
    sender: SyncSender<Message>,
    /// What is on the way to the thread or held by it.
    in_use: Arc<AtomicUsize>,
    /// Segments that found it too busy.
    unprinted: AtomicU64,
}

enum Message {
    Finished(FinishedSegment),
    /// Print what is held, then answer.
    Flush(oneshot::Sender<()>),
}

impl Terminal {
    /// Starts the thread, which ends when the terminal is dropped.
    pub fn start(out: Box<dyn Write + Send>, detail: TreeDetail) -> std::io::Result<Terminal> {
        let (sender, receiver) = sync_channel(CHANNEL_CAPACITY);
        let in_use = Arc::<AtomicUsize>::default();
        let printer = Printer { out, detail, pending: HashMap::new(), held: 0, in_use: in_use.clone() };
        std::thread::Builder::new().name("trace printer".to_owned()).spawn(move || printer.run(&receiver))?;
        Ok(Terminal { sender, in_use, unprinted: AtomicU64::new(0) })
    }

    /// Hands a segment over, unless the thread is too busy.
    pub fn print(&self, finished: &FinishedSegment) {
        let weight = finished.weight;
        let fits = self.in_use.fetch_add(weight, Ordering::Relaxed) + weight <= MAX_WEIGHT;
        // Where the thread has ended, nobody reads what it prints.
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

    /// Returns when everything is printed, or at once where nobody reads it.
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
    /// When it is printed if nothing more comes.
    due: Instant,
}

impl Printer {
    /// Ends when the terminal is dropped or the output is gone.
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

    /// Prints what is due at a time, or everything.
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

    /// A pipe that nobody reads for as long as somebody holds it.
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
    async fn what_waits_for_a_pipe_that_nobody_reads_is_bounded_and_makes_room_again() {
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
