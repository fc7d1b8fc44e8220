//! CPU time as Linux tells it.

use std::time::Duration;

/// `/proc` counts in hundredths of a second, whatever the kernel's own clock (`USER_HZ` in proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// What these processes have used so far, threads that have ended included. Zero where the system does not tell.
pub(crate) fn of(processes: &[u32]) -> Duration {
    processes.iter().filter_map(|process| of_stat(&format!("/proc/{process}/stat"))).sum()
}

/// What this process has used so far.
pub(crate) fn own() -> Duration {
    of_stat("/proc/self/stat").unwrap_or_default()
}

/// What this thread has used so far, as of the scheduler's last look at it.
pub(crate) fn of_this_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0))
}

fn of_stat(path: &str) -> Option<Duration> {
    ticks(&std::fs::read_to_string(path).ok()?).map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// User and system time, the 14th and 15th figure. The second is the program's name and may hold anything, so counting
/// begins after its closing parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut figures = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(figures.next()?.ok()? + figures.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 3 0 100 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks(""), None);
    }
}
