//! The host's own log: one line per event.
//!
//! A separate thread writes the lines from a bounded queue, so that logging never blocks on a stopped terminal or a full
//! pipe. Lines that do not fit into the queue are dropped, and the log reports their number when writing continues.
//! Lines of services are written in between and use at most half of the queue.
//!
//! `tracing-appender` is not used because it counts dropped lines but does not report them in the log when writing
//! continues, and because text such as the banner must keep its order among the lines.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::arguments::LogFormat;
use crate::config::Environment;
use crate::printable;
use crate::telemetry::LogExport;

/// The capacity of the queue, in lines.
const QUEUE_LINES: usize = 4096;
/// The smallest size that a line of a service counts as, in bytes.
const MIN_LINE_BYTES: usize = 512;
/// The capacity for lines of services, in bytes of counted size: half of all lines, or fewer if they are long.
const SERVICE_QUEUE_BYTES: usize = QUEUE_LINES / 2 * MIN_LINE_BYTES;
/// What is logged if `RUST_LOG` is invalid.
const DEFAULT_FILTER: &str = "info";
/// The longest time to write the last lines at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The output for finished traces: that of the log, unless the log is JSON.
pub(super) fn terminal(format: LogFormat) -> Box<dyn Write + Send> {
    match format {
        LogFormat::Json => Box::new(std::io::stderr()),
        LogFormat::Text => Box::new(std::io::stdout()),
    }
}

/// Starts the log on standard output. The returned value must be kept: dropping it flushes the log.
///
/// # Errors
///
/// Returns an error if the thread cannot be created.
pub fn start_log(format: LogFormat, environment: &Environment) -> std::io::Result<Log> {
    let color = format == LogFormat::Text && std::io::stdout().is_terminal() && !environment.no_color();
    let log = Log::start(Box::new(std::io::stdout()), color)?;
    let (filter, invalid) = match EnvFilter::try_new(environment.log_filter()) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    tracing_subscriber::registry().with(filter).with(log.layer(format)).with(log.export.clone()).init();
    if let Some(error) = invalid {
        tracing::warn!(%error, "RUST_LOG is not a valid filter and counts as not set");
    }
    Ok(log)
}

/// The log. Dropping it waits until all lines are written, or for one second if the output is blocked.
pub struct Log {
    sender: LogSender,
    color: bool,
    export: LogExport,
}

/// Sends lines to the writer thread. Sending never blocks and never fails.
#[derive(Clone)]
struct LogSender {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// The counted size of all queued lines of services.
    service_bytes: Arc<AtomicUsize>,
}

/// Sends complete JSON lines to the writer thread, with all control characters escaped.
struct JsonLogSender(LogSender);

/// Sends lines of services to the writer thread.
pub(super) struct ServiceLogSender {
    sender: LogSender,
}

enum Message {
    Text(Vec<u8>),
    /// A line of a service.
    Service(Vec<u8>),
    /// A request to confirm that all earlier messages are written.
    Flush(SyncSender<()>),
}

