//! The host's own log: one line per noteworthy event.
//!
//! A thread of its own writes it, so that nobody who logs waits for a terminal that is stopped or a pipe that nobody
//! reads. What finds no room meanwhile is lost, and the log says how much that was once it is read again. What services
//! write stands between its lines, and takes half of the room at most.
//!
//! The writer is our own because `tracing-appender` counts the lines that it drops but does not say so in the log when
//! reading resumes, and because text such as the banner has to stand between the lines in their order.

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

/// The most lines that wait to be written.
const WAITING: usize = 4096;
/// What a line of a service counts as at least, in bytes.
const LEAST: usize = 512;
/// The most that services have waiting, counted like that: half of all lines, or fewer long ones.
const SERVICE_ROOM: usize = WAITING / 2 * LEAST;
/// How long the last lines of the log may take.
const LAST: Duration = Duration::from_secs(1);

/// Where finished traces are printed: beside the log, but never between lines of JSON.
pub(super) fn terminal(format: LogFormat) -> Box<dyn Write + Send> {
    match format {
        LogFormat::Json => Box::new(std::io::stderr()),
        LogFormat::Text => Box::new(std::io::stdout()),
    }
}

/// Starts the log on standard output, in the form that was asked for. Keep what it returns: with it the log ends.
///
/// # Errors
///
/// Where the system has no thread for it.
pub fn start_log(format: LogFormat, environment: &Environment) -> std::io::Result<Log> {
    let color = format == LogFormat::Text && std::io::stdout().is_terminal() && !environment.no_color();
    let log = Log::start(Box::new(std::io::stdout()), color)?;
    let filter = EnvFilter::new(environment.log_filter());
    tracing_subscriber::registry().with(filter).with(log.layer(format)).with(log.export.clone()).init();
    Ok(log)
}

/// The log. When it is dropped, what was written before is on its way, unless nobody reads it.
pub struct Log {
    lines: Lines,
    color: bool,
    export: LogExport,
}

/// The way to the thread that writes. Never waits and never fails.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    /// What services have waiting, counted as [`SERVICE_ROOM`] says.
    taken: Arc<AtomicUsize>,
}

/// The same for whole lines of JSON.
struct JsonLines(Lines);

/// The way to the thread for what services write.
pub(super) struct ServiceLines {
    lines: Lines,
}

enum Message {
    Text(Vec<u8>),
    /// A line of a service.
    Service(Vec<u8>),
    /// Everything before this is written.
    Flush(SyncSender<()>),
}

impl Log {
    pub(super) fn start(out: Box<dyn Write + Send>, color: bool) -> std::io::Result<Log> {
        let (sender, receiver) = sync_channel(WAITING);
        let (lost, taken) = (Arc::<AtomicU64>::default(), Arc::<AtomicUsize>::default());
        let counts = (lost.clone(), taken.clone());
        let write = move || write_all(out, &receiver, (&counts.0, &counts.1));
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Log { lines: Lines { sender, lost, taken }, color, export: LogExport::default() })
    }

    /// What writes the events of the host to it.
    fn layer<S>(&self, format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let (lines, made) = (self.lines.clone(), fmt::layer().with_target(false));
        match format {
            LogFormat::Json => made.with_writer(move || JsonLines(lines.clone())).json().flatten_event(true).boxed(),
            LogFormat::Text => made.with_writer(move || lines.clone()).with_ansi(self.color).boxed(),
        }
    }

    /// Whether its lines may have colors.
    pub(super) fn has_color(&self) -> bool {
        self.color
    }

    /// The way to put lines of services between those of the log.
    pub(super) fn service_lines(&self) -> ServiceLines {
        ServiceLines { lines: self.lines.clone() }
    }

    /// The way to put texts between the lines of the log from elsewhere.
    pub(super) fn printer(&self) -> impl Fn(&str) + Send + 'static + use<> {
        let lines = self.lines.clone();
        move |text| lines.put(text.as_bytes())
    }

    /// The part of the log that a host connects to its collector.
    pub fn export(&self) -> LogExport {
        self.export.clone()
    }

    /// Puts a text between the lines of the log.
    pub fn print(&self, text: &str) {
        self.lines.put(text.as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.lines.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST);
        }
    }
}

