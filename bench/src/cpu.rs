//! CPU time of processes and threads, from Linux's `/proc`.

use std::time::Duration;

/// `/proc` counts in hundredths of a second, independent of the kernel's clock (`USER_HZ` in proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// The CPU time of these processes so far, including ended threads. Zero if the system does not report it.
pub(crate) fn of(processes: &[u32]) -> Duration {
    processes.iter().filter_map(|process| of_stat(&format!("/proc/{process}/stat"))).sum()
}

/// The CPU time of this process so far.
pub(crate) fn own() -> Duration {
    of_stat("/proc/self/stat").unwrap_or_default()
}

/// The CPU time of this thread up to the last update by the scheduler.
pub(crate) fn of_this_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0))
}

fn of_stat(path: &str) -> Option<Duration> {
    ticks(&std::fs::read_to_string(path).ok()?).map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// User and system time, the 14th and 15th field. The second field is the program's name, which may contain any
/// character, so counting starts after its closing parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut figures = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(figures.next()?.ok()? + figures.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added_for_any_program_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 3 0 100 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks(""), None);
    }
}