impl Log {
    pub(super) fn start(out: Box<dyn Write + Send>, color: bool) -> std::io::Result<Log> {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let (dropped, service_bytes) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let counts = (dropped.clone(), service_bytes.clone());
        let write = move || write_all(out, &receiver, (&counts.0, &counts.1));
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Log { sender: LogSender { sender, dropped, service_bytes }, color, export: LogExport::default() })
    }

    /// The layer that writes the events of the host to the log.
    fn layer<S>(&self, format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let (sender, layer) = (self.sender.clone(), fmt::layer().with_target(false));
        match format {
            LogFormat::Json => {
                layer.with_writer(move || JsonLogSender(sender.clone())).json().flatten_event(true).boxed()
            }
            LogFormat::Text => layer.with_writer(move || sender.clone()).with_ansi(self.color).boxed(),
        }
    }

    /// Whether lines may contain colors.
    pub(super) fn has_color(&self) -> bool {
        self.color
    }

    /// A sender for lines of services.
    pub(super) fn service_sender(&self) -> ServiceLogSender {
        ServiceLogSender { sender: self.sender.clone() }
    }

    /// A function that writes texts between the lines of the log, for other tasks.
    pub(super) fn printer(&self) -> impl Fn(&str) + Send + 'static + use<> {
        let sender = self.sender.clone();
        move |text| sender.put(text.as_bytes())
    }

    /// The log layer that exports log records once a host has connected it to its collector.
    pub fn export(&self) -> LogExport {
        self.export.clone()
    }

    /// Writes a text between the lines of the log.
    pub fn print(&self, text: &str) {
        self.sender.put(text.as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.sender.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl LogSender {
    fn put(&self, text: &[u8]) {
        self.send(Message::Text(text.to_vec()));
    }

    /// Returns whether the message fit into the queue.
    fn send(&self, message: Message) -> bool {
        let sent = self.sender.try_send(message).is_ok();
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

impl ServiceLogSender {
    /// Sends a line, or counts it as dropped if lines of services exceed their capacity. `line` is called only if the
    /// line fits.
    pub fn send(&self, line: impl FnOnce() -> String) {
        let LogSender { dropped, service_bytes, .. } = &self.sender;
        if service_bytes.load(Ordering::Relaxed) >= SERVICE_QUEUE_BYTES {
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = line().into_bytes();
        let weight = weight(&line);
        service_bytes.fetch_add(weight, Ordering::Relaxed);
        if !self.sender.send(Message::Service(line)) {
            service_bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

/// The counted size of a line of a service.
fn weight(line: &[u8]) -> usize {
    line.len().max(MIN_LINE_BYTES)
}

impl Write for LogSender {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.put(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Write for JsonLogSender {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(line) => self.0.put(printable::json_line(line).as_bytes()),
            Err(_) => self.0.put(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes messages until all senders are dropped. Errors of the output are ignored.
fn write_all(
    mut out: Box<dyn Write + Send>,
    messages: &Receiver<Message>,
    (dropped, service_bytes): (&AtomicU64, &AtomicUsize),
) {
    let mut write = |text: &[u8]| {
        let _ = out.write_all(text).and_then(|()| out.flush());
    };
    loop {
        let message = messages.try_recv().or_else(|_| {
            let lines = dropped.swap(0, Ordering::Relaxed);
            if lines > 0 {
                tracing::warn!(lines, "the output of the log was blocked; lines were dropped");
            }
            messages.recv()
        });
        match message {
            Ok(Message::Text(text)) => write(&text),
            Ok(Message::Service(line)) => {
                write(&line);
                service_bytes.fetch_sub(weight(&line), Ordering::Relaxed);
            }
            Ok(Message::Flush(done)) => {
                let _ = done.send(());
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::time::Instant;

    use super::*;

    /// An output that blocks while its mutex is locked.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Pipe {
        /// The text written so far.
        pub(in crate::cli) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn logging_never_blocks_and_dropped_lines_are_counted() {
        const BEYOND: usize = 100;
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let held = pipe.0.lock().unwrap();
        (0..QUEUE_LINES + BEYOND).for_each(|number| log.print(&format!("{number}\n")));
        let dropped = log.sender.dropped.load(Ordering::Relaxed) as usize;
        // The writer may hold one line.
        assert!(dropped == BEYOND || dropped == BEYOND - 1, "{dropped}");
        drop(held);
        let deadline = Instant::now() + Duration::from_secs(20);
        while pipe.text().lines().count() < QUEUE_LINES + BEYOND - dropped {
            assert!(Instant::now() < deadline, "{}", pipe.text());
            std::thread::yield_now();
        }
        // If the writer takes its line late, a later line finds room in its place.
        let queued: String = (0..QUEUE_LINES).map(|number| format!("{number}\n")).collect();
        assert!(pipe.text().starts_with(&queued), "{}", pipe.text());
        assert_eq!(pipe.text().lines().count(), QUEUE_LINES + BEYOND - dropped);
    }

    #[test]
    fn dropping_the_log_waits_for_its_last_line() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        log.print("the last line\n");
        drop(log);
        assert_eq!(*pipe.0.lock().unwrap(), b"the last line\n");
    }

    #[test]
    fn lines_of_the_host_have_no_control_characters() {
        let logged = |format| {
            let pipe = Pipe::default();
            let log = Log::start(Box::new(pipe.clone()), false).unwrap();
            let subscriber = tracing_subscriber::registry().with(log.layer(format));
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(reason = "a\u{9b}31m\u{7f}\u{1b}b", "c\u{85}d\u{80}");
            });
            drop(log);
            pipe.text()
        };
        for text in [logged(LogFormat::Text), logged(LogFormat::Json)] {
            assert!(text.ends_with('\n') && text.matches(char::is_control).count() == 1, "{text:?}");
        }
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&line["message"], &line["reason"]), (&"c\u{85}d\u{80}".into(), &"a\u{9b}31m\u{7f}\u{1b}b".into()));
    }

    #[test]
    fn lines_of_services_use_at_most_half_of_the_queue() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let services = log.service_sender();
        let held = pipe.0.lock().unwrap();
        (0..2 * QUEUE_LINES).for_each(|_| services.send(|| "service\n".to_owned()));
        let fits = SERVICE_QUEUE_BYTES / MIN_LINE_BYTES;
        assert_eq!(log.sender.dropped.load(Ordering::Relaxed) as usize, 2 * QUEUE_LINES - fits);
        services.send(|| unreachable!("a line that does not fit is not formatted"));
        (0..QUEUE_LINES / 4).for_each(|_| log.print("host\n"));
        drop(held);
        // The report about dropped lines goes to the subscriber, which is not this log here.
        drop(log);
        let text = pipe.text();
        assert_eq!(text.matches("host").count(), QUEUE_LINES / 4);
        assert_eq!(text.matches("service").count(), fits);
    }

    #[test]
    fn long_lines_of_services_count_with_their_length() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let services = log.service_sender();
        let held = pipe.0.lock().unwrap();
        let line = "x".repeat(SERVICE_QUEUE_BYTES / 4);
        (0..10).for_each(|_| services.send(|| line.clone()));
        assert_eq!(log.sender.dropped.load(Ordering::Relaxed), 6);
        drop(held);
    }
}