impl Lines {
    fn put(&self, text: &[u8]) {
        self.send(Message::Text(text.to_vec()));
    }

    /// Whether there was room for it.
    fn send(&self, message: Message) -> bool {
        let sent = self.sender.try_send(message).is_ok();
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

impl ServiceLines {
    /// Puts a line there, or counts it as lost where services have too much waiting. It is made only if there is room.
    pub fn offer(&self, line: impl FnOnce() -> String) {
        let Lines { lost, taken, .. } = &self.lines;
        if taken.load(Ordering::Relaxed) >= SERVICE_ROOM {
            lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = line().into_bytes();
        let weight = weight(&line);
        taken.fetch_add(weight, Ordering::Relaxed);
        if !self.lines.send(Message::Service(line)) {
            taken.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

/// What a line of a service counts as.
fn weight(line: &[u8]) -> usize {
    line.len().max(LEAST)
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.put(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Write for JsonLines {
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

/// Writes what comes until nobody is left who could log. That the output is gone is nothing to stop for.
fn write_all(mut out: Box<dyn Write + Send>, messages: &Receiver<Message>, (lost, taken): (&AtomicU64, &AtomicUsize)) {
    let mut write = |text: &[u8]| {
        let _ = out.write_all(text).and_then(|()| out.flush());
    };
    loop {
        let message = messages.try_recv().or_else(|_| {
            let lines = lost.swap(0, Ordering::Relaxed);
            if lines > 0 {
                tracing::warn!(lines, "the log was not read for a while; what found no room is lost");
            }
            messages.recv()
        });
        match message {
            Ok(Message::Text(text)) => write(&text),
            Ok(Message::Service(line)) => {
                write(&line);
                taken.fetch_sub(weight(&line), Ordering::Relaxed);
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

    /// An output that takes what comes whenever nobody holds it.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Pipe {
        /// What was written so far.
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
    fn nobody_waits_for_a_log_that_is_not_read_and_what_is_lost_is_counted() {
        const BEYOND: usize = 100;
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let held = pipe.0.lock().unwrap();
        (0..WAITING + BEYOND).for_each(|number| log.print(&format!("{number}\n")));
        let lost = log.lines.lost.load(Ordering::Relaxed) as usize;
        // One line may be in the writer's hands.
        assert!(lost == BEYOND || lost == BEYOND - 1, "{lost}");
        drop(held);
        let written: String = (0..WAITING + BEYOND - lost).map(|number| format!("{number}\n")).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        while *pipe.0.lock().unwrap() != written.as_bytes() {
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&pipe.0.lock().unwrap()));
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_end_of_the_log_waits_for_its_last_line() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        log.print("the last line\n");
        drop(log);
        assert_eq!(*pipe.0.lock().unwrap(), b"the last line\n");
    }

    #[test]
    fn nothing_in_the_hosts_own_lines_controls_the_terminal() {
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
    fn services_that_write_without_end_leave_room_for_the_host() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let services = log.service_lines();
        let held = pipe.0.lock().unwrap();
        (0..2 * WAITING).for_each(|_| services.offer(|| "service\n".to_owned()));
        let fits = SERVICE_ROOM / LEAST;
        assert_eq!(log.lines.lost.load(Ordering::Relaxed) as usize, 2 * WAITING - fits);
        services.offer(|| unreachable!("a line that has no room is not made"));
        (0..WAITING / 4).for_each(|_| log.print("host\n"));
        drop(held);
        // What the log says of the lines that were lost is no part of it here.
        drop(log);
        let text = pipe.text();
        assert_eq!(text.matches("host").count(), WAITING / 4);
        assert_eq!(text.matches("service").count(), fits);
    }

    #[test]
    fn long_lines_of_services_take_more_room() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let services = log.service_lines();
        let held = pipe.0.lock().unwrap();
        let line = "x".repeat(SERVICE_ROOM / 4);
        (0..10).for_each(|_| services.offer(|| line.clone()));
        assert_eq!(log.lines.lost.load(Ordering::Relaxed), 6);
        drop(held);
    }
}
