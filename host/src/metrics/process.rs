//! Memory and CPU time of the process, read from the operating system at most once a second.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use opentelemetry::metrics::Meter;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

const MIB: f64 = 1024.0 * 1024.0;
const CACHE_MS: u64 = 1000;

pub(super) struct Process {
    pid: Option<Pid>,
    started: Instant,
    /// Milliseconds since `started` at which the values expire. The thread that advances it reads new values.
    stale_at: AtomicU64,
    reading: Mutex<Reading>,
    memory_bytes: AtomicU64,
    cpu_ms: AtomicU64,
    /// The bits of an `f64`.
    cpu_percent: AtomicU64,
}

struct Reading {
    /// `None` if the operating system is not supported.
    system: Option<System>,
    at: Instant,
    cpu_ms: Option<u64>,
}

impl Process {
    pub(super) fn new() -> Process {
        let now = Instant::now();
        let process = Process {
            pid: sysinfo::get_current_pid().ok(),
            started: now,
            stale_at: AtomicU64::new(CACHE_MS),
            reading: Mutex::new(Reading { system: System::new().ok(), at: now, cpu_ms: None }),
            memory_bytes: AtomicU64::new(0),
            cpu_ms: AtomicU64::new(0),
            cpu_percent: AtomicU64::new(0f64.to_bits()),
        };
        process.read();
        process
    }

    pub(super) fn memory_mb(&self) -> f64 {
        self.refresh();
        // Exact up to 2^53 bytes.
        self.memory_bytes.load(Ordering::Relaxed) as f64 / MIB
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.refresh();
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn cpu_seconds(&self) -> f64 {
        self.refresh();
        self.cpu_ms.load(Ordering::Relaxed) as f64 / 1000.0
    }

    pub(super) fn cpu_percent(&self) -> f64 {
        self.refresh();
        f64::from_bits(self.cpu_percent.load(Ordering::Relaxed))
    }

    /// Registers the instruments with `meter`. They are read at collection, not per request.
    pub(super) fn observe(self: &Arc<Self>, meter: &Meter) {
        let process = Arc::clone(self);
        meter
            .i64_observable_up_down_counter("process.memory.usage")
            .with_unit("By")
            .with_description("The amount of physical memory in use.")
            .with_callback(move |sum| {
                sum.observe(i64::try_from(process.memory_bytes()).unwrap_or(i64::MAX), &[]);
            })
            .build();
        let process = Arc::clone(self);
        meter
            .f64_observable_counter("process.cpu.time")
            .with_unit("s")
            .with_description("CPU seconds that the process has used, user and system together.")
            .with_callback(move |sum| sum.observe(process.cpu_seconds(), &[]))
            .build();
        let process = Arc::clone(self);
        // No unit: the name contains it, and a conversion to Prometheus would append it again.
        meter
            .f64_observable_gauge("memory_usage_mb")
            .with_description("The amount of physical memory in use, in MiB.")
            .with_callback(move |gauge| gauge.observe(process.memory_mb(), &[]))
            .build();
        let process = Arc::clone(self);
        meter
            .f64_observable_gauge("cpu_usage_percent")
            .with_unit("%")
            .with_description("CPU used by the process since the last reading; 100 is one core.")
            .with_callback(move |gauge| gauge.observe(process.cpu_percent(), &[]))
            .build();
    }

    fn refresh(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let stale_at = self.stale_at.load(Ordering::Relaxed);
        let next = now.saturating_add(CACHE_MS);
        let is_claimed =
            || self.stale_at.compare_exchange(stale_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now >= stale_at && is_claimed() {
            self.read();
        }
    }

    fn read(&self) {
        let Some(pid) = self.pid else { return };
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((memory, cpu_ms)) = reading.system.as_mut().and_then(|system| usage(system, pid)) else {
            return;
        };
        self.memory_bytes.store(memory, Ordering::Relaxed);
        self.cpu_ms.store(cpu_ms, Ordering::Relaxed);
        let now = Instant::now();
        let passed = now.duration_since(reading.at).as_secs_f64() * 1000.0;
        if let Some(before) = reading.cpu_ms
            && passed > 0.0
        {
            let percent = cpu_ms.saturating_sub(before) as f64 / passed * 100.0;
            self.cpu_percent.store(percent.to_bits(), Ordering::Relaxed);
        }
        reading.at = now;
        reading.cpu_ms = Some(cpu_ms);
    }
}

/// Resident memory in bytes and CPU time in milliseconds.
fn usage(system: &mut System, pid: Pid) -> Option<(u64, u64)> {
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing().with_memory().with_cpu().without_tasks(),
    );
    let process = system.process(pid)?;
    Some((process.memory(), process.accumulated_cpu_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_known_from_the_start() {
        let process = Process::new();
        assert!(process.memory_mb() > 0.5, "{} MiB", process.memory_mb());
        assert!(process.cpu_percent() >= 0.0);
    }

    #[test]
    fn cached_values_are_not_read_again() {
        let process = Process::new();
        process.memory_bytes.store(42, Ordering::Relaxed);
        assert_eq!(process.memory_bytes(), 42);
        process.stale_at.store(0, Ordering::Relaxed);
        assert_ne!(process.memory_bytes(), 42);
    }
}
